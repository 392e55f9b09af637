//! The actor of one peer: gather, step, commit, perform. The only caller of the core.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, mpsc, oneshot};
use tracing::{debug, error, warn};

use super::counting::Counting;
use super::handle::{ArrivalRoom, SendError};
use super::place::Giver;
use super::redrive::{Answer, Call, Redriving};
use super::restraint::Restraint;
use super::settled::{Followers, Settled};
use crate::clock::{Clock, Timestamp};
use crate::codes::Code;
use crate::peer::{
    Act, Audit, Direction, Ending, Fate, Finding, Input, Inspected, Outcome, Output, Page, Peer, PeerId, SlotId,
    SlotSpec, Stats, Step, Transmission, Write,
};
use crate::planted::{self, Bug};
use crate::set::{Digest, ErrorCode, Jti, Refusal, SignedSet};
use crate::store::{self, Epoch, Journal};

/// What the mailbox carries: one channel for everything, so that order is kept. Small, since a mailbox keeps room for
/// dozens, also an empty one.
pub(super) enum Message {
    Send { sets: Vec<SignedSet>, fresh: bool, reply: oneshot::Sender<Result<(), SendError>> },
    Arrived(Box<Arrived>),
    SlotOpened(Box<(SlotId, SlotSpec, Giver<Transmission>)>),
    SlotReady(SlotId),
    SlotAlive(SlotId),
    SlotClosed(SlotId, Ending),
    Operate(Box<Act>, oneshot::Sender<()>),
    Redrive(Vec<Redriving>, oneshot::Sender<Vec<Answer>>),
    Stats(oneshot::Sender<Stats>),
    UnderWay(Box<Jti>, oneshot::Sender<Option<(bool, u32)>>),
    Watch(Box<Jti>, oneshot::Sender<Outcome>),
    Follow(oneshot::Sender<broadcast::Receiver<Settled>>),
    Drain,
}

const _: () = assert!(size_of::<Message>() <= 40);

impl Message {
    /// What it adds to a step.
    fn weight(&self) -> usize {
        match self {
            Self::Send { sets, .. } => sets.len().max(1),
            Self::Arrived(arrived) => 1 + arrived.object.sets.len() + arrived.object.acks.len(),
            _ => 1,
        }
    }

    /// It asks something, and whoever asked has gone.
    pub(super) fn is_abandoned(&self) -> bool {
        match self {
            Self::Stats(reply) => reply.is_closed(),
            Self::UnderWay(_, reply) => reply.is_closed(),
            Self::Watch(_, reply) => reply.is_closed(),
            Self::Follow(reply) => reply.is_closed(),
            _ => false,
        }
    }
}

/// An object that has come and been judged.
pub(super) struct Arrived {
    pub(super) slot: Option<SlotId>,
    pub(super) object: Inspected,
    pub(super) room: ArrivalRoom,
    /// When its last byte had come (monotonic time).
    pub(super) at: Duration,
}

/// The loop around one [`Peer`].
pub(super) struct Actor {
    pub(super) id: PeerId,
    pub(super) name: Arc<str>,
    pub(super) peer: Peer,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) mailbox: mpsc::Receiver<Message>,
    /// What came while nothing could be written, in front of the mailbox.
    pub(super) put_off: VecDeque<Message>,
    pub(super) inbox_max: u64,
    pub(super) outbox_max: u64,
    /// Where the objects of each open slot go. In order: when the actor ends they learn of it one after the other, and a
    /// simulation has to be able to repeat that.
    pub(super) slots: BTreeMap<SlotId, Giver<Transmission>>,
    /// Who waits for the end of a SET.
    pub(super) watchers: HashMap<Jti, Vec<oneshot::Sender<Outcome>>>,
    /// Who hears of the end of every SET.
    pub(super) followers: Followers,
    /// Jtis accepted since the last commit: the store does not know them yet.
    pub(super) accepting: HashMap<Jti, Digest>,
    /// Callers to be told once the commit is done.
    pub(super) callers: Vec<oneshot::Sender<Result<(), SendError>>>,
    pub(super) operators: Vec<oneshot::Sender<()>>,
    /// Acts on dead letters that are not answered yet, in their order.
    pub(super) redriving: VecDeque<Call>,
    /// The read of the outbox that is under way.
    pub(super) reading: Option<BoxFuture<'static, Result<Page, store::Error>>>,
    pub(super) wake: Option<Duration>,
    /// The time of what is being taken in. Callers of `send` come by the hundred, and share one reading of the clocks.
    pub(super) now: Timestamp,
    pub(super) restraints: Restraints,
    pub(super) counting: Counting,
}

/// SETs and verdicts taken into one step, and inputs without any: bounds its duration and its commit. More than the mailbox
/// has callers of `send` whom a slow commit keeps waiting: what arrives stands behind them, and would wait for a commit of
/// theirs.
const STEP_MAX: usize = 2_048;
/// With so much in a step, others are likely at work as well, and get a turn first, so many times at most, until it has enough.
const BUSY_LEAST: usize = 64;
const BUSY_ENOUGH: usize = 640;
const TURNS_MAX: usize = 8;

enum Gathered {
    News,
    /// Every handle is gone.
    Closed,
}

impl Actor {
    /// Runs until drained, abandoned, or until the store fails.
    pub(super) async fn run(mut self: Box<Self>) -> Result<(), store::Error> {
        loop {
            if let Gathered::Closed = self.gather().await? {
                return Ok(());
            }
            let now = self.clock.now();
            let Step { writes, mut outputs, wake, drained, figures } = self.peer.step(now);
            if planted::is(Bug::AckBeforeCommit) {
                outputs.drain(..).for_each(|output| self.perform(output));
            }
            let sum = Counting::sum(&writes, now.wall);
            self.commit(writes).await?;
            // Everything up to here has left no trace outside; from here on it may (R1).
            // Not what a burst needed, for ever.
            self.accepting = HashMap::new();
            if self.put_off.is_empty() {
                self.put_off = VecDeque::new();
            }
            self.counting.count(sum, &figures, &outputs, self.clock.now().mono);
            for caller in self.callers.drain(..) {
                let _ = caller.send(Ok(()));
            }
            for operator in self.operators.drain(..) {
                let _ = operator.send(());
            }
            for output in outputs {
                self.perform(output);
            }
            self.followers.tell();
            self.wake = wake.map(|(at, _)| at);
            if drained {
                debug!(peer = %self.name, "conversation drained");
                return Ok(());
            }
        }
    }

    /// Waits for news or for the time to wake, then takes what else is there.
    async fn gather(&mut self) -> Result<Gathered, store::Error> {
        let pause = self.wake.map(|at| at.saturating_sub(self.clock.now().mono));
        let reading = self.reading.as_mut();
        let mut taken = 0;
        tokio::select! {
            biased;
            page = async { match reading { Some(reading) => reading.await, None => std::future::pending().await } } => {
                self.reading = None;
                self.now = self.clock.now();
                self.peer.handle_input(Input::OutboxRows(page?), self.now);
            }
            message = next(&mut self.put_off, &mut self.mailbox) => match message {
                Some(message) => {
                    taken += message.weight();
                    self.now = self.clock.now();
                    self.take(message).await?;
                }
                None => return Ok(Gathered::Closed),
            },
            () = async { match pause { Some(pause) => tokio::time::sleep(pause).await, None => std::future::pending().await } } => {
                self.now = self.clock.now();
            }
        }
        self.take_waiting(&mut taken).await?;
        // Under load the other tasks of this thread have more in a moment, and one commit does for all; where there are none, a
        // turn takes one look at the sockets.
        let mut turns = 0;
        while turns < TURNS_MAX && (BUSY_LEAST..BUSY_ENOUGH).contains(&taken) {
            turns += 1;
            tokio::task::yield_now().await;
            self.now = self.clock.now();
            self.take_waiting(&mut taken).await?;
        }
        Ok(Gathered::News)
    }

    /// Takes what is there.
    async fn take_waiting(&mut self, taken: &mut usize) -> Result<(), store::Error> {
        while *taken < STEP_MAX
            && let Some(message) = self.put_off.pop_front().or_else(|| self.mailbox.try_recv().ok())
        {
            *taken += message.weight();
            self.take(message).await?;
        }
        Ok(())
    }

    async fn take(&mut self, message: Message) -> Result<(), store::Error> {
        let input = match message {
            Message::Send { sets, fresh, reply } => return self.accept(sets, fresh, reply).await,
            Message::Arrived(arrived) => {
                let Arrived { slot, object, room, at } = *arrived;
                if !object.sets.is_empty() {
                    self.counting.arrived_at.push(at);
                }
                let object = self.look_up(object).await?;
                if planted::is(Bug::SettleWithoutPartner) {
                    Box::pin(self.settle_anybodys(&object.acks)).await?;
                }
                drop(room);
                Input::Arrived { slot, object }
            }
            Message::SlotOpened(opened) => {
                let (id, spec, objects) = *opened;
                self.slots.insert(id, objects);
                Input::SlotOpened(id, spec)
            }
            Message::SlotReady(id) => Input::SlotReady(id),
            Message::SlotAlive(id) => Input::SlotAlive(id),
            Message::SlotClosed(id, ending) => {
                self.slots.remove(&id);
                Input::SlotClosed(id, ending)
            }
            Message::Operate(act, reply) => {
                self.operators.push(reply);
                Input::Operator(*act)
            }
            // Boxed, as what is seldom done: the task keeps room for it all the time.
            Message::Redrive(acts, reply) => return Box::pin(self.redrive(acts, reply)).await,
            Message::Stats(reply) => {
                let _ = reply.send(self.peer.stats());
                return Ok(());
            }
            Message::UnderWay(jti, reply) => {
                let _ = reply.send(self.peer.under_way(&jti));
                return Ok(());
            }
            Message::Watch(jti, reply) => {
                self.watchers.retain(|_, waiting| waiting.iter().any(|reply| !reply.is_closed()));
                self.watchers.entry(*jti).or_default().push(reply);
                return Ok(());
            }
            Message::Follow(reply) => {
                let _ = reply.send(self.followers.join());
                return Ok(());
            }
            Message::Drain => Input::Drain,
        };
        self.now = self.clock.now();
        self.peer.handle_input(input, self.now);
        Ok(())
    }

    /// Decides what to answer to a `send`. All of its SETs are taken, or none.
    async fn accept(
        &mut self,
        sets: Vec<SignedSet>,
        fresh: bool,
        reply: oneshot::Sender<Result<(), SendError>>,
    ) -> Result<(), store::Error> {
        // Of a store that has failed the next call tells.
        if !self.journal.healthy() && !self.journal.failed() {
            let _ = reply.send(Err(SendError::StorageFull));
            return Ok(());
        }
        // A jti that was made for this call names nothing else, neither in the store nor in this step.
        let accepted = match fresh {
            true => sets,
            false => match self.without_known(sets).await? {
                Ok(unknown) => unknown,
                Err(conflict) => {
                    let _ = reply.send(Err(conflict));
                    return Ok(());
                }
            },
        };
        if accepted.len() as u64 > self.peer.room() {
            let _ = reply.send(Err(SendError::OutboxFull { max: self.outbox_max }));
            return Ok(());
        }
        if !fresh {
            self.accepting.extend(accepted.iter().map(|set| (set.jti.clone(), set.digest)));
        }
        accepted.iter().for_each(|set| self.counting.accept(set.label));
        self.callers.push(reply);
        self.peer.handle_input(Input::Send(accepted), self.now);
        Ok(())
    }

    /// Takes those out that were accepted before, unless one of them was with other content.
    async fn without_known(&mut self, sets: Vec<SignedSet>) -> Result<Result<Vec<SignedSet>, SendError>, store::Error> {
        let known = if planted::is(Bug::UnknownCommitTakenAsFailed) {
            vec![None; sets.len()]
        } else {
            let jtis = sets.iter().map(|set| set.jti.clone()).collect();
            let known = self.journal.known(self.id, Direction::Out, jtis).await?;
            self.now = self.clock.now();
            known
        };
        let mut unknown: Vec<SignedSet> = Vec::with_capacity(sets.len());
        let mut here: HashMap<Jti, Digest> = HashMap::new();
        for (set, known) in sets.into_iter().zip(known) {
            let before = known.map(|known| known.digest);
            let before = before.or_else(|| self.accepting.get(&set.jti).or_else(|| here.get(&set.jti)).copied());
            match before {
                Some(digest) if digest == set.digest || planted::is(Bug::ConflictAccepted) => {}
                Some(_) => return Ok(Err(SendError::Conflict(set.jti))),
                None => {
                    here.insert(set.jti.clone(), set.digest);
                    unknown.push(set);
                }
            }
        }
        Ok(Ok(unknown))
    }

    /// Adds to an arrived object what only the store knows. Asked here and not in the connection's task, because
    /// between asking and judging no other commit may come.
    async fn look_up(&mut self, mut object: Inspected) -> Result<Inspected, store::Error> {
        object.inbox_room = self.inbox_max.saturating_sub(self.journal.inbox_len());
        // Also for SETs that cannot be judged now: what has been answered before is answered again (R4).
        if object.sets.is_empty() {
            return Ok(object);
        }
        let jtis = object.sets.iter().map(|arrival| arrival.jti.clone()).collect();
        let known = self.journal.known(self.id, Direction::In, jtis).await?;
        for (arrival, known) in object.sets.iter_mut().zip(known) {
            arrival.known = known.filter(|known| matches!(known.fate, Fate::Answered(_)));
            if planted::is(Bug::RefuseOnStoreError) && !self.journal.healthy() {
                arrival.finding = Finding::Refuse(Refusal::new(ErrorCode::InvalidRequest, "internal error"));
            }
        }
        Ok(object)
    }

    /// Settles SETs by their jtis alone, whoever they are for ([`Bug::SettleWithoutPartner`]).
    async fn settle_anybodys(&mut self, jtis: &[Jti]) -> Result<(), store::Error> {
        let at = self.clock.now().wall;
        for jti in jtis {
            for (peer, _, known) in self.journal.history(jti.clone()).await? {
                if known.fate == Fate::Queued && peer != self.id {
                    let (jti, digest, outcome) = (jti.clone(), known.digest, Outcome::Acked);
                    let (seq, accepted_at, story) = (known.seq, known.since, known.story);
                    let settle = Write::Settle { seq, jti, digest, accepted_at, outcome, at, attempts: 0, story };
                    self.journal.commit(peer, Epoch(1), Arc::new(vec![settle])).await?;
                }
            }
        }
        Ok(())
    }

    /// Never waits.
    fn perform(&mut self, output: Output) {
        match output {
            Output::Transmit(id, object) => {
                // A slot that is gone has reported itself closed; that news is in the mailbox.
                if let Some(objects) = self.slots.get(&id) {
                    objects.give(object);
                }
            }
            Output::ReadOutbox(select) => {
                let (journal, id) = (Arc::clone(&self.journal), self.id);
                self.reading = Some(async move { journal.read_outbox(id, select).await }.boxed());
            }
            Output::Settled { jti, outcome, .. } => {
                self.report(&jti, &outcome);
                // Mostly there are none, and then the jti need not be hashed.
                if !self.watchers.is_empty() {
                    for watcher in self.watchers.remove(&jti).into_iter().flatten() {
                        let _ = watcher.send(outcome.clone());
                    }
                }
                self.followers.settled(jti, outcome);
            }
            Output::Redriven(done) => self.redriven(done),
            // Readers of the inbox are woken by the store itself.
            Output::Received(count) => debug!(peer = %self.name, direction = "in", count, "SETs received"),
            Output::Audit(audit) => self.audit(&audit),
        }
    }

    fn report(&mut self, jti: &Jti, outcome: &Outcome) {
        match outcome {
            Outcome::Acked => debug!(peer = %self.name, direction = "out", %jti, "SET acknowledged"),
            Outcome::Refused(error) => {
                if let Some(count) = self.restraints.settled_refused.admit(1, self.clock.now().mono) {
                    let err = known(&error.err);
                    warn!(peer = %self.name, code = %Code::RefusedByPeer, direction = "out", %jti, count, err, "the partner refused a SET; it is kept as a dead letter");
                }
            }
            Outcome::Dead(cause) => {
                if let Some(count) = self.restraints.settled_dead.admit(1, self.clock.now().mono) {
                    warn!(peer = %self.name, code = %Code::GivenUp, direction = "out", %jti, count, why = cause.as_str(), "gave up on a SET that was never answered; it is kept as a dead letter");
                }
            }
        }
    }

    fn audit(&mut self, audit: &Audit) {
        let (peer, now) = (&*self.name, self.clock.now().mono);
        let held = &mut self.restraints;
        match audit {
            Audit::JtiConflict(count, jti) => {
                if let Some(count) = held.conflict.admit(*count, now) {
                    warn!(peer, code = %Code::ContentChanged, direction = "in", %jti, count, "known jtis came with other bytes; the first verdicts stand");
                }
            }
            Audit::UnknownVerdicts(count) => {
                if let Some(count) = held.unknown.admit(*count, now) {
                    debug!(peer, count, "verdicts about SETs that are not under way");
                }
            }
            Audit::Refused(count, jti, code) => {
                if let Some(count) = held.refused.admit(*count, now) {
                    warn!(peer, code = %Code::SetRefused, direction = "in", %jti, count, err = code.as_str(), "refused SETs; this is one of them");
                }
            }
            Audit::RefusalsSuppressed(count) => {
                if let Some(count) = held.suppressed.admit(*count, now) {
                    warn!(peer, code = %Code::RefusalsSuppressed, count, "too many SETs to refuse, or verification events; these got no verdict");
                }
            }
            Audit::InboxFull(count) => {
                if let Some(count) = held.no_room.admit(*count, now) {
                    warn!(
                        peer,
                        code = %Code::InboxFull,
                        count,
                        "no room for received SETs, they were neither stored nor acked: confirm the inbox"
                    );
                }
            }
            Audit::Damaged(count) => {
                error!(peer, code = %Code::DataDamaged, count, "rows of the outbox are damaged and will not be sent: restore the database file");
            }
        }
    }
}

/// The next message: what was put off comes first. Cancel-safe.
async fn next(put_off: &mut VecDeque<Message>, mailbox: &mut mpsc::Receiver<Message>) -> Option<Message> {
    match put_off.pop_front() {
        Some(message) => Some(message),
        None => mailbox.recv().await,
    }
}

/// What a partner can make us say, each restrained by itself.
#[derive(Debug, Default)]
pub(super) struct Restraints {
    settled_refused: Restraint,
    settled_dead: Restraint,
    conflict: Restraint,
    unknown: Restraint,
    refused: Restraint,
    suppressed: Restraint,
    no_room: Restraint,
}

/// A partner's error code as it may stand in a log or a label: one that is registered. What a partner invents may hold
/// what it was sent, and stands in the record of the event alone.
pub(super) fn known(err: &str) -> &'static str {
    ErrorCode::ALL.into_iter().find(|code| code.as_str() == err).map_or("other", ErrorCode::as_str)
}
