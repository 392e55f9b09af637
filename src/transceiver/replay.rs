//! Saying again what was said to a partner since some time: what it answered is reissued, what it never answered is resent. A new
//! jti is made of the job, the peer and the old jti: so whoever asks again, after a crash or from the beginning, finds done
//! what was done, and one job says nothing twice.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::{Map, Value};
use tracing::info;

use super::dead_letters::{Cursor, DeadLetter, Hindrance, Sieve};
use super::peers::Entry;
use super::redrive_fault::RedriveFault;
use super::submit::Checked;
use super::window::{Wanted, Window, is_meant};
use super::{Event, Inner, Remedy, SubmitFault, Transceiver};
use crate::clock::Wall;
use crate::engine::Queue;
use crate::peer::{Direction, Fate, Outcome, Place, Remembered};
use crate::set::{Jti, SignedSet, decode, events};
use crate::store::{Archived, Bookmark};

/// What to say again.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// To whom.
    pub peer: String,
    /// What the work is called. Under the same name nothing is done twice. Only counting needs none.
    pub job: Option<String>,
    /// What of it.
    pub wanted: Wanted,
}

/// The same, with what is meant.
struct Scope<'a> {
    peer: &'a str,
    job: &'a str,
    window: Window,
    types: events::Filter,
}

/// Where to go on with a [`Replay`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Progress(Stage);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Dead(Cursor),
    Settled(Bookmark),
}

/// What a part of a [`Replay`] came to, or would.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Acked or refused, and said again in new SETs.
    pub reissued: u64,
    /// Never answered, and queued again as they were.
    pub resent: u64,
    /// Reissued by this job before.
    pub before: u64,
    /// Bytes of those that were reissued or resent, as they had been sent.
    pub bytes: u64,
    /// When the first of them had been accepted.
    pub oldest: Option<Wall>,
    /// With these nothing was done.
    pub failed: Vec<(Jti, RedriveFault)>,
    /// So many more were met that are damaged.
    pub damaged: u64,
    /// Some of what was acked in that time is not kept any more, or never was.
    pub is_short: bool,
    /// SETs that wait for this peer now. What waits goes on by itself, and is not part of a replay.
    pub queued: u64,
    /// So many more may wait for it.
    pub room: u64,
    /// What is meant.
    pub window: Option<Window>,
    /// Where to go on; none when all was met.
    pub next: Option<Progress>,
}

/// SETs looked at by one call.
const LOOK_MAX: usize = 5_000;
/// SETs read, signed and committed at a time.
const CHUNK: usize = 250;

impl Transceiver {
    /// Says again about `max` SETs, and goes on from there when it is asked with [`Replayed::next`]; `dry_run` only counts.
    /// Durable when it returns. After an error, or when the future was dropped, some of them may have been said: asked
    /// for again under the same job, they are not said twice.
    ///
    /// Of what was answered only as much can be said again as the store has kept (`store.keep_settled`).
    pub async fn replay(
        &self,
        replay: &Replay,
        from: Option<Progress>,
        max: usize,
        dry_run: bool,
    ) -> Result<Replayed, RedriveFault> {
        let inner = &self.0;
        let entry = inner.open(&replay.peer)?;
        if replay.job.is_none() && !dry_run {
            return Err(RedriveFault::Invalid("job: missing: what is done under one name is done once".to_owned()));
        }
        let window = inner.window(entry.partner.id, &replay.wanted, replay.job.as_deref(), dry_run).await?;
        let (peer, job) = (replay.peer.as_str(), replay.job.as_deref().unwrap_or_default());
        let scope = Scope { peer, job, types: window.filter()?, window };
        let sieve = Sieve { peer: Some(replay.peer.clone()), reason: None };
        let start = || Stage::Dead(Cursor { after: Place::default(), as_of: scope.window.as_of() });
        let mut stage = from.map_or_else(start, |place| place.0);
        let (mut done, mut looked_at) = (Replayed::default(), 0);
        loop {
            let stats = entry.partner.handle().stats().await;
            let stats = stats.map_err(|_| submit(inner.stopped(&entry)))?;
            (done.queued, done.room) = (stats.counts.queued, stats.room);
            let left = max.max(1).saturating_sub(usize::try_from(done.reissued + done.resent).unwrap_or(usize::MAX));
            if left == 0 || looked_at >= LOOK_MAX {
                done.next = Some(Progress(stage));
                break;
            }
            let room = if dry_run { CHUNK } else { usize::try_from(stats.room).unwrap_or(CHUNK) };
            let most = left.min(CHUNK).min(room).max(1);
            let (next, said, damaged) = match stage {
                Stage::Dead(cursor) => {
                    let page = inner.dead_letters(&sieve, Some(cursor), most).await;
                    let page = page.map_err(|error| inner.failed(error))?;
                    looked_at += page.letters.len();
                    let said = inner.replay_dead(&scope, page.letters, dry_run, &mut done).await;
                    let next = page.next.map_or(Stage::Settled(Bookmark::default()), Stage::Dead);
                    (Some(next), said, page.damaged as u64)
                }
                Stage::Settled(bookmark) => {
                    let leaf = inner.journal.read_settled(entry.partner.id, scope.window.since(), bookmark, most);
                    let leaf = leaf.await.map_err(|error| inner.failed(error))?;
                    // One without any has passed many of other peers.
                    looked_at += if leaf.sets.is_empty() { LOOK_MAX / 5 } else { leaf.sets.len() };
                    done.is_short |= leaf.unkept > Wall(0) && leaf.unkept >= scope.window.since();
                    let said = inner.replay_settled(&scope, &entry, leaf.sets, leaf.unkept, dry_run, &mut done).await;
                    (leaf.next.map(Stage::Settled), said, leaf.damaged)
                }
            };
            match said {
                Ok(()) => {}
                // What was done is told, and the rest asked for again.
                Err(_) if done.reissued + done.resent > 0 => {
                    done.next = Some(Progress(stage));
                    break;
                }
                Err(fault) => return Err(fault),
            }
            done.damaged += damaged;
            match next {
                Some(next) => stage = next,
                None => break,
            }
        }
        if !dry_run && done.reissued + done.resent > 0 {
            info!(peer, job, count = done.reissued + done.resent, "said again by a replay");
        }
        done.window = Some(scope.window);
        Ok(done)
    }
}

impl Inner {
    /// Deals with dead letters: refused ones are reissued, the others resent. An error is one that passes, met with some.
    async fn replay_dead(
        self: &Arc<Self>,
        scope: &Scope<'_>,
        letters: Vec<DeadLetter>,
        dry_run: bool,
        done: &mut Replayed,
    ) -> Result<(), RedriveFault> {
        let (mut refused, mut unanswered) = (Vec::new(), Vec::new());
        for letter in letters {
            if !scope.window.spans(letter.accepted_at, letter.since) || !is_meant(&scope.types, &letter.claims) {
                continue;
            }
            match letter.memory.fate {
                Fate::Settled { outcome: Outcome::Refused(_), .. } => refused.push(letter),
                _ => unanswered.push(letter),
            }
        }
        let mut passing = Ok(());
        for (remedy, letters) in [(Remedy::Reissue, refused), (Remedy::Resend, unanswered)] {
            let sizes: Vec<(Jti, u64, Wall)> = letters
                .iter()
                .map(|letter| (letter.jti.clone(), letter.compact.len() as u64, letter.accepted_at))
                .collect();
            let tried = match dry_run {
                true => super::redrive::tried(remedy, letters),
                false => self.redrive_some(remedy, letters).await,
            };
            for (_, jti, answer) in tried {
                match answer {
                    Err(fault) if passes(&fault) => passing = Err(fault),
                    Err(fault) => done.failed.push((jti, fault)),
                    Ok(_) => {
                        let size = sizes.iter().find(|(known, ..)| *known == jti);
                        let (_, bytes, at) = size.cloned().unwrap_or((jti, 0, scope.window.until()));
                        let count = if remedy == Remedy::Reissue { &mut done.reissued } else { &mut done.resent };
                        *count += 1;
                        done.say(bytes, at);
                    }
                }
            }
        }
        passing
    }

    /// Reissues those that were acked.
    async fn replay_settled(
        self: &Arc<Self>,
        scope: &Scope<'_>,
        entry: &Arc<Entry>,
        sets: Vec<Archived>,
        unkept: Wall,
        dry_run: bool,
        done: &mut Replayed,
    ) -> Result<(), RedriveFault> {
        let known = self.known(entry, sets.iter().map(|set| set.jti.clone()).collect()).await?;
        // An earlier replay's SETs say what the first ones say, which are met as well if they are kept.
        let firsts: Vec<Option<Jti>> = sets.iter().map(|set| set.story.reissue_of().cloned()).collect();
        let said_first = self.known(entry, firsts.iter().flatten().cloned().collect()).await?;
        let mut said_first = said_first.into_iter();
        let mut meant = Vec::with_capacity(sets.len());
        for ((set, known), first) in sets.into_iter().zip(known).zip(firsts) {
            let first = first.and_then(|_| said_first.next().flatten());
            let is_again = first.and_then(|first| scope.window.acked(&first)).is_some_and(|at| at > unkept);
            // What was refused or given up is among the dead letters, or was dealt with.
            let known = known.filter(|memory| memory.seq == set.seq && !is_again);
            if known.is_none_or(|memory| scope.window.acked(&memory).is_none()) {
                continue;
            }
            let claims = decode(&set.compact).map(|(_, claims)| claims).unwrap_or_default();
            if is_meant(&scope.types, &claims) {
                let jti = Jti::derived(&[scope.job, scope.peer, set.jti.as_str()]);
                meant.push((set, claims, jti));
            }
        }
        let said = self.known(entry, meant.iter().map(|(.., jti)| jti.clone()).collect()).await?;
        // Held until everything is stored: so long the key that signs stays published (`keys.rs`).
        let signer = self.keys.signer();
        let (mut before, mut failed) = (0, Vec::new());
        let mut checked: Vec<(Archived, Checked)> = Vec::with_capacity(meant.len());
        for ((set, claims, jti), said) in meant.into_iter().zip(said) {
            if said.is_some() {
                before += 1;
                continue;
            }
            match self.again(entry, &set.jti, claims, jti) {
                Ok(one) => checked.push((set, one)),
                Err(fault) => failed.push((set.jti, fault)),
            }
        }
        if dry_run {
            done.before += before;
            done.failed.append(&mut failed);
            done.reissued += checked.len() as u64;
            checked.iter().for_each(|(set, _)| done.say(set.compact.len() as u64, set.accepted_at));
            return Ok(());
        }
        let bench = self.bench(&signer);
        let signed = self.pool.map(Queue::Signing, checked, move |(set, one)| (bench.sign(one), set)).await;
        let (mut batch, mut told) = (Vec::with_capacity(signed.len()), Vec::with_capacity(signed.len()));
        for (signed, set) in signed {
            match signed {
                Ok(new) => {
                    told.push((set.compact.len() as u64, set.accepted_at));
                    batch.push(SignedSet { reissue_of: Some(set.jti), ..new });
                }
                Err(fault) => failed.push((set.jti, submit(fault))),
            }
        }
        if !batch.is_empty() {
            let handle = entry.partner.handle();
            handle.send(batch, false).await.map_err(|error| submit(self.unsent(entry, error)))?;
        }
        drop(signer);
        done.before += before;
        done.failed.append(&mut failed);
        done.reissued += told.len() as u64;
        told.into_iter().for_each(|(bytes, at)| done.say(bytes, at));
        Ok(())
    }

    async fn known(&self, entry: &Arc<Entry>, jtis: Vec<Jti>) -> Result<Vec<Option<Remembered>>, RedriveFault> {
        let known = self.journal.known(entry.partner.id, Direction::Out, jtis).await;
        known.map_err(|error| self.failed(error))
    }

    /// What this SET said, to be said under this jti: `iat` is of now, and so is a plain `aud`; a list is the application's
    /// own, and stays, as do `txn`, the events and their subject.
    fn again(
        &self,
        entry: &Arc<Entry>,
        old: &Jti,
        mut claims: Map<String, Value>,
        jti: Jti,
    ) -> Result<Checked, RedriveFault> {
        let issuer = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
        if issuer != self.issuer {
            return Err(RedriveFault::NotReissuable(
                old.clone(),
                Hindrance::Foreign(super::dead_letters::plain(issuer)),
            ));
        }
        super::redrive::renewable(&mut claims);
        claims.insert("jti".to_owned(), jti.as_str().into());
        self.check(&entry.config.name, Event::Claims(claims)).map_err(submit)
    }
}

fn submit(fault: SubmitFault) -> RedriveFault {
    RedriveFault::Submit(Arc::new(fault))
}

/// It is not about one SET, and another time it may not be there.
fn passes(fault: &RedriveFault) -> bool {
    use SubmitFault::{OutboxFull, Stopped, StorageFailed, StorageFull};
    let RedriveFault::Submit(fault) = fault else { return false };
    matches!(**fault, OutboxFull { .. } | StorageFull | StorageFailed | Stopped)
}

impl Replayed {
    fn say(&mut self, bytes: u64, at: Wall) {
        self.bytes += bytes;
        self.oldest = Some(self.oldest.map_or(at, |oldest| oldest.min(at)));
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Stage::Dead(cursor) => write!(f, "d{cursor}"),
            Stage::Settled(bookmark) => write!(f, "{bookmark}"),
        }
    }
}

impl FromStr for Progress {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(Self(match text.strip_prefix('d') {
            Some(cursor) => Stage::Dead(cursor.parse()?),
            None => Stage::Settled(text.parse()?),
        }))
    }
}
