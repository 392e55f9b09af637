//! What one row of the outbox or of the inbox holds: a SET, several of them, or what is left of them.

use rusqlite::Row;

use super::bundle::{Gone, Members, SETS_MAX};
use super::rows::{
    Table, decode_inbox, decode_outbox, is_inbox, looks_like_one, seal_attempts, unseal, unseal_attempts, unseal_size,
};
use crate::peer::{InboxRow, OutboxRow, PeerId};
use crate::store::Error;

/// The columns of a row of the outbox, with what is gone of it.
pub(super) const OUTBOX: &str = "SELECT outbox.key, attempts,
     CASE length(row) WHEN 0 THEN (SELECT body.row FROM body WHERE body.key = outbox.key) ELSE row END, gone
     FROM outbox LEFT JOIN outbox_gone ON outbox_gone.key = outbox.key";

/// A row of the outbox.
#[derive(Debug)]
pub(super) struct Lot<'a> {
    /// The key of its last SET, which is its own.
    pub(super) last: i64,
    /// SETs that are in it, or were; of one that is damaged beyond recognition the most that they may be.
    pub(super) size: usize,
    gone: Gone,
    inside: Inside<'a>,
}

#[derive(Debug)]
enum Inside<'a> {
    One(i64, &'a [u8]),
    Many(Members<'a>),
    /// So many, and nobody knows what is where.
    Damaged,
    /// Nobody knows how many.
    Unknown,
}

impl<'a> Lot<'a> {
    /// What a row with the columns of [`OUTBOX`] holds. Nothing in it is believed without a checksum; when it is not known
    /// what is gone, all of it is damaged.
    pub(super) fn of(row: &'a Row<'_>) -> Result<Self, Error> {
        let last: i64 = row.get(0)?;
        // A damaged record may even hold another type than the column's.
        let number = row.get_ref(1)?.as_i64().unwrap_or(-1);
        let blob = row.get_ref(2)?.as_blob().unwrap_or_default();
        let gone = gone(last, row.get_ref(3)?);
        let members = Members::open(Table::OutboxBundle, last, blob);
        let size = unseal_size(last, number).filter(|size| (2..=SETS_MAX).contains(size));
        let is_one = || unseal_attempts(last, number).is_some() || unseal(Table::Outbox, last, blob).is_some();
        let (size, inside) = match (size, members) {
            (Some(size), Some(members)) if members.len() == size && gone.is_some() => (size, Inside::Many(members)),
            // Both are whole and cannot be right: no damage that we know of does this.
            (Some(size), Some(members)) if members.len() != size => (size.max(members.len()), Inside::Unknown),
            (Some(size), _) => (size, Inside::Damaged),
            (None, Some(members)) => (members.len(), Inside::Damaged),
            (None, None) if is_one() => (1, Inside::One(number, blob)),
            // Of a row in the wrong place no checksum is right, but all the rest is.
            (None, None) if looks_like_one(blob) => (1, Inside::Unknown),
            (None, None) => (Members::guess(blob).unwrap_or(SETS_MAX), Inside::Unknown),
        };
        let gone = gone.filter(|_| !matches!(inside, Inside::Unknown)).unwrap_or_default();
        Ok(Self { last, size, gone, inside })
    }

    /// The SETs of it that are there, from this key on; without its contents one that is damaged.
    pub(super) fn sets(&self, from: i64) -> impl Iterator<Item = (i64, Option<OutboxRow>)> {
        self.rows(from).map(|(key, attempts, row)| (key, row.and_then(|row| decode_outbox(key, attempts, row))))
    }

    /// Their keys, attempts and rows. No row where nobody knows what it is.
    pub(super) fn rows(&self, from: i64) -> impl Iterator<Item = (i64, i64, Option<&'a [u8]>)> {
        self.those(false).filter(move |(key, ..)| *key >= from)
    }

    /// The SETs of it that are gone; without its contents one that is damaged.
    pub(super) fn left(&self) -> impl Iterator<Item = (i64, Option<OutboxRow>)> {
        self.left_rows().map(|(key, attempts, row)| (key, row.and_then(|row| decode_outbox(key, attempts, row))))
    }

    /// Their keys, attempts and rows, as [`Lot::rows`] has them.
    pub(super) fn left_rows(&self) -> impl Iterator<Item = (i64, i64, Option<&'a [u8]>)> {
        self.those(true)
    }

    fn those(&self, gone: bool) -> impl Iterator<Item = (i64, i64, Option<&'a [u8]>)> {
        let first = self.last.saturating_sub(i64::try_from(self.size).unwrap_or(0) - 1);
        let those = (0..self.size).zip(first..).filter(move |(index, _)| self.gone.has(*index) == gone);
        those.map(|(index, key)| match self.inside {
            Inside::One(attempts, row) => (key, attempts, Some(row)),
            Inside::Many(members) => (key, seal_attempts(key, 0), Some(members.row(index))),
            Inside::Damaged | Inside::Unknown => (key, 0, None),
        })
    }

    /// So many SETs are in it, or were, and not perhaps fewer.
    pub(super) fn is_certain(&self) -> bool {
        !matches!(self.inside, Inside::Unknown)
    }

    /// It is a bundle of which it is known what is where.
    pub(super) fn is_whole_bundle(&self) -> bool {
        matches!(self.inside, Inside::Many(_))
    }
}

/// What is gone of a bundle; `None` if that is damaged.
pub(super) fn gone(key: i64, column: rusqlite::types::ValueRef<'_>) -> Option<Gone> {
    match column {
        rusqlite::types::ValueRef::Null => Some(Gone::default()),
        column => Gone::from_bytes(unseal(Table::Gone, key, column.as_blob().ok()?)?),
    }
}

/// SETs in a row of the inbox, at most.
pub(super) const MOST: i64 = SETS_MAX as i64;

/// A row of the inbox, of which the rows have no gaps between them: so the one before says where a damaged one begins.
#[derive(Debug)]
pub(super) enum Delivery<'a> {
    One(i64, &'a [u8]),
    Many(i64, Members<'a>),
    /// A damaged one, be it of one SET or of many.
    Damaged(i64),
}

impl<'a> Delivery<'a> {
    /// What a row of the columns `seq` and `row` holds.
    pub(super) fn of(row: &'a Row<'_>) -> Result<Self, Error> {
        let last: i64 = row.get(0)?;
        let blob = row.get_ref(1)?.as_blob().unwrap_or_default();
        Ok(match Members::open(Table::InboxBundle, last, blob) {
            Some(members) => Self::Many(last, members),
            None if unseal(Table::Inbox, last, blob).is_some() => Self::One(last, blob),
            None => Self::Damaged(last),
        })
    }

    /// The `seq` of its last SET.
    pub(super) fn last(&self) -> i64 {
        match self {
            Self::One(last, _) | Self::Many(last, _) | Self::Damaged(last) => *last,
        }
    }

    /// Its key is the one it was stored under.
    pub(super) fn is_whole(&self) -> bool {
        !matches!(self, Self::Damaged(_))
    }

    /// The SETs of it from `least` on; without its contents one that is damaged. `from` is behind the row before: there a
    /// damaged row begins. One that is whole knows its own beginning, and is not cut short by a damaged key before it.
    pub(super) fn sets(&self, least: i64, from: i64) -> impl Iterator<Item = (i64, Option<(PeerId, InboxRow)>)> {
        self.rows(least, from).map(|(seq, row)| (seq, row.and_then(|row| decode_inbox(seq, row))))
    }

    /// The damaged ones of them, with their rows.
    pub(super) fn damaged(&self, least: i64, from: i64) -> impl Iterator<Item = (i64, Option<&'a [u8]>)> {
        self.rows(least, from).filter(|(seq, row)| !row.is_some_and(|row| is_inbox(*seq, row)))
    }

    /// Their rows. No row where nobody knows what it is.
    fn rows(&self, least: i64, from: i64) -> impl Iterator<Item = (i64, Option<&'a [u8]>)> {
        let last = self.last();
        let first = match self {
            Self::One(..) => last,
            Self::Many(_, members) => last - i64::try_from(members.len()).unwrap_or(0) + 1,
            Self::Damaged(_) => from.max(least).min(last),
        };
        // No row holds so many: its key is damaged, and what it held was where it should have been.
        let last = if !self.is_whole() && last.saturating_sub(first) >= MOST { first } else { last };
        (first.max(least)..=last).map(move |seq| match self {
            Self::One(_, row) => (seq, Some(*row)),
            Self::Many(_, members) => (seq, usize::try_from(seq - first).ok().map(|index| members.row(index))),
            Self::Damaged(_) => (seq, None),
        })
    }
}
