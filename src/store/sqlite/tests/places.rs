//! Places of the inbox beside damaged rows: which are taken, and where it ends.

use super::*;
use crate::store::sqlite::reader;

#[tokio::test]
async fn a_damaged_inbox_row_takes_no_place_from_those_that_come() {
    let folder = Folder::new();
    let store = folder.open().await;
    one_by_one(&store, (1..=3).map(receive)).await;
    store.close().await;
    for seq in 1..=3 {
        folder.flip("inbox", "row", seq);
    }
    for _ in 0..2 {
        let store = folder.open().await;
        assert_eq!(store.inbox_len(), 3, "nobody has met them");
        assert!(inbox(&store).await.is_empty());
        assert_eq!(store.inbox_len(), 0, "nobody could ever confirm them");
        // A consumer that begins later does not bring them back, nor does one that is forgotten, nor a second look.
        assert!(store.read_inbox("late".to_owned(), None, 9).await.unwrap().is_empty());
        assert!(store.forget_consumer("late".to_owned()).await.unwrap());
        assert_eq!((inbox(&store).await.len(), store.inbox_len()), (0, 0));
        store.close().await;
    }
    let store = folder.open().await;
    commit(&store, [receive(4)]).await.unwrap();
    assert_eq!((inbox(&store).await, store.inbox_len()), (vec![4], 1));
    store.confirm("app".to_owned(), 2).await.unwrap();
    assert_eq!(store.inbox_len(), 1, "one of two that are left is damaged");
    store.read_inbox("late".to_owned(), None, 9).await.unwrap();
    assert_eq!(store.inbox_len(), 1, "three of four");
    store.confirm("app".to_owned(), 4).await.unwrap();
    store.confirm("late".to_owned(), 4).await.unwrap();
    assert_eq!(store.inbox_len(), 0);
}

#[tokio::test]
async fn one_who_reads_the_file_sees_no_further_than_it_was_asked_and_a_damaged_key_hides_nothing() {
    let folder = Folder::new();
    let store = folder.open().await;
    one_by_one(&store, (1..=6).map(receive)).await;
    let read = async |to| {
        let rows =
            reader::read(&store.shared, move |conn, shared| reader::inbox(conn, shared, 0, to, 9)).await.unwrap();
        rows.iter().map(|(seq, ..)| *seq).collect::<Vec<_>>()
    };
    assert_eq!((read(0).await, read(4).await, read(6).await), (vec![], vec![1, 2, 3, 4], vec![1, 2, 3, 4, 5, 6]));
    // Behind the last, where it is found first by none that looks for the end by the keys.
    folder.execute("UPDATE inbox SET seq = 4611686018427387904 WHERE seq = 6");
    assert_eq!((read(4).await, read(6).await), (vec![1, 2, 3, 4], vec![1, 2, 3, 4, 5]));
    assert_eq!(store.damaged_inbox_rows(), 1);
    // Nor is it believed that the inbox goes so far.
    store.close().await;
    let mut there = vec![1, 2, 3, 4, 5];
    for seq in [6, 7] {
        let store = folder.open().await;
        assert_eq!((*store.inbox_tail().borrow(), store.damaged_inbox_rows()), (seq - 1, 1));
        assert_eq!((inbox(&store).await, store.inbox_len()), (there.clone(), there.len() as u64));
        commit(&store, [receive(seq + 100)]).await.unwrap();
        there.push(seq);
        assert_eq!((inbox(&store).await, store.inbox_len()), (there.clone(), there.len() as u64));
        store.close().await;
    }
    let store = folder.open().await;
    inbox(&store).await;
    store.confirm("app".to_owned(), 7).await.unwrap();
    assert_eq!((store.purge(Wall(0)).await, store.inbox_len()), (Ok(false), 0));
    store.close().await;
    assert_eq!(folder.count("inbox"), 1, "the one whose key is damaged is kept");
}

#[tokio::test]
async fn no_place_is_given_again_that_a_consumer_has_been_at_when_the_key_of_the_newest_row_is_damaged() {
    let folder = Folder::new();
    let store = folder.open().await;
    one_by_one(&store, (1..=6).map(receive)).await;
    inbox(&store).await;
    store.confirm("app".to_owned(), 6).await.unwrap();
    store.close().await;
    folder.execute("UPDATE inbox SET seq = 1048576 WHERE seq = 6");
    let store = folder.open().await;
    commit(&store, [receive(7)]).await.unwrap();
    assert_eq!((inbox(&store).await, store.inbox_len()), (vec![7], 1));
}
