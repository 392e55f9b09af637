//! A token as the octets that its three parts stand for, which are a quarter less than their base64url: that much less goes
//! through the log, into the file and into the archive. base64url has one spelling for each octet string, so the token comes
//! back as it was, to the letter.

use crate::set::base64url;

/// What stands before the octets: how long those of the header are, those of the claims, and those of the signature. All
/// three, so that a row which is cut short, or of which something else stands behind, does not look like one of a token.
const LENGTHS: usize = 2 + 4 + 2;

/// Appends a token; false, and nothing is appended, if it is no three parts of base64url. Such a one is kept as text.
pub(super) fn put(out: &mut Vec<u8>, token: &str) -> bool {
    let begin = out.len();
    let is_put = try_put(out, token).is_some();
    if !is_put {
        out.truncate(begin);
    }
    is_put
}

fn try_put(out: &mut Vec<u8>, token: &str) -> Option<()> {
    let (header, rest) = token.split_at_checked(memchr::memchr(b'.', token.as_bytes())?)?;
    let rest = rest.get(1..)?;
    let (claims, signature) = rest.split_at_checked(memchr::memchr(b'.', rest.as_bytes())?)?;
    let begin = out.len();
    out.extend_from_slice(&[0; LENGTHS]);
    let header = u16::try_from(base64url::decode_into(header, out)?).ok()?;
    let claims = u32::try_from(base64url::decode_into(claims, out)?).ok()?;
    let signature = u16::try_from(base64url::decode_into(signature.get(1..)?, out)?).ok()?;
    let ([h0, h1], [c0, c1, c2, c3], [s0, s1]) = (header.to_le_bytes(), claims.to_le_bytes(), signature.to_le_bytes());
    *out.get_mut(begin..)?.first_chunk_mut()? = [h0, h1, c0, c1, c2, c3, s0, s1];
    Some(())
}

/// The octets of header, claims and signature; `None` if these bytes make no sense.
pub(super) fn parts(bytes: &[u8]) -> Option<[&[u8]; 3]> {
    let (header, rest) = bytes.split_first_chunk::<2>()?;
    let (claims, rest) = rest.split_first_chunk::<4>()?;
    let (signature, rest) = rest.split_first_chunk::<2>()?;
    let (header, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*header)))?;
    let (claims, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*claims)).ok()?)?;
    (rest.len() == usize::from(u16::from_le_bytes(*signature))).then_some([header, claims, rest])
}

/// The token again.
pub(super) fn token([header, claims, signature]: [&[u8]; 3]) -> Option<String> {
    let mut text = Vec::with_capacity((header.len() + claims.len() + signature.len()) / 3 * 4 + 3 * 4);
    base64url::encode_into(header, &mut text);
    text.push(b'.');
    base64url::encode_into(claims, &mut text);
    text.push(b'.');
    base64url::encode_into(signature, &mut text);
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Behind something else, as in a bundle.
    fn put_alone(token: &str) -> Option<Vec<u8>> {
        let mut out = b"before".to_vec();
        let is_put = put(&mut out, token);
        assert!(out.starts_with(b"before"));
        let octets = out.split_off(6);
        assert!(is_put || octets.is_empty(), "nothing is left of {token:?}");
        is_put.then_some(octets)
    }

    fn again(octets: &[u8]) -> Option<String> {
        parts(octets).and_then(token)
    }

    proptest! {
        #[test]
        fn a_token_comes_back_to_the_letter(
            header in prop::collection::vec(any::<u8>(), 0..200),
            claims in prop::collection::vec(any::<u8>(), 0..3000),
            signature in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let token = [&header, &claims, &signature].map(|part| base64url::encode(part)).join(".");
            let octets = put_alone(&token).unwrap();
            prop_assert_eq!(octets.len(), LENGTHS + header.len() + claims.len() + signature.len());
            prop_assert_eq!(again(&octets), Some(token));
            prop_assert_eq!(again(&octets[..octets.len() - 1]), None);
            prop_assert_eq!(again(&[&octets[..], b"x"].concat()), None);
        }

        #[test]
        fn whatever_is_taken_comes_back_to_the_letter(token in "[A-Za-z0-9_.=+/é -]{0,40}") {
            if let Some(octets) = put_alone(&token) {
                prop_assert_eq!(again(&octets), Some(token));
            }
        }

        #[test]
        fn any_bytes_can_be_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = again(&bytes);
        }
    }

    #[test]
    fn what_is_no_token_or_has_another_spelling_is_not_taken() {
        let long = base64url::encode(&[7; 70_000]);
        for text in [
            "",
            "token",
            "e30.e30",
            "e30.e30.AA.AA",
            "e30=.e30.AAAA",
            "e30.e30.AB",
            "e3 0.e30.AAAA",
            "e30.e30.é",
            &format!("{long}.e30.AAAA"),
            &format!("e30.e30.{long}"),
        ] {
            assert_eq!(put_alone(text), None, "{text:.20}");
        }
        for text in ["..", "e30.e30.", "e30.e30.AAAA", &format!("e30.{long}.AAAA")] {
            assert_eq!(put_alone(text).as_deref().and_then(again).as_deref(), Some(text));
        }
    }
}
