//! Trust in one key instead of in an authority: the SHA-256 of a certificate's public key (SPKI), as in RFC 7469 §2.4.

use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};

/// The SHA-256 of a public key, written `sha256/<base64>`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Pin([u8; 32]);

/// Why a text is no pin, or a certificate has none.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPin {
    /// The text is not of the form.
    #[error("expected sha256/ and the base64 of 32 bytes (44 characters, ending in =)")]
    Text,
    /// There is no readable certificate.
    #[error("expected a PEM file that begins with a certificate")]
    Certificate,
}

/// The partner showed another key than the pinned one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the certificate's key is {found}, but tls_pin says {expected}: ask the partner, by another way, whether they changed \
     their key, and only then correct tls_pin"
)]
pub struct PinMismatch {
    /// What the configuration says.
    pub expected: Pin,
    /// What the partner showed.
    pub found: Pin,
}

impl Pin {
    /// Reads `sha256/<base64>`.
    pub fn parse(text: &str) -> Result<Self, InvalidPin> {
        let encoded = text.strip_prefix("sha256/").ok_or(InvalidPin::Text)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidPin::Text)?;
        bytes.try_into().map(Self).map_err(|_| InvalidPin::Text)
    }

    /// The pin of the first certificate of a PEM file, which is the server's own.
    pub fn of_cert_pem(pem: &[u8]) -> Result<Self, InvalidPin> {
        let certificate = CertificateDer::from_pem_slice(pem).map_err(|_| InvalidPin::Certificate)?;
        Self::of_cert(&certificate).map_err(|_| InvalidPin::Certificate)
    }

    fn of_cert(certificate: &CertificateDer<'_>) -> Result<Self, rustls::Error> {
        let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        let mut pin = [0; 32];
        pin.copy_from_slice(digest::digest(&digest::SHA256, &key).as_ref());
        Ok(Self(pin))
    }
}

impl std::fmt::Display for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256/{}", STANDARD.encode(self.0))
    }
}

impl std::str::FromStr for Pin {
    type Err = InvalidPin;

    fn from_str(text: &str) -> Result<Self, InvalidPin> {
        Self::parse(text)
    }
}

/// Accepts exactly the servers that hold the pinned key.
///
/// Name, chain and dates are not looked at: they say what an authority vouched for, and here the operator vouches for
/// the key itself. That the server holds the key is proved by the handshake's signature, which is checked as ever.
#[derive(Debug)]
pub(super) struct PinVerifier {
    pub(super) pin: Pin,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = Pin::of_cert(end_entity)?;
        // A public value: its comparison needs no constant time.
        if found == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        let mismatch = PinMismatch { expected: self.pin, found };
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(mismatch)))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_reads_back_as_it_is_written() {
        let pin = Pin([7; 32]);
        assert_eq!(Pin::parse(&pin.to_string()), Ok(pin));
        assert_eq!(pin.to_string(), "sha256/BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=");
    }

    #[test]
    fn anything_else_is_no_pin() {
        let short = format!("sha256/{}", STANDARD.encode([7; 31]));
        for text in
            ["", "sha256/", "sha1/BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", "sha256/BwcH BwcH", short.as_str()]
        {
            assert_eq!(Pin::parse(text), Err(InvalidPin::Text), "{text}");
        }
        assert_eq!(Pin::of_cert_pem(b"no certificate"), Err(InvalidPin::Certificate));
    }
}
