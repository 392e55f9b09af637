//! Flipped bits, changed numbers, cut logs: found and said, never taken for good or for nothing (invariant I18).

use std::path::Path;

use super::*;
use crate::peer::{Place, Stretch, Verdict};

#[tokio::test]
async fn a_damaged_outbox_row_is_reported_and_can_still_be_settled() {
    let folder = Folder::new();
    let store = folder.open().await;
    one_by_one(&store, (1..=4).map(|seq| Write::Enqueue(row(seq, 100)))).await;
    store.close().await;
    folder.flip("outbox", "row", outbox_key(A, 2));
    folder.execute(&format!("UPDATE outbox SET attempts = 1 WHERE key = {}", outbox_key(A, 4)));
    let store = folder.open().await;
    assert_eq!(outbox(&store).await, (vec![1, 3], vec![2, 4], 4));
    let page = store.read_outbox(A, Select::Seqs(vec![2, 3])).await.unwrap();
    assert_eq!((page.rows.len(), page.damaged), (1, vec![2]));
    assert_eq!(store.recover(A).await.unwrap().counts.queued, 4, "it counts as waiting");
    commit(&store, [settle(2, Outcome::Dead(DeathCause::Age))]).await.unwrap();
    assert_eq!(outbox(&store).await, (vec![1, 3], vec![4], 4));
    store.close().await;
    assert_eq!(folder.count("dead_letter"), 1, "it is kept as it is");
}

#[tokio::test]
async fn a_damaged_inbox_row_is_neither_handed_out_nor_purged() {
    let folder = Folder::new();
    let store = folder.open().await;
    one_by_one(&store, (1..=6).map(receive)).await;
    store.close().await;
    folder.flip("inbox", "row", 1);
    folder.flip("inbox", "row", 4);
    for _ in 0..2 {
        let store = folder.open().await;
        assert_eq!(inbox(&store).await, [2, 3, 5, 6]);
        assert_eq!(store.read_inbox("one".to_owned(), None, 1).await.unwrap()[0].seq, 2);
        assert_eq!(store.damaged_inbox_rows(), 2);
        assert_eq!(store.inbox_len(), 4);
        store.forget_consumer("one".to_owned()).await.unwrap();
        store.close().await;
    }
    let store = folder.open().await;
    inbox(&store).await;
    store.confirm("app".to_owned(), 5).await.unwrap();
    assert_eq!(store.purge(Wall(0)).await, Ok(false));
    assert_eq!((inbox(&store).await, store.inbox_len()), (vec![6], 1));
    store.close().await;
    assert_eq!(folder.count("inbox"), 3, "two damaged ones and the newest");
}

#[tokio::test]
async fn a_damaged_inbox_row_stays_unless_everybody_had_it_while_it_was_whole() {
    for (how, is_kept) in [
        ("given out of RAM", false),
        ("read from the file", true),
        ("confirmed without having been given", true),
        ("left out by one who read on behind it", true),
        ("met before a restart, and confirmed after it", true),
    ] {
        let folder = Folder::new();
        let mut store = folder.open().await;
        one_by_one(&store, (1..=6).map(receive)).await;
        if is_kept && how != "confirmed without having been given" {
            // The next read asks the file.
            store.shared.newest.forget(6);
        }
        folder.flip("inbox", "row", 2);
        match how {
            "confirmed without having been given" => {
                assert_eq!(store.read_inbox("app".to_owned(), None, 1).await.unwrap().len(), 1);
            }
            "left out by one who read on behind it" => {
                let read = store.read_inbox("app".to_owned(), Some(4), 9).await.unwrap();
                assert_eq!(read.iter().map(|handed| handed.seq).collect::<Vec<_>>(), [5, 6]);
            }
            _ => assert_eq!(inbox(&store).await.contains(&2), !is_kept, "{how}"),
        }
        if how == "met before a restart, and confirmed after it" {
            store.close().await;
            store = folder.open().await;
        }
        store.confirm("app".to_owned(), 6).await.unwrap();
        // What comes then is given out of RAM to all of them.
        one_by_one(&store, (7..=9).map(receive)).await;
        assert_eq!(inbox(&store).await, [7, 8, 9], "{how}");
        folder.flip("inbox", "row", 8);
        store.confirm("app".to_owned(), 8).await.unwrap();
        assert_eq!(store.purge(Wall(0)).await, Ok(false));
        assert_eq!((inbox(&store).await, store.inbox_len()), (vec![9], 1), "{how}");
        assert_eq!(store.damaged_inbox_rows(), usize::from(is_kept), "{how}");
        store.close().await;
        assert_eq!(folder.count("inbox"), 1 + u64::from(is_kept), "{how}");
    }
}

#[tokio::test]
async fn damage_to_what_must_be_known_keeps_the_store_shut() {
    let damages = [
        ("peer", "UPDATE peer SET next_seq = next_seq - 1"),
        ("peer", "UPDATE peer SET name = 'A'"),
        ("consumer", "UPDATE consumer SET confirmed = confirmed + 1"),
        ("consumer", "UPDATE consumer SET handed = 0"),
        ("added_peer", "UPDATE added_peer SET definition = 'url = 2'"),
        ("Salt", "UPDATE meta SET value = zeroblob(36) WHERE key = 1"),
        ("Inbox", "UPDATE meta SET value = zeroblob(20) WHERE key = 2"),
        ("log", "UPDATE memory_log SET entries = zeroblob(99)"),
        ("segment 1", "UPDATE segment SET filter = zeroblob(64) WHERE id = 1"),
    ];
    let pristine = Folder::new();
    let store = pristine.open().await;
    commit(&store, (1..=30).map(receive).chain([Write::Enqueue(row(1, 10))])).await.unwrap();
    inbox(&store).await;
    store.confirm("app".to_owned(), 2).await.unwrap();
    store.purge(Wall(0)).await.unwrap();
    store.add_peer("b".to_owned(), "url = 1".to_owned()).await.unwrap();
    while store.shared.seen.outdated(Wall(u64::MAX)).is_none() {
        tokio::task::yield_now().await;
    }
    commit(&store, [receive(31)]).await.unwrap();
    store.close().await;
    for (named, damage) in damages {
        let folder = Folder::new();
        std::fs::copy(pristine.path(), folder.path()).unwrap();
        folder.execute(damage);
        let refusal = folder.refusal();
        assert!(refusal.contains("damaged") && refusal.contains(named), "{damage}: {refusal}");
    }
}

#[tokio::test]
async fn a_damaged_memory_is_never_taken_for_an_unknown_jti() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, (1..=30).map(receive)).await.unwrap();
    while store.shared.seen.outdated(Wall(u64::MAX)).is_none() {
        tokio::task::yield_now().await;
    }
    store.close().await;
    folder.flip("segment_block", "entries", 1 << 24);
    let store = folder.open().await;
    assert_eq!(store.known(A, Direction::Out, vec!["other".into()]).await, Ok(vec![None]));
    let Err(Error::Fatal(why)) = commit(&store, [receive(1)]).await else { panic!("in-1 may be known") };
    assert!(why.contains("block 0 of segment 1 of the memory of jtis is damaged"), "{why}");
    store.close().await;
    folder.execute("DELETE FROM segment_block");
    let store = folder.open().await;
    let known = store.known(A, Direction::In, vec!["in-1".into()]).await;
    assert!(matches!(known, Err(Error::Fatal(why)) if why.contains("is missing")));
}

#[tokio::test]
async fn a_cut_log_loses_whole_commits_from_the_end_and_nothing_else() {
    let folder = Folder::new();
    // No sealing and too little for a checkpoint: everything is in the log.
    let store = Sqlite::open(folder.path(), Options::default()).unwrap();
    store.peer_id("a".to_owned()).await.unwrap();
    for number in 1..=15 {
        let answer = Write::Answer {
            jti: format!("answer-{number}").into(),
            digest: Digest::default(),
            verdict: Verdict::Acked,
            at: Wall(number),
        };
        commit(&store, [Write::Enqueue(row(number, 500)), receive(number), answer]).await.unwrap();
    }
    let log = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
    let whole = std::fs::metadata(log(&folder.path())).unwrap().len();
    let mut fewest = 15;
    for part in (1..=16).rev() {
        let cut = Folder::new();
        std::fs::copy(folder.path(), cut.path()).unwrap();
        std::fs::copy(log(&folder.path()), log(&cut.path())).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(log(&cut.path())).unwrap();
        file.set_len(whole * part / 16).unwrap();
        let store = cut.open().await;
        let saved = store.recover(A).await.unwrap();
        let left = saved.counts.received;
        assert_eq!((saved.next_seq, saved.counts.queued, store.inbox_len()), (left + 1, left, left));
        assert_eq!(outbox(&store).await.0, (1..=left).collect::<Vec<_>>());
        assert_eq!(inbox(&store).await, (1..=left).collect::<Vec<_>>());
        let jtis = (1..=15).map(|number| format!("answer-{number}").into()).collect();
        let known = store.known(A, Direction::In, jtis).await.unwrap();
        assert_eq!(known.iter().filter(|known| known.is_some()).count() as u64, left);
        assert!(left <= fewest);
        fewest = left;
    }
    assert!(fewest < 5, "the log was cut");
}

/// A store whose fifteen commits are all in the log, and where the last of them begins there.
async fn all_in_the_log() -> (Folder, Sqlite, Vec<u8>, usize) {
    let folder = Folder::new();
    let store = Sqlite::open(folder.path(), Options::default()).unwrap();
    store.peer_id("a".to_owned()).await.unwrap();
    let log = || std::fs::read(log_of(&folder)).unwrap();
    let mut last = 0;
    for number in 1..=15 {
        last = log().len();
        commit(&store, [Write::Enqueue(row(number, 500)), receive(number)]).await.unwrap();
    }
    let whole = log();
    (folder, store, whole, last)
}

fn log_of(folder: &Folder) -> PathBuf {
    PathBuf::from(format!("{}-wal", folder.path().display()))
}

/// A copy of the store with this log.
fn with_log(folder: &Folder, log: &[u8]) -> Folder {
    let copy = Folder::new();
    std::fs::copy(folder.path(), copy.path()).unwrap();
    std::fs::write(log_of(&copy), log).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(log_of(&copy), private).unwrap();
    copy
}

#[tokio::test]
async fn a_flipped_byte_in_the_log_costs_no_commit_in_silence_but_perhaps_the_last() {
    let (folder, _store, log, last) = all_in_the_log().await;
    let frame = 24 + 8_192;
    // Every byte of the log's header, a third of each frame's, and some of each page.
    let frames = (32..log.len()).step_by(frame);
    let headers = (0..32).chain(frames.enumerate().flat_map(|(number, at)| (at + number % 3..at + 24).step_by(3)));
    let pages = (32..log.len()).step_by(frame).flat_map(|at| (at + 24..at + frame).step_by(4_001));
    let mut refused = 0;
    for at in headers.chain(pages) {
        let mut flipped = log.clone();
        flipped[at] ^= 1 << (at % 8);
        let copy = with_log(&folder, &flipped);
        match Sqlite::open(copy.path(), Options::default()) {
            Ok(store) => {
                let left = store.recover(A).await.unwrap().counts.received;
                assert!(left == 15 || (left == 14 && at >= last), "byte {at} is flipped: {left} of 15 are left");
            }
            Err(why) => {
                refused += 1;
                let why = why.to_string();
                assert!(why.contains("store.db-wal is damaged from byte") && why.contains("backup"), "{at}: {why}");
            }
        }
    }
    assert!(refused > 15 * 8, "{refused} flips were refused");
}

#[tokio::test]
async fn a_log_that_has_lost_its_beginning_is_told_of() {
    let (folder, _store, log, _) = all_in_the_log().await;
    // Its header, a sector, a block, and the first page as well; then the bit that tells the order of bytes.
    for lost in [32, 512, 4_096, 32 + 24 + 8_192] {
        for with in [0, 0xff] {
            let mut damaged = log.clone();
            damaged[..lost].fill(with);
            let why = with_log(&folder, &damaged).refusal();
            assert!(why.contains("store.db-wal is damaged from byte 0 on"), "{lost} bytes are {with}: {why}");
        }
    }
    let mut flipped = log;
    flipped[3] ^= 1;
    let why = with_log(&folder, &flipped).refusal();
    assert!(why.contains("store.db-wal is damaged from byte 0 on"), "{why}");
}

#[tokio::test]
async fn a_last_commit_that_a_power_cut_has_torn_is_no_damage() {
    let (folder, _store, log, last) = all_in_the_log().await;
    let sectors: Vec<usize> = (last..log.len()).step_by(512).collect();
    let mut tears = 0;
    for (number, sector) in sectors.iter().enumerate().step_by(7) {
        let mut torn = log.clone();
        let lost = if number % 2 == 0 { 0..sectors.len() } else { number..sectors.len() };
        for place in lost.step_by(1 + number % 5) {
            let end = log.len().min(sectors[place] + 512);
            torn[sectors[place]..end].fill(0);
        }
        if torn == log {
            // There was nothing in them.
            continue;
        }
        tears += 1;
        let copy = with_log(&folder, &torn);
        let store = copy.open().await;
        assert_eq!(store.recover(A).await.unwrap().counts.received, 14, "sector {sector}");
    }
    assert!(tears > 9, "{tears} of {} sectors", sectors.len());
}

#[tokio::test]
async fn a_database_that_is_cut_while_it_is_open_is_damaged_and_not_full() {
    for size in [0, 8_192, 300_000, 2_000_000] {
        let folder = Folder::new();
        let store = folder.open().await;
        for first in (1..=300).step_by(10) {
            commit(&store, (first..first + 10).map(|seq| Write::Enqueue(row(seq, 20_000)))).await.unwrap();
        }
        for first in (1..=200).step_by(10) {
            commit(&store, (first..first + 10).map(|seq| settle(seq, Outcome::Dead(DeathCause::Age)))).await.unwrap();
        }
        // Closing moves the log into the database.
        store.close().await;
        let store = folder.open().await;
        commit(&store, [receive(1)]).await.unwrap();
        let path = folder.path();
        store
            .at_rest(move || {
                let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
                assert!(file.metadata().unwrap().len() > 3_000_000, "most of it is not in the log");
                file.set_len(size).unwrap();
            })
            .await;
        let all = Stretch { after: Place::default(), up_to: Place::LAST, rows_max: 1_000, bytes_max: usize::MAX };
        let write = commit(&store, [Write::Enqueue(row(301, 40_000)), settle(201, Outcome::Acked)]).await;
        let read = store.read_dead_letters(all).await.map(|_| ());
        let Err(Error::Fatal(why)) = write.and(read) else { panic!("cut to {size} bytes, and not noticed") };
        assert!(why.contains("is damaged: restore a backup"), "cut to {size} bytes: {why}");
        assert!(!store.healthy() && store.failed());
    }
}

#[tokio::test]
async fn a_page_that_has_lost_a_row_keeps_the_store_shut() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, (1..=4).flat_map(|seq| [Write::Enqueue(row(seq, 100)), receive(seq)])).await.unwrap();
    store.close().await;
    let pristine = std::fs::read(folder.path()).unwrap();
    let mut pages = 0;
    for page in (0..pristine.len()).step_by(8_192).skip(1) {
        // A leaf of a table, and the lower byte of how many rows are in it.
        if pristine[page] == 13 && pristine[page + 4] > 0 {
            let mut damaged = pristine.clone();
            damaged[page + 4] -= 1;
            std::fs::write(folder.path(), damaged).unwrap();
            let refusal = folder.refusal();
            assert!(refusal.contains("damaged") && refusal.contains("restore a backup"), "{refusal}");
            pages += 1;
        }
    }
    assert!(pages > 4, "{pages} pages were tried");
}

#[tokio::test]
async fn of_a_file_that_is_too_large_the_queue_and_the_inbox_are_looked_through_first() {
    let folder = Folder::new();
    let store = folder.open().await;
    commit(&store, (1..=4).flat_map(|seq| [Write::Enqueue(row(seq, 2_000)), receive(seq)])).await.unwrap();
    commit(&store, (5..=6).flat_map(|seq| [Write::Enqueue(row(seq, 9)), settle(seq, Outcome::Acked)])).await.unwrap();
    store.close().await;
    let pristine = std::fs::read(folder.path()).unwrap();
    for (table, is_first) in [("outbox", true), ("inbox", true), ("peer", true), ("body", false), ("archive", false)] {
        std::fs::write(folder.path(), &pristine).unwrap();
        let conn = Connection::open(folder.path()).unwrap();
        let root = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        let root: i64 = conn.query_row(root, [table], |row| row.get(0)).unwrap();
        drop(conn);
        let mut damaged = pristine.clone();
        damaged[usize::try_from(root - 1).unwrap() * 8_192 + 4] -= 1;
        std::fs::write(folder.path(), damaged).unwrap();
        let conn = Connection::open(folder.path()).unwrap();
        let look = |whole| file::look_through_within(&conn, whole, Duration::from_secs(60));
        assert_eq!(look(Duration::ZERO).is_err(), is_first, "{table}");
        assert!(look(Duration::from_secs(60)).is_err(), "{table}");
    }
}

#[tokio::test]
async fn a_file_that_has_lost_its_company_is_said_and_not_begun_anew() {
    let killed = Folder::new();
    let store = killed.open().await;
    commit(&store, (1..=4).map(|seq| Write::Enqueue(row(seq, 100)))).await.unwrap();
    let beside = |folder: &Folder, suffix: &str| PathBuf::from(format!("{}{suffix}", folder.path().display()));
    let files = ["", "-wal", "-shm"].map(|suffix| (suffix, std::fs::read(beside(&killed, suffix)).unwrap()));
    // What a kill leaves, but for one thing.
    type Change<'a> = dyn Fn(&Folder) + 'a;
    let left = |change: &Change<'_>| {
        let folder = Folder::new();
        for (suffix, bytes) in &files {
            let path = beside(&folder, suffix);
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
        change(&folder);
        let opened = folder.try_open();
        (folder, opened)
    };
    let (_folder, whole) = left(&|_| ());
    assert_eq!(outbox(&whole.unwrap()).await.0, [1, 2, 3, 4]);
    let changes: [(&Change<'_>, &str); 3] = [
        (&|folder| std::fs::remove_file(folder.path()).unwrap(), "is missing or empty, and its log"),
        (&|folder| std::fs::write(folder.path(), "").unwrap(), "is missing or empty, and its log"),
        (&|folder| std::fs::remove_file(beside(folder, "-wal")).unwrap(), "-wal is missing, and"),
    ];
    for (change, told) in changes {
        let (folder, opened) = left(change);
        let Err(Error::Fatal(why)) = opened else { panic!("{told}: it was opened") };
        assert!(why.contains(told) && why.contains("backup"), "{why}");
        // Twice, so that the first refusal has made nothing.
        assert!(folder.try_open().is_err(), "{told}");
    }
    let (_folder, without_index) = left(&|folder| std::fs::remove_file(beside(folder, "-shm")).unwrap());
    assert_eq!(outbox(&without_index.unwrap()).await.0, [1, 2, 3, 4], "the index is made anew");
}

#[tokio::test]
async fn a_file_with_pages_of_another_size_keeps_them_and_its_log_is_looked_through_as_well() {
    let folder = Folder::new();
    // As files were made before there were bundles.
    rusqlite::Connection::open(folder.path())
        .unwrap()
        .execute_batch("PRAGMA page_size = 16384; VACUUM; PRAGMA journal_mode = WAL;")
        .unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(folder.path(), private).unwrap();
    let store = Sqlite::open(folder.path(), Options::default()).unwrap();
    store.peer_id("a".to_owned()).await.unwrap();
    for number in 1..=5 {
        commit(&store, [Write::Enqueue(row(number, 500)), receive(number)]).await.unwrap();
    }
    let log = std::fs::read(log_of(&folder)).unwrap();
    assert_eq!(u32::from_be_bytes(log[8..12].try_into().unwrap()), 16_384, "the log says how large pages are");
    let whole = with_log(&folder, &log);
    assert_eq!(Sqlite::open(whole.path(), Options::default()).unwrap().recover(A).await.unwrap().counts.received, 5);
    // In the second frame's page, and with the log's own word for their size damaged as well.
    for at in [vec![32 + 2 * 24 + 16_384 + 9_000], vec![10, 32 + 2 * 24 + 16_384 + 9_000]] {
        let mut flipped = log.clone();
        at.iter().for_each(|at| flipped[*at] ^= 1);
        let why = Sqlite::open(with_log(&folder, &flipped).path(), Options::default()).unwrap_err().to_string();
        assert!(why.contains("store.db-wal is damaged from byte"), "{at:?}: {why}");
    }
}

/// Since a process that goes on would accept into a file that nobody finds again.
#[cfg(unix)]
#[tokio::test]
async fn nothing_is_accepted_into_a_database_that_was_taken_away() {
    let beside = |folder: &Folder, suffix: &str| {
        let mut name = folder.path().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    };
    for what in ["removed", "replaced", "its log removed", "its log replaced"] {
        let folder = Folder::new();
        let store = folder.open().await;
        commit(&store, [Write::Enqueue(row(1, 100))]).await.unwrap();
        let moved = beside(&folder, ".moved");
        match what {
            "removed" => std::fs::rename(folder.path(), &moved).unwrap(),
            "replaced" => {
                std::fs::copy(folder.path(), &moved).unwrap();
                std::fs::rename(&moved, folder.path()).unwrap();
            }
            "its log replaced" => {
                std::fs::copy(beside(&folder, "-wal"), &moved).unwrap();
                std::fs::rename(&moved, beside(&folder, "-wal")).unwrap();
            }
            _ => std::fs::remove_file(beside(&folder, "-wal")).unwrap(),
        }
        let error = commit(&store, [Write::Enqueue(row(2, 100))]).await.unwrap_err();
        assert!(matches!(error, Error::Fatal(_)), "{what}: {error:?}");
        assert!(error.to_string().contains("was removed or replaced while it was in use"), "{what}: {error}");
        assert_eq!(error.to_string().contains("is safe"), what == "its log removed", "{what}: {error}");
        assert!(commit(&store, [Write::Enqueue(row(3, 100))]).await.is_err(), "{what}: it has ended");
        store.close().await;
        if what == "its log removed" {
            // What was in the log has been saved; the last of it may be there, though nobody was told so.
            let (seqs, damaged, _) = outbox(&folder.open().await).await;
            assert!(seqs.starts_with(&[1]) && damaged.is_empty(), "{seqs:?}");
        }
    }
}
