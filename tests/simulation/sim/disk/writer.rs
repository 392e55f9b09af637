//! The one writer of a process: takes all that is asked for into one transaction, writes it, syncs it, and answers.

use std::sync::Arc;
use std::time::Duration;

use pushpull::peer::{InboxRow, Write};
use pushpull::store::Error;
use tokio::sync::oneshot;

use super::super::event::Event;
use super::bugs::Bug;
use super::log::{Change, Transaction};
use super::process::{Answer, End, Order, Platter, Process, Shared};
use super::tables::Tables;

/// How long a store that answers before it syncs lets its log lie.
const LAZINESS: Duration = Duration::from_millis(200);

type Reply = (oneshot::Sender<Result<Answer, Error>>, Result<Answer, Error>);

/// What is said after the lock is let go: events first, since they have happened before anybody is answered.
#[derive(Default)]
struct Said {
    events: Vec<Event>,
    replies: Vec<Reply>,
}

impl Said {
    fn say(self, shared: &Shared) {
        shared.note(self.events);
        for (reply, answer) in self.replies {
            // Who has gone away needs no answer.
            let _ = reply.send(answer);
        }
    }

    fn answer_all(&mut self, orders: Vec<Order>, answer: &Result<Answer, Error>) {
        self.replies.extend(orders.into_iter().map(|order| (order.reply, answer.clone())));
    }
}

/// Works until the process ends.
pub(super) async fn run(shared: Arc<Shared>, process: Arc<Process>) {
    loop {
        let orders: Vec<Order> = shared.lock().ram.orders.drain(..).collect();
        if orders.is_empty() {
            if shared.lock().log.is_empty() {
                process.arrived.notified().await;
            } else if tokio::time::timeout(LAZINESS, process.arrived.notified()).await.is_err() {
                let mut said = Said::default();
                shared.lock().sync_log(&shared, &mut said.events);
                said.say(&shared);
            }
            continue;
        }
        pause(&shared).await;
        let mut said = Said::default();
        let written = shared.lock().write(&shared, orders, &mut said);
        said.say(&shared);
        if let Some(orders) = written {
            pause(&shared).await;
            let mut said = Said::default();
            shared.lock().sync(&shared, &process, orders, &mut said);
            said.say(&shared);
        }
        if shared.lock().ram.end.is_some() {
            return;
        }
    }
}

/// Takes its time.
pub(super) async fn pause(shared: &Shared) {
    let (wait, is_news) = {
        let mut platter = shared.lock();
        let Platter { luck, faults, ram, .. } = &mut *platter;
        let wait = luck.wait(faults);
        (wait, !wait.is_zero() && !std::mem::replace(&mut ram.slow, true))
    };
    if is_news {
        shared.fault("disk slow");
    }
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

impl Platter {
    /// What the process sees.
    pub(super) fn visible(&self) -> &Tables {
        self.ahead.as_ref().unwrap_or(&self.durable)
    }

    /// Writes a transaction; the orders, unless they are answered already.
    fn write(&mut self, shared: &Shared, orders: Vec<Order>, said: &mut Said) -> Option<Vec<Order>> {
        if orders.iter().all(|order| matches!(order.change, Change::Settle)) {
            return Some(orders);
        }
        let trusted = orders.iter().all(|order| match &order.change {
            Change::Commit { peer, writes } => self.visible().trusts(*peer, writes),
            _ => true,
        });
        if !trusted {
            self.fail("the memory of jtis is damaged: restore a backup", orders, said);
            return None;
        }
        if self.luck.strikes(self.faults.fills) {
            let room = self.capacity - self.durable.bytes;
            let left = i64::try_from(self.luck.below(2_000)).unwrap_or(0);
            self.ballast = (room - left).max(0);
        }
        let bytes: i64 = orders.iter().map(|order| order.change.bytes()).sum();
        if bytes > 0 && self.durable.bytes + self.ballast + bytes > self.capacity {
            said.events.push(shared.fault_event("disk full"));
            self.ram.full = true;
            let answer = if self.bugs.has(Bug::FullSwallowed) && orders.iter().all(Order::is_commit) {
                Ok(Answer::Done)
            } else {
                Err(Error::Full)
            };
            said.answer_all(orders, &answer);
            return None;
        }
        self.transactions += 1;
        let mut transaction = Transaction::new(orders.iter().map(|order| order.change.clone()).collect());
        if self.luck.strikes(self.faults.write_fails) {
            said.events.push(shared.fault_event("write failed"));
            transaction.break_off(&mut self.luck);
            self.log.push(transaction);
            self.fail("disk I/O error: a write failed", orders, said);
            return None;
        }
        self.log.push(transaction);
        Some(orders)
    }

    /// Syncs what was written for these orders, and answers them.
    fn sync(&mut self, shared: &Shared, process: &Process, orders: Vec<Order>, said: &mut Said) {
        if orders.iter().all(|order| matches!(order.change, Change::Settle)) {
            said.answer_all(orders, &Ok(Answer::Done));
            return;
        }
        if self.luck.strikes(self.faults.unknown) {
            said.events.push(shared.fault_event("commit unknown"));
            self.unknown(shared, orders, said);
            return;
        }
        if self.luck.strikes(self.faults.sync_fails) {
            said.events.push(shared.fault_event("sync failed"));
            if !self.bugs.has(Bug::SyncRetried) {
                self.fail("disk I/O error: a sync failed", orders, said);
                return;
            }
            self.log.iter_mut().for_each(|transaction| transaction.is_clean |= !transaction.is_synced);
        }
        let mut answers = Vec::new();
        if !self.bugs.has(Bug::AckBeforeSync) {
            answers = self.sync_log(shared, &mut said.events);
        }
        if let Some(ahead) = &mut self.ahead {
            answers = orders.iter().map(|order| carry_out(ahead, &order.change).0).collect();
        }
        for (order, answer) in orders.into_iter().zip(answers) {
            if let Change::ForgetConsumer { name } = &order.change {
                self.ram.given.remove(name);
            }
            said.replies.push((order.reply, answer));
        }
        self.ram.full = false;
        let tail = self.visible().tail;
        process.tail.send_if_modified(|known| std::mem::replace(known, tail) != tail);
        if self.luck.strikes(self.faults.flips) {
            said.events.extend(self.flip(shared));
        }
    }

    /// What is written is on the disk from now on, as far as nothing before it was left out. The answers to all of it.
    fn sync_log(&mut self, shared: &Shared, events: &mut Vec<Event>) -> Vec<Result<Answer, Error>> {
        if self.log.iter().any(|transaction| transaction.is_clean) {
            self.log.iter_mut().for_each(|transaction| transaction.is_synced |= !transaction.is_clean);
            return Vec::new();
        }
        let log = std::mem::take(&mut self.log);
        log.iter().flat_map(|transaction| self.settle(shared, &transaction.changes, events)).collect()
    }

    /// The process dies in the middle of it.
    fn unknown(&mut self, shared: &Shared, orders: Vec<Order>, said: &mut Said) {
        let happens = self.luck.strikes(0.5);
        let hangs = self.luck.strikes(0.5);
        let written = self.log.pop();
        if happens && let Some(transaction) = written {
            self.settle(shared, &transaction.changes, &mut said.events);
            if self.bugs.has(Bug::UnknownTakenAsFailed) {
                self.forget(&transaction.changes);
            }
        }
        if self.bugs.has(Bug::UnknownTakenAsFailed) {
            said.answer_all(orders, &Err(Error::Full));
        } else if hangs {
            self.ram.unanswered.extend(orders);
            self.ended(End::Hangs);
        } else {
            self.fail("nobody knows what became of a commit", orders, said);
        }
    }

    /// Takes back what these changes left to be remembered of received SETs, and nothing else.
    fn forget(&mut self, changes: &[Change]) {
        for change in changes {
            let Change::Commit { peer, writes } = change else { continue };
            for write in writes.iter() {
                if let Write::Receive(InboxRow { jti, .. }) = write {
                    self.durable.received.remove(&(*peer, jti.clone()));
                }
            }
        }
    }

    /// Carries out changes on what is on the disk, and tells which writes took effect.
    pub(super) fn settle(
        &mut self,
        shared: &Shared,
        changes: &[Change],
        events: &mut Vec<Event>,
    ) -> Vec<Result<Answer, Error>> {
        let mut answers = Vec::with_capacity(changes.len());
        for change in changes {
            let before = self.durable.confirmed_by_all();
            let (answer, effects) = carry_out(&mut self.durable, change);
            if matches!(change, Change::Confirm { .. }) {
                events.extend(self.confirmed_since(shared, before));
            }
            if let (Change::Commit { peer, writes }, Ok(_)) = (change, &answer) {
                let effective = || writes.iter().zip(&effects).filter(|(_, effect)| **effect).map(|(write, _)| write);
                let all = effects.iter().all(|effect| *effect);
                let writes = if all { Arc::clone(writes) } else { Arc::new(effective().cloned().collect()) };
                events.extend(shared.durable(self.durable.name_of(*peer), writes));
            }
            answers.push(answer);
        }
        answers
    }

    /// The rows that every consumer has confirmed by now and had not before. A damaged one was passed over.
    fn confirmed_since(&self, shared: &Shared, before: u64) -> Vec<Event> {
        let up_to = self.durable.confirmed_by_all();
        if up_to <= before {
            return Vec::new();
        }
        let rows = self.durable.inbox.range(before + 1..=up_to).filter(|(_, row)| row.whole);
        let rows = rows.map(|(_, row)| (row.value.0, row.value.1.jti.clone()));
        rows.filter_map(|(peer, jti)| shared.confirmed(self.durable.name_of(peer), jti)).collect()
    }

    /// A bit of some whole row of an outbox or inbox flips; `None` if there is none.
    pub(super) fn flip(&mut self, shared: &Shared) -> Option<Event> {
        let queued = self.durable.outbox.iter().filter(|(_, row)| row.whole).map(|(key, _)| (Some(*key), 0));
        let received = self.durable.inbox.iter().filter(|(_, row)| row.whole).map(|(seq, _)| (None, *seq));
        let places: Vec<_> = queued.chain(received).collect();
        let (queued, seq) = *places.get(usize::try_from(self.luck.below(places.len() as u64)).ok()?)?;
        let mut hit = None;
        for tables in std::iter::once(&mut self.durable).chain(&mut self.ahead) {
            let found = match queued {
                Some(key) => tables.outbox.get_mut(&key).map(|row| {
                    row.whole = false;
                    (key.0, row.value.jti.clone())
                }),
                None => tables.inbox.get_mut(&seq).map(|row| {
                    row.whole = false;
                    (row.value.0, row.value.1.jti.clone())
                }),
            };
            hit = hit.or(found);
        }
        let (peer, jti) = hit?;
        shared.damaged(self.durable.name_of(peer), jti)
    }

    fn fail(&mut self, why: &str, orders: Vec<Order>, said: &mut Said) {
        let why = format!("simulated disk: {why}");
        said.answer_all(orders, &Err(Error::Fatal(why.clone())));
        let waiting = self.ram.orders.drain(..).collect();
        said.answer_all(waiting, &Err(Error::Fatal(why.clone())));
        self.ended(End::Failed(why));
    }

    pub(super) fn ended(&mut self, end: End) {
        if self.ram.end.is_none() {
            self.ram.end = Some(end.clone());
            if let Some(process) = &self.process {
                process.ended.send_replace(Some(end));
            }
        }
    }
}

/// Carries out a change on the tables: its answer, and which of its writes took effect.
fn carry_out(tables: &mut Tables, change: &Change) -> (Result<Answer, Error>, Vec<bool>) {
    let answer = match change {
        Change::Commit { peer, writes } => match tables.admits(*peer, writes) {
            Ok(()) => return (Ok(Answer::Done), tables.commit(*peer, writes)),
            Err(error) => Err(error),
        },
        Change::MakeConsumer { name } => {
            tables.make_consumer(name);
            Ok(Answer::Done)
        }
        Change::Mark { consumer, last, ahead } => Ok(Answer::Flag(tables.mark(consumer, *last, *ahead))),
        Change::Confirm { consumer, up_to } => tables.confirm(consumer, *up_to).map(|()| Answer::Done),
        Change::ForgetConsumer { name } => Ok(Answer::Flag(tables.consumers.remove(name).is_some())),
        Change::Purge { memory_before } => Ok(Answer::Flag(tables.purge(*memory_before))),
        Change::NamePeer { name } => Ok(Answer::Peer(tables.name_peer(name))),
        Change::AddPeer { name, definition } => {
            let is_new = !tables.added.contains_key(name);
            if is_new {
                tables.added.insert(name.clone(), definition.clone());
            }
            Ok(Answer::Flag(is_new))
        }
        Change::RemovePeer { name } => Ok(Answer::Flag(tables.added.remove(name).is_some())),
        Change::NoteTime { at } => {
            tables.last_time = Some(*at);
            Ok(Answer::Done)
        }
        Change::Probe | Change::Settle => Ok(Answer::Done),
    };
    (answer, Vec::new())
}
