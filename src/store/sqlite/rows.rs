//! How rows lie in blobs: little-endian, and closed by a checksum over table, key and contents (invariant I18).

use std::sync::Arc;

use super::{octets, story};
use crate::clock::Wall;
use crate::peer::{InboxRow, OutboxRow, PeerId, Story};
use crate::set::{Digest, Jti};

/// Which table a row belongs to; part of its checksum, so that a row in the wrong place is not taken for good.
#[derive(Clone, Copy, Debug)]
pub(super) enum Table {
    Outbox = 1,
    Inbox = 2,
    DeadLetter = 3,
    Peer = 4,
    Consumer = 5,
    AddedPeer = 6,
    Meta = 7,
    MemoryLog = 8,
    SegmentBlock = 9,
    Segment = 10,
    Attempts = 11,
    OutboxBundle = 12,
    InboxBundle = 13,
    BundleSize = 14,
    Gone = 15,
    Archive = 16,
    Job = 17,
}

/// The layout of outbox and inbox rows of which the token is text: all of before version 7, and what is no three parts of
/// base64url. Another one would get the number 5.
const LAYOUT: u8 = 1;
/// The same of an outbox row with a story, which few have.
const LAYOUT_STORY: u8 = 2;
/// What is added to a layout if the token lies there as octets.
const AS_OCTETS: u8 = 2;
const LAYOUT_OCTETS: u8 = LAYOUT + AS_OCTETS;
const LAYOUT_STORY_OCTETS: u8 = LAYOUT_STORY + AS_OCTETS;
const CHECKSUM_LEN: usize = 4;

/// How many `seq` fit beneath a peer's number in a key.
pub(super) const SEQ_BITS: u32 = 40;
/// The greatest `seq` of an outbox.
pub(super) const SEQ_MAX: u64 = (1 << SEQ_BITS) - 1;
/// The greatest number of a peer, so that keys stay positive.
pub(super) const PEER_MAX: u32 = (1 << (63 - SEQ_BITS)) - 1;

/// The key of an outbox row or dead letter. Out of range, it saturates into a key that no row has.
pub(super) fn outbox_key(peer: PeerId, seq: u64) -> i64 {
    if peer.0 > PEER_MAX {
        return i64::MAX;
    }
    (i64::from(peer.0) << SEQ_BITS) | int(seq.min(SEQ_MAX))
}

/// The `seq` in such a key.
pub(super) fn seq_of(key: i64) -> u64 {
    key.unsigned_abs() & SEQ_MAX
}

/// The peer in such a key.
pub(super) fn peer_of(key: i64) -> PeerId {
    PeerId(u32::try_from(key >> SEQ_BITS).unwrap_or(u32::MAX))
}

/// A number as SQLite holds it. Nothing we count comes near the limit.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number as SQLite gave it.
pub(super) fn uint(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// The checksum of these parts of a row.
pub(super) fn checksum(table: Table, key: i64, parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[table as u8]);
    hasher.update(&key.to_le_bytes());
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// Closes a blob with its checksum.
pub(super) fn seal(table: Table, key: i64, mut body: Vec<u8>) -> Vec<u8> {
    seal_from(table, key, &mut body, 0);
    body
}

/// Closes what stands in it from this place on.
fn seal_from(table: Table, key: i64, body: &mut Vec<u8>, begin: usize) {
    let sum = checksum(table, key, &[body.get(begin..).unwrap_or_default()]);
    body.extend_from_slice(&sum.to_le_bytes());
}

/// The contents of a sealed blob; `None` if it is damaged.
pub(super) fn unseal(table: Table, key: i64, blob: &[u8]) -> Option<&[u8]> {
    let (body, sum) = blob.split_at_checked(blob.len().checked_sub(CHECKSUM_LEN)?)?;
    (checksum(table, key, &[body]).to_le_bytes() == sum).then_some(body)
}

/// The number of attempts with its own checksum in the upper half: it changes without the row.
pub(super) fn seal_attempts(key: i64, attempts: u32) -> i64 {
    seal_number(Table::Attempts, key, attempts)
}

/// The number of attempts; `None` if it is damaged, or stands for something else.
pub(super) fn unseal_attempts(key: i64, sealed: i64) -> Option<u32> {
    unseal_number(Table::Attempts, key, sealed)
}

/// How many SETs are in a bundle of the outbox, where a lone one has its attempts.
pub(super) fn seal_size(key: i64, size: usize) -> i64 {
    seal_number(Table::BundleSize, key, u32::try_from(size).unwrap_or(u32::MAX))
}

/// How many SETs are in a bundle; `None` if that is damaged, or it is none.
pub(super) fn unseal_size(key: i64, sealed: i64) -> Option<usize> {
    unseal_number(Table::BundleSize, key, sealed).and_then(|size| usize::try_from(size).ok())
}

fn seal_number(table: Table, key: i64, number: u32) -> i64 {
    let sum = checksum(table, key, &[&number.to_le_bytes()]);
    (i64::from(sum.cast_signed()) << 32) | i64::from(number)
}

fn unseal_number(table: Table, key: i64, sealed: i64) -> Option<u32> {
    let number = u32::try_from(sealed & i64::from(u32::MAX)).ok()?;
    (seal_number(table, key, number) == sealed).then_some(number)
}

/// About how many bytes the row of a SET takes.
pub(super) fn row_bytes(jti: &Jti, compact: &str) -> usize {
    jti.as_str().len() + compact.len() + 48
}

/// Writes the blob of an outbox row.
pub(super) fn put_outbox(out: &mut Vec<u8>, key: i64, row: &OutboxRow) {
    let begin = out.len();
    out.reserve(row_bytes(&row.jti, &row.compact));
    let told = !row.story.chapters().is_empty();
    out.push(if told { LAYOUT_STORY } else { LAYOUT });
    out.extend_from_slice(&row.digest.0);
    out.extend_from_slice(&row.accepted_at.0.to_le_bytes());
    put_text(out, row.jti.as_str());
    if told {
        story::put(out, &row.story);
    }
    put_token(out, begin, &row.compact);
    seal_from(Table::Outbox, key, out, begin);
}

/// An outbox row; `None` if it is damaged.
pub(super) fn decode_outbox(key: i64, attempts: i64, blob: &[u8]) -> Option<OutboxRow> {
    let row = parse_outbox(unseal(Table::Outbox, key, blob)?)?;
    Some(OutboxRow { seq: seq_of(key), attempts: unseal_attempts(key, attempts)?, ..row })
}

/// It would be the blob of one outbox row, if its checksum were right.
pub(super) fn looks_like_one(blob: &[u8]) -> bool {
    blob.split_last_chunk::<CHECKSUM_LEN>().is_some_and(|(body, _)| parse_outbox(body).is_some())
}

/// Without what stands beside it.
fn parse_outbox(body: &[u8]) -> Option<OutboxRow> {
    let mut body = Cursor(body);
    let (layout, is_octets) = layout(body.u8()?)?;
    Some(OutboxRow {
        seq: 0,
        digest: Digest(body.array()?),
        accepted_at: Wall(body.u64()?),
        jti: Jti::from(body.text()?),
        story: if layout == LAYOUT_STORY { story::take(&mut body)? } else { Story::default() },
        compact: Token::of(body, is_octets)?.into_text()?,
        attempts: 0,
    })
}

/// Writes the blob of an inbox row.
pub(super) fn put_inbox(out: &mut Vec<u8>, seq: i64, peer: PeerId, row: &InboxRow) {
    let begin = out.len();
    out.reserve(row_bytes(&row.jti, &row.compact));
    out.push(LAYOUT);
    out.extend_from_slice(&peer.0.to_le_bytes());
    out.extend_from_slice(&row.digest.0);
    out.extend_from_slice(&row.received_at.0.to_le_bytes());
    put_text(out, row.jti.as_str());
    put_token(out, begin, &row.compact);
    seal_from(Table::Inbox, seq, out, begin);
}

/// An inbox row and who sent it; `None` if it is damaged.
pub(super) fn decode_inbox(seq: i64, blob: &[u8]) -> Option<(PeerId, InboxRow)> {
    let (peer, digest, received_at, jti, token) = read_inbox(seq, blob)?;
    Some((peer, InboxRow { jti: Jti::from(jti), compact: token.into_text()?, digest, received_at }))
}

/// Whether an inbox row can be read.
pub(super) fn is_inbox(seq: i64, blob: &[u8]) -> bool {
    read_inbox(seq, blob).is_some()
}

fn read_inbox(seq: i64, blob: &[u8]) -> Option<(PeerId, Digest, Wall, &str, Token<'_>)> {
    let mut body = Cursor(unseal(Table::Inbox, seq, blob)?);
    let (layout, is_octets) = layout(body.u8()?)?;
    (layout == LAYOUT).then_some(())?;
    let peer = PeerId(body.u32()?);
    let (digest, received_at) = (Digest(body.array()?), Wall(body.u64()?));
    Some((peer, digest, received_at, body.text()?, Token::of(body, is_octets)?))
}

/// Writes the token at the end of a row that begins here with its layout.
fn put_token(out: &mut Vec<u8>, begin: usize, compact: &str) {
    if !octets::put(out, compact) {
        out.extend_from_slice(compact.as_bytes());
    } else if let Some(layout) = out.get_mut(begin) {
        *layout += AS_OCTETS;
    }
}

/// A layout, and whether the token lies there as octets.
fn layout(byte: u8) -> Option<(u8, bool)> {
    match byte {
        LAYOUT | LAYOUT_STORY => Some((byte, false)),
        LAYOUT_OCTETS | LAYOUT_STORY_OCTETS => Some((byte - AS_OCTETS, true)),
        _ => None,
    }
}

/// A token as it lies at the end of a row.
enum Token<'a> {
    Text(&'a str),
    Octets([&'a [u8]; 3]),
}

impl<'a> Token<'a> {
    fn of(Cursor(rest): Cursor<'a>, is_octets: bool) -> Option<Self> {
        if is_octets { octets::parts(rest).map(Self::Octets) } else { std::str::from_utf8(rest).ok().map(Self::Text) }
    }

    fn into_text(self) -> Option<Arc<str>> {
        match self {
            Self::Text(text) => Some(Arc::from(text)),
            Self::Octets(parts) => octets::token(parts).map(Arc::from),
        }
    }
}

/// Writes a text behind its length.
pub(super) fn put_text(body: &mut Vec<u8>, text: &str) {
    body.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    body.extend_from_slice(text.as_bytes());
}

/// Reads a blob from its beginning; every reading is `None` when too little is left.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.u32()?).ok()?;
        std::str::from_utf8(self.take(len)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Chapter;

    fn outbox_row() -> OutboxRow {
        OutboxRow {
            seq: 7,
            jti: "jti-7".into(),
            compact: "e30.e30.AAAA".into(),
            digest: Digest::of(b"7"),
            accepted_at: Wall(77),
            attempts: 3,
            story: Story::default(),
        }
    }

    fn encode_outbox(key: i64, row: &OutboxRow) -> Vec<u8> {
        // Behind something else, as in a bundle.
        let mut blob = vec![9; 9];
        put_outbox(&mut blob, key, row);
        blob.split_off(9)
    }

    fn encode_inbox(seq: i64, peer: PeerId, row: &InboxRow) -> Vec<u8> {
        let mut blob = vec![9; 9];
        put_inbox(&mut blob, seq, peer, row);
        blob.split_off(9)
    }

    #[test]
    fn rows_come_back_as_they_were_written() {
        let key = outbox_key(PeerId(5), 7);
        let row = outbox_row();
        let blob = encode_outbox(key, &row);
        assert_eq!(decode_outbox(key, seal_attempts(key, 3), &blob), Some(row));
        let row = InboxRow { jti: "".into(), compact: "".into(), digest: Digest::of(b""), received_at: Wall(u64::MAX) };
        assert_eq!(decode_inbox(9, &encode_inbox(9, PeerId(2), &row)), Some((PeerId(2), row)));
    }

    #[test]
    fn a_token_lies_there_as_octets_and_what_is_none_as_text() {
        let chapter = Chapter::Discarded { at: Wall(9) };
        for (compact, told, expected) in [
            ("e30.e30.AAAA", false, 3),
            ("e30.e30.AAAA", true, 4),
            // As all rows of before are.
            ("e30.e30.AAA=", false, 1),
            ("e30.e30.AAA=", true, 2),
        ] {
            let key = outbox_key(PeerId(5), 7);
            let story = if told { Story::of(vec![chapter.clone()]) } else { Story::default() };
            let row = OutboxRow { compact: compact.into(), story, ..outbox_row() };
            let blob = encode_outbox(key, &row);
            assert_eq!(blob[0], expected);
            assert!(looks_like_one(&blob));
            assert_eq!(decode_outbox(key, seal_attempts(key, 3), &blob), Some(row));
            let other = seal(Table::Outbox, key, [&[expected + 4], &blob[1..blob.len() - 4]].concat());
            assert_eq!(decode_outbox(key, seal_attempts(key, 3), &other), None, "another layout");
            let row =
                InboxRow { jti: "i".into(), compact: compact.into(), digest: Digest::default(), received_at: Wall(1) };
            let blob = encode_inbox(9, PeerId(2), &row);
            assert_eq!(blob[0], if compact.ends_with('=') { 1 } else { 3 });
            assert!(is_inbox(9, &blob));
            assert_eq!(decode_inbox(9, &blob), Some((PeerId(2), row)));
        }
    }

    #[test]
    fn a_bundle_does_not_look_like_one_row_wherever_it_is_cut() {
        let mut bundle = crate::store::sqlite::bundle::Bundle::default();
        for key in 1..4 {
            bundle.push(key, |rows| put_outbox(rows, key, &outbox_row()));
        }
        let (key, _, blob) = bundle.close(Table::OutboxBundle).unwrap();
        let one = encode_outbox(1, &outbox_row()).len();
        assert!(looks_like_one(&blob[..one]), "its first row alone");
        for len in one + 1..=blob.len() {
            assert!(!looks_like_one(&blob[..len]), "cut to {len}");
        }
        let members = crate::store::sqlite::bundle::Members::open(Table::OutboxBundle, key, &blob).unwrap();
        for (index, key) in (1..4).enumerate() {
            let row = OutboxRow { seq: seq_of(key), attempts: 0, ..outbox_row() };
            assert_eq!(decode_outbox(key, seal_attempts(key, 0), members.row(index)), Some(row));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let key = outbox_key(PeerId(5), 7);
        let (blob, attempts) = (encode_outbox(key, &outbox_row()), seal_attempts(key, 3));
        for bit in 0..blob.len() * 8 {
            let mut flipped = blob.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_outbox(key, attempts, &flipped), None, "bit {bit}");
        }
        for len in 0..blob.len() {
            assert_eq!(decode_outbox(key, attempts, &blob[..len]), None, "cut to {len}");
        }
        for bit in 0..64 {
            assert_eq!(unseal_attempts(key, attempts ^ (1 << bit)), None, "bit {bit} of the attempts");
            assert_eq!(unseal_size(key, attempts ^ (1 << bit)), None, "bit {bit} of the attempts");
        }
        assert_eq!((unseal_size(key, seal_size(key, 3)), unseal_size(key, attempts)), (Some(3), None));
        assert_eq!(decode_outbox(outbox_key(PeerId(4), 7), attempts, &blob), None, "another peer's key");
    }

    #[test]
    fn keys_hold_every_peer_and_seq_that_is_allowed() {
        let greatest = outbox_key(PeerId(PEER_MAX), SEQ_MAX);
        assert_eq!(greatest, i64::MAX);
        assert_eq!(seq_of(greatest), SEQ_MAX);
        assert!(outbox_key(PeerId(1), 1) > outbox_key(PeerId(0), SEQ_MAX));
    }
}
