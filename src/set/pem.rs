//! PEM (RFC 7468), as far as private signing keys need it; says how to convert what it does not take.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::KeyError;

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// The PKCS#8 document of the one private key in `text`.
pub(super) fn read(text: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let label = private_label(text)?;
    match label {
        "PRIVATE KEY" => {}
        "EC PRIVATE KEY" => return Err(KeyError::Convert("an EC key in SEC 1 form")),
        "RSA PRIVATE KEY" => return Err(KeyError::Convert("an RSA key in PKCS#1 form")),
        "ENCRYPTED PRIVATE KEY" => return Err(KeyError::Convert("an encrypted key")),
        _ => return Err(KeyError::Convert("a private key in a form of its own")),
    }
    let (_, rest) = text.split_once("-----BEGIN PRIVATE KEY-----").ok_or(KeyError::NotPem)?;
    let (body, _) = rest.split_once("-----END PRIVATE KEY-----").ok_or(KeyError::NotPem)?;
    let mut compact = Zeroizing::new(String::with_capacity(body.len()));
    compact.extend(body.split_ascii_whitespace());
    STANDARD.decode(compact.as_bytes()).map(Zeroizing::new).map_err(|_| KeyError::NotPem)
}

/// The PEM form of a PKCS#8 document.
pub(super) fn write(pkcs8: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(pkcs8));
    // Room for everything at once: a string that grows leaves copies of the secret behind.
    let mut text = Zeroizing::new(String::with_capacity(body.len() + body.len() / 64 + 80));
    text.push_str("-----BEGIN PRIVATE KEY-----\n");
    for (at, character) in body.char_indices() {
        if at > 0 && at % 64 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str("\n-----END PRIVATE KEY-----\n");
    text
}

/// The label of the only private key, passing over what else stands in the file (such as `EC PARAMETERS`).
fn private_label(text: &str) -> Result<&str, KeyError> {
    let labels = || text.lines().filter_map(|line| line.trim().strip_prefix(BEGIN)?.strip_suffix(DASHES));
    let mut private = labels().filter(|label| label.ends_with("PRIVATE KEY"));
    match (private.next(), private.next()) {
        (Some(label), None) => Ok(label),
        (Some(_), Some(_)) => Err(KeyError::Several),
        (None, _) if labels().next().is_some() => Err(KeyError::NotPrivate),
        (None, _) => Err(KeyError::NotPem),
    }
}
