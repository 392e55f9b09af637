//! Dialling real sockets on loopback.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::wire::net::tls::{Minted, mint, server_config};

fn allow() -> Allow {
    Allow::parse(["127.0.0.0/8", "::1"]).unwrap()
}

fn minted() -> Minted {
    mint(&[], SystemClock::new().now().wall).unwrap()
}

/// Listens, shakes hands for ever, and echoes four bytes to whoever gets that far.
async fn tls_server(cert_pem: &str, key_pem: &str) -> u16 {
    let acceptor = tokio_rustls::TlsAcceptor::from(server_config(cert_pem.as_bytes(), key_pem.as_bytes()).unwrap());
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
            let mut four = [0; 4];
            stream.read_exact(&mut four).await.unwrap();
            stream.write_all(&four).await.unwrap();
        }
    });
    port
}

async fn talks(mut stream: Stream) {
    stream.write_all(b"ping").await.unwrap();
    stream.flush().await.unwrap();
    let mut four = [0; 4];
    stream.read_exact(&mut four).await.unwrap();
    assert_eq!(&four, b"ping");
}

fn target(text: String) -> Target {
    Target::parse(&text).unwrap()
}

#[tokio::test]
async fn the_holder_of_the_pinned_key_is_trusted_whatever_its_name() {
    let server = minted();
    let port = tls_server(&server.cert_pem, &server.key_pem).await;
    let pin = Pin::of_cert_pem(server.cert_pem.as_bytes()).unwrap();
    let dialer = Dialer::new(allow());
    for host in ["127.0.0.1", "127.0.0.9", "localhost"] {
        talks(dialer.connect(&target(format!("wss://{host}:{port}/")), Some(&pin)).await.unwrap()).await;
    }
}

#[tokio::test]
async fn a_wrong_pin_is_refused_and_both_keys_are_named() {
    let (server, other) = (minted(), minted());
    let port = tls_server(&server.cert_pem, &server.key_pem).await;
    let found = Pin::of_cert_pem(server.cert_pem.as_bytes()).unwrap();
    let expected = Pin::of_cert_pem(other.cert_pem.as_bytes()).unwrap();
    let error = Dialer::new(allow()).connect(&target(format!("https://127.0.0.1:{port}/")), Some(&expected)).await;
    let error = error.unwrap_err();
    assert!(matches!(&error, ConnectError::Pin { mismatch, .. } if *mismatch == PinMismatch { expected, found }));
    let text = error.to_string();
    assert!(text.contains(&expected.to_string()) && text.contains(&found.to_string()), "{text}");
}

/// An authority, and a server certificate of it for these names and years.
fn issued(names: &[&str], from: i32, to: i32) -> (CertificateDer<'static>, String, String) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key).unwrap().der().clone();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    let cert = params.signed_by(&key, &issuer).unwrap();
    (root, cert.pem(), key.serialize_pem())
}

#[tokio::test]
async fn without_a_pin_authority_name_and_dates_must_be_right() {
    let cases: [(&[&str], i32, i32, Option<&str>); 3] = [
        (&["localhost"], 2020, 2090, None),
        (&["other.example"], 2020, 2090, Some("other.example")),
        (&["localhost"], 2020, 2021, Some("expired")),
    ];
    for (names, from, to, fault) in cases {
        let (root, cert, key) = issued(names, from, to);
        let port = tls_server(&cert, &key).await;
        let dialer = Dialer::new(allow()).with_extra_roots(vec![root]);
        let outcome = dialer.connect(&target(format!("https://localhost:{port}/")), None).await;
        match fault {
            None => talks(outcome.unwrap()).await,
            Some(word) => {
                let text = outcome.unwrap_err().to_string();
                assert!(text.starts_with("TLS with localhost failed") && text.contains(word), "{text}");
            }
        }
    }
}

#[tokio::test]
async fn a_self_signed_certificate_without_a_pin_is_refused_with_the_remedy() {
    let server = minted();
    let port = tls_server(&server.cert_pem, &server.key_pem).await;
    let (some_root, ..) = issued(&[], 2020, 2090);
    let dialer = Dialer::new(allow()).with_extra_roots(vec![some_root]);
    let error = dialer.connect(&target(format!("https://localhost:{port}/")), None).await.unwrap_err();
    assert!(error.to_string().contains("tls_pin"), "{error}");
}

#[tokio::test]
async fn addresses_that_are_not_allowed_are_never_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let dialer = Dialer::new(Allow::default());
    for host in ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "0"] {
        for scheme in ["https", "wss", "http", "ws"] {
            let error = dialer.connect(&target(format!("{scheme}://{host}:{port}/")), None).await.unwrap_err();
            assert!(
                matches!(error, ConnectError::Blocked { .. } | ConnectError::Plaintext { .. }),
                "{scheme}://{host}: {error}"
            );
        }
    }
    let nobody = timeout_at(Instant::now() + Duration::from_millis(50), listener.accept()).await;
    assert!(nobody.is_err(), "a blocked address was connected to");
}

#[tokio::test]
async fn plaintext_is_only_for_allowed_loopback_addresses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let dialer = Dialer::new(Allow::parse(["0.0.0.0/0"]).unwrap());
    assert!(matches!(dialer.connect(&target(format!("ws://127.0.0.1:{port}")), None).await, Ok(Stream::Plain(_))));
    for host in ["192.0.2.1", "8.8.8.8", "10.0.0.1"] {
        let error = dialer.connect(&target(format!("http://{host}/")), None).await.unwrap_err();
        assert!(matches!(error, ConnectError::Plaintext { .. }), "{error}");
    }
}

#[tokio::test]
async fn who_is_at_fault_is_told_apart() {
    let dialer = Dialer::new(allow()).with_connect_timeout(Duration::from_millis(100));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // It accepts by itself and never speaks.
    let silent = dialer.connect(&target(format!("https://localhost:{port}/")), Some(&Pin::parse(PIN).unwrap())).await;
    assert!(matches!(silent, Err(ConnectError::TimedOut { stage: "the TLS handshake", .. })), "{silent:?}");
    drop(listener);
    let refused = dialer.connect(&target(format!("http://127.0.0.1:{port}/")), None).await;
    assert!(matches!(refused, Err(ConnectError::Refused { .. })), "{refused:?}");
    // A label this long is refused by the resolver itself, without asking anybody.
    let unknown = dialer.connect(&target(format!("https://{}.example/", "x".repeat(64))), None).await;
    assert!(matches!(unknown, Err(ConnectError::Dns { .. })), "{unknown:?}");
}

const PIN: &str = "sha256/BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
