//! base64url as JOSE has it: one spelling for each octet string.

use pushpull::set::base64url;

/// The reader under test.
pub type Decode = fn(&str) -> Option<Vec<u8>>;

/// Holds the program's reader against the judge's.
pub fn check(data: &[u8]) {
    check_with(base64url::decode, data);
}

/// The same of any reader.
pub fn check_with(decode: Decode, data: &[u8]) {
    let own = base64url::encode(data);
    assert_eq!(own, encoded(data));
    assert_eq!(decode(&own).as_deref(), Some(data));
    let Ok(text) = std::str::from_utf8(data) else { return };
    let read = decode(text);
    assert_eq!(read, decoded(text), "{text:?}");
    if let Some(octets) = read {
        assert_eq!(base64url::encode(&octets), text, "it has a second spelling");
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The octets, bit by bit (RFC 4648 §5 and §3.5).
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bits = Vec::with_capacity(text.len() * 6);
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|own| *own == letter)?;
        bits.extend((0..6).rev().map(|bit| value >> bit & 1 == 1));
    }
    let rest = bits.len() % 8;
    if rest >= 6 || bits[bits.len() - rest..].contains(&true) {
        return None;
    }
    let octet = |bits: &[bool]| bits.iter().fold(0, |octet, bit| octet << 1 | u8::from(*bit));
    Some(bits.chunks_exact(8).map(octet).collect())
}

/// The spelling, bit by bit.
pub fn encoded(octets: &[u8]) -> String {
    let bit = |at: usize| octets.get(at / 8).map_or(0, |octet| octet >> (7 - at % 8) & 1);
    let letters = (octets.len() * 8).div_ceil(6);
    let value = |letter: usize| (letter * 6..letter * 6 + 6).fold(0, |value, at| value << 1 | usize::from(bit(at)));
    (0..letters).map(|letter| char::from(ALPHABET[value(letter)])).collect()
}
