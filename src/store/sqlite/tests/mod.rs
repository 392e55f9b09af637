//! What only a file can do: be locked, foreign, full, or left in the middle of something.

mod archive;
mod bodies;
mod bundles;
mod damage;
mod dead;
mod places;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;

use futures_util::FutureExt;
use rusqlite::Connection;
use tempfile::TempDir;

use super::rows::outbox_key;
use super::*;
use crate::clock::Wall;
use crate::peer::{DeathCause, Direction, InboxRow, OutboxRow, Outcome, PeerId, Select, Story, Write};
use crate::set::{Digest, Jti, base64url};
use crate::store::{Epoch, Journal, Registry};

const A: PeerId = PeerId(1);

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("store.db")
    }

    /// Opens the store with a peer.
    async fn open(&self) -> Sqlite {
        let store = self.try_open().unwrap();
        assert_eq!(store.peer_id("a".to_owned()).await, Ok(A));
        store
    }

    fn try_open(&self) -> Result<Sqlite, Error> {
        Sqlite::open(self.path(), Options { memory_tail: 8, ..Options::default() })
    }

    /// Why it does not open.
    fn refusal(&self) -> String {
        let refusal = self.try_open().unwrap_err().to_string();
        assert!(refusal.contains(&*self.path().to_string_lossy()), "the file is named: {refusal}");
        refusal
    }

    /// Runs SQL behind the store's back.
    fn execute(&self, sql: &str) {
        Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }

    /// Flips one bit in the middle of the blob that this query finds by its rowid.
    fn flip(&self, table: &str, column: &str, key: i64) {
        let conn = Connection::open(self.path()).unwrap();
        let select = format!("SELECT {column} FROM {table} WHERE rowid = ?1");
        let mut blob: Vec<u8> = conn.query_row(&select, [key], |row| row.get(0)).unwrap();
        let middle = blob.len() / 2;
        blob[middle] ^= 4;
        assert_eq!(conn.execute(&format!("UPDATE {table} SET {column} = ?2 WHERE rowid = ?1"), (key, blob)), Ok(1));
    }

    fn count(&self, table: &str) -> u64 {
        let conn = Connection::open(self.path()).unwrap();
        conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
    }
}

fn row(seq: u64, size: usize) -> OutboxRow {
    OutboxRow {
        seq,
        jti: format!("out-{seq}").into(),
        compact: token(seq, size),
        digest: Digest::of(&seq.to_le_bytes()),
        accepted_at: Wall(seq),
        attempts: 0,
        story: Story::default(),
    }
}

/// A token of about so many characters. Every third, and a very short one, is none of three parts, and lies there as text, as
/// all of older versions do.
fn token(number: u64, size: usize) -> Arc<str> {
    let text = if number.is_multiple_of(3) || size < 20 {
        "x".repeat(size)
    } else {
        format!("{}.e30.{}", base64url::encode(&number.to_le_bytes()), "x".repeat((size - 16) / 4 * 4))
    };
    text.into()
}

fn receive(number: u64) -> Write {
    let (jti, compact) = (Jti::from(format!("in-{number}")), token(number, 40));
    Write::Receive(InboxRow { jti, compact, digest: Digest::default(), received_at: Wall(number) })
}

fn settle(seq: u64, outcome: Outcome) -> Write {
    let OutboxRow { jti, digest, accepted_at, .. } = row(seq, 0);
    Write::Settle { seq, jti, digest, accepted_at, outcome, at: Wall(99), attempts: 3, story: Story::default() }
}

fn acked(seqs: impl IntoIterator<Item = u64>) -> impl Iterator<Item = Write> {
    seqs.into_iter().map(|seq| settle(seq, Outcome::Acked))
}

async fn commit(store: &Sqlite, writes: impl IntoIterator<Item = Write>) -> Result<(), Error> {
    store.commit(A, Epoch(1), Arc::new(writes.into_iter().collect())).await
}

/// As older versions did it, and as is done with one that comes alone: each in a row of its own.
async fn one_by_one(store: &Sqlite, writes: impl IntoIterator<Item = Write>) {
    for write in writes {
        commit(store, [write]).await.unwrap();
    }
}

async fn outbox(store: &Sqlite) -> (Vec<u64>, Vec<u64>, u64) {
    let select = Select::After { after: 0, rows_max: 1_000, bytes_max: usize::MAX };
    let page = store.read_outbox(A, select).await.unwrap();
    (page.rows.iter().map(|row| row.seq).collect(), page.damaged, page.read_to)
}

async fn inbox(store: &Sqlite) -> Vec<u64> {
    let rows = store.read_inbox("app".to_owned(), None, 1_000).await.unwrap();
    rows.iter().map(|handed| handed.seq).collect()
}

#[tokio::test]
async fn a_second_process_is_refused_until_the_first_is_gone() {
    let folder = Folder::new();
    let store = folder.open().await;
    let refusal = folder.refusal();
    assert!(refusal.contains("in use by another process") && refusal.contains("store.db.lock"), "{refusal}");
    let other_name = folder.0.path().join(".").join("store.db");
    assert!(matches!(Sqlite::open(other_name, Options::default()), Err(Error::Invalid(_))));
    store.close().await;
    let again = folder.open().await;
    assert!(matches!(commit(&store, [receive(1)]).await, Err(Error::Fatal(why)) if why.contains("closed")));
    assert!(!store.healthy());
    drop(again);
    folder.open().await;
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_refused_and_left_alone() {
    let folder = Folder::new();
    folder.open().await.close().await;
    folder.execute("UPDATE schema SET version = 8");
    let refusal = folder.refusal();
    assert!(refusal.contains("schema has version 8, this program knows version 7"), "{refusal}");
    folder.execute("UPDATE schema SET version = 7; PRAGMA application_id = 7");
    assert!(folder.refusal().contains("database of another program"));

    let folder = Folder::new();
    let text = "this is not a database, but it is long enough to be looked at ".repeat(10);
    std::fs::write(folder.path(), &text).unwrap();
    assert!(folder.refusal().contains("chmod 600"), "made with the umask's permissions");
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert!(folder.refusal().contains("not a SQLite database"));
    assert_eq!(std::fs::read_to_string(folder.path()).unwrap(), text);
}

/// A file of version 5, which hashes jtis by SHA-256: what it remembers is under those hashes, and goes on under them.
#[tokio::test]
async fn a_file_of_version_5_knows_its_jtis_and_goes_on_with_its_own_hashes() {
    let folder = Folder::new();
    folder.open().await.close().await;
    let salted = |salt: &[u8]| {
        schema::save_meta(&Connection::open(folder.path()).unwrap(), Meta::Salt, salt).unwrap();
    };
    salted(&[9; 32]);
    let jtis = || (1..=40).map(|number| Jti::from(format!("in-{number}"))).collect();
    for upto in [20, 40] {
        folder.execute("UPDATE schema SET version = 5");
        let store = folder.open().await;
        for number in 1..=upto {
            commit(&store, [receive(number)]).await.unwrap();
        }
        let known = store.known(A, Direction::In, jtis()).await.unwrap();
        assert_eq!(known.iter().flatten().count() as u64, upto);
        assert_eq!(store.recover(A).await.unwrap().counts.received, upto, "each once");
        store.close().await;
    }
    // Under the other hash none of them would be found.
    salted(&[9; 16]);
    let known = folder.open().await.known(A, Direction::In, jtis()).await.unwrap();
    assert!(known.iter().all(Option::is_none));
}

#[cfg(unix)]
#[tokio::test]
async fn every_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, [receive(1)]).await.unwrap();
    let files: Vec<_> = std::fs::read_dir(folder.0.path()).unwrap().map(Result::unwrap).collect();
    for file in &files {
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
    }
    assert_eq!(files.len(), 4, "database, log, shared memory and lock: {files:?}");
}

/// The size of the database, and how large it may become, in pages.
async fn pages(store: &Sqlite, max: i64) -> i64 {
    let pages = store.ask(1, move |batch| {
        batch.conn.query_row(&format!("PRAGMA max_page_count = {max}"), [], |_| Ok(()))?;
        Ok(batch.conn.pragma_query_value(None, "page_count", |row| row.get(0))?)
    });
    pages.await.unwrap()
}

#[tokio::test]
async fn a_full_disk_refuses_and_heals_without_a_restart() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, [Write::Enqueue(row(1, 10)), receive(1)]).await.unwrap();
    let used = pages(&store, 1_000_000).await;
    pages(&store, used + 3).await;
    let large = [receive(2), Write::Enqueue(row(2, 400_000))];
    for _ in 0..2 {
        assert_eq!(commit(&store, large.clone()).await, Err(Error::Full));
        assert!(!store.healthy());
        assert_eq!(store.recover(A).await.unwrap().next_seq, 2, "nothing of it took effect");
        assert_eq!((outbox(&store).await.0, store.inbox_len()), (vec![1], 1));
        assert_eq!(store.known(A, Direction::In, vec!["in-2".into()]).await, Ok(vec![None]));
    }
    pages(&store, 1_000_000).await;
    assert!(!store.healthy(), "reading the limit proves nothing");
    assert_eq!(store.purge(Wall(0)).await, Ok(false));
    assert!(store.healthy(), "the janitor noticed");
    commit(&store, large).await.unwrap();
    assert_eq!((outbox(&store).await.0, store.inbox_len()), (vec![1, 2], 2));
}

#[tokio::test]
async fn sealing_that_a_full_disk_interrupted_is_done_later() {
    let folder = Folder::new();
    let store = folder.open().await;
    let used = pages(&store, 1_000_000).await;
    pages(&store, used).await;
    let mut number = 0;
    while commit(&store, [receive(number)]).await.is_ok() {
        number += 1;
    }
    pages(&store, 1_000_000).await;
    commit(&store, (0..=number).map(receive)).await.unwrap();
    while store.shared.seen.outdated(Wall(u64::MAX)).is_none() {
        tokio::task::yield_now().await;
    }
    store.close().await;
    let store = folder.open().await;
    let jtis = (0..=number).map(|number| Jti::from(format!("in-{number}"))).collect();
    assert!(store.known(A, Direction::In, jtis).await.unwrap().iter().all(Option::is_some));
    assert_eq!(store.inbox_len(), number + 1);
}

#[tokio::test]
async fn any_other_failure_is_the_end() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, [receive(1)]).await.unwrap();
    folder.execute("DROP TABLE inbox");
    let Err(Error::Fatal(why)) = commit(&store, [receive(2)]).await else { panic!("there is no inbox") };
    assert!(why.contains("store.db") && why.contains("no such table: inbox"), "{why}");
    assert_eq!(store.recover(A).await, Err(Error::Fatal(why.clone())));
    assert_eq!(store.known(A, Direction::In, vec!["in-1".into()]).await, Err(Error::Fatal(why.clone())));
    assert_eq!(store.read_outbox(A, Select::Seqs(vec![1])).await, Err(Error::Fatal(why)));
    assert!(!store.healthy());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_who_wait_share_one_transaction() {
    let folder = Folder::new();
    let store = Arc::new(folder.open().await);
    let mut peers = Vec::new();
    for number in 0..100 {
        peers.push(store.peer_id(format!("peer-{number}")).await.unwrap());
    }
    let (open, gate) = channel::<()>();
    let holder = Arc::clone(&store);
    let (begin, begun) = oneshot::channel();
    let held = tokio::spawn(async move {
        let hold = move |_: &mut Batch<'_>| Ok(begin.send(()).is_ok() && gate.recv().is_ok());
        holder.ask(1, hold).await
    });
    begun.await.unwrap();
    let before = store.transactions();
    let commits: Vec<_> = peers
        .iter()
        .map(|&peer| {
            let store = Arc::clone(&store);
            let writes = Arc::new(vec![Write::Enqueue(row(1, 10)), receive(1)]);
            tokio::spawn(async move { store.commit(peer, Epoch(1), writes).await })
        })
        .collect();
    while store.orders.max_capacity() - store.orders.capacity() < commits.len() {
        tokio::task::yield_now().await;
    }
    open.send(()).unwrap();
    assert_eq!(held.await.unwrap(), Ok(true));
    for commit in commits {
        commit.await.unwrap().unwrap();
    }
    // One for all of them; sealing, which they made due, may have added its own by now.
    let (taken, sealing) = (store.transactions() - before, 200 / 8);
    assert!(taken <= 1 + sealing, "{taken} transactions for a hundred commits");
    assert_eq!(store.inbox_len(), 100);
    for peer in peers {
        assert_eq!(store.recover(peer).await.unwrap().counts.queued, 1);
    }
}

#[tokio::test]
async fn a_commit_that_was_given_up_is_done_before_the_next_recovery() {
    let folder = Folder::new();
    let store = folder.open().await;
    assert!(commit(&store, [Write::Enqueue(row(1, 10))]).now_or_never().is_none(), "it was begun, and dropped");
    assert_eq!(store.recover(A).await.unwrap().next_seq, 2);
    commit(&store, [Write::Enqueue(row(1, 10))]).await.unwrap();
    assert_eq!(store.recover(A).await.unwrap().counts.queued, 1);
}

#[tokio::test]
async fn dropping_the_store_writes_what_was_begun() {
    let folder = Folder::new();
    let store = folder.open().await;
    assert!(commit(&store, [receive(1)]).now_or_never().is_none());
    drop(store);
    assert_eq!(inbox(&folder.open().await).await, [1]);
}

#[tokio::test]
async fn what_ram_knows_is_answered_at_once_though_every_reader_is_busy() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, [receive(1)]).await.unwrap();
    let mut gates = Vec::new();
    for _ in 0..Options::default().readers {
        let (open, gate) = channel::<()>();
        let shared = Arc::clone(&store.shared);
        tokio::spawn(async move { reader::read(&shared, move |_, _| Ok(gate.recv().is_ok())).await });
        gates.push(open);
    }
    tokio::task::yield_now().await;
    assert!(outbox(&store).now_or_never().is_none(), "no reader is free");
    let known = store.known(A, Direction::In, vec!["in-1".into(), "in-2".into()]).now_or_never();
    assert_eq!(known.unwrap().unwrap().iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
    gates.clear();
    assert_eq!(outbox(&store).await.0, [0u64; 0]);
}

#[tokio::test]
async fn a_commit_that_takes_long_is_told_of_before_it_ends() {
    let folder = Folder::new();
    let store = folder.open().await;
    let told = |batch: &Batch<'_>| batch.shared.slow_lines.load(Ordering::Relaxed);
    let stalled = store.ask(1, move |batch| {
        let began = tokio::time::Instant::now();
        while told(batch) == 0 && began.elapsed() < std::time::Duration::from_secs(60) {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Ok((told(batch), began.elapsed().as_secs()))
    });
    let (lines, seconds) = stalled.await.unwrap();
    assert!(lines == 1 && seconds >= 1, "{lines} lines after {seconds} seconds");
}

#[tokio::test]
async fn purging_reads_nothing_when_no_memory_is_old_enough() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, (1..=20).map(receive)).await.unwrap();
    while store.shared.seen.outdated(Wall(u64::MAX)).is_none() {
        tokio::task::yield_now().await;
    }
    let all = Options::default().readers;
    let readers = Arc::clone(&store.shared.readers.permits).acquire_many_owned(all).await.unwrap();
    let idle = tokio::time::timeout(std::time::Duration::from_secs(60), store.purge(Wall(1))).await;
    assert_eq!(idle, Ok(Ok(false)), "though every reader is busy");
    let mut purge = store.purge(Wall(1_000));
    assert!((&mut purge).now_or_never().is_none(), "what waits in outboxes is looked at");
    drop(readers);
    purge.await.unwrap();
    assert!(store.shared.seen.outdated(Wall(1_000)).is_none(), "and it is purged");
}

#[tokio::test]
async fn the_log_does_not_outgrow_a_small_database() {
    let folder = Folder::new();
    // It is small where what has left is not kept.
    let store = Sqlite::open(folder.path(), Options { archive: false, ..Options::default() }).unwrap();
    assert_eq!(store.peer_id("a".to_owned()).await, Ok(A));
    for seq in 1..=400 {
        commit(&store, [Write::Enqueue(row(seq, 20_000)), settle(seq, Outcome::Acked)]).await.unwrap();
    }
    let log = std::fs::metadata(format!("{}-wal", folder.path().display())).unwrap().len();
    assert!(log < 4 << 20, "four hundred commits left a log of {log} bytes");
}

#[tokio::test]
async fn a_long_log_that_a_killed_process_left_is_cut_at_the_start() {
    let folder = Folder::new();
    let store = folder.open().await;
    let file = |folder: &Folder, suffix: &str| PathBuf::from(format!("{}{suffix}", folder.path().display()));
    // In one transaction, so that all of it is in the log.
    let most = 400;
    let (send, copies) = channel();
    let paths = ["", "-wal"].map(|suffix| file(&folder, suffix));
    let enqueue = (1..=most).map(|seq| Write::Enqueue(row(seq, 60_000))).collect();
    store.commit(A, Epoch(1), Arc::new(enqueue)).await.unwrap();
    store.at_rest(move || send.send(paths.map(|path| std::fs::read(path).unwrap())).unwrap()).await;
    let files = copies.recv().unwrap();
    // Moved or not, it is as long as it ever was.
    assert!(files[1].len() > 16 << 20, "a log of {} bytes", files[1].len());
    let killed = Folder::new();
    for (suffix, bytes) in ["", "-wal"].into_iter().zip(&files) {
        std::fs::write(file(&killed, suffix), bytes).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(file(&killed, suffix), private).unwrap();
    }
    let store = killed.open().await;
    let log = std::fs::metadata(file(&killed, "-wal")).unwrap().len();
    assert!(log < 1 << 20, "a log of {log} bytes is left");
    assert_eq!(outbox(&store).await.0, Vec::from_iter(1..=most));
}

#[tokio::test]
async fn what_was_received_last_reads_the_same_from_ram_and_from_the_file() {
    let folder = Folder::new();
    let store = folder.open().await;
    let receive = |number: u64| {
        let (jti, compact) = (number.to_string().into(), "x".repeat(20_000).into());
        Write::Receive(InboxRow { jti, compact, digest: Digest::default(), received_at: Wall(number) })
    };
    // Some three times what is kept in RAM.
    for first in (1..=600).step_by(50) {
        store.commit(A, Epoch(1), Arc::new((first..first + 50).map(receive).collect())).await.unwrap();
    }
    let in_ram = store.shared.newest.behind(599, 9).expect("the newest is there");
    assert_eq!(in_ram.iter().map(|(seq, ..)| *seq).collect::<Vec<_>>(), [600]);
    assert!(store.shared.newest.behind(300, 9).is_none(), "that is in the file alone");
    let (mut after, mut all) = (0, Vec::new());
    while let Some(last) = store.read_inbox("app".to_owned(), Some(after), 70).await.unwrap().last().cloned() {
        let rows = store.peek_inbox(Some(after), 70).await.unwrap();
        all.extend(rows.iter().map(|handed| (handed.seq, handed.row.jti.as_str().to_owned(), handed.row.received_at)));
        after = last.seq;
    }
    assert_eq!(all, (1..=600).map(|number| (number, number.to_string(), Wall(number))).collect::<Vec<_>>());
}

#[tokio::test]
async fn many_confirmed_rows_go_with_the_confirmation_unless_the_disk_is_full() {
    let folder = Folder::new();
    let store = folder.open().await;
    let receive = |number: u64| {
        let (jti, compact) = (number.to_string().into(), "token".into());
        Write::Receive(InboxRow { jti, compact, digest: Digest::default(), received_at: Wall(1) })
    };
    store.commit(A, Epoch(1), Arc::new((1..=4_000).map(receive).collect())).await.unwrap();
    store.read_inbox("app".to_owned(), None, 1).await.unwrap();
    for (confirmed, healthy, purged) in
        [(999, true, 0), (1_500, true, 1_500), (2_700, false, 1_500), (2_800, true, 2_800)]
    {
        // What the writer does by itself after a commit says that the disk is well, and may still be under way.
        let written = || store.shared.transactions.load(std::sync::atomic::Ordering::Relaxed);
        let mut before = None;
        while before != Some(written()) {
            before = Some(written());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        store.shared.set_healthy(healthy);
        store.confirm("app".to_owned(), confirmed).await.unwrap();
        assert_eq!(store.shared.purged(), purged, "after {confirmed}");
    }
}
