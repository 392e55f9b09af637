//! Sealing, step by step, with the process ending or the transaction failing at each of them.

use rusqlite::Connection;

use super::*;
use crate::peer::{Fate, Story, Verdict};
use crate::set::Digest;
use crate::store::sqlite::schema;

const SALT: Salt = Salt::Sip([7; 16]);
const A: PeerId = PeerId(1);

fn database() -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    schema::create(&conn).unwrap();
    conn
}

fn load(conn: &Connection) -> (Seen, Upkeep) {
    let (seen, mut upkeep) = Seen::load(conn, SALT, 64).unwrap();
    upkeep.begin(&seen);
    (seen, upkeep)
}

/// The memory of this number's jti, in its so-and-so-manieth version.
fn memory(number: u64, version: u64) -> Remembered {
    let digest = Digest::of(&version.to_le_bytes());
    Remembered { digest, seq: 0, since: Wall(number), fate: Fate::Answered(Verdict::Acked), story: Story::default() }
}

fn key(seen: &Seen, number: u64) -> Key {
    seen.key(A, Direction::In, &format!("jti-{number}").into())
}

/// Logs these numbers in one transaction, with a step of upkeep beside.
fn log(conn: &Connection, seen: &Seen, upkeep: &mut Upkeep, numbers: std::ops::Range<u64>, version: u64, seal: usize) {
    let mut fresh = Tail::default();
    for number in numbers {
        fresh.insert(key(seen, number), &memory(number, version));
    }
    upkeep.log(conn, fresh).unwrap();
    upkeep.step(conn, seal).unwrap();
    upkeep.committed(seen);
    upkeep.begin(seen);
}

fn settle_down(conn: &Connection, seen: &Seen, upkeep: &mut Upkeep) {
    while upkeep.is_due() {
        upkeep.step(conn, 1_000).unwrap();
        upkeep.committed(seen);
        upkeep.begin(seen);
    }
}

fn assert_known(conn: &Connection, seen: &Seen, numbers: std::ops::Range<u64>, version: u64) {
    for number in numbers {
        let found = seen.find(conn, key(seen, number)).unwrap();
        assert_eq!(found, Some(memory(number, version)), "jti-{number}");
    }
}

fn count(conn: &Connection, table: &str) -> i64 {
    conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[test]
fn the_process_may_end_after_any_step() {
    let conn = database();
    let (mut seen, mut upkeep) = load(&conn);
    for number in 0..300 {
        log(&conn, &seen, &mut upkeep, number..number + 1, 1, 5);
        if number % 47 == 0 {
            (seen, upkeep) = load(&conn);
        }
        if number % 5 == 0 {
            assert_known(&conn, &seen, 0..number + 1, 1);
            assert_eq!(seen.find(&conn, key(&seen, number + 1)).unwrap(), None);
        }
    }
    settle_down(&conn, &seen, &mut upkeep);
    assert!(count(&conn, "segment") > 2);
    let (seen, mut upkeep) = load(&conn);
    settle_down(&conn, &seen, &mut upkeep);
    assert_known(&conn, &seen, 0..300, 1);
}

#[test]
fn the_newest_version_counts_wherever_it_lies() {
    let conn = database();
    let (seen, mut upkeep) = load(&conn);
    for version in 1..=6 {
        log(&conn, &seen, &mut upkeep, 0..50, version, 10);
        assert_known(&conn, &seen, 0..50, version);
        log(&conn, &seen, &mut upkeep, 100 * version..100 * version + 40, version, 10);
        let (reloaded, _) = load(&conn);
        assert_known(&conn, &reloaded, 0..50, version);
    }
}

#[test]
fn a_failed_transaction_starts_the_sealing_anew() {
    let conn = database();
    let (seen, mut upkeep) = load(&conn);
    log(&conn, &seen, &mut upkeep, 0..200, 1, 10);
    for _ in 0..3 {
        conn.execute_batch("BEGIN").unwrap();
        upkeep.step(&conn, 50).unwrap();
        conn.execute_batch("ROLLBACK").unwrap();
        upkeep.rolled_back();
        conn.execute_batch("BEGIN").unwrap();
        upkeep.step(&conn, 10_000).unwrap();
        conn.execute_batch("ROLLBACK").unwrap();
        upkeep.rolled_back();
        upkeep.step(&conn, 30).unwrap();
        upkeep.committed(&seen);
        assert_known(&conn, &seen, 0..200, 1);
    }
    settle_down(&conn, &seen, &mut upkeep);
    assert_eq!((count(&conn, "segment"), count(&conn, "memory_log")), (1, 0));
    assert_known(&conn, &seen, 0..200, 1);
    let (reloaded, upkeep) = load(&conn);
    assert!(reloaded.read().tail.is_empty());
    assert_eq!(reloaded.read().segments[0].count, 200);
    // A covered log is trimmed once more after a start, in vain.
    assert!(upkeep.is_due());
}

#[test]
fn unfinished_segments_are_cleared_away_after_a_crash() {
    let conn = database();
    let (seen, mut upkeep) = load(&conn);
    log(&conn, &seen, &mut upkeep, 0..64, 1, 1);
    log(&conn, &seen, &mut upkeep, 64..2_000, 1, 1);
    settle_down(&conn, &seen, &mut upkeep);
    assert!(count(&conn, "segment_block") > 5);
    conn.execute("DELETE FROM segment WHERE id = 2", []).unwrap();
    let blocks = count(&conn, "segment_block");
    let (seen, mut upkeep) = load(&conn);
    settle_down(&conn, &seen, &mut upkeep);
    assert!(count(&conn, "segment_block") < blocks);
    assert_known(&conn, &seen, 0..64, 1);
    log(&conn, &seen, &mut upkeep, 3_000..3_100, 1, 1);
    settle_down(&conn, &seen, &mut upkeep);
    assert_known(&conn, &seen, 3_000..3_100, 1);
}

#[test]
fn whole_segments_are_dropped_and_a_reader_under_way_finds_nothing_missing() {
    let conn = database();
    let (seen, mut upkeep) = load(&conn);
    for start in [0, 100, 200] {
        log(&conn, &seen, &mut upkeep, start..start + 70, 1, 1);
        settle_down(&conn, &seen, &mut upkeep);
    }
    assert_eq!(seen.outdated(Wall(69)), None);
    assert_eq!(seen.outdated(Wall(70)), Some((1, false)));
    assert_eq!(seen.outdated(Wall(200)), Some((1, true)));
    // Dated by a clock that was ahead of 100: as old as what was dated rightly after it, and no older.
    assert_eq!(seen.outdated_but_for(Wall(50), Wall(60)), None);
    assert_eq!(seen.outdated_but_for(Wall(171), Wall(200)), Some((1, true)));
    let under_way = seen.look(&[key(&seen, 5)]).pop().unwrap();
    assert!(matches!(under_way, Look::Ask(_)));
    upkeep.drop_segment(&conn, 1).unwrap();
    upkeep.committed(&seen);
    assert_eq!(seen.find(&conn, key(&seen, 5)).unwrap(), None);
    settle_down(&conn, &seen, &mut upkeep);
    assert_eq!(count(&conn, "segment_block"), 2);
    assert_eq!(under_way.resolve(&conn, key(&seen, 5)), Ok(None));
    assert_known(&conn, &seen, 100..170, 1);
    let (seen, _) = load(&conn);
    assert_eq!(seen.outdated(Wall(u64::MAX)), Some((2, true)));
}

#[test]
fn a_key_depends_on_peer_direction_jti_and_file() {
    let conn = database();
    let (seen, _) = load(&conn);
    let (other, _) = Seen::load(&conn, Salt::Sip([8; 16]), 64).unwrap();
    let keys = [
        seen.key(A, Direction::In, &"j".into()),
        seen.key(A, Direction::Out, &"j".into()),
        seen.key(PeerId(2), Direction::In, &"j".into()),
        seen.key(A, Direction::In, &"J".into()),
        other.key(A, Direction::In, &"j".into()),
    ];
    for (place, key) in keys.iter().enumerate() {
        assert!(!keys[..place].contains(key), "key {place}");
    }
    assert_eq!(seen.key(A, Direction::In, &"j".into()), keys[0]);
}

#[test]
fn ten_million_memories_fit_in_128_mebibytes() {
    let (entries, all) = (131_072, 10_000_000);
    let mut tail = Tail::with_capacity(entries);
    for number in 0..entries as u64 {
        tail.insert(Key(Digest::of(&number.to_le_bytes()).0), &memory(number, 1));
    }
    let conn = database();
    let (seen, mut upkeep) = Seen::load(&conn, SALT, 10_000).unwrap();
    log(&conn, &seen, &mut upkeep, 0..10_000, 1, 1);
    settle_down(&conn, &seen, &mut upkeep);
    let layers = seen.read();
    let segment = &layers.segments[0];
    let sealed = segment.filter.size() + segment.firsts.len() * size_of::<Key>();
    // Two tails, the second while it is sealed, and everything else in segments.
    let total = 2 * tail.size() + sealed * all / 10_000;
    assert!(total < 64 << 20, "{} MiB", total >> 20);
}

#[test]
fn what_a_clock_dated_ahead_holds_nothing_up_once_something_later_is_old() {
    let conn = database();
    let (seen, mut upkeep) = load(&conn);
    // Segments dated up to 69, 5,069, 169 and 269.
    for start in [0, 5_000, 100, 200] {
        log(&conn, &seen, &mut upkeep, start..start + 70, 1, 1);
        settle_down(&conn, &seen, &mut upkeep);
    }
    let outdated = |before, ahead| seen.outdated_but_for(Wall(before), Wall(ahead));
    assert_eq!((seen.outdated(Wall(100)), outdated(100, 300)), (Some((1, false)), Some((1, false))));
    upkeep.drop_segment(&conn, 1).unwrap();
    upkeep.committed(&seen);
    // The next is dated ahead: by itself it stays, and goes with the first later one that is old enough.
    assert_eq!(seen.outdated(Wall(1_000)), None);
    assert_eq!(
        (outdated(169, 1_000), outdated(170, 1_000), outdated(270, 1_000)),
        (None, Some((2, true)), Some((2, true)))
    );
    // Where the clock has come to its date by now, it is right.
    assert_eq!(outdated(1_000, 6_000), None);
    // And it is not taken for old by what an earlier one was.
    for segment in [3, 4] {
        upkeep.drop_segment(&conn, segment).unwrap();
        upkeep.committed(&seen);
    }
    assert_eq!(outdated(1_000, 1_000), None);
}
