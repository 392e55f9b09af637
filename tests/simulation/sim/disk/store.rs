//! The store of a running process: each call handed to the writer, or answered from what is visible.

use std::future::pending;
use std::sync::Arc;

use pushpull::clock::Wall;
use pushpull::peer::{DeadPage, Direction, Page, PeerId, Remembered, Saved, Select, Stretch, Write};
use pushpull::set::Jti;
use pushpull::store::{ConsumerAt, Epoch, Error, Handed, Journal, Pending, Registry};
use tokio::sync::{oneshot, watch};

use super::bugs::Bug;
use super::log::Change;
use super::process::{Answer, End, Order, Platter, Process, Shared};
use super::tables::Position;
use super::writer::pause;

/// Rows by which the durable mark of what a consumer was handed runs ahead.
const HAND_AHEAD: u64 = 8;

/// A store on a [`super::Disk`], for one process.
pub struct Store {
    shared: Arc<Shared>,
    process: Arc<Process>,
}

impl Store {
    pub(super) fn new(shared: Arc<Shared>, process: Arc<Process>) -> Self {
        Self { shared, process }
    }

    /// Why the process has to be ended, as soon as there is a reason.
    pub async fn ended(&self) -> End {
        let mut ended = self.process.ended.subscribe();
        let end = ended.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        match end {
            Some(end) => end,
            None => pending().await,
        }
    }

    /// Ends the process in order, when all that was asked for is written.
    pub async fn close(&self) {
        // It may have failed: then there is nothing to wait for.
        let _ = self.ask(Change::Settle).await;
        if self.is_current() {
            self.shared.end(true);
        }
    }

    fn is_current(&self) -> bool {
        self.shared.lock().process.as_ref().is_some_and(|current| Arc::ptr_eq(current, &self.process))
    }

    /// What is visible, once reading it has taken its time. Never answered when the process hangs or is gone.
    async fn read<T>(&self, work: impl FnOnce(&mut Platter) -> Result<T, Error>) -> Result<T, Error> {
        self.check().await?;
        pause(&self.shared).await;
        self.look(work).await
    }

    /// The same from RAM.
    async fn look<T>(&self, work: impl FnOnce(&mut Platter) -> Result<T, Error>) -> Result<T, Error> {
        self.check().await?;
        let result = work(&mut self.shared.lock());
        if let Err(Error::Fatal(why)) = &result {
            self.shared.lock().ended(End::Failed(why.clone()));
        }
        result
    }

    async fn check(&self) -> Result<(), Error> {
        let end = self.shared.lock().ram.end.clone();
        match end {
            _ if !self.is_current() => pending().await,
            None => Ok(()),
            Some(End::Failed(why)) => Err(Error::Fatal(why)),
            Some(End::Hangs) => pending().await,
        }
    }

    async fn ask(&self, change: Change) -> Result<Answer, Error> {
        self.check().await?;
        let (reply, answer) = oneshot::channel();
        self.shared.lock().ram.orders.push_back(Order { change, reply });
        self.process.arrived.notify_one();
        match answer.await {
            Ok(answer) => answer,
            // The process is gone, and whoever asked with it.
            Err(_) => pending().await,
        }
    }

    async fn flag(&self, change: Change) -> Result<bool, Error> {
        Ok(matches!(self.ask(change).await?, Answer::Flag(true)))
    }

    async fn hand_out(&self, consumer: String, after: Option<u64>, rows_max: usize) -> Result<Vec<Handed>, Error> {
        loop {
            let next = self.read(|platter| Ok(platter.hand_out(&consumer, after, rows_max))).await?;
            match next {
                Ok(handed) => return Ok(handed),
                Err(first) => self.ask(first).await?,
            };
        }
    }
}

impl Platter {
    /// The rows, or what has to be durable first.
    fn hand_out(&mut self, consumer: &str, after: Option<u64>, rows_max: usize) -> Result<Vec<Handed>, Change> {
        let Some(position) = self.visible().consumers.get(consumer).copied() else {
            return Err(Change::MakeConsumer { name: consumer.to_owned() });
        };
        let from = after.unwrap_or(0).max(position.confirmed);
        let rows = self.visible().read_inbox(from, rows_max);
        let Some(last) = rows.last().map(|(seq, ..)| *seq) else { return Ok(Vec::new()) };
        if position.handed < last {
            return Err(Change::Mark { consumer: consumer.to_owned(), last, ahead: HAND_AHEAD });
        }
        let is_marked = !self.bugs.has(Bug::RedeliveredMissing);
        let given = self.ram.given.entry(consumer.to_owned()).or_insert(0);
        let before = *given;
        *given = before.max(last);
        let handed = rows.into_iter().map(|(seq, peer, row)| {
            let redelivered = is_marked && seq <= before;
            Handed { seq, peer, row, redelivered }
        });
        Ok(handed.collect())
    }

    fn known(&self, peer: PeerId, direction: Direction, jti: &Jti) -> Result<Option<Remembered>, Error> {
        if !self.visible().is_whole(direction, peer, jti) {
            return Err(Error::Fatal("simulated disk: the memory of jtis is damaged: restore a backup".to_owned()));
        }
        Ok(self.visible().known(peer, direction, jti).cloned())
    }
}

impl Journal for Store {
    fn recover(&self, peer: PeerId) -> Pending<'_, Saved> {
        Box::pin(async move {
            // What was begun and given up is waited for.
            self.ask(Change::Settle).await?;
            self.look(|platter| platter.visible().saved(peer).cloned()).await
        })
    }

    fn commit(&self, peer: PeerId, _epoch: Epoch, writes: Arc<Vec<Write>>) -> Pending<'_, ()> {
        Box::pin(async move { self.ask(Change::Commit { peer, writes }).await.map(drop) })
    }

    fn known(&self, peer: PeerId, direction: Direction, jtis: Vec<Jti>) -> Pending<'_, Vec<Option<Remembered>>> {
        Box::pin(self.look(move |platter| jtis.iter().map(|jti| platter.known(peer, direction, jti)).collect()))
    }

    fn read_outbox(&self, peer: PeerId, select: Select) -> Pending<'_, Page> {
        Box::pin(self.read(move |platter| Ok(platter.visible().read_outbox(peer, select))))
    }

    fn read_dead_letters(&self, stretch: Stretch) -> Pending<'_, DeadPage> {
        Box::pin(self.read(move |platter| Ok(platter.visible().read_dead(stretch))))
    }

    fn dead_letters_at(&self, peer: PeerId, seqs: Vec<u64>) -> Pending<'_, DeadPage> {
        Box::pin(self.read(move |platter| Ok(platter.visible().dead_at(peer, seqs))))
    }

    fn read_inbox(&self, consumer: String, after: Option<u64>, rows_max: usize) -> Pending<'_, Vec<Handed>> {
        Box::pin(self.hand_out(consumer, after, rows_max))
    }

    fn peek_inbox(&self, after: Option<u64>, rows_max: usize) -> Pending<'_, Vec<Handed>> {
        Box::pin(self.read(move |platter| {
            let rows = platter.visible().read_inbox(after.unwrap_or(0), rows_max);
            let handed = rows.into_iter().map(|(seq, peer, row)| Handed { seq, peer, row, redelivered: false });
            Ok(handed.collect())
        }))
    }

    fn confirm(&self, consumer: String, up_to: u64) -> Pending<'_, ()> {
        Box::pin(async move { self.ask(Change::Confirm { consumer, up_to }).await.map(drop) })
    }

    fn consumers(&self) -> Vec<ConsumerAt> {
        let platter = self.shared.lock();
        let at = |(name, position): (&String, &Position)| {
            let Position { confirmed, handed } = *position;
            ConsumerAt { name: name.clone(), confirmed, handed }
        };
        platter.durable.consumers.iter().map(at).collect()
    }

    fn forget_consumer(&self, consumer: String) -> Pending<'_, bool> {
        Box::pin(self.flag(Change::ForgetConsumer { name: consumer }))
    }

    fn history(&self, jti: Jti) -> Pending<'_, Vec<(PeerId, Direction, Remembered)>> {
        Box::pin(self.read(move |platter| {
            let peers: Vec<PeerId> = platter.visible().peers.keys().copied().collect();
            let mut history = Vec::new();
            for peer in peers {
                for direction in [Direction::Out, Direction::In] {
                    let found = platter.known(peer, direction, &jti)?;
                    history.extend(found.map(|found| (peer, direction, found)));
                }
            }
            Ok(history)
        }))
    }

    fn purge(&self, memory_before: Wall) -> Pending<'_, bool> {
        Box::pin(self.flag(Change::Purge { memory_before }))
    }

    fn last_time(&self) -> Pending<'_, Option<Wall>> {
        Box::pin(self.look(|platter| Ok(platter.visible().last_time)))
    }

    fn note_time(&self, at: Wall) -> Pending<'_, ()> {
        Box::pin(async move { self.ask(Change::NoteTime { at }).await.map(drop) })
    }

    fn probe(&self) -> Pending<'_, ()> {
        Box::pin(async move { self.ask(Change::Probe).await.map(drop) })
    }

    fn inbox_tail(&self) -> watch::Receiver<u64> {
        self.process.tail.subscribe()
    }

    fn inbox_len(&self) -> u64 {
        self.shared.lock().visible().inbox_len()
    }

    fn healthy(&self) -> bool {
        let platter = self.shared.lock();
        !platter.ram.full && platter.ram.end.is_none()
    }

    fn failed(&self) -> bool {
        self.shared.lock().ram.end.is_some()
    }
}

impl Registry for Store {
    fn peer_id(&self, name: String) -> Pending<'_, PeerId> {
        Box::pin(async move {
            let known = self
                .look(|platter| {
                    let place = platter.visible().names.iter().position(|known| *known == name);
                    Ok(place.and_then(|place| u32::try_from(place + 1).ok()).map(PeerId))
                })
                .await?;
            match known {
                Some(peer) => Ok(peer),
                None => match self.ask(Change::NamePeer { name }).await? {
                    Answer::Peer(peer) => Ok(peer),
                    other => Err(Error::Fatal(format!("a name was answered with {other:?}"))),
                },
            }
        })
    }

    fn names(&self) -> Pending<'_, Vec<(PeerId, String)>> {
        Box::pin(self.look(|platter| {
            let tables = platter.visible();
            Ok(tables.peers.keys().copied().zip(tables.names.clone()).collect())
        }))
    }

    fn added_peers(&self) -> Pending<'_, Vec<(String, String)>> {
        Box::pin(self.look(|platter| Ok(platter.visible().added.clone().into_iter().collect())))
    }

    fn add_peer(&self, name: String, definition: String) -> Pending<'_, bool> {
        Box::pin(self.flag(Change::AddPeer { name, definition }))
    }

    fn remove_peer(&self, name: String) -> Pending<'_, bool> {
        Box::pin(self.flag(Change::RemovePeer { name }))
    }
}
