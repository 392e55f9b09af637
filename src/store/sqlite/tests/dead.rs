//! Dead letters in a file: damaged ones are told of, and files of version 1 are brought up to date, whole or not at all.

use std::path::Path;

use super::*;
use crate::peer::{DeadPage, Place, Stretch};
use crate::set::SetErr;
use crate::store::sqlite::rows::{Table, checksum};

fn refused() -> Outcome {
    Outcome::Refused(SetErr { err: "invalid_key".to_owned(), description: "no key".to_owned() })
}

async fn letters(store: &Sqlite) -> DeadPage {
    let all = Stretch { after: Place::default(), up_to: Place::LAST, rows_max: 1_000, bytes_max: usize::MAX };
    store.read_dead_letters(all).await.unwrap()
}

fn seqs(page: &DeadPage) -> Vec<u64> {
    page.letters.iter().map(|(_, letter)| letter.memory.seq).collect()
}

#[tokio::test]
async fn a_damaged_dead_letter_is_told_of_and_its_neighbours_are_read() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, (1..=5).map(|seq| Write::Enqueue(row(seq, 100)))).await.unwrap();
    commit(&store, (1..=5).map(|seq| settle(seq, refused()))).await.unwrap();
    store.close().await;
    folder.flip("dead_letter", "row", outbox_key(A, 2));
    folder.flip("dead_letter", "outcome", outbox_key(A, 3));
    folder.execute(&format!("UPDATE dead_letter SET attempts = 1 WHERE key = {}", outbox_key(A, 4)));
    let store = folder.open().await;
    let page = letters(&store).await;
    assert_eq!(seqs(&page), [1, 5]);
    assert_eq!(page.damaged, [2, 3, 4].map(|seq| Place::of(A, seq)));
    let page = store.dead_letters_at(A, vec![3, 5]).await.unwrap();
    assert_eq!((seqs(&page), page.damaged), (vec![5], vec![Place::of(A, 3)]));
    let stretch = Stretch { after: Place::of(A, 1), up_to: Place::LAST, rows_max: 2, bytes_max: usize::MAX };
    let page = store.read_dead_letters(stretch).await.unwrap();
    assert_eq!((page.damaged.len(), page.next), (2, Some(Place::of(A, 3))), "they fill a page like others");
    assert_eq!(store.recover(A).await.unwrap().counts.dead_letters, 5, "they count until they are dealt with");
    let memory = store.known(A, Direction::Out, vec![row(2, 0).jti]).await.unwrap().pop().flatten();
    commit(&store, [Write::Lift { seq: 2, jti: row(2, 0).jti, memory }]).await.unwrap();
    assert_eq!(letters(&store).await.damaged, [3, 4].map(|seq| Place::of(A, seq)));
    assert_eq!(store.recover(A).await.unwrap().counts.dead_letters, 4);
}

/// What is written to the log meanwhile, by this thread.
fn logged(work: impl FnOnce()) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    let writer = Arc::new(file.reopen().unwrap());
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
    tracing::subscriber::with_default(subscriber, work);
    std::fs::read_to_string(file.path()).unwrap()
}

#[tokio::test]
async fn the_log_is_told_once_of_each_damaged_dead_letter_and_of_no_more_than_a_thousand() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, (1..=3).flat_map(|seq| [Write::Enqueue(row(seq, 100)), settle(seq, refused())])).await.unwrap();
    store.close().await;
    folder.flip("dead_letter", "row", outbox_key(A, 2));
    let told = |store: &Sqlite, seqs: std::ops::RangeInclusive<u64>| {
        let places: Vec<Place> = seqs.map(|seq| Place::of(A, seq)).collect();
        logged(|| store.shared.report_damaged_letters(&places))
    };
    // However they are read. The line itself is another thread's.
    let store = folder.open().await;
    letters(&store).await;
    assert_eq!(told(&store, 2..=2), "", "it has been told of");
    store.close().await;
    let store = folder.open().await;
    store.dead_letters_at(A, vec![1, 2]).await.unwrap();
    assert_eq!(told(&store, 2..=2), "");
    let line = told(&store, 1..=3);
    assert!(
        line.contains("ERROR") && line.contains("code=data_damaged count=2 ") && line.contains("store.db"),
        "{line}"
    );
    assert_eq!(told(&store, 1..=3), "");
    let line = told(&store, 4..=5_000);
    assert!(line.lines().count() == 1 && line.contains(" count=997 "), "a thousand in all: {line}");
    assert_eq!(told(&store, 4..=10_000), "");
}

/// Another place's row, whole as it is, is not taken for this one's.
#[tokio::test]
async fn a_dead_letter_in_the_wrong_place_is_a_damaged_one() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, [Write::Enqueue(row(1, 100)), settle(1, refused())]).await.unwrap();
    store.close().await;
    folder.execute(&format!("UPDATE dead_letter SET key = {}", outbox_key(A, 2)));
    assert_eq!(letters(&folder.open().await).await.damaged, [Place::of(A, 2)]);
}

/// Makes a file what version 1 made it: rows and memories without a story are the same, and a peer's row counts no dead
/// letters.
fn downgrade(path: &Path) {
    let conn = Connection::open(path).unwrap();
    let names = "paused, next_seq, queued, acked, refused, dead, received, rejected";
    let select = format!("SELECT id, name, {names} FROM peer");
    let sums: Vec<(i64, i64)> = conn
        .prepare(&select)
        .unwrap()
        .query_map([], |row| {
            let (id, name): (i64, String) = (row.get(0)?, row.get(1)?);
            let numbers: Vec<u8> = (2..10).flat_map(|place| row.get::<_, i64>(place).unwrap().to_le_bytes()).collect();
            Ok((id, i64::from(checksum(Table::Peer, id, &[&numbers, name.as_bytes()]))))
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for (id, sum) in sums {
        conn.execute("UPDATE peer SET checksum = ?2 WHERE id = ?1", (id, sum)).unwrap();
    }
    conn.execute_batch(
        "ALTER TABLE peer DROP COLUMN dead_letters; DROP TABLE outbox_gone; DROP TABLE body; DROP TABLE archive; DROP TABLE job; DELETE FROM meta WHERE key = 5; UPDATE schema SET version = 1",
    )
    .unwrap();
}

/// A file of version 1 with two dead letters of `a`, one of `b`, and others besides.
async fn version_1() -> Folder {
    let folder = Folder::new();
    let store = folder.open().await;
    let b = store.peer_id("b".to_owned()).await.unwrap();
    one_by_one(&store, (1..=4).map(|seq| Write::Enqueue(row(seq, 100)))).await;
    let ends = [settle(1, refused()), settle(2, Outcome::Acked), settle(3, Outcome::Dead(DeathCause::Age))];
    commit(&store, ends).await.unwrap();
    let writes = vec![Write::Enqueue(row(1, 100)), settle(1, refused())];
    store.commit(b, Epoch(1), Arc::new(writes)).await.unwrap();
    store.close().await;
    downgrade(&folder.path());
    folder
}

async fn is_brought_up(store: &Sqlite) {
    let counts = store.recover(A).await.unwrap().counts;
    assert_eq!((counts.queued, counts.acked, counts.refused, counts.dead, counts.dead_letters), (1, 1, 1, 1, 2));
    assert_eq!(store.recover(PeerId(2)).await.unwrap().counts.dead_letters, 1);
    let page = letters(store).await;
    assert_eq!((seqs(&page), page.damaged.len()), (vec![1, 3, 1], 0));
    let known = store.known(A, Direction::Out, vec![row(1, 0).jti]).await.unwrap();
    assert!(known[0].as_ref().is_some_and(|known| known.seq == 1 && known.story == Story::default()));
    assert_eq!(outbox(store).await.0, [4]);
}

#[tokio::test]
async fn a_file_of_version_1_is_brought_up_to_date_and_stays_so() {
    let folder = version_1().await;
    for _ in 0..2 {
        let store = folder.open().await;
        is_brought_up(&store).await;
        commit(&store, []).await.unwrap();
        store.close().await;
    }
    let store = folder.open().await;
    commit(&store, [settle(4, refused())]).await.unwrap();
    assert_eq!(store.recover(A).await.unwrap().counts.dead_letters, 3);
}

#[tokio::test]
async fn a_crash_while_it_is_brought_up_leaves_the_old_file_or_the_new_one() {
    let folder = version_1().await;
    let before = std::fs::read(folder.path()).unwrap();
    let log = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
    let store = folder.open().await;
    let (file, (path, wal)) = (std::sync::mpsc::channel(), (folder.path(), log(&folder.path())));
    let (send, copies) = file;
    store.at_rest(move || send.send((std::fs::read(&path).unwrap(), std::fs::read(&wal).unwrap())).unwrap()).await;
    let (after, whole) = copies.recv().unwrap();
    assert_eq!(after, before, "all of it is in the log");
    assert!(whole.len() > 16 * 1024);
    for part in 0..=32 {
        let cut = Folder::new();
        // Copied, and then overwritten: files that others may read are refused.
        for (path, bytes) in [(cut.path(), &before[..]), (log(&cut.path()), &whole[..whole.len() * part / 32])] {
            std::fs::copy(folder.path(), &path).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        is_brought_up(&cut.try_open().unwrap()).await;
    }
}

#[tokio::test]
async fn a_damaged_file_of_version_1_is_left_as_it_is() {
    let folder = version_1().await;
    folder.execute("UPDATE peer SET refused = refused + 1 WHERE id = 2");
    let refusal = folder.refusal();
    assert!(refusal.contains("\"2\" of table peer is damaged"), "{refusal}");
    let conn = Connection::open(folder.path()).unwrap();
    let version: i64 = conn.query_row("SELECT version FROM schema", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 1);
    assert!(conn.prepare("SELECT dead_letters FROM peer").is_err(), "no half of it was done");
}
