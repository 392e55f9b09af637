//! Reading connections: few, lent to threads that may block, never to the async runtime's own.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::file::{self, Use};
use super::lot::{Delivery, Lot, OUTBOX};
use super::rows::{SEQ_MAX, decode_outbox, int, outbox_key, peer_of, seq_of, uint};
use super::shared::Shared;
use crate::cpu::{self, Stage};
use crate::peer::{Direction, InboxRow, OutboxRow, Page, PeerId, Select};
use crate::planted::{self, Bug};
use crate::store::{Error, INBOX_PAGE_BYTES_MAX};

/// The pool. A permit is taken before a thread, so that waiting readers hold none.
#[derive(Debug)]
pub(super) struct Readers {
    idle: Mutex<Vec<Connection>>,
    pub(super) permits: Arc<Semaphore>,
    count: u32,
}

impl Readers {
    pub(super) fn open(path: &Path, count: u32) -> Result<Self, Error> {
        let idle = (0..count.max(1)).map(|_| file::connect(path, Use::Read)).collect::<Result<Vec<_>, _>>()?;
        let permits = Arc::new(Semaphore::new(idle.len()));
        Ok(Self { idle: Mutex::new(idle), permits, count: count.max(1) })
    }

    /// Waits for those who read, then closes every connection.
    pub(super) async fn close(&self) {
        if let Ok(_all) = self.permits.acquire_many(self.count).await {
            self.permits.close();
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}

/// Reads with one of the connections on a thread that may block. Sees every commit that was answered before.
pub(super) async fn read<T, F>(shared: &Arc<Shared>, work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce(&Connection, &Shared) -> Result<T, Error> + Send + 'static,
{
    shared.check()?;
    let gone = || Error::Fatal("the store's readers are gone".to_owned());
    let permit = Arc::clone(&shared.readers.permits).acquire_owned().await.map_err(|_| gone())?;
    let lender = Arc::clone(shared);
    let result = tokio::task::spawn_blocking(move || {
        let conn = lender.readers.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().ok_or_else(gone)?;
        let result = cpu::within(Stage::Store, || work(&conn, &lender));
        lender.readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
        drop(permit);
        result
    });
    result.await.unwrap_or_else(|_| Err(gone())).map_err(|error| shared.note(error))
}

/// Rows of a peer's outbox.
pub(super) fn outbox(conn: &Connection, peer: PeerId, select: Select) -> Result<Page, Error> {
    match select {
        Select::After { after, rows_max, bytes_max } => outbox_after(conn, peer, after, rows_max, bytes_max),
        Select::Seqs(seqs) => outbox_seqs(conn, peer, seqs),
    }
}

fn outbox_after(conn: &Connection, peer: PeerId, after: u64, rows_max: usize, bytes_max: usize) -> Result<Page, Error> {
    let mut statement =
        conn.prepare_cached(&format!("{OUTBOX} WHERE outbox.key > ?1 AND outbox.key <= ?2 ORDER BY outbox.key"))?;
    let mut from = outbox_key(peer, after);
    let mut rows = statement.query([from, outbox_key(peer, SEQ_MAX)])?;
    let mut page = Page { read_to: after, ..Page::default() };
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let lot = Lot::of(row)?;
        for (key, decoded) in lot.sets(from.saturating_add(1)) {
            if page.rows.len() + page.damaged.len() >= rows_max.max(1) {
                return Ok(page);
            }
            match decoded {
                Some(row) => {
                    bytes += row.compact.len();
                    if bytes > bytes_max && !page.rows.is_empty() {
                        return Ok(page);
                    }
                    page.rows.push(row);
                }
                None if planted::is(Bug::DamagedRowSkipped) => {}
                None => page.damaged.push(seq_of(key)),
            }
            page.read_to = seq_of(key);
        }
        from = lot.last;
        if page.rows.len() + page.damaged.len() >= rows_max.max(1) {
            break;
        }
    }
    Ok(page)
}

fn outbox_seqs(conn: &Connection, peer: PeerId, mut seqs: Vec<u64>) -> Result<Page, Error> {
    seqs.sort_unstable();
    seqs.dedup();
    let mut statement = conn
        .prepare_cached(&format!("{OUTBOX} WHERE outbox.key >= ?1 AND outbox.key <= ?2 ORDER BY outbox.key LIMIT 1"))?;
    let mut page = Page::default();
    let mut keys = seqs.into_iter().filter(|seq| *seq <= SEQ_MAX).map(|seq| outbox_key(peer, seq)).peekable();
    while let Some(first) = keys.peek().copied() {
        let mut rows = statement.query([first, outbox_key(peer, SEQ_MAX)])?;
        let Some(row) = rows.next()? else { break };
        let lot = Lot::of(row)?;
        let mut sets = lot.sets(first).peekable();
        // All that were asked for of this row are taken at once.
        while let Some(key) = keys.next_if(|key| *key <= lot.last) {
            while sets.next_if(|(at, _)| *at < key).is_some() {}
            match sets.next_if(|(at, _)| *at == key) {
                Some((_, Some(row))) => page.rows.push(row),
                Some(_) if planted::is(Bug::DamagedRowSkipped) => {}
                Some((key, None)) => page.damaged.push(seq_of(key)),
                None => {}
            }
        }
    }
    Ok(page)
}

/// A row that has become a dead letter; without its contents if it is damaged.
pub(super) fn outbox_row(row: &rusqlite::Row<'_>) -> Result<(i64, Option<OutboxRow>), Error> {
    let key: i64 = row.get(0)?;
    // A damaged record may even hold another type than the column's.
    let decoded = match (row.get_ref(1)?.as_i64(), row.get_ref(2)?.as_blob()) {
        (Ok(attempts), Ok(blob)) => decode_outbox(key, attempts, blob),
        _ => None,
    };
    Ok((key, decoded))
}

/// The first segment of memory that knows of a SET which waits in an outbox; zero if the row of one is damaged.
///
/// The oldest row of each outbox tells: memory is written in the order of `seq`, so that of later rows comes later.
pub(super) fn first_needed_segment(conn: &Connection, shared: &Shared) -> Result<Option<i64>, Error> {
    let mut statement = conn.prepare_cached(&format!("{OUTBOX} WHERE outbox.key > ?1 ORDER BY outbox.key LIMIT 1"))?;
    let (mut first, mut from) = (None::<i64>, 0);
    loop {
        let mut rows = statement.query([from])?;
        let Some(row) = rows.next()? else { return Ok(first) };
        let Some((key, Some(row))) = Lot::of(row)?.sets(0).next() else { return Ok(Some(0)) };
        let memory = shared.seen.key(peer_of(key), Direction::Out, &row.jti);
        if let Some(segment) = shared.seen.segment_of(conn, memory)? {
            first = Some(first.map_or(segment, |first| first.min(segment)));
        }
        // On to the next peer.
        from = key | int(SEQ_MAX);
    }
}

/// Up to `rows_max` good rows of the inbox behind `after` and up to `to`, which is the end that [`Shared::ask_file`] told: more may
/// have come since. Damaged ones are reported and stepped over.
pub(super) fn inbox(
    conn: &Connection,
    shared: &Shared,
    after: u64,
    to: u64,
    rows_max: usize,
) -> Result<Vec<(u64, PeerId, InboxRow)>, Error> {
    // A row may hold some that are purged already.
    let after = after.max(shared.purged());
    let mut statement = conn.prepare_cached("SELECT seq, row FROM inbox WHERE seq > ?1 ORDER BY seq")?;
    let mut rows = statement.query([int(after)])?;
    let mut good = Vec::new();
    let mut bytes = 0;
    let mut from = None;
    while good.len() < rows_max && bytes < INBOX_PAGE_BYTES_MAX {
        let Some(row) = rows.next()? else { break };
        // With the first row it is certain what is seen: more may have been purged until then.
        let least = int(after.max(shared.purged())).saturating_add(1);
        let begins = from.unwrap_or(least);
        let delivery = Delivery::of(row)?;
        // A damaged key may say anything; good rows may follow.
        if delivery.is_whole() && delivery.last() > int(to) {
            break;
        }
        for (seq, decoded) in delivery.sets(least, begins).take_while(|(seq, _)| *seq <= int(to)) {
            if good.len() >= rows_max || bytes >= INBOX_PAGE_BYTES_MAX {
                break;
            }
            match decoded {
                Some((peer, row)) => {
                    bytes += row.compact.len();
                    good.push((uint(seq), peer, row));
                }
                None => shared.report_damaged(uint(seq)),
            }
        }
        from = Some(delivery.last() + 1);
    }
    Ok(good)
}
