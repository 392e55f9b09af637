//! Dead letters as an operator sees them: read page by page, found by jti, counted by reason, each with what helps.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, PoisonError};

use serde_json::{Map, Value};

use super::advice::{Advice, advice, advice_for_gone, named, named_by_reason, reason};
use super::{Inner, Transceiver};
use crate::clock::Wall;
use crate::peer::{self, Fate, Outcome, PeerId, Place, Story, Stretch};
use crate::set::{Jti, SetErr, acts_on_display, decode, events};
use crate::store;

/// Which dead letters are meant.
#[derive(Clone, Debug, Default)]
pub struct Sieve {
    /// Only this peer's.
    pub peer: Option<String>,
    /// Only those with this reason ([`DeadLetter::reason`]).
    pub reason: Option<String>,
}

/// Where to go on, and what to leave out then: what has died since it was first asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cursor {
    pub(super) after: Place,
    pub(super) as_of: Wall,
}

/// A SET that was refused or never answered.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The peer it was for.
    pub peer: Arc<str>,
    /// Its identity.
    pub jti: Jti,
    /// The partner's code, `attempts_exhausted` or `too_old`.
    pub reason: String,
    /// What the partner said, if it answered.
    pub error: Option<SetErr>,
    /// Attempts that got no answer.
    pub attempts: u32,
    /// When it was accepted, or queued again.
    pub accepted_at: Wall,
    /// Since when it is a dead letter.
    pub since: Wall,
    /// What it went through before.
    pub story: Story,
    /// The header of the SET; empty if it is none.
    pub header: Map<String, Value>,
    /// Its claims.
    pub claims: Map<String, Value>,
    /// The compact SET.
    pub compact: Arc<str>,
    /// What keeps it from being resent.
    pub resend: Result<(), Hindrance>,
    /// What keeps it from being reissued.
    pub reissue: Result<(), Hindrance>,
    pub(super) id: PeerId,
    pub(super) memory: peer::Remembered,
}

/// Why something cannot be done with a dead letter.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Hindrance {
    /// A jti that was answered is not used again.
    #[error("the partner has refused it ({0}), and a jti that was answered must not be used again")]
    Answered(String),
    /// The partner would not find the key that signed it.
    #[error("it was signed with {0:?}, which is not published any more: the partner would refuse it")]
    KeyNotPublished(String),
    /// Somebody else's SET can only be sent as it is.
    #[error("its issuer is {0}, and only the issuer can sign it anew")]
    Foreign(String),
    /// There is nobody to send it to.
    #[error("the peer {0} is not configured any more: add it again, or discard what is left of it")]
    PeerGone(String),
}

/// Dead letters with the same reason from the same peer.
#[derive(Clone, Debug)]
pub struct Group {
    /// The peer.
    pub peer: Arc<str>,
    /// The reason.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// How many of them can be resent.
    pub can_resend: u64,
    /// How many of them can be reissued.
    pub can_reissue: u64,
    /// The oldest of them, without its contents.
    pub example: DeadLetter,
    /// Since when the newest of them is a dead letter.
    pub newest: Wall,
}

/// Some of the dead letters.
#[derive(Debug)]
pub struct DeadLetters {
    /// By peer, and by the order in which they were accepted.
    pub letters: Vec<DeadLetter>,
    /// How many more were met whose rows are damaged.
    pub damaged: usize,
    /// Where to go on. There may be more even if nothing was found so far.
    pub next: Option<Cursor>,
}

/// Dead letters looked at for one answer, and bytes of tokens held for it.
const SCAN_MAX: usize = 20_000;
const BYTES_MAX: usize = 8 << 20;

/// Rows of one read of the store.
const ROWS: usize = 500;

/// Groups that are told apart: the partner chooses the reasons.
const GROUPS_MAX: usize = 1_000;

impl Transceiver {
    /// Whether there is a peer of this name, or was one of which something may be left.
    pub fn is_or_was_peer(&self, name: &str) -> bool {
        self.0.id_of(name).is_some()
    }

    /// Up to `max` dead letters behind the cursor. Fewer come when they are large or hard to find.
    pub async fn dead_letters(
        &self,
        sieve: &Sieve,
        from: Option<Cursor>,
        max: usize,
    ) -> Result<DeadLetters, store::Error> {
        self.0.dead_letters(sieve, from, max).await.inspect_err(|error| self.0.supervisor.note_failure(error))
    }

    /// All dead letters, counted by peer and reason, and how many are damaged. Reads every one of them.
    pub async fn dead_letter_groups(&self, sieve: &Sieve) -> Result<(Vec<Group>, usize), store::Error> {
        let mut groups: BTreeMap<(Arc<str>, String), Group> = BTreeMap::new();
        let (mut from, mut damaged) = (None, 0);
        loop {
            let page = self.dead_letters(sieve, from, ROWS).await?;
            damaged += page.damaged;
            for letter in page.letters {
                // A thousand groups must not hold a thousand large SETs.
                let letter = DeadLetter { header: Map::new(), claims: Map::new(), compact: Arc::from(""), ..letter };
                let mut reason = letter.reason.clone();
                if groups.len() >= GROUPS_MAX && !groups.contains_key(&(Arc::clone(&letter.peer), reason.clone())) {
                    OTHER.clone_into(&mut reason);
                }
                let key = (Arc::clone(&letter.peer), reason);
                let group = groups.entry(key).or_insert_with_key(|(peer, reason)| Group {
                    peer: Arc::clone(peer),
                    reason: reason.clone(),
                    count: 0,
                    can_resend: 0,
                    can_reissue: 0,
                    example: letter.clone(),
                    newest: letter.since,
                });
                group.count += 1;
                group.can_resend += u64::from(letter.resend.is_ok());
                group.can_reissue += u64::from(letter.reissue.is_ok());
                group.newest = group.newest.max(letter.since);
                if letter.since < group.example.since {
                    group.example = letter;
                }
            }
            from = page.next;
            if from.is_none() {
                return Ok((groups.into_values().collect(), damaged));
            }
        }
    }
}

/// What is counted together when there are too many reasons.
const OTHER: &str = "(other reasons)";

impl Inner {
    pub(super) async fn dead_letters(
        &self,
        sieve: &Sieve,
        from: Option<Cursor>,
        max: usize,
    ) -> Result<DeadLetters, store::Error> {
        let as_of = from.map(|cursor| cursor.as_of);
        let (mut after, up_to) = self.range(sieve, from.map(|cursor| cursor.after));
        let mut found = DeadLetters { letters: Vec::new(), damaged: 0, next: None };
        let (mut looked_at, mut bytes) = (0, 0);
        loop {
            let stretch = Stretch { after, up_to, rows_max: ROWS, bytes_max: BYTES_MAX / 2 };
            let page = self.journal.read_dead_letters(stretch).await?;
            looked_at += page.letters.len() + page.damaged.len();
            for (id, letter) in page.letters {
                if found.letters.len() >= max || bytes >= BYTES_MAX {
                    found.damaged += page.damaged.iter().filter(|place| **place <= after).count();
                    found.next = Some(self.cursor(after, as_of));
                    return Ok(found);
                }
                after = Place::of(id, letter.memory.seq);
                let shown = self.shown(id, letter);
                let meant = sieve.reason.as_ref().is_none_or(|reason| *reason == shown.reason);
                if meant && as_of.is_none_or(|as_of| shown.since <= as_of) {
                    bytes += shown.compact.len();
                    found.letters.push(shown);
                }
            }
            found.damaged += page.damaged.len();
            let Some(next) = page.next else { return Ok(found) };
            after = next;
            if looked_at >= SCAN_MAX || found.letters.len() >= max || bytes >= BYTES_MAX {
                found.next = Some(self.cursor(after, as_of));
                return Ok(found);
            }
        }
    }

    /// The dead letter of this jti, wherever it lies: for one that is so old that nothing else is remembered of it.
    pub(super) async fn search(&self, jti: &Jti, peer: Option<PeerId>) -> Result<Vec<DeadLetter>, store::Error> {
        let (mut after, up_to) = match peer {
            Some(id) => (Place::of(id, 0), Place::of(id, u64::MAX)),
            None => (Place::default(), Place::LAST),
        };
        let mut found = Vec::new();
        loop {
            let stretch = Stretch { after, up_to, rows_max: ROWS, bytes_max: BYTES_MAX / 2 };
            let page = self.journal.read_dead_letters(stretch).await?;
            let letters = page.letters.into_iter().filter(|(_, letter)| letter.jti == *jti);
            found.extend(letters.map(|(id, letter)| self.shown(id, letter)));
            match page.next {
                Some(next) => after = next,
                None => return Ok(found),
            }
        }
    }

    /// A dead letter with what can be said of it.
    pub(super) fn shown(&self, id: PeerId, letter: peer::DeadLetter) -> DeadLetter {
        let peer::DeadLetter { jti, compact, memory } = letter;
        let (reason, error, since, attempts) = match &memory.fate {
            Fate::Settled { outcome, at, attempts } => (reason(outcome), refusal(outcome), *at, *attempts),
            Fate::Queued | Fate::Answered(_) => (String::new(), None, memory.since, 0),
        };
        // What was relayed need not be readable for more than its jti.
        let (header, claims) = decode(&compact).unwrap_or_default();
        let issuer = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
        let kid = header.get("kid").and_then(Value::as_str).unwrap_or_default();
        let ours = issuer == self.issuer;
        let peer = self.name_of(id);
        let gone = || Hindrance::PeerGone(peer.to_string());
        let is_gone = self.find(&peer).is_err();
        let resend = match &error {
            _ if is_gone => Err(gone()),
            Some(error) => Err(Hindrance::Answered(plain(&error.err))),
            None if ours && !self.keys.is_published(kid) => Err(Hindrance::KeyNotPublished(plain(kid))),
            None => Ok(()),
        };
        let reissue = match ours {
            _ if is_gone => Err(gone()),
            true => Ok(()),
            false => Err(Hindrance::Foreign(plain(issuer))),
        };
        DeadLetter {
            peer,
            jti,
            reason,
            error,
            attempts,
            accepted_at: memory.since,
            since,
            story: memory.story.clone(),
            header,
            claims,
            compact,
            resend,
            reissue,
            id,
            memory,
        }
    }

    fn range(&self, sieve: &Sieve, after: Option<Place>) -> (Place, Place) {
        match &sieve.peer {
            None => (after.unwrap_or_default(), Place::LAST),
            Some(name) => match self.id_of(name) {
                Some(id) => (after.unwrap_or_default().max(Place::of(id, 0)), Place::of(id, u64::MAX)),
                None => (Place::LAST, Place::LAST),
            },
        }
    }

    fn cursor(&self, after: Place, as_of: Option<Wall>) -> Cursor {
        Cursor { after, as_of: as_of.unwrap_or_else(|| self.clock.now().wall) }
    }

    /// The number of a peer that there is or was.
    pub(super) fn id_of(&self, name: &str) -> Option<PeerId> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.iter().find(|(_, known)| ***known == *name).map(|(id, _)| *id)
    }
}

impl DeadLetter {
    /// The types of its events, by their short names.
    pub fn types(&self) -> Vec<String> {
        let types = self.claims.get("events").and_then(Value::as_object);
        types.into_iter().flat_map(Map::keys).take(16).map(|uri| plain(&events::shorten(uri))).collect()
    }

    /// Its peer is not configured any more.
    fn is_of_nobody(&self) -> bool {
        matches!(self.resend, Err(Hindrance::PeerGone(_)))
    }

    /// Who has to act on it, and how.
    pub fn advice(&self) -> Advice {
        let target = named(self.jti.as_str());
        if self.is_of_nobody() {
            return advice_for_gone(&self.peer, target.as_deref());
        }
        advice(
            &self.reason,
            self.error.is_some(),
            &self.peer,
            self.resend.is_ok(),
            self.reissue.is_ok(),
            target.as_deref(),
        )
    }
}

impl Group {
    /// Who has to act on all of them, and how.
    pub fn advice(&self) -> Advice {
        let reason = (self.reason != OTHER).then_some(self.reason.as_str());
        let target = named_by_reason(&self.peer, reason);
        if self.example.is_of_nobody() {
            return advice_for_gone(&self.peer, target.as_deref());
        }
        let refused = self.example.error.is_some();
        advice(&self.reason, refused, &self.peer, self.can_resend > 0, self.can_reissue > 0, target.as_deref())
    }
}

fn refusal(outcome: &Outcome) -> Option<SetErr> {
    match outcome {
        Outcome::Refused(error) => Some(error.clone()),
        Outcome::Acked | Outcome::Dead(_) => None,
    }
}

/// Somebody else's text as it may stand in a message: short, and nothing but text.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|c| !acts_on_display(*c)).take(200).collect()
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.after.peer, self.after.seq, self.as_of.0)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '-').map(str::parse::<u64>);
        let mut part = || parts.next().and_then(Result::ok).ok_or(());
        let peer = u32::try_from(part()?).map_err(|_| ())?;
        Ok(Self { after: Place { peer, seq: part()? }, as_of: Wall(part()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_given() {
        let cursor = Cursor { after: Place { peer: 7, seq: u64::MAX }, as_of: Wall(1_700_000_000_000) };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for wrong in ["", "1", "1-2", "1-2-", "1-2-x", "99999999999-1-1", "-1-2-3"] {
            assert_eq!(wrong.parse::<Cursor>(), Err(()), "{wrong}");
        }
    }
}
