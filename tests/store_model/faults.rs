//! What the simulated disk does when something goes wrong: each fault is met, and does what it says and nothing else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pushpull::clock::Wall;
use pushpull::peer::{Direction, InboxRow, OutboxRow, PeerId, Select, Story, Write};
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

#[tokio::test(start_paused = true)]
async fn a_failed_write_ends_the_store_and_leaves_nothing() {
    for seed in 0..20 {
        let mut fixture = Fixture::new(seed, Bugs::default()).await;
        fixture.commit(vec![enqueue(1)]).await.unwrap();
        fixture.disk.set_faults(Faults { write_fails: 1.0, ..Faults::default() });
        assert!(matches!(fixture.commit(vec![enqueue(2), receive(2)]).await, Err(Error::Fatal(_))));
        fixture.disk.set_faults(Faults::default());
        assert!(matches!(fixture.commit(vec![enqueue(2)]).await, Err(Error::Fatal(_))), "it is never tried again");
        assert!(matches!(fixture.store.recover(fixture.peer).await, Err(Error::Fatal(_))));
        assert!(!fixture.store.healthy());
        assert!(matches!(fixture.store.ended().await, End::Failed(_)));
        fixture.restart().await;
        assert_eq!(fixture.queue().await, [1]);
        assert_eq!(fixture.ear.faults(), ["write failed", "unsynced writes lost"]);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_failed_sync_all_of_a_commit_is_there_or_nothing() {
    let mut outcomes = [0; 2];
    for seed in 0..60 {
        let mut fixture = Fixture::new(seed, Bugs::default()).await;
        fixture.disk.set_faults(Faults { sync_fails: 1.0, ..Faults::default() });
        assert!(matches!(fixture.commit(vec![enqueue(1), receive(1)]).await, Err(Error::Fatal(_))));
        fixture.restart().await;
        let found = (fixture.queue().await.len(), fixture.inbox().await.len());
        assert!(found == (0, 0) || found == (1, 1), "seed {seed}: {found:?}");
        assert_eq!(fixture.ear.durable(), found.0 + found.1, "seed {seed}: what is found was told of");
        outcomes[found.0] += 1;
    }
    assert!(outcomes.iter().all(|count| *count > 5), "both happen: {outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_which_nobody_hears_has_happened_or_not() {
    let (mut outcomes, mut hung) = ([0; 2], 0);
    for seed in 0..60 {
        let mut fixture = Fixture::new(seed, Bugs::default()).await;
        fixture.disk.set_faults(Faults { unknown: 1.0, ..Faults::default() });
        let answer = tokio::time::timeout(Duration::from_secs(3_600), fixture.commit(vec![enqueue(1)])).await;
        match answer {
            Ok(answer) => assert!(matches!(answer, Err(Error::Fatal(_))), "{answer:?}"),
            Err(_) => {
                hung += 1;
                assert_eq!(fixture.store.ended().await, End::Hangs);
            }
        }
        fixture.restart().await;
        outcomes[fixture.queue().await.len()] += 1;
    }
    assert!(outcomes.iter().all(|count| *count > 10) && (10..50).contains(&hung), "{outcomes:?} {hung}");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_takes_nothing_and_heals() {
    let fixture = Fixture::new(3, Bugs::default()).await;
    fixture.commit(vec![receive(1)]).await.unwrap();
    fixture.disk.fill(10);
    assert_eq!(fixture.commit(vec![enqueue(1)]).await, Err(Error::Full));
    assert_eq!(fixture.store.probe().await, Err(Error::Full));
    assert!(!fixture.store.healthy());
    assert_eq!((fixture.queue().await.len(), fixture.inbox().await.len()), (0, 1), "reading goes on");
    fixture.disk.free();
    assert_eq!(fixture.store.probe().await, Ok(()));
    assert!(fixture.store.healthy());
    fixture.commit(vec![enqueue(1)]).await.unwrap();
    assert_eq!(fixture.queue().await, [1]);
}

#[tokio::test(start_paused = true)]
async fn purging_makes_room_on_a_full_disk() {
    let fixture = Fixture::new(4, Bugs::default()).await;
    fixture.commit(vec![receive(1), receive(2)]).await.unwrap();
    fixture.store.read_inbox("app".to_owned(), None, 9).await.unwrap();
    fixture.store.confirm("app".to_owned(), 2).await.unwrap();
    fixture.disk.fill(10);
    assert_eq!(fixture.commit(vec![enqueue(1)]).await, Err(Error::Full));
    assert_eq!(fixture.store.purge(Wall(0)).await, Ok(false));
    assert_eq!(fixture.commit(vec![enqueue(1)]).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_row_is_told_of_and_kept() {
    let mut fixture = Fixture::new(5, Bugs::default()).await;
    fixture.commit(vec![enqueue(1), receive(1)]).await.unwrap();
    assert!(fixture.disk.damage() && fixture.disk.damage() && !fixture.disk.damage());
    fixture.restart().await;
    let page = fixture.store.read_outbox(fixture.peer, Select::Seqs(vec![1])).await.unwrap();
    assert_eq!((page.rows, page.damaged), (vec![], vec![1]));
    assert!(fixture.store.read_inbox("app".to_owned(), None, 9).await.unwrap().is_empty());
    assert_eq!(fixture.store.inbox_len(), 0, "it takes no place");
    fixture.store.confirm("app".to_owned(), 1).await.unwrap();
    fixture.store.purge(Wall(0)).await.unwrap();
    let contents = fixture.disk.contents();
    assert_eq!(contents.damaged[&Org(b'a')], [Jti::from("out-1"), Jti::from("in-1")]);
    assert!(contents.outbox.is_empty() && contents.inbox.is_empty());
    let damaged = |event: &&Event| matches!(event, Event::Damaged { .. });
    assert_eq!(fixture.ear.0.lock().unwrap().iter().filter(damaged).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_planted_mistake_hides_a_damaged_row() {
    let fixture = Fixture::new(5, Bugs::only(Bug::DamageSkipped)).await;
    fixture.commit(vec![enqueue(1)]).await.unwrap();
    assert!(fixture.disk.damage());
    let page = fixture.store.read_outbox(fixture.peer, Select::Seqs(vec![1])).await.unwrap();
    assert!(page.rows.is_empty() && page.damaged.is_empty());
}

#[tokio::test(start_paused = true)]
async fn damage_in_the_memory_of_jtis_is_the_end() {
    let fixture = Fixture::new(6, Bugs::default()).await;
    fixture.commit(vec![receive(1)]).await.unwrap();
    assert!(fixture.disk.damage_memory());
    let known = fixture.store.known(fixture.peer, Direction::In, vec!["in-1".into()]).await;
    assert!(matches!(known, Err(Error::Fatal(_))), "{known:?}");
    assert!(matches!(fixture.commit(vec![enqueue(1)]).await, Err(Error::Fatal(_))));
    fixture.disk.crash();
    assert!(matches!(fixture.disk.open().await, Err(Error::Fatal(_))));
}

#[tokio::test(start_paused = true)]
async fn a_process_may_die_while_it_recovers() {
    let fixture = Fixture::new(7, Bugs::default()).await;
    fixture.commit(vec![enqueue(1)]).await.unwrap();
    let before = fixture.disk.contents();
    fixture.disk.crash();
    fixture.disk.set_faults(Faults { recovery_dies: 1.0, ..Faults::default() });
    assert!(matches!(fixture.disk.open().await, Err(Error::Fatal(_))));
    fixture.disk.crash();
    fixture.disk.set_faults(Faults::default());
    assert!(fixture.disk.open().await.is_ok());
    assert_eq!(fixture.disk.contents(), before);
}

#[tokio::test(start_paused = true)]
async fn commits_that_wait_together_share_a_transaction_and_a_slow_disk_is_only_slow() {
    let fixture = Fixture::new(8, Bugs::default()).await;
    fixture.disk.set_faults(Faults { slow: 1.0, latency: Duration::from_secs(1), ..Faults::default() });
    let (start, before) = (tokio::time::Instant::now(), fixture.disk.transactions());
    let commits = (1..=20).map(|seq| fixture.commit(vec![enqueue(seq)]));
    assert!(futures_util::future::join_all(commits).await.iter().all(Result::is_ok));
    assert!(start.elapsed() > Duration::from_millis(50));
    assert_eq!(fixture.disk.transactions() - before, 1);
    assert_eq!(fixture.queue().await.len(), 20);
}

/// All that is told, of a disk with every fault, and processes that come and go.
async fn told(seed: u64) -> String {
    let ear = Arc::new(Ear::default());
    let disk = Disk::new(seed, Bugs::default(), Arc::clone(&ear) as Arc<dyn Witness>);
    let (latency, rare) = (Duration::from_millis(30), 0.02);
    let faults = Faults {
        slow: 0.5,
        latency,
        write_fails: rare,
        sync_fails: rare,
        fills: rare,
        unknown: rare,
        flips: rare,
        recovery_dies: 0.2,
    };
    disk.set_faults(faults);
    for seq in 1..=300 {
        let Ok(store) = disk.open().await else { continue };
        let work = async {
            let peer = store.peer_id("a".to_owned()).await?;
            for step in 0..10 {
                store
                    .commit(peer, Epoch(1), Arc::new(vec![enqueue(seq * 10 + step), receive(seq * 10 + step)]))
                    .await?;
            }
            Ok::<_, Error>(())
        };
        let _ = tokio::time::timeout(Duration::from_millis(200), work).await;
        disk.free();
        disk.crash();
    }
    format!("{:?} {:?}", ear.0.lock().unwrap(), disk.contents())
}

#[test]
fn the_same_seed_tells_the_same() {
    let run = |seed| {
        let builder = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        builder.unwrap().block_on(told(seed))
    };
    let first = run(11);
    assert_eq!(first, run(11));
    assert_ne!(first, run(12));
    for fault in
        ["write failed", "sync failed", "disk full", "commit unknown", "died in recovery", "unsynced writes lost"]
    {
        assert!(first.contains(fault), "{fault} was never met");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_process_does_not_begin_unless_its_time_is_noted() {
    let fixture = Fixture::new(1, Bugs::default()).await;
    let clock = pushpull::clock::SystemClock::new();
    fixture.disk.fill(0);
    assert_eq!(pushpull::engine::resume(&clock, &fixture.store).await, Err(Error::Full));
    fixture.disk.free();
    assert_eq!(pushpull::engine::resume(&clock, &fixture.store).await, Ok(None), "there was no process before");
    let noted = fixture.store.last_time().await.unwrap().expect("the next one knows its time");
    fixture.disk.fill(0);
    assert_eq!(pushpull::engine::resume(&clock, &fixture.store).await, Ok(Some(noted)), "which needs no room");
}
