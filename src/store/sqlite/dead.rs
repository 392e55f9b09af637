//! Reading dead letters: the row as it lay in the outbox, and how it ended. A damaged one is told of, never skipped.

use rusqlite::Connection;

use super::reader::outbox_row;
use super::rows::{SEQ_MAX, Table, outbox_key, peer_of, seq_of, unseal};
use super::seen::{Key, Tail};
use crate::peer::{DeadLetter, DeadPage, PeerId, Place, Stretch};
use crate::store::Error;

/// A stretch of the dead letters of all peers.
pub(super) fn stretch(conn: &Connection, stretch: Stretch) -> Result<DeadPage, Error> {
    let Stretch { after, up_to, rows_max, bytes_max } = stretch;
    let mut statement = conn.prepare_cached(
        "SELECT key, attempts, row, outcome FROM dead_letter WHERE key > ?1 AND key <= ?2 ORDER BY key",
    )?;
    let mut rows = statement.query([key(after), key(up_to)])?;
    let (mut page, mut bytes, mut read_to) = (DeadPage::default(), 0, after);
    while let Some(row) = rows.next()? {
        let (place, letter) = read(row)?;
        bytes += letter.as_ref().map_or(0, |letter| letter.compact.len());
        let count = page.letters.len() + page.damaged.len();
        if count > 0 && (count >= rows_max || bytes > bytes_max) {
            page.next = Some(read_to);
            break;
        }
        read_to = place;
        match letter {
            Some(letter) => page.letters.push((place.peer(), letter)),
            None => page.damaged.push(place),
        }
    }
    Ok(page)
}

/// The dead letters at these places of a peer.
pub(super) fn at(conn: &Connection, peer: PeerId, mut seqs: Vec<u64>) -> Result<DeadPage, Error> {
    seqs.sort_unstable();
    seqs.dedup();
    let mut statement = conn.prepare_cached("SELECT key, attempts, row, outcome FROM dead_letter WHERE key = ?1")?;
    let mut page = DeadPage::default();
    for seq in seqs.into_iter().filter(|seq| *seq <= SEQ_MAX) {
        let mut rows = statement.query([outbox_key(peer, seq)])?;
        let Some(row) = rows.next()? else { continue };
        match read(row)? {
            (place, Some(letter)) => page.letters.push((place.peer(), letter)),
            (place, None) => page.damaged.push(place),
        }
    }
    Ok(page)
}

fn key(place: Place) -> i64 {
    outbox_key(place.peer(), place.seq)
}

/// A dead letter with its place; without its contents if any part of it is damaged.
fn read(row: &rusqlite::Row<'_>) -> Result<(Place, Option<DeadLetter>), Error> {
    let (key, sent) = outbox_row(row)?;
    let place = Place::of(peer_of(key), seq_of(key));
    let memory = || {
        let mut ends = Tail::default();
        ends.append(unseal(Table::DeadLetter, key, row.get_ref(3).ok()?.as_blob().ok()?)?)?;
        ends.get(Key::NONE)
    };
    let whole = sent.zip(memory()).filter(|(sent, memory)| memory.seq == sent.seq);
    Ok((place, whole.map(|(sent, memory)| DeadLetter { jti: sent.jti, compact: sent.compact, memory })))
}
