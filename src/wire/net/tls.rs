//! TLS: our own certificate, and what we ask of a partner's. Versions 1.2 and 1.3 (BCP 195), HTTP/1.1 only, with the
//! aws-lc provider named explicitly, so that no other crate's choice of a process default matters.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ServerConfig};
use rustls_platform_verifier::Verifier;

use super::pin::{Pin, PinVerifier};
use crate::clock::Wall;

/// Why a certificate, a key or the trusted roots cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The certificate file holds none.
    #[error("the certificate file holds no readable PEM certificate")]
    Certificate,
    /// The key file holds none.
    #[error("the key file holds no readable PEM private key (PKCS#8, SEC1 or PKCS#1)")]
    Key,
    /// The two files do not belong together.
    #[error("the private key does not belong to the certificate; are both from the same order?")]
    Mismatch,
    /// A certificate was asked for a name that cannot stand in one.
    #[error("no certificate can be made for {0:?}: expected a host name or an address")]
    Name(String),
    /// The library or the system refused.
    #[error("TLS cannot be set up: {0}")]
    Refused(String),
}

impl From<rustls::Error> for Error {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InconsistentKeys(_) => Self::Mismatch,
            other => Self::Refused(other.to_string()),
        }
    }
}

/// What a listener needs, from a PEM certificate chain (our own first) and its PEM private key.
pub fn server_config(cert_pem: &[u8], key_pem: &[u8]) -> Result<Arc<ServerConfig>, Error> {
    // The parser's own errors quote the offending line, which may be a line of the key.
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(cert_pem).collect::<Result<_, _>>().map_err(|_| Error::Certificate)?;
    if chain.is_empty() {
        return Err(Error::Certificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| Error::Key)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// A client configuration that trusts exactly the holder of one key.
pub fn pinned_config(pin: Pin) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinVerifier { pin, algorithms }))
        .with_no_client_auth();
    Ok(finish(config))
}

/// A client configuration that trusts the system's roots and these further ones, and checks names and dates.
///
/// Reads the system's certificate files (`SSL_CERT_FILE` and `SSL_CERT_DIR` replace them), so it may block.
pub fn public_config(extra_roots: Vec<CertificateDer<'static>>) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    let verifier = Verifier::new_with_extra_roots(extra_roots, provider.clone())?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(finish(config))
}

/// A new certificate and its key.
pub struct Minted {
    /// The certificate; not secret.
    pub cert_pem: String,
    /// The private key; wiped from memory when dropped.
    pub key_pem: zeroize::Zeroizing<String>,
}

/// Makes a self-signed certificate (ECDSA P-256) for these host names or addresses, `localhost` and the loopback
/// addresses, valid for 397 days from a day before `now`, since a partner's clock may be behind ours.
pub fn mint(names: &[String], now: Wall) -> Result<Minted, Error> {
    let mut all: Vec<String> = Vec::new();
    for name in names.iter().map(String::as_str).chain(["localhost", "127.0.0.1", "::1"]) {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Name(name.to_owned()));
        }
        if !all.iter().any(|known| known == name) {
            all.push(name.to_owned());
        }
    }
    let refused = |error: rcgen::Error| Error::Refused(error.to_string());
    let common_name = all[0].clone();
    let mut params = CertificateParams::new(all).map_err(refused)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    // Keeps it apart from authorities that happen to be called like the host.
    params.distinguished_name.push(DnType::OrganizationName, "pushpull, self-signed");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // A clock gone mad must not overflow the calendar: it ends with the year 9999.
    let now = Duration::from_secs(now.seconds().min(YEAR_9990));
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + now.saturating_sub(DAY);
    params.not_after = params.not_before + LIFE;
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(refused)?;
    let certificate = params.self_signed(&key).map_err(refused)?;
    Ok(Minted { cert_pem: certificate.pem(), key_pem: key.serialize_pem().into() })
}

fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![ALPN.to_vec()];
    Arc::new(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

const ALPN: &[u8] = b"http/1.1";
const DAY: Duration = Duration::from_secs(86_400);
/// The longest life that browsers accept; a habit that hurts nobody here.
const LIFE: Duration = Duration::from_secs(397 * 86_400);
const YEAR_9990: u64 = 253_090_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_800_000_000_000);

    #[test]
    fn a_minted_certificate_serves_and_has_a_pin() {
        let minted = mint(&["signals.acme.example".into(), "192.0.2.7".into(), "localhost".into()], NOW).unwrap();
        let config = server_config(minted.cert_pem.as_bytes(), minted.key_pem.as_bytes()).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1"]);
        let pin = Pin::of_cert_pem(minted.cert_pem.as_bytes()).unwrap();
        assert!(pin.to_string().starts_with("sha256/"));
        assert!(mint(&[], Wall(u64::MAX)).is_ok() && mint(&[], Wall(0)).is_ok());
    }

    #[test]
    fn files_that_do_not_belong_together_are_told_apart() {
        let (one, other) = (mint(&[], NOW).unwrap(), mint(&[], NOW).unwrap());
        let refused = |cert: &str, key: &str| server_config(cert.as_bytes(), key.as_bytes()).unwrap_err();
        assert_eq!(refused(&one.cert_pem, &other.key_pem), Error::Mismatch);
        assert_eq!(refused(&one.key_pem, &one.key_pem), Error::Certificate);
        assert_eq!(refused(&one.cert_pem, &one.cert_pem), Error::Key);
        assert_eq!(refused("", ""), Error::Certificate);
        let broken = one.key_pem.replace("-----END", "----END");
        assert_eq!(refused(&one.cert_pem, &broken), Error::Key);
    }

    #[test]
    fn names_that_cannot_stand_in_a_certificate_are_refused() {
        for name in ["", "two words", "bücher.example", "a\nb"] {
            assert_eq!(mint(&[name.into()], NOW).err(), Some(Error::Name(name.into())));
        }
    }
}
