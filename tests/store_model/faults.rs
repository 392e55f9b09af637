//! What the simulated disk does when something goes wrong: each fault is met, and does what it says and nothing else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pushpull::clock::Wall;
use pushpull::peer::{Direction, InboxRow, OutboxRow, Outcome, PeerId, Select, Story, Write};
use pushpull::set::{Digest, Jti};
use pushpull::store::{Epoch, Error, Journal, Registry};

use crate::disk::{Bug, Bugs, Disk, End, Faults, Store, Witness};
use crate::event::{Event, Org};

/// Keeps what it hears.
#[derive(Default)]
pub(crate) struct Ear(Mutex<Vec<Event>>);

impl Witness for Ear {
    fn org(&self) -> Org {
        Org(0)
    }

    fn partner(&self, name: &str) -> Org {
        Org(name.bytes().next().unwrap_or(0))
    }

    fn note(&self, event: &Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
    }
}

impl Ear {
    fn faults(&self) -> Vec<&'static str> {
        let events = self.0.lock().unwrap();
        let fault = |event: &Event| if let Event::Fault { what, .. } = event { Some(*what) } else { None };
        events.iter().filter_map(fault).collect()
    }

    fn durable(&self) -> usize {
        let events = self.0.lock().unwrap();
        let count = |event: &Event| if let Event::Durable { writes, .. } = event { writes.len() } else { 0 };
        events.iter().map(count).sum()
    }
}

/// A disk with one peer.
struct Fixture {
    ear: Arc<Ear>,
    disk: Disk,
    store: Store,
    peer: PeerId,
}

impl Fixture {
    async fn new(seed: u64, bugs: Bugs) -> Self {
        let ear = Arc::new(Ear::default());
        let disk = Disk::new(seed, bugs, Arc::clone(&ear) as Arc<dyn Witness>);
        let store = disk.open().await.unwrap();
        let peer = store.peer_id("a".to_owned()).await.unwrap();
        Self { ear, disk, store, peer }
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), Error> {
        self.store.commit(self.peer, Epoch(1), Arc::new(writes)).await
    }

    async fn restart(&mut self) {
        self.disk.crash();
        self.disk.set_faults(Faults::default());
        self.store = self.disk.open().await.unwrap();
    }

    async fn queue(&self) -> Vec<u64> {
        let select = Select::After { after: 0, rows_max: 1_000, bytes_max: usize::MAX };
        let page = self.store.read_outbox(self.peer, select).await.unwrap();
        page.rows.iter().map(|row| row.seq).collect()
    }

    async fn inbox(&self) -> Vec<u64> {
        self.store.peek_inbox(None, 1_000).await.unwrap().iter().map(|handed| handed.seq).collect()
    }
}

fn enqueue(seq: u64) -> Write {
    let jti = Jti::from(format!("out-{seq}"));
    let compact = format!("{}.{seq}.signature", "header".repeat(100)).into();
    let (digest, accepted_at) = (Digest::default(), Wall(seq));
    Write::Enqueue(OutboxRow { seq, jti, compact, digest, accepted_at, attempts: 0, story: Story::default() })
}

fn receive(number: u64) -> Write {
    let jti = Jti::from(format!("in-{number}"));
    let compact = format!("{}.{number}.signature", "header".repeat(100)).into();
    Write::Receive(InboxRow { jti, compact, digest: Digest::default(), received_at: Wall(number) })
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_survives_every_crash() {
    for seed in 0..50 {
        let mut fixture = Fixture::new(seed, Bugs::default()).await;
        for seq in 1..=10 {
            fixture.commit(vec![enqueue(seq), receive(seq)]).await.unwrap();
        }
        fixture.restart().await;
        assert_eq!(fixture.queue().await, Vec::from_iter(1..=10));
        assert_eq!(fixture.inbox().await, Vec::from_iter(1..=10));
        assert_eq!(fixture.ear.durable(), 20);
    }
}
