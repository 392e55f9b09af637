//! What has left its queue, in a file: damage to it is told and hurts nothing else, and a full disk does without it.

use super::*;
use crate::store::{Bookmark, Keep, Leaf};

fn keep(since: u64, bytes_max: u64) -> Keep {
    Keep { since: Wall(since), bytes_max, makes_room: false }
}

async fn kept(store: &Sqlite) -> Leaf {
    store.read_settled(A, Wall(0), Bookmark::default(), 1_000).await.unwrap()
}

/// Sends and settles so many, each in a row of its own.
async fn settled(store: &Sqlite, seqs: std::ops::RangeInclusive<u64>) {
    for seq in seqs {
        commit(store, [Write::Enqueue(row(seq, 10))]).await.unwrap();
        commit(store, [settle(seq, Outcome::Acked)]).await.unwrap();
    }
}

#[tokio::test]
async fn damage_is_told_and_hides_nothing_else() {
    for sql in [
        "UPDATE archive SET at = at + 1 WHERE id = 3",
        "UPDATE archive SET key = key + 1 WHERE id = 3",
        "UPDATE archive SET attempts = 0 WHERE id = 3",
        "UPDATE archive SET row = x'00' WHERE id = 3",
        "UPDATE archive SET total = -total, at = -9223372036854775808 WHERE id = 3",
        "UPDATE archive SET total = 9223372036854775807, at = 9223372036854775807 WHERE id = 3",
    ] {
        let folder = Folder::new();
        let store = folder.open().await;
        settled(&store, 1..=5).await;
        store.close().await;
        folder.execute(sql);
        let store = folder.open().await;
        let leaf = kept(&store).await;
        assert_eq!((leaf.sets.len(), leaf.damaged), (4, 1), "{sql}");
        // It goes with those beside it, and is not counted on.
        settled(&store, 6..=6).await;
        assert_eq!(store.forget_settled(keep(0, 1 << 20)).await, Ok(false));
        assert_eq!(kept(&store).await.sets.len(), 5, "{sql}");
        assert_eq!(store.forget_settled(keep(u64::MAX >> 1, 1 << 20)).await, Ok(false));
        assert_eq!(kept(&store).await.sets, [], "{sql}");
    }
}

#[tokio::test]
async fn the_last_row_may_be_the_damaged_one() {
    let folder = Folder::new();
    let store = folder.open().await;
    settled(&store, 1..=5).await;
    store.close().await;
    folder.execute("UPDATE archive SET total = 9223372036854775807, at = 9223372036854775807 WHERE id = 5");
    let store = folder.open().await;
    settled(&store, 6..=6).await;
    assert_eq!(store.forget_settled(keep(0, 1 << 20)).await, Ok(false));
    let leaf = kept(&store).await;
    assert_eq!((leaf.sets.len(), leaf.damaged), (5, 1));
}

#[tokio::test]
async fn nothing_is_added_where_nothing_is_kept_and_what_there_was_can_go() {
    let folder = Folder::new();
    let store = folder.open().await;
    settled(&store, 1..=2).await;
    store.close().await;
    let store = Sqlite::open(folder.path(), Options { archive: false, ..Options::default() }).unwrap();
    settled(&store, 3..=4).await;
    let leaf = kept(&store).await;
    assert_eq!((leaf.sets.len(), leaf.unkept), (2, Wall(u64::MAX)));
    assert_eq!(store.forget_settled(keep(0, 0)).await, Ok(false));
    assert_eq!(kept(&store).await.sets, []);
    store.close().await;
    let store = folder.open().await;
    assert_eq!(kept(&store).await.unkept, Wall(u64::MAX), "until something is kept again");
    settled(&store, 5..=6).await;
    let leaf = kept(&store).await;
    assert!(leaf.sets.len() == 2 && leaf.unkept > Wall(0) && leaf.unkept < Wall(u64::MAX), "{leaf:?}");
}

#[tokio::test]
async fn what_a_full_disk_left_out_is_known_also_after_a_restart() {
    let folder = Folder::new();
    let store = folder.open().await;
    settled(&store, 1..=3).await;
    commit(&store, [Write::Enqueue(row(4, 10))]).await.unwrap();
    store.shared.set_healthy(false);
    commit(&store, [settle(4, Outcome::Acked)]).await.unwrap();
    let leaf = kept(&store).await;
    assert_eq!((leaf.sets.len(), leaf.unkept), (3, Wall(u64::MAX)));
    store.close().await;
    let leaf = kept(&folder.open().await).await;
    assert_eq!((leaf.sets.len(), leaf.unkept), (3, Wall(u64::MAX)));
}

#[tokio::test]
async fn a_full_disk_is_given_room_step_by_step() {
    let folder = Folder::new();
    let store = folder.open().await;
    settled(&store, 1..=40).await;
    let mut left = vec![40];
    while *left.last().unwrap() > 0 && left.len() < 20 {
        let keep = Keep { since: Wall(0), bytes_max: 1 << 30, makes_room: true };
        assert_eq!(store.forget_settled(keep).await, Ok(false));
        left.push(kept(&store).await.sets.len());
    }
    assert!(left.len() > 3 && left.is_sorted_by(|one, next| one > next), "{left:?}");
}

#[tokio::test]
async fn damage_to_what_is_noted_of_it_says_nothing_is_certain_and_hurts_nothing() {
    let folder = Folder::new();
    let store = folder.open().await;
    settled(&store, 1..=3).await;
    store.close().await;
    folder.flip("meta", "value", 5);
    let store = folder.open().await;
    assert_eq!((kept(&store).await.sets.len(), kept(&store).await.unkept), (3, Wall(u64::MAX)));
    settled(&store, 4..=4).await;
    assert!(kept(&store).await.unkept < Wall(u64::MAX));
}

#[tokio::test]
async fn many_damaged_rows_do_not_stop_what_is_forgotten() {
    let folder = Folder::new();
    let store = folder.open().await;
    settled(&store, 1..=450).await;
    store.close().await;
    folder.execute("UPDATE archive SET checksum = checksum + 1 WHERE id <= 220");
    let store = folder.open().await;
    while store.forget_settled(keep(0, 500)).await.unwrap() {}
    let leaf = kept(&store).await;
    assert!(leaf.sets.len() < 10 && leaf.damaged == 0, "{} and {} damaged", leaf.sets.len(), leaf.damaged);
}

#[tokio::test]
async fn what_had_left_a_row_that_is_taken_apart_is_as_young_as_the_last_to_leave() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, (1..=100).map(|seq| Write::Enqueue(row(seq, 10)))).await.unwrap();
    commit(&store, (1..=99).map(|seq| settle(seq, Outcome::Acked))).await.unwrap();
    commit(&store, [Write::Attempts { seq: 100, attempts: 1 }]).await.unwrap();
    commit(&store, [settle(100, Outcome::Acked)]).await.unwrap();
    assert_eq!(kept(&store).await.sets.len(), 100);
    let Write::Settle { at, .. } = settle(99, Outcome::Acked) else { unreachable!() };
    assert_eq!(store.forget_settled(keep(at.0, 1 << 30)).await, Ok(false));
    assert_eq!(kept(&store).await.sets.len(), 100);
}

#[tokio::test]
async fn a_bookmark_in_an_archive_that_began_anew_skips_nothing() {
    let folder = Folder::new();
    let store = folder.open().await;
    settled(&store, 1..=20).await;
    let next = store.read_settled(A, Wall(0), Bookmark::default(), 12).await.unwrap().next.unwrap();
    assert_eq!(store.forget_settled(keep(0, 0)).await, Ok(false));
    store.close().await;
    let store = folder.open().await;
    settled(&store, 21..=25).await;
    assert_eq!(store.read_settled(A, Wall(0), next, 99).await.unwrap().sets.len(), 5);
}

#[tokio::test]
async fn much_is_forgotten_step_by_step() {
    let folder = Folder::new();
    let store = folder.open().await;
    settled(&store, 1..=450).await;
    let keep = keep(0, 0);
    let mut steps = vec![store.forget_settled(keep).await.unwrap()];
    while steps.last() == Some(&true) {
        steps.push(store.forget_settled(keep).await.unwrap());
    }
    assert!((5..=9).contains(&steps.len()), "{steps:?}");
    assert_eq!(kept(&store).await.sets, []);
}
