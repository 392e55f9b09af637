//! Large bundles lie beside their rows, from the queue into the archive: they are nobody else's, and leave nothing behind.

use super::*;
use crate::peer::{Place, Stretch};
use crate::store::{Bookmark, Keep, Leaf};

/// Of each SET: four of them are a bundle that does not lie in its row.
const SIZE: usize = 2_000;

fn enqueue(seqs: impl IntoIterator<Item = u64>) -> impl Iterator<Item = Write> {
    seqs.into_iter().map(|seq| Write::Enqueue(row(seq, SIZE)))
}

async fn leaf(store: &Sqlite) -> Leaf {
    store.read_settled(A, Wall(0), Bookmark::default(), 1_000).await.unwrap()
}

async fn kept(store: &Sqlite) -> (Vec<u64>, u64) {
    let leaf = leaf(store).await;
    assert!(leaf.sets.iter().all(|set| set.compact.len() == SIZE));
    (leaf.sets.iter().map(|set| set.seq).collect(), leaf.damaged)
}

async fn forget_all(store: &Sqlite) {
    let all = Keep { since: Wall(u64::MAX >> 1), bytes_max: 0, makes_room: false };
    assert_eq!(store.forget_settled(all).await, Ok(false));
}

/// Rows of the outbox, of the archive, and what lies beside them.
fn counts(folder: &Folder) -> (u64, u64, u64) {
    (folder.count("outbox"), folder.count("archive"), folder.count("body"))
}

#[tokio::test]
async fn a_large_bundle_is_written_once_and_goes_when_the_archive_forgets_it() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, enqueue(1..=4)).await.unwrap();
    // Too small for that, and one alone.
    commit(&store, (5..=6).map(|seq| Write::Enqueue(row(seq, 9)))).await.unwrap();
    commit(&store, enqueue(7..=7)).await.unwrap();
    commit(&store, acked([2])).await.unwrap();
    assert_eq!((outbox(&store).await.0, counts(&folder)), (vec![1, 3, 4, 5, 6, 7], (3, 0, 1)));
    let page = store.read_outbox(A, Select::Seqs(vec![1, 3, 4, 7])).await.unwrap();
    assert_eq!(page.rows, [1, 3, 4, 7].map(|seq| row(seq, SIZE)));
    assert_eq!(kept(&store).await, (vec![2], 0), "beside those that wait");
    commit(&store, acked([5, 6])).await.unwrap();
    commit(&store, acked([1, 3, 4])).await.unwrap();
    store.close().await;
    assert_eq!(counts(&folder), (1, 2, 1));
    let store = folder.open().await;
    let sets = leaf(&store).await.sets;
    assert_eq!(Vec::from_iter(sets.iter().map(|set| set.compact.len())), [9, 9, SIZE, SIZE, SIZE, SIZE]);
    // What lies beside a row counts.
    let some = Keep { since: Wall(0), bytes_max: 3 * SIZE as u64, makes_room: false };
    assert_eq!(store.forget_settled(some).await, Ok(false));
    assert_eq!((kept(&store).await, counts(&folder)), ((vec![1, 2, 3, 4], 0), (1, 1, 1)));
    commit(&store, acked([7])).await.unwrap();
    forget_all(&store).await;
    assert_eq!(counts(&folder), (0, 0, 0));
}

#[tokio::test]
async fn where_nothing_is_kept_it_goes_with_its_last_set() {
    let folder = Folder::new();
    let options = Options { archive: false, ..Options::default() };
    let store = Sqlite::open(folder.path(), options).unwrap();
    assert_eq!(store.peer_id("a".to_owned()).await, Ok(A));
    commit(&store, enqueue(1..=4)).await.unwrap();
    commit(&store, acked(1..=3)).await.unwrap();
    assert_eq!(counts(&folder), (1, 0, 1));
    commit(&store, acked([4])).await.unwrap();
    assert_eq!(counts(&folder), (0, 0, 0));
    // Nor on a full disk, where it would make room.
    store.close().await;
    let store = Sqlite::open(folder.path(), Options::default()).unwrap();
    commit(&store, enqueue(5..=8)).await.unwrap();
    store.shared.set_healthy(false);
    commit(&store, acked(5..=8)).await.unwrap();
    assert_eq!(counts(&folder), (0, 0, 0));
}

#[tokio::test]
async fn one_that_is_taken_apart_lies_beside_nothing() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, enqueue(1..=4)).await.unwrap();
    commit(&store, acked([4])).await.unwrap();
    commit(&store, [Write::Attempts { seq: 2, attempts: 7 }]).await.unwrap();
    assert_eq!((outbox(&store).await.0, counts(&folder)), (vec![1, 2, 3], (3, 1, 0)));
    assert_eq!(kept(&store).await, (vec![4], 0));
    let refused = Outcome::Dead(DeathCause::Age);
    commit(&store, enqueue(5..=8)).await.unwrap();
    commit(&store, acked([5, 6, 7]).chain([settle(8, refused)])).await.unwrap();
    let all = Stretch { after: Place::default(), up_to: Place::LAST, rows_max: 9, bytes_max: usize::MAX };
    let letters = store.read_dead_letters(all).await.unwrap().letters;
    assert_eq!(letters[0].1.compact.len(), SIZE);
}

#[tokio::test]
async fn what_is_damaged_is_told_and_takes_nothing_else_along() {
    let key = |seq| outbox_key(A, seq);
    // The second of three bundles waits or is archived, as the first is.
    for (sql, waits, archived) in [
        (format!("DELETE FROM body WHERE key = {}", key(8)), (8, 4), (8, 4)),
        (format!("UPDATE body SET row = zeroblob(9000) WHERE key = {}", key(8)), (8, 4), (8, 4)),
        (format!("UPDATE body SET key = {} WHERE key = {}", key(9), key(8)), (8, 4), (8, 4)),
    ] {
        for is_archived in [false, true] {
            let folder = Folder::new();
            let store = folder.open().await;
            for first in [1, 5, 9] {
                commit(&store, enqueue(first..first + 4)).await.unwrap();
            }
            commit(&store, acked(1..=4)).await.unwrap();
            if is_archived {
                commit(&store, acked(5..=12)).await.unwrap();
            }
            store.close().await;
            folder.execute(&sql);
            let store = folder.open().await;
            if is_archived {
                let (sets, damaged) = kept(&store).await;
                assert_eq!((sets.len(), damaged), archived, "{sql}");
            } else {
                let (whole, damaged, read_to) = outbox(&store).await;
                assert_eq!((whole.len() + 4, damaged.len()), waits, "{sql}");
                assert_eq!(read_to, 12);
                commit(&store, acked(5..=12)).await.unwrap();
                assert_eq!(outbox(&store).await.0, [0_u64; 0]);
            }
            forget_all(&store).await;
            let left = u64::from(sql.starts_with("UPDATE body SET key"));
            assert_eq!(counts(&folder), (0, 0, left), "{sql}");
        }
    }
}

#[tokio::test]
async fn a_row_of_the_archive_with_anothers_key_takes_nothing_of_the_queue() {
    let folder = Folder::new();
    let store = folder.open().await;
    for first in [1, 5] {
        commit(&store, enqueue(first..first + 4)).await.unwrap();
    }
    commit(&store, acked(1..=4)).await.unwrap();
    store.close().await;
    folder.execute(&format!("UPDATE archive SET key = {}", outbox_key(A, 8)));
    let store = folder.open().await;
    forget_all(&store).await;
    assert_eq!((outbox(&store).await.0, counts(&folder)), (vec![5, 6, 7, 8], (1, 0, 2)));
}

#[tokio::test]
async fn one_of_the_same_key_does_not_take_what_the_archive_has() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, enqueue(1..=4)).await.unwrap();
    commit(&store, acked(1..=4)).await.unwrap();
    // No core does this: their places again, under jtis of which nothing is known.
    let again = |seq: u64| OutboxRow { jti: format!("again-{seq}").into(), ..row(seq, SIZE) };
    commit(&store, (1..=4).map(again).map(Write::Enqueue)).await.unwrap();
    let page = store.read_outbox(A, Select::Seqs(vec![1, 2, 3, 4])).await.unwrap();
    assert_eq!(page.rows, [1, 2, 3, 4].map(again));
    assert_eq!((kept(&store).await.0, counts(&folder).2), (vec![1, 2, 3, 4], 1));
    forget_all(&store).await;
    let page = store.read_outbox(A, Select::Seqs(vec![1, 2, 3, 4])).await.unwrap();
    assert_eq!((page.rows, counts(&folder).2), ([1, 2, 3, 4].map(again).to_vec(), 0));
    commit(&store, acked(1..=4)).await.unwrap();
    assert_eq!(outbox(&store).await.0, [0_u64; 0]);
    forget_all(&store).await;
    assert_eq!(counts(&folder), (0, 0, 0));
}

/// A file of version 4, which has large bundles in their rows, in the queue and in the archive.
#[tokio::test]
async fn a_file_of_version_4_is_read_as_it_is() {
    let folder = Folder::new();
    let store = folder.open().await;
    for first in [1, 5] {
        commit(&store, enqueue(first..first + 4)).await.unwrap();
    }
    commit(&store, acked(1..=5)).await.unwrap();
    store.close().await;
    for table in ["outbox", "archive"] {
        folder.execute(&format!("UPDATE {table} SET row = (SELECT row FROM body WHERE body.key = {table}.key)"));
    }
    folder.execute("DROP TABLE body; UPDATE schema SET version = 4");
    let store = folder.open().await;
    assert_eq!((outbox(&store).await.0, kept(&store).await), (vec![6, 7, 8], (vec![5, 1, 2, 3, 4], 0)));
    commit(&store, acked(6..=8).chain(enqueue(9..=12))).await.unwrap();
    assert_eq!(counts(&folder), (1, 2, 1));
    forget_all(&store).await;
    assert_eq!((outbox(&store).await.0, counts(&folder)), (vec![9, 10, 11, 12], (1, 0, 1)));
}
