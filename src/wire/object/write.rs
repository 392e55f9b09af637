//! Writes a Communication Object compactly, and foretells its size so that a batch can be cut before it is written.

use std::sync::Arc;

use crate::set::Jti;
use crate::set::json::{has_escapes, is_escaped};

/// The most bytes that an object takes before anything is in it. An object with all its members is at most this plus
/// the sizes of its parts.
pub const EMPTY_BYTES_MAX: usize =
    br#"{"sets":{},"ack":[],"setErrs":{},"maxResponseEvents":18446744073709551615}"#.len();

/// Writes an object; members with nothing in them are left out. The parts must be distinct, which is not looked at.
///
/// Every `description` is written, empty or not: the draft requires one.
pub fn write<'a>(
    sets: &[(Jti, Arc<str>)],
    acks: impl Iterator<Item = &'a Jti>,
    errors: impl Iterator<Item = (&'a Jti, &'a str, &'a str)>,
    max_response_events: Option<u64>,
) -> Vec<u8> {
    let tokens: usize = sets.iter().map(|(jti, compact)| jti.as_str().len() + compact.len() + 6).sum();
    // The acks among some verdicts are hardly fewer than the most there can be; errors are rare.
    let (least, most) = acks.size_hint();
    let verdicts = most.unwrap_or(least) * 48 + errors.size_hint().0 * 160;
    let mut out = Vec::with_capacity(EMPTY_BYTES_MAX + tokens + verdicts);

    push_member(&mut out, b"\"sets\":{", b"}", sets.iter(), push_set);
    push_member(&mut out, b"\"ack\":[", b"]", acks, push_jti);
    push_member(&mut out, b"\"setErrs\":{", b"}", errors, push_set_error);
    push_member(&mut out, b"\"maxResponseEvents\":", b"", max_response_events.into_iter(), push_number);
    if out.is_empty() {
        out.push(b'{');
    }
    out.push(b'}');
    out
}

/// Writes `sets` and nothing else: the request of multi-set push, which has it even when it is empty.
pub fn write_sets(sets: &[(Jti, Arc<str>)]) -> Vec<u8> {
    let mut out = with_sets(sets);
    out.push(b'}');
    out
}

/// Writes the answer to a poll (RFC 8936 §2.3), which has `sets` even when it is empty.
pub fn write_poll_answer(sets: &[(Jti, Arc<str>)], more_available: bool) -> Vec<u8> {
    let mut out = with_sets(sets);
    if more_available {
        out.extend_from_slice(b",\"moreAvailable\":true");
    }
    out.push(b'}');
    out
}

/// Writes the answer of multi-set push, which has `ack` even when it is empty.
pub fn write_verdicts<'a>(
    acks: impl Iterator<Item = &'a Jti>,
    errors: impl Iterator<Item = (&'a Jti, &'a str, &'a str)>,
) -> Vec<u8> {
    let mut out = b"{\"ack\":[".to_vec();
    push_parts(&mut out, acks, push_jti);
    out.push(b']');
    push_member(&mut out, b"\"setErrs\":{", b"}", errors, push_set_error);
    out.push(b'}');
    out
}

/// Writes a poll (RFC 8936 §2.2).
pub fn write_poll<'a>(
    acks: impl Iterator<Item = &'a Jti>,
    errors: impl Iterator<Item = (&'a Jti, &'a str, &'a str)>,
    max_events: usize,
    return_immediately: bool,
) -> Vec<u8> {
    let mut out = format!("{{\"maxEvents\":{max_events},\"returnImmediately\":{return_immediately}").into_bytes();
    push_member(&mut out, b"\"ack\":[", b"]", acks, push_jti);
    push_member(&mut out, b"\"setErrs\":{", b"}", errors, push_set_error);
    out.push(b'}');
    out
}

fn with_sets(sets: &[(Jti, Arc<str>)]) -> Vec<u8> {
    let tokens: usize = sets.iter().map(|(jti, compact)| jti.as_str().len() + compact.len() + 6).sum();
    let mut out = Vec::with_capacity(EMPTY_BYTES_MAX + tokens);
    out.extend_from_slice(b"{\"sets\":{");
    push_parts(&mut out, sets.iter(), push_set);
    out.push(b'}');
    out
}

/// The bytes that this SET adds to an object, its comma included.
pub fn size_of_set(jti: &Jti, compact: &str) -> usize {
    size_of_string(jti.as_str()) + size_of_string(compact) + 2
}

/// The bytes that this ack adds to an object, its comma included.
pub fn size_of_ack(jti: &Jti) -> usize {
    size_of_string(jti.as_str()) + 1
}

/// The bytes that this setErr adds to an object, its comma included.
pub fn size_of_error(jti: &Jti, err: &str, description: &str) -> usize {
    let members = br#"{"err":,"description":}"#.len();
    size_of_string(jti.as_str()) + size_of_string(err) + size_of_string(description) + members + 2
}

/// `{"err","description"}`.
pub(super) fn push_error(out: &mut Vec<u8>, err: &str, description: &str) {
    out.extend_from_slice(b"{\"err\":");
    push_string(out, err);
    out.extend_from_slice(b",\"description\":");
    push_string(out, description);
    out.push(b'}');
}

/// A member of the object with its parts, or nothing when there are none.
fn push_member<T>(
    out: &mut Vec<u8>,
    open: &[u8],
    close: &[u8],
    parts: impl Iterator<Item = T>,
    push_part: impl Fn(&mut Vec<u8>, T),
) {
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return;
    }
    out.push(if out.is_empty() { b'{' } else { b',' });
    out.extend_from_slice(open);
    push_parts(out, parts, push_part);
    out.extend_from_slice(close);
}

fn push_parts<T>(out: &mut Vec<u8>, parts: impl Iterator<Item = T>, push_part: impl Fn(&mut Vec<u8>, T)) {
    for (index, part) in parts.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_part(out, part);
    }
}

fn push_set(out: &mut Vec<u8>, (jti, compact): &(Jti, Arc<str>)) {
    push_string(out, jti.as_str());
    out.push(b':');
    push_string(out, compact);
}

fn push_jti(out: &mut Vec<u8>, jti: &Jti) {
    push_string(out, jti.as_str());
}

fn push_set_error(out: &mut Vec<u8>, (jti, err, description): (&Jti, &str, &str)) {
    push_string(out, jti.as_str());
    out.push(b':');
    push_error(out, err, description);
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(number.to_string().as_bytes());
}

/// A JSON string. Written here because nearly every one is plain text to be copied as a whole, and none can fail.
fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let begin = out.len();
    out.extend_from_slice(text.as_bytes());
    // Asked of the copy, which is in the cache now: a token that waited for its turn is not, and to copy hides that best.
    if has_escapes(out.get(begin..).unwrap_or_default()) {
        out.truncate(begin);
        for byte in text.bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                _ if is_escaped(byte) => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                _ => out.push(byte),
            }
        }
    }
    out.push(b'"');
}

fn size_of_string(text: &str) -> usize {
    if !has_escapes(text.as_bytes()) {
        return text.len() + 2;
    }
    let escapes = text.bytes().filter(|&byte| is_escaped(byte));
    let more: usize = escapes.map(|byte| if matches!(byte, b'"' | b'\\') { 1 } else { 5 }).sum();
    text.len() + more + 2
}
