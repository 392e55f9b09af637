//! What an operator does with dead letters: one by its jti, or all that are meant. The core decides; here a SET is
//! found, signed anew where it is reissued, and what cannot be done is told in words.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tracing::info;

use super::dead_letters::{Cursor, DeadLetter, Hindrance, Sieve};
use super::event::Event;
use super::peers::Entry;
use super::redrive_fault::RedriveFault;
use super::{Inner, SubmitFault, Transceiver};
use crate::auth::keyring::{InUse, Signer};
use crate::engine::{RedriveError, Redriving};
use crate::peer::{Direction, Fate, Outcome, PeerId, Redrive, Redriven, Remembered};
use crate::set::{Jti, SignedSet};
use crate::store;

/// What is to become of dead letters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Remedy {
    /// Send them again as they are, under their jtis.
    Resend,
    /// Say the same in new SETs.
    Reissue,
    /// Do away with them.
    Discard,
}

/// What was done with many.
#[derive(Debug)]
pub struct Bulk {
    /// Those with which it was done (or would be), with the jti of the new SET where there is one.
    pub done: Vec<(Arc<str>, Jti, Option<Jti>)>,
    /// Those with which nothing was done.
    pub failed: Vec<(Arc<str>, Jti, RedriveFault)>,
    /// How many more were met whose rows are damaged: nothing was done with them.
    pub damaged: usize,
    /// Where to go on.
    pub next: Option<Cursor>,
}

/// Dead letters that are dealt with in one commit.
const CHUNK: usize = 250;

impl Transceiver {
    /// The dead letter of this jti.
    pub async fn dead_letter(&self, jti: &Jti, peer: Option<&str>) -> Result<DeadLetter, RedriveFault> {
        match self.0.dead_letter(jti, peer).await? {
            Found::Letter(letter) => Ok(*letter),
            Found::Damaged(..) => Err(RedriveFault::Damaged(jti.clone())),
            Found::Reissued { peer, new } => Err(reissued(jti, peer, &new)),
        }
    }

    /// Deals with one dead letter; durable when it returns. The jti of the new SET if there is one. A reissue that was
    /// done before is answered with the SET that it made then.
    pub async fn redrive(
        &self,
        remedy: Remedy,
        jti: &Jti,
        peer: Option<&str>,
    ) -> Result<(Arc<str>, Option<Jti>), RedriveFault> {
        let inner = &self.0;
        let letter = match inner.dead_letter(jti, peer).await? {
            Found::Letter(letter) => *letter,
            Found::Reissued { peer, new } if remedy == Remedy::Reissue => return Ok((peer, Some(new))),
            Found::Reissued { peer, new } => return Err(reissued(jti, peer, &new)),
            Found::Damaged(id, memory) if remedy == Remedy::Discard => {
                let act = Redriving { seq: memory.seq, jti: jti.clone(), how: Redrive::Discard };
                let done = inner.act(id, vec![act]).await?.pop();
                let done = done.ok_or_else(|| RedriveFault::Damaged(jti.clone()))?;
                return Ok((inner.name_of(id), answered(jti, &inner.name_of(id), done)?));
            }
            Found::Damaged(..) => return Err(RedriveFault::Damaged(jti.clone())),
        };
        let name = Arc::clone(&letter.peer);
        let mut done = inner.redrive_some(remedy, vec![letter]).await;
        match done.pop() {
            Some((_, _, Ok(new))) => Ok((name, new)),
            Some((_, _, Err(fault))) => Err(fault),
            None => Err(RedriveFault::NoSuchEvent(jti.clone())),
        }
    }

    /// Deals with all dead letters that are meant, up to `max` of them; `dry_run` only tells what would be done. What has
    /// become a dead letter since the first call is left out, or a partner that refuses at once would keep it going.
    pub async fn redrive_all(
        &self,
        remedy: Remedy,
        sieve: &Sieve,
        from: Option<Cursor>,
        max: usize,
        dry_run: bool,
    ) -> Result<Bulk, store::Error> {
        let mut bulk = Bulk { done: Vec::new(), failed: Vec::new(), damaged: 0, next: None };
        let mut from = Some(
            from.unwrap_or_else(|| Cursor { after: crate::peer::Place::default(), as_of: self.0.clock.now().wall }),
        );
        loop {
            let left = max.saturating_sub(bulk.done.len() + bulk.failed.len());
            if left == 0 {
                bulk.next = from;
                return Ok(bulk);
            }
            let page = self.dead_letters(sieve, from, left.min(CHUNK)).await?;
            let nothing = page.letters.is_empty();
            bulk.damaged += page.damaged;
            let tried =
                if dry_run { tried(remedy, page.letters) } else { self.0.redrive_some(remedy, page.letters).await };
            for (peer, jti, done) in tried {
                match done {
                    Ok(new) => bulk.done.push((peer, jti, new)),
                    Err(fault) => bulk.failed.push((peer, jti, fault)),
                }
            }
            from = page.next;
            if from.is_none() || nothing {
                // A long way without a match ends the call too: whoever asked goes on from here.
                bulk.next = from;
                return Ok(bulk);
            }
        }
    }
}

/// What a look for a jti has found.
enum Found {
    Letter(Box<DeadLetter>),
    /// The row cannot be read; what is remembered of it.
    Damaged(PeerId, Remembered),
    /// It was one, and was reissued as this.
    Reissued {
        peer: Arc<str>,
        new: Jti,
    },
}

/// What must not be let go before everything is stored.
struct Held {
    signer: Arc<Signer>,
    /// Keys that have signed what is to leave again, by their kids.
    used: Vec<(String, Arc<InUse>)>,
}

pub(super) type Tried = Vec<(Arc<str>, Jti, Result<Option<Jti>, RedriveFault>)>;

impl Inner {
    async fn dead_letter(&self, jti: &Jti, peer: Option<&str>) -> Result<Found, RedriveFault> {
        let only = match peer {
            Some(name) => Some(self.id_of(name).ok_or_else(|| RedriveFault::NoSuchPeer(name.to_owned()))?),
            None => None,
        };
        let history = self.journal.history(jti.clone()).await.map_err(|error| self.failed(error))?;
        let sent: Vec<(PeerId, Remembered)> = history
            .into_iter()
            .filter(|(id, direction, _)| *direction == Direction::Out && only.is_none_or(|only| only == *id))
            .map(|(id, _, memory)| (id, memory))
            .collect();
        let is_dead = |memory: &Remembered| {
            let ended = matches!(&memory.fate, Fate::Settled { outcome, .. } if *outcome != Outcome::Acked);
            ended && !memory.story.is_closed()
        };
        let mut dead: Vec<&(PeerId, Remembered)> = sent.iter().filter(|(_, memory)| is_dead(memory)).collect();
        match (dead.pop(), dead.is_empty()) {
            (Some((id, memory)), true) => {
                let page = self.journal.dead_letters_at(*id, vec![memory.seq]).await;
                let mut page = page.map_err(|error| self.failed(error))?;
                match page.letters.pop() {
                    Some((id, letter)) => Ok(Found::Letter(Box::new(self.shown(id, letter)))),
                    None if !page.damaged.is_empty() => Ok(Found::Damaged(*id, memory.clone())),
                    // Somebody was faster.
                    None => Err(not_dead(jti, self.name_of(*id), "it was dealt with just now")),
                }
            }
            (Some((id, _)), false) => {
                let ids = dead.iter().map(|(id, _)| *id).chain([*id]);
                let mut peers: Vec<String> = ids.map(|id| self.name_of(id).to_string()).collect();
                peers.sort();
                Err(RedriveFault::SeveralPeers { jti: jti.clone(), peers })
            }
            (None, _) => match sent.first() {
                Some((id, memory)) => self.not_dead(jti, *id, memory),
                None => self.forgotten(jti, only).await,
            },
        }
    }

    fn not_dead(&self, jti: &Jti, id: PeerId, memory: &Remembered) -> Result<Found, RedriveFault> {
        let peer = self.name_of(id);
        if let Some(new) = memory.story.reissued_as() {
            return Ok(Found::Reissued { peer, new: new.clone() });
        }
        let state = match (&memory.fate, memory.story.discarded_at()) {
            (_, Some(at)) => format!("it was discarded at {}", at.to_rfc3339()),
            (Fate::Settled { .. }, None) => "it was acked".to_owned(),
            (Fate::Queued | Fate::Answered(_), None) => "it is queued, and is sent again by itself".to_owned(),
        };
        Err(not_dead(jti, peer, &state))
    }

    /// A jti of which nothing is remembered, as after a month, may still be that of a dead letter.
    async fn forgotten(&self, jti: &Jti, only: Option<PeerId>) -> Result<Found, RedriveFault> {
        let mut found = self.search(jti, only).await.map_err(|error| self.failed(error))?;
        match (found.pop(), found.is_empty()) {
            (None, _) => Err(RedriveFault::NoSuchEvent(jti.clone())),
            (Some(letter), true) => Ok(Found::Letter(Box::new(letter))),
            (Some(letter), false) => {
                let letters = found.iter().chain([&letter]);
                let peers = letters.map(|letter| letter.peer.to_string()).collect();
                Err(RedriveFault::SeveralPeers { jti: jti.clone(), peers })
            }
        }
    }

    /// Deals with these, each for itself; those of one peer in one commit.
    pub(super) async fn redrive_some(self: &Arc<Self>, remedy: Remedy, letters: Vec<DeadLetter>) -> Tried {
        // Held until everything is stored: so long the key that signs, or has signed, stays published (`keys.rs`).
        let mut held = Held { signer: self.keys.signer(), used: Vec::new() };
        let mut tried = Vec::with_capacity(letters.len());
        let mut by_peer: BTreeMap<PeerId, Vec<DeadLetter>> = BTreeMap::new();
        for letter in letters {
            match fit(remedy, &letter) {
                Ok(()) => by_peer.entry(letter.id).or_default().push(letter),
                Err(fault) => tried.push((letter.peer, letter.jti, Err(fault))),
            }
        }
        for (id, letters) in by_peer {
            let name = self.name_of(id);
            let named = |letters: &[DeadLetter], fault: &RedriveFault| -> Tried {
                let each = letters.iter();
                each.map(|letter| (Arc::clone(&name), letter.jti.clone(), Err(fault.clone()))).collect()
            };
            // A peer that is gone gets nothing; what is left of it can be cleared away.
            let entry = match remedy {
                Remedy::Discard => Ok(None),
                Remedy::Resend | Remedy::Reissue => self.open(&name).map(Some),
            };
            let acts = match entry {
                Ok(entry) => self.acts(remedy, entry, letters, &mut held, &mut tried).await,
                Err(fault) => {
                    tried.extend(named(&letters, &fault));
                    continue;
                }
            };
            let jtis: Vec<Jti> = acts.iter().map(|act| act.jti.clone()).collect();
            match self.act(id, acts).await {
                Ok(answers) => tried.extend(jtis.into_iter().zip(answers).map(|(jti, answer)| {
                    let answer = answered(&jti, &name, answer);
                    (Arc::clone(&name), jti, answer)
                })),
                Err(fault) => {
                    tried.extend(jtis.into_iter().map(|jti| (Arc::clone(&name), jti, Err(fault.clone()))));
                }
            }
        }
        tried
    }

    /// The peer, if SETs are taken for it.
    pub(super) fn open(&self, name: &str) -> Result<Arc<Entry>, RedriveFault> {
        let entry = self.find(name).map_err(|_| RedriveFault::NoSuchPeer(name.to_owned()))?;
        match entry.is_leaving() {
            false => Ok(entry),
            true => Err(RedriveFault::Submit(Arc::new(SubmitFault::Leaving(name.to_owned())))),
        }
    }

    /// What the actor is asked for. Of those that cannot be signed anew, `tried` is told.
    async fn acts(
        self: &Arc<Self>,
        remedy: Remedy,
        entry: Option<Arc<Entry>>,
        letters: Vec<DeadLetter>,
        held: &mut Held,
        tried: &mut Tried,
    ) -> Vec<Redriving> {
        let mut acts = Vec::with_capacity(letters.len());
        for letter in letters {
            let submit = |fault| RedriveFault::Submit(Arc::new(fault));
            let how = match (remedy, &entry) {
                (Remedy::Resend, _) => self.keep_key(&letter, held).await.map(|()| Redrive::Resend),
                (Remedy::Reissue, Some(entry)) => {
                    self.renew(entry, &letter, &held.signer).map(Redrive::Reissue).map_err(submit)
                }
                (Remedy::Reissue, None) | (Remedy::Discard, _) => Ok(Redrive::Discard),
            };
            match how {
                Ok(how) => acts.push(Redriving { seq: letter.memory.seq, jti: letter.jti, how }),
                Err(fault) => tried.push((letter.peer, letter.jti, Err(fault))),
            }
        }
        acts
    }

    /// Keeps the key published that signed a SET of ours which is to leave again. A look alone would not do: it could
    /// retire before the SET is queued.
    async fn keep_key(self: &Arc<Self>, letter: &DeadLetter, held: &mut Held) -> Result<(), RedriveFault> {
        let text = |members: &serde_json::Map<String, Value>, name: &str| {
            members.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        if text(&letter.claims, "iss") != self.issuer {
            return Ok(());
        }
        let kid = text(&letter.header, "kid");
        if held.used.iter().any(|(known, _)| *known == kid) {
            return Ok(());
        }
        let wanted = kid.clone();
        let hindrance = || Hindrance::KeyNotPublished(kid.clone());
        match self.with_keys(move |keys, _| keys.hold(&wanted)).await {
            Ok(Some(guard)) => {
                held.used.push((kid, guard));
                Ok(())
            }
            Ok(None) => Err(RedriveFault::NotResendable(letter.jti.clone(), hindrance())),
            Err(_) => Err(RedriveFault::Submit(Arc::new(SubmitFault::StorageFailed))),
        }
    }

    /// The same again as a new SET: another `jti`, `iat` of now, signed with the key that signs now. `txn`, the events and
    /// their subject stay. A plain `aud` is what this peer is called now, as for every new SET; a list is the
    /// application's own, and stays.
    fn renew(&self, entry: &Arc<Entry>, letter: &DeadLetter, signer: &Arc<Signer>) -> Result<SignedSet, SubmitFault> {
        let mut claims = letter.claims.clone();
        renewable(&mut claims);
        let checked = self.check(&entry.config.name, Event::Claims(claims))?;
        self.bench(signer).sign(checked)
    }

    async fn act(&self, id: PeerId, acts: Vec<Redriving>) -> Result<Vec<Result<Redriven, RedriveError>>, RedriveFault> {
        if acts.is_empty() {
            return Ok(Vec::new());
        }
        let is_stopped = |done: &Result<_, RedriveFault>| matches!(done, Err(RedriveFault::Submit(fault)) if matches!(**fault, SubmitFault::Stopped));
        // The actor of a peer that is gone ends with whoever is done first; the others ask the next one.
        let mut done = self.act_once(id, acts.clone()).await;
        for _ in 0..8 {
            if is_stopped(&done) && !self.stopping.load(Ordering::SeqCst) {
                done = self.act_once(id, acts.clone()).await;
            }
        }
        done
    }

    async fn act_once(
        &self,
        id: PeerId,
        acts: Vec<Redriving>,
    ) -> Result<Vec<Result<Redriven, RedriveError>>, RedriveFault> {
        let submit = |fault| RedriveFault::Submit(Arc::new(fault));
        // What is left of a peer that is gone has an actor for this alone.
        let (name, retired) = (self.name_of(id), AtomicBool::new(false));
        let entry = self.find(&name).ok();
        let handle = match &entry {
            Some(entry) => entry.partner.handle(),
            None => self.supervisor.handle(id, &name, &retired),
        };
        let done = tokio::select! {
            answers = handle.redrive(acts) => {
                let failed = self.journal.failed();
                let stopped = if failed { SubmitFault::StorageFailed } else { SubmitFault::Stopped };
                let answers = answers.map_err(|_| submit(stopped))?;
                // Who looks for the reason of a wave of SETs finds it here; which ones, `event show` tells.
                for (done, kind) in [(Redriven::Resent, "resent"), (Redriven::Discarded, "discarded")] {
                    told(&self.name_of(id), kind, answers.iter().flatten().filter(|answer| **answer == done).count());
                }
                let reissued = answers.iter().flatten().filter(|answer| matches!(answer, Redriven::Reissued(_)));
                told(&self.name_of(id), "reissued", reissued.count());
                Ok(answers)
            }
            () = self.stuck() => Err(submit(self.unwritable())),
        };
        if entry.is_none() && self.find(&name).is_err() {
            self.supervisor.retire(id, &retired, super::LAST_WORDS).await;
        }
        done
    }

    pub(super) fn failed(&self, error: store::Error) -> RedriveFault {
        self.supervisor.note_failure(&error);
        RedriveFault::Submit(Arc::new(error.into()))
    }
}

/// Takes out what a new SET has of its own.
pub(super) fn renewable(claims: &mut serde_json::Map<String, Value>) {
    claims.remove("jti");
    claims.remove("iat");
    if claims.get("aud").is_some_and(Value::is_string) {
        claims.remove("aud");
    }
}

fn told(peer: &str, done: &str, count: usize) {
    if count > 0 {
        info!(peer, done, count, "dead letters were dealt with");
    }
}

/// Whether this can be done with it, as far as it shows.
fn fit(remedy: Remedy, letter: &DeadLetter) -> Result<(), RedriveFault> {
    let jti = || letter.jti.clone();
    match remedy {
        Remedy::Resend => letter.resend.clone().map_err(|hindrance| RedriveFault::NotResendable(jti(), hindrance)),
        Remedy::Reissue => letter.reissue.clone().map_err(|hindrance| RedriveFault::NotReissuable(jti(), hindrance)),
        Remedy::Discard => Ok(()),
    }
}

/// What would be done.
pub(super) fn tried(remedy: Remedy, letters: Vec<DeadLetter>) -> Tried {
    let each = letters.into_iter();
    each.map(|letter| {
        let fit = fit(remedy, &letter).map(|()| None);
        (letter.peer, letter.jti, fit)
    })
    .collect()
}

/// The actor's answer about one of them.
fn answered(jti: &Jti, peer: &Arc<str>, answer: Result<Redriven, RedriveError>) -> Result<Option<Jti>, RedriveFault> {
    let submit = |fault| RedriveFault::Submit(Arc::new(fault));
    match answer {
        Ok(Redriven::Reissued(new)) => Ok(Some(new)),
        Ok(Redriven::Resent | Redriven::Discarded) => Ok(None),
        Err(RedriveError::Answered) => {
            Err(RedriveFault::NotResendable(jti.clone(), Hindrance::Answered("a setErr".to_owned())))
        }
        Err(RedriveError::Gone) => Err(not_dead(jti, Arc::clone(peer), "it was dealt with just now")),
        Err(RedriveError::Damaged) => Err(RedriveFault::Damaged(jti.clone())),
        Err(RedriveError::OutboxFull { max }) => Err(submit(SubmitFault::OutboxFull { max })),
        Err(_) => Err(submit(SubmitFault::StorageFull)),
    }
}

fn not_dead(jti: &Jti, peer: Arc<str>, state: &str) -> RedriveFault {
    RedriveFault::NotDead { jti: jti.clone(), peer, state: state.to_owned() }
}

fn reissued(jti: &Jti, peer: Arc<str>, new: &Jti) -> RedriveFault {
    not_dead(jti, peer, &format!("it was reissued as {new}"))
}
