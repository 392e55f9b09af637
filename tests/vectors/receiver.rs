//! A Transceiver in this process, with its store in memory, and one partner that speaks to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pushpull::auth::Secret;
use pushpull::set::events::Filter;
use pushpull::set::{Algorithm, SigningKey};
use pushpull::store::Memory;
use pushpull::transceiver::{KeySource, PeerConfig, Transceiver};
use pushpull::wire::net::Allow;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Who we are.
pub(crate) const OURS: &str = "https://us.example";

/// Who the partner is, and its name in our configuration.
pub(crate) const THEIRS: &str = "https://them.example";
pub(crate) const PARTNER: &str = "them";

/// The one type of event that the partner may send.
pub(crate) const TYPE: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";

/// How long an answer may take on a slow, shared machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Receiver {
    pub(crate) transceiver: Transceiver,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What the partner presents to it.
    pub(crate) token: Secret,
    _keys: tempfile::TempDir,
}

impl Receiver {
    /// One that knows the partner by this JWK Set. It may dial loopback, so that nothing but its own sense keeps it from
    /// following addresses there.
    pub(crate) async fn start(jwks: &str) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let file = keys.path().join("jwks.json");
        std::fs::write(&file, jwks).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, token) = (listener.local_addr().unwrap(), Secret::mint().unwrap());
        let transceiver = Transceiver::builder(OURS)
            .signing_key(SigningKey::generate(Algorithm::EdDsa, "us-1").unwrap().0)
            .store(Arc::new(Memory::new()))
            .allow(Allow::parse(["127.0.0.0/8"]).unwrap())
            .listen(listener, None)
            .start()
            .await
            .unwrap();
        let partner = PeerConfig {
            name: PARTNER.to_owned(),
            issuer: THEIRS.to_owned(),
            keys: KeySource::File(file),
            audience: None,
            accept_audience: None,
            dial: None,
            collect: None,
            accept_tokens: vec![token.clone()],
            send: Filter::all(),
            accept: Filter::new(&[TYPE.to_owned()]).unwrap(),
        };
        transceiver.add_peer(partner).await.unwrap();
        Self { transceiver, address, token, _keys: keys }
    }

    /// Posts these bytes as a Communication Object: the status, and the body of the answer.
    pub(crate) async fn post(&self, body: &[u8]) -> (u16, String) {
        let head = format!(
            "POST /pushpull HTTP/1.1\r\nHost: us\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.token.expose(),
            body.len()
        );
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await?;
            stream.write_all(&[head.as_bytes(), body].concat()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = timeout(PATIENCE, exchange).await.expect("an answer in time").unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no status: {head}")), body.to_owned())
    }
}
