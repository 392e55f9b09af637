//! base64url as JOSE has it (RFC 7515 §2): no padding, no white space, and exactly one encoding for each octet string.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as ENGINE;

/// The octets. `None` for padding, white space, a foreign alphabet, an impossible length, or trailing bits that are not
/// zero: what decodes has one spelling only, so that two different tokens are never the same to one of two readers.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    ENGINE.decode(text).ok()
}

/// Appends the encoding of `bytes` to `text`.
pub fn encode_into(bytes: &[u8], text: &mut String) {
    ENGINE.encode_string(bytes, text);
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
        }
    }
}
