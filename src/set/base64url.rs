//! base64url as JOSE has it (RFC 7515 §2): no padding, no white space, and exactly one encoding for each octet string.

#[cfg(target_arch = "x86_64")]
use std::sync::LazyLock;

use base64::Engine as _;
#[cfg(target_arch = "x86_64")]
use base64::engine::Simd;
#[cfg(target_arch = "x86_64")]
use base64::engine::general_purpose::NO_PAD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as ENGINE;

/// Vector instructions where there are some. That they take and refuse what the plain code does is tested for every byte
/// at every place, since partners wrote what is read.
#[cfg(target_arch = "x86_64")]
static VECTORS: LazyLock<Simd> = LazyLock::new(|| Simd::url_safe(NO_PAD));
#[cfg(not(target_arch = "x86_64"))]
use ENGINE as VECTORS;

/// The octets. `None` for padding, white space, a foreign alphabet, an impossible length, or trailing bits that are not
/// zero: what decodes has one spelling only, so that two different tokens are never the same to one of two readers.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    VECTORS.decode(text).ok()
}

/// Room for octets that are only looked at: on the stack, if there are no more than `N` of them.
pub(super) struct Octets<const N: usize> {
    near: [u8; N],
    /// For what is longer.
    far: Vec<u8>,
}

impl<const N: usize> Octets<N> {
    pub(super) fn new() -> Self {
        Self { near: [0; N], far: Vec::new() }
    }

    /// The octets, as [`decode`] has them.
    pub(super) fn decode(&mut self, text: &str) -> Option<&[u8]> {
        let most = base64::decoded_len_estimate(text.len());
        let room = if most <= N {
            &mut self.near[..]
        } else {
            self.far.resize(most, 0);
            &mut self.far[..]
        };
        let found = VECTORS.decode_slice(text, room).ok()?;
        room.get(..found)
    }
}

/// Appends the octets, as [`decode`] has them, and gives their number; `None`, with nothing appended, where it has none.
pub(crate) fn decode_into(text: &str, octets: &mut Vec<u8>) -> Option<usize> {
    let start = octets.len();
    octets.resize(start + base64::decoded_len_estimate(text.len()), 0);
    let found = octets.get_mut(start..).and_then(|room| VECTORS.decode_slice(text, room).ok());
    octets.truncate(start + found.unwrap_or(0));
    found
}

/// Appends the encoding of `bytes` to a text in ASCII.
pub(crate) fn encode_into(bytes: &[u8], text: &mut Vec<u8>) {
    let start = text.len();
    text.resize(start + encoded_len(bytes.len()), 0);
    let written = text.get_mut(start..).map(|room| VECTORS.encode_slice(bytes, room));
    debug_assert_eq!(written, Some(Ok(text.len() - start)), "there is room for all of it and no more");
}

/// How long the encoding of so many bytes is.
pub(super) fn encoded_len(bytes: usize) -> usize {
    base64::encoded_len(bytes, false).unwrap_or(usize::MAX)
}

/// The encoding of `bytes`.
pub fn encode(bytes: &[u8]) -> String {
    ENGINE.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_octet_string_has_one_spelling() {
        assert_eq!(decode("_-8"), Some(vec![0xff, 0xef]));
        assert_eq!(decode(""), Some(vec![]));
        assert_eq!(encode(&[0xff, 0xef]), "_-8");
        for (text, why) in [
            ("_-8=", "padding"),
            ("_-9", "trailing bits that are not zero"),
            ("_- 8", "a space"),
            ("_-8\n", "a line break"),
            ("/+8", "the alphabet of plain base64"),
            ("_-8_-", "an impossible length"),
            ("é", "not ASCII"),
        ] {
            assert_eq!(decode(text), None, "{why}");
            assert_eq!(Octets::<4>::new().decode(text), None, "{why}");
            let mut appended = b"before".to_vec();
            assert_eq!(decode_into(text, &mut appended), None, "{why}");
            assert_eq!(appended, b"before", "{why}");
        }
    }

    #[test]
    fn octets_are_the_same_wherever_they_have_their_room() {
        for count in 0..600 {
            let bytes: Vec<u8> = (0..count).map(|n| (n * 7) as u8).collect();
            let text = encode(&bytes);
            assert_eq!(Octets::<64>::new().decode(&text), Some(&bytes[..]), "{count}");
            let mut appended = b"before".to_vec();
            encode_into(&bytes, &mut appended);
            assert_eq!(appended, [b"before", text.as_bytes()].concat(), "{count}");
            assert_eq!(text.len(), encoded_len(count));
            let mut appended = b"before".to_vec();
            assert_eq!(decode_into(&text, &mut appended), Some(count));
            assert_eq!(appended, [b"before", &bytes[..]].concat(), "{count}");
            assert_eq!(decode(&text), Some(bytes), "{count}");
        }
        let mut octets = Octets::<4>::new();
        for text in ["AAAAAAAAAAAAAAAA", "_-8", "", "AAAAAAAAAAAA"] {
            assert_eq!(octets.decode(text).map(<[u8]>::to_vec), decode(text), "in the room of another: {text}");
        }
    }

    #[test]
    fn vectors_take_and_refuse_what_the_plain_code_does() {
        // Where the processor has none, this holds the plain code against itself.
        // Three blocks of 32 characters, which is what vectors take at a time, and a tail of each length.
        for tail in 0..4 {
            let text: Vec<u8> = encode(&[0x5a; 72]).into_bytes().into_iter().chain(*b"AAAA").take(96 + tail).collect();
            for place in 0..text.len() {
                for byte in 0..=u8::MAX {
                    let mut text = text.clone();
                    text[place] = byte;
                    let plain = ENGINE.decode(&text).ok();
                    assert_eq!(VECTORS.decode(&text).ok(), plain, "{byte:#x} at {place} of {}", text.len());
                    if let Some(octets) = plain {
                        assert_eq!(encode(&octets).into_bytes(), text, "one spelling");
                    }
                }
            }
        }
    }
}
