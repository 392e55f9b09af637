//! Several SETs in one row: none is lost, sent again or hidden by what becomes of its neighbours, and files of version 2, which
//! have none such, are read as they are.

use super::*;
use crate::peer::{Place, Stretch};
use crate::store::sqlite::rows::{seal_attempts, seal_size};

fn enqueue(seqs: impl IntoIterator<Item = u64>) -> impl Iterator<Item = Write> {
    seqs.into_iter().map(|seq| Write::Enqueue(row(seq, 100)))
}

async fn damaged_letters(store: &Sqlite) -> (Vec<u64>, Vec<u64>) {
    let all = Stretch { after: Place::default(), up_to: Place::LAST, rows_max: 1_000, bytes_max: usize::MAX };
    let page = store.read_dead_letters(all).await.unwrap();
    let whole = page.letters.iter().map(|(_, letter)| letter.memory.seq).collect();
    (whole, page.damaged.iter().map(|place| place.seq).collect())
}

/// A copy of a closed store's file, with something done to it.
fn changed(folder: &Folder, sql: &str) -> Folder {
    let copy = Folder::new();
    std::fs::copy(folder.path(), copy.path()).unwrap();
    copy.execute(sql);
    copy
}

fn blob(folder: &Folder, table: &str, column: &str) -> Vec<u8> {
    let conn = Connection::open(folder.path()).unwrap();
    conn.query_row(&format!("SELECT {column} FROM {table}"), [], |row| row.get(0)).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every so-many-th bit of this blob flipped, one at a time: its place, and the file.
fn flips(folder: &Folder, table: &str, column: &str, step: usize) -> impl Iterator<Item = (usize, Folder)> {
    let whole = blob(folder, table, column);
    (0..whole.len() * 8).step_by(step).map(move |bit| {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        (bit / 8, changed(folder, &format!("UPDATE {table} SET {column} = x'{}'", hex(&flipped))))
    })
}

#[tokio::test]
async fn what_is_queued_together_lies_in_one_row_and_leaves_one_by_one() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, enqueue(1..=6)).await.unwrap();
    commit(&store, acked([2, 6])).await.unwrap();
    commit(&store, enqueue(7..=9).chain(acked([8, 2]))).await.unwrap();
    let left = [1, 3, 4, 5, 7, 9];
    assert_eq!(outbox(&store).await, (left.to_vec(), vec![], 9));
    store.close().await;
    assert_eq!((folder.count("outbox"), folder.count("outbox_gone")), (2, 2));
    let store = folder.open().await;
    assert_eq!(outbox(&store).await, (left.to_vec(), vec![], 9));
    assert_eq!(store.recover(A).await.unwrap().counts.queued, 6);
    let page = store.read_outbox(A, Select::Seqs(vec![9, 8, 1, 2, 5, 10])).await.unwrap();
    assert_eq!(page.rows, [1, 5, 9].map(|seq| row(seq, 100)));
    for (after, rows_max, read) in [(0, 2, vec![1, 3]), (3, 2, vec![4, 5]), (4, 9, vec![5, 7, 9]), (9, 9, vec![])] {
        let select = Select::After { after, rows_max, bytes_max: usize::MAX };
        let page = store.read_outbox(A, select).await.unwrap();
        assert_eq!(Vec::from_iter(page.rows.iter().map(|row| row.seq)), read, "{rows_max} behind {after}");
        assert_eq!(page.read_to, read.last().copied().unwrap_or(after));
    }
    commit(&store, acked([1, 3, 4, 5])).await.unwrap();
    commit(&store, acked([1, 3, 4, 5])).await.unwrap();
    assert_eq!(outbox(&store).await, (vec![7, 9], vec![], 9));
    commit(&store, acked([7, 9])).await.unwrap();
    assert_eq!(store.recover(A).await.unwrap().counts.queued, 0);
    store.close().await;
    assert_eq!((folder.count("outbox"), folder.count("outbox_gone")), (0, 0), "the last takes the row along");
}

#[tokio::test]
async fn neither_many_nor_large_ones_nor_gaps_are_too_much_for_a_row() {
    let folder = Folder::new();
    let store = folder.open().await;
    let large = [3, 300, 301].map(|seq| Write::Enqueue(row(seq, 70_000)));
    let small = enqueue((1..=2).chain(4..=290));
    let mut writes: Vec<Write> = small.chain(large).collect();
    writes.sort_by_key(|write| if let Write::Enqueue(row) = write { row.seq } else { 0 });
    commit(&store, writes).await.unwrap();
    let all = || Vec::from_iter((1..=290).chain(300..=301));
    assert_eq!(outbox(&store).await, (all(), vec![], 301));
    commit(&store, (1..=700).map(receive)).await.unwrap();
    assert_eq!(inbox(&store).await, Vec::from_iter(1..=700));
    store.close().await;
    // 1 and 2; 3; as many as may be; the rest; two large ones.
    assert_eq!((folder.count("outbox"), folder.count("inbox")), (6, 3));
    let store = folder.open().await;
    assert_eq!(outbox(&store).await, (all(), vec![], 301));
    commit(&store, acked(all())).await.unwrap();
    assert_eq!(outbox(&store).await.0, [0u64; 0]);
}

#[tokio::test]
async fn attempts_and_a_place_that_is_taken_anew_give_each_a_row_of_its_own() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, enqueue(1..=5)).await.unwrap();
    commit(&store, acked([2])).await.unwrap();
    commit(&store, [Write::Attempts { seq: 2, attempts: 7 }]).await.unwrap();
    commit(&store, [Write::Attempts { seq: 4, attempts: 2 }]).await.unwrap();
    let attempts = |store: Sqlite| async move {
        let select = Select::After { after: 0, rows_max: 9, bytes_max: usize::MAX };
        let rows = store.read_outbox(A, select).await.unwrap().rows;
        store.close().await;
        Vec::from_iter(rows.into_iter().map(|row| (row.seq, row.attempts)))
    };
    assert_eq!(attempts(store).await, [(1, 0), (3, 0), (4, 2), (5, 0)]);
    assert_eq!((folder.count("outbox"), folder.count("outbox_gone")), (4, 0));
    let store = folder.open().await;
    commit(&store, [Write::Attempts { seq: 4, attempts: 1 }].into_iter().chain(enqueue(6..=8))).await.unwrap();
    commit(&store, acked([7])).await.unwrap();
    // No core does this: a SET must not get lost all the same.
    let other = OutboxRow { jti: "other".into(), ..row(7, 100) };
    commit(&store, [Write::Enqueue(other.clone())]).await.unwrap();
    commit(&store, [Write::Enqueue(other.clone()), Write::Enqueue(row(8, 100))]).await.unwrap();
    assert_eq!(store.read_outbox(A, Select::Seqs(vec![7])).await.unwrap().rows, [other]);
    assert_eq!(attempts(store).await, [(1, 0), (3, 0), (4, 2), (5, 0), (6, 0), (7, 0), (8, 0)]);
}

#[tokio::test]
async fn a_dead_letter_takes_its_row_out_of_many_as_it_is() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, enqueue(1..=5)).await.unwrap();
    store.close().await;
    // Somewhere in the row of the second.
    let len = blob(&folder, "outbox", "row").len();
    let (_, damaged) = flips(&folder, "outbox", "row", 8).nth(len / 3).unwrap();
    let store = damaged.open().await;
    assert_eq!(outbox(&store).await, (vec![1, 3, 4, 5], vec![2], 5));
    commit(&store, [1, 2, 5].map(|seq| settle(seq, Outcome::Dead(DeathCause::Attempts)))).await.unwrap();
    assert_eq!((outbox(&store).await, damaged_letters(&store).await), ((vec![3, 4], vec![], 4), (vec![1, 5], vec![2])));
    let counts = store.recover(A).await.unwrap().counts;
    assert_eq!((counts.queued, counts.dead_letters), (2, 3));
    commit(&store, acked([3, 4])).await.unwrap();
    store.close().await;
    assert_eq!((damaged.count("outbox"), damaged.count("outbox_gone"), damaged.count("dead_letter")), (0, 0, 3));
}

#[tokio::test]
async fn a_flipped_bit_in_a_row_of_many_hits_no_other_set_and_is_told_of() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, enqueue(1..=4).chain((1..=4).map(receive))).await.unwrap();
    commit(&store, acked([3])).await.unwrap();
    store.close().await;
    let mut hit = [0; 5];
    for (at, flipped) in flips(&folder, "outbox", "row", 61) {
        let store = flipped.open().await;
        let (whole, damaged, _) = outbox(&store).await;
        match damaged[..] {
            [] => assert_eq!(whole, [1, 2, 4], "byte {at} is of the one that is gone"),
            [one] => assert!(!whole.contains(&one) && whole.len() == 2, "byte {at}: {whole:?} {damaged:?}"),
            _ => assert!(damaged == [1, 2, 4] && whole.is_empty(), "byte {at}: {whole:?} {damaged:?}"),
        }
        hit[damaged.len()] += 1;
    }
    assert!(hit[0] > 5 && hit[1] > 20 && hit[3] > 1, "{hit:?}");
    let mut hit = [0; 5];
    for (at, flipped) in flips(&folder, "inbox", "row", 61) {
        let store = flipped.open().await;
        let whole = inbox(&store).await;
        let damaged = store.damaged_inbox_rows();
        assert!(whole.len() + damaged == 4 && matches!(damaged, 1 | 4), "byte {at}: {whole:?}");
        hit[damaged] += 1;
        store.confirm("app".to_owned(), 4).await.unwrap();
        store.purge(Wall(0)).await.unwrap();
        assert_eq!((store.damaged_inbox_rows(), store.inbox_len()), (damaged, 0));
        commit(&store, [receive(5)]).await.unwrap();
        assert_eq!(inbox(&store).await, [5], "no place is taken twice");
        store.close().await;
        assert_eq!(flipped.count("inbox"), 2, "what is damaged is kept, and the newest");
    }
    assert!(hit[1] > 20 && hit[4] > 1, "{hit:?}");
}

#[tokio::test]
async fn damage_beside_a_row_of_many_hides_none_and_brings_none_back() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, enqueue(1..=4)).await.unwrap();
    commit(&store, acked([3])).await.unwrap();
    store.close().await;
    let key = outbox_key(A, 4);
    // Of how many there are. Each bit, and then what means something else.
    let number = seal_size(key, 4);
    let others = [seal_size(key, 3), seal_size(key, 5), seal_size(key, 300), seal_attempts(key, 4), 0];
    for (index, number) in (0..64).map(|bit| number ^ 1 << bit).chain(others).enumerate() {
        let changed = changed(&folder, &format!("UPDATE outbox SET attempts = {number}"));
        let store = changed.open().await;
        let (whole, damaged, _) = outbox(&store).await;
        assert!(whole.is_empty(), "{number}: {whole:?}");
        assert!([1, 2, 4].iter().all(|seq| damaged.contains(seq)), "{number}: {damaged:?}");
        assert!(index >= 64 || damaged.len() == 3, "{number}: {damaged:?}");
        assert_eq!(store.recover(A).await.unwrap().counts.queued, 3);
    }
    // Of which of them are gone: nobody knows any more, and nobody acts on it.
    for (at, flipped) in flips(&folder, "outbox_gone", "gone", 23) {
        let store = flipped.open().await;
        assert_eq!(outbox(&store).await, (vec![], vec![1, 2, 3, 4], 4), "byte {at}");
        let Err(Error::Fatal(why)) = commit(&store, acked([1])).await else { panic!("byte {at}: it was settled") };
        assert!(why.contains("outbox_gone is damaged: restore a backup"), "{why}");
    }
    // In a place that is not its own, of which nothing is right but how many there are.
    let moved = changed(&folder, &format!("UPDATE outbox SET key = {}; DELETE FROM outbox_gone", outbox_key(A, 9)));
    assert_eq!(outbox(&moved.open().await).await, (vec![], vec![6, 7, 8, 9], 9));
    // When both say nothing, all that there may be are told of.
    let lost = changed(&folder, "UPDATE outbox SET attempts = 5, row = zeroblob(300)");
    let store = lost.open().await;
    assert_eq!(outbox(&store).await, (vec![], vec![1, 2, 3, 4], 4));
    let Err(Error::Fatal(why)) = commit(&store, acked([1])).await else { panic!("it was settled") };
    assert!(why.contains("table outbox is damaged: restore a backup"), "{why}");
}

#[tokio::test]
async fn a_row_of_many_that_is_damaged_as_a_whole_can_still_be_settled() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, enqueue(1..=4)).await.unwrap();
    store.close().await;
    for sql in ["UPDATE outbox SET row = zeroblob(400)", "UPDATE outbox SET attempts = 1"] {
        let damaged = changed(&folder, sql);
        let store = damaged.open().await;
        assert_eq!(outbox(&store).await, (vec![], vec![1, 2, 3, 4], 4), "{sql}");
        commit(&store, [Write::Attempts { seq: 2, attempts: 2 }]).await.unwrap();
        commit(&store, [settle(2, Outcome::Acked), settle(3, Outcome::Dead(DeathCause::Age))]).await.unwrap();
        assert_eq!(outbox(&store).await, (vec![], vec![1, 4], 4), "{sql}");
        assert_eq!(damaged_letters(&store).await.0.len() + damaged_letters(&store).await.1.len(), 1);
        commit(&store, acked([1, 4])).await.unwrap();
        assert_eq!(outbox(&store).await, (vec![], vec![], 0));
    }
}

#[tokio::test]
async fn a_row_of_many_is_purged_when_its_last_is_confirmed_and_shows_none_that_is_purged() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, (1..=5).map(receive)).await.unwrap();
    commit(&store, (6..=9).map(receive)).await.unwrap();
    inbox(&store).await;
    for up_to in [2, 4] {
        store.confirm("app".to_owned(), up_to).await.unwrap();
        assert_eq!(store.purge(Wall(0)).await, Ok(false));
        let seqs = |rows: Vec<crate::store::Handed>| Vec::from_iter(rows.iter().map(|handed| handed.seq));
        assert_eq!(seqs(store.peek_inbox(Some(0), 100).await.unwrap()), Vec::from_iter(up_to + 1..=9));
        assert_eq!(seqs(store.peek_inbox(None, 2).await.unwrap()), [up_to + 1, up_to + 2]);
        let name = format!("later-{up_to}");
        assert_eq!(seqs(store.read_inbox(name.clone(), None, 2).await.unwrap()), [up_to + 1, up_to + 2]);
        store.forget_consumer(name).await.unwrap();
        assert_eq!(store.inbox_len(), 9 - up_to);
    }
    store.close().await;
    assert_eq!(folder.count("inbox"), 2);
    let store = folder.open().await;
    assert_eq!((inbox(&store).await, store.inbox_len()), (vec![5, 6, 7, 8, 9], 5));
    store.confirm("app".to_owned(), 9).await.unwrap();
    store.purge(Wall(0)).await.unwrap();
    store.close().await;
    assert_eq!(folder.count("inbox"), 0);
}

#[tokio::test]
async fn what_several_peers_sent_lies_in_one_row_and_is_told_apart() {
    let folder = Folder::new();
    let store = Arc::new(folder.open().await);
    let b = store.peer_id("b".to_owned()).await.unwrap();
    let (begin, gate) = channel::<()>();
    let holder = Arc::clone(&store);
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let hold = move |_: &mut Batch<'_>| {
        let _ = begun.send(());
        Ok(gate.recv().is_ok())
    };
    let held = tokio::spawn(async move { holder.ask(1, hold).await });
    // From here on orders wait, so that both of them are in the next transaction.
    has_begun.await.unwrap();
    let mut commits = Vec::new();
    for peer in [A, b] {
        let store = Arc::clone(&store);
        commits.push(tokio::spawn(async move { store.commit(peer, Epoch(1), Arc::new(vec![receive(1)])).await }));
    }
    while store.orders.max_capacity() - store.orders.capacity() < 2 {
        tokio::task::yield_now().await;
    }
    begin.send(()).unwrap();
    held.await.unwrap().unwrap();
    for commit in commits {
        commit.await.unwrap().unwrap();
    }
    let rows = store.read_inbox("app".to_owned(), None, 9).await.unwrap();
    let mut peers = Vec::from_iter(rows.iter().map(|handed| handed.peer));
    peers.sort();
    assert_eq!(peers, [A, b]);
    store.close().await;
    assert_eq!(folder.count("inbox"), 1);
}

/// Makes a file what version 2 made it, which has one SET in a row.
fn downgrade(folder: &Folder) {
    folder.execute("DROP TABLE outbox_gone; DROP TABLE body; DROP TABLE archive; DROP TABLE job; DELETE FROM meta WHERE key = 5; UPDATE schema SET version = 2");
}

/// A file of version 2: queued SETs of two peers, some settled, some dead, some damaged; an inbox with two consumers.
async fn version_2() -> Folder {
    let folder = Folder::new();
    let store = folder.open().await;
    let b = store.peer_id("b".to_owned()).await.unwrap();
    one_by_one(&store, enqueue(1..=8)).await;
    store.commit(b, Epoch(1), Arc::new(vec![Write::Enqueue(row(1, 100))])).await.unwrap();
    commit(&store, acked([2]).chain([Write::Attempts { seq: 7, attempts: 3 }])).await.unwrap();
    commit(&store, [3, 4].map(|seq| settle(seq, Outcome::Dead(DeathCause::Age)))).await.unwrap();
    one_by_one(&store, (1..=8).map(receive)).await;
    for (name, up_to) in [("app", 5), ("slow", 2)] {
        store.read_inbox(name.to_owned(), None, 6).await.unwrap();
        store.confirm(name.to_owned(), up_to).await.unwrap();
    }
    store.purge(Wall(0)).await.unwrap();
    store.close().await;
    folder.flip("outbox", "row", outbox_key(A, 5));
    folder.execute(&format!("UPDATE outbox SET attempts = 1 WHERE key = {}", outbox_key(A, 6)));
    // In another place than it was written for.
    folder.execute(&format!("UPDATE outbox SET key = {} WHERE key = {}", outbox_key(b, 9), outbox_key(A, 8)));
    folder.flip("dead_letter", "row", outbox_key(A, 4));
    folder.flip("inbox", "row", 4);
    downgrade(&folder);
    folder
}

async fn is_brought_up(store: &Sqlite) {
    assert_eq!(outbox(store).await, (vec![1, 7], vec![5, 6], 7));
    let select = Select::After { after: 0, rows_max: 9, bytes_max: usize::MAX };
    let page = store.read_outbox(PeerId(2), select).await.unwrap();
    assert_eq!((page.rows, page.damaged), (vec![row(1, 100)], vec![9]));
    assert_eq!(store.read_outbox(A, Select::Seqs(vec![7])).await.unwrap().rows[0].attempts, 3);
    assert_eq!(damaged_letters(store).await, (vec![3], vec![4]));
    let counts = store.recover(A).await.unwrap().counts;
    assert_eq!((counts.queued, counts.acked, counts.dead, counts.dead_letters), (5, 1, 2, 2));
    for (name, rows) in [("app", vec![6, 7, 8]), ("slow", vec![3, 5, 6, 7, 8])] {
        let handed = store.read_inbox(name.to_owned(), None, 9).await.unwrap();
        assert_eq!(Vec::from_iter(handed.iter().map(|handed| handed.seq)), rows);
        assert!(handed.iter().all(|handed| handed.redelivered));
    }
    assert_eq!((store.damaged_inbox_rows(), store.inbox_len()), (1, 5));
    let jtis = ["out-2", "out-8", "out-9"].map(Jti::from).to_vec();
    let known = store.known(A, Direction::Out, jtis).await.unwrap();
    assert_eq!(Vec::from_iter(known.iter().map(Option::is_some)), [true, true, false]);
}

#[tokio::test]
async fn a_file_of_version_2_keeps_its_rows_damaged_or_not() {
    let folder = version_2().await;
    for _ in 0..2 {
        let store = folder.open().await;
        is_brought_up(&store).await;
        store.close().await;
    }
    let store = folder.open().await;
    // A repetition of what is done, before a row that nobody can place.
    store.commit(PeerId(2), Epoch(1), Arc::new(acked([2, 8]).collect())).await.unwrap();
    commit(&store, enqueue(9..=12).chain((9..=12).map(receive))).await.unwrap();
    commit(&store, acked([1, 5, 10])).await.unwrap();
    assert_eq!(outbox(&store).await, (vec![7, 9, 11, 12], vec![6], 12));
    let rows = store.read_inbox("slow".to_owned(), None, 99).await.unwrap();
    assert_eq!(Vec::from_iter(rows.iter().map(|handed| handed.seq)), [3, 5, 6, 7, 8, 9, 10, 11, 12]);
    for name in ["app", "slow"] {
        store.confirm(name.to_owned(), 10).await.unwrap();
    }
    store.purge(Wall(0)).await.unwrap();
    store.close().await;
    assert_eq!(folder.count("inbox"), 2, "the damaged one, and one of which not all is confirmed");
}

#[tokio::test]
async fn a_crash_while_a_file_of_version_2_is_brought_up_leaves_the_old_or_the_new_one() {
    let folder = version_2().await;
    let before = std::fs::read(folder.path()).unwrap();
    let log = |folder: &Folder| PathBuf::from(format!("{}-wal", folder.path().display()));
    let store = folder.open().await;
    let (send, copies) = channel();
    let (path, wal) = (folder.path(), log(&folder));
    store.at_rest(move || send.send((std::fs::read(path).unwrap(), std::fs::read(wal).unwrap())).unwrap()).await;
    let (after, whole) = copies.recv().unwrap();
    assert_eq!(after, before, "all of it is in the log");
    for part in 0..=16 {
        let cut = Folder::new();
        for (path, bytes) in [(cut.path(), &before[..]), (log(&cut), &whole[..whole.len() * part / 16])] {
            std::fs::copy(folder.path(), &path).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        is_brought_up(&cut.try_open().unwrap()).await;
    }
}

#[tokio::test]
async fn a_note_of_what_is_gone_that_belongs_to_no_row_keeps_the_store_shut() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, enqueue(1..=6)).await.unwrap();
    commit(&store, acked([2])).await.unwrap();
    store.close().await;
    let moved = changed(&folder, "UPDATE outbox_gone SET key = key + 2");
    let why = moved.refusal();
    assert!(why.contains("outbox_gone") && why.contains("damaged"), "{why}");
    is_open_with(&folder, &[1, 3, 4, 5, 6]).await;
}

async fn is_open_with(folder: &Folder, left: &[u64]) {
    let store = folder.open().await;
    assert_eq!(outbox(&store).await.0, left);
    store.close().await;
}

#[tokio::test]
async fn a_row_of_the_inbox_with_a_damaged_key_hides_nothing_of_the_next_one() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, (1..=4).map(receive)).await.unwrap();
    commit(&store, (5..=12).map(receive)).await.unwrap();
    store.close().await;
    let moved = changed(&folder, "UPDATE inbox SET seq = 6 WHERE seq = 4");
    let store = moved.open().await;
    let handed = store.read_inbox("app".to_owned(), None, 100).await.unwrap();
    assert_eq!(Vec::from_iter(handed.iter().map(|handed| handed.seq)), Vec::from_iter(5..=12));
    assert!(store.damaged_inbox_rows() >= 4, "the first four are told of");
    store.confirm("app".to_owned(), 12).await.unwrap();
    while store.purge(Wall(0)).await.unwrap() {}
    store.close().await;
    assert_eq!(moved.count("inbox"), 1, "the damaged one is kept");
}
