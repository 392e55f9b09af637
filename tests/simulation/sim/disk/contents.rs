//! What is on the disk, as the judge sees it: behind the product's back.

use std::collections::BTreeMap;

use pushpull::peer::{Fate, Outcome, PeerId, Verdict};
use pushpull::set::{Digest, Jti};

use super::super::event::{Contents, Org};
use super::tables::Tables;

impl Tables {
    /// All of it, by partner. A row whose checksum fails is among the damaged ones and nowhere else.
    pub(super) fn contents(&self, org_of: &dyn Fn(&str) -> Org) -> Contents {
        let org = |peer: PeerId| self.name_of(peer).map(org_of);
        let mut contents = Contents::default();
        for ((peer, _), row) in &self.outbox {
            let digest = || row.digest(&row.value.compact);
            file(&mut contents.outbox, &mut contents.damaged, org(*peer), &row.value.jti, row.whole, digest);
        }
        for (place, row) in &self.dead {
            let digest = || row.digest(&row.value.compact);
            file(&mut contents.dead, &mut contents.damaged, org(place.peer()), &row.value.jti, row.whole, digest);
        }
        for row in self.inbox.values() {
            let (peer, value) = &row.value;
            let digest = || row.digest(&value.compact);
            file(&mut contents.inbox, &mut contents.damaged, org(*peer), &value.jti, row.whole, digest);
        }
        for ((peer, jti), row) in &self.received {
            if let (Some(org), Fate::Answered(verdict)) = (org(*peer), &row.value.fate) {
                contents.answered.entry(org).or_default().push((jti.clone(), *verdict == Verdict::Acked));
            }
        }
        for ((peer, jti), row) in &self.sent {
            if let (Some(org), Fate::Settled { outcome, .. }) = (org(*peer), &row.value.fate) {
                let how = match outcome {
                    Outcome::Acked => "acked",
                    Outcome::Refused(_) => "refused",
                    Outcome::Dead(_) => "dead",
                };
                contents.settled.entry(org).or_default().push((jti.clone(), how));
            }
        }
        for (peer, saved) in &self.peers {
            if let Some(org) = org(*peer) {
                contents.counts.insert(org, saved.counts);
            }
        }
        // The memory has no order of its own.
        contents.answered.values_mut().for_each(|jtis| jtis.sort_unstable());
        contents.settled.values_mut().for_each(|jtis| jtis.sort_unstable());
        contents
    }
}

fn file(
    whole: &mut BTreeMap<Org, Vec<(Jti, Digest)>>,
    damaged: &mut BTreeMap<Org, Vec<Jti>>,
    org: Option<Org>,
    jti: &Jti,
    is_whole: bool,
    digest: impl FnOnce() -> Digest,
) {
    let Some(org) = org else { return };
    match is_whole {
        true => whole.entry(org).or_default().push((jti.clone(), digest())),
        false => damaged.entry(org).or_default().push(jti.clone()),
    }
}
