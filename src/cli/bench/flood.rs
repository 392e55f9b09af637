//! The partner that sends the same SETs again and again, over as many WebSockets as it may have, as fast as they are taken.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::{SinkExt as _, StreamExt as _};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::mute;
use super::side::issuer;
use crate::auth::Secret;
use crate::cli::Error;
use crate::cli::args;
use crate::clock::{Clock as _, SystemClock};
use crate::random::Random;
use crate::set::{Algorithm, Defaults, Draft, KeySet, SigningKey, base64url, complete};

/// The name of the partner.
pub(super) const NAME: &str = "flood";

/// WebSockets that a partner may have at the same time.
const SOCKETS: usize = 8;

/// SETs in each of its messages.
const SETS: usize = 200;

/// What it sends over each of its WebSockets.
pub(super) struct Messages(Vec<String>);

/// Signs what it will send to this side, and publishes its keys in this file.
pub(super) fn prepare(kind: args::Flood, to: &str, draft: &Arc<Draft>, keys: &Path) -> Result<Messages, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::failed(format!("the partner that floods: {error}"));
    let algorithm = match kind {
        args::Flood::Replayed => Algorithm::Es256,
        args::Flood::Costly => Algorithm::Rs256,
    };
    let (key, pem) = SigningKey::generate(algorithm, NAME).map_err(|error| failed(&error))?;
    let mut published = KeySet::of([key.public_jwk()]).to_json();
    if let (args::Flood::Costly, Some(list)) = (kind, published["keys"].as_array_mut()) {
        // A token without `kid` is tried with each key, and with the right one last.
        for _ in 0..3 {
            list.insert(0, giant());
        }
    }
    std::fs::write(keys, published.to_string()).map_err(|error| Error::unwritable(keys, &error))?;
    let unnamed = EncodingKey::from_rsa_pem(pem.as_bytes());
    let (issuer, audience, now) = (issuer(NAME), issuer(to), SystemClock::new().now().wall);
    let defaults = Defaults { issuer: &issuer, audience: &audience, now, jti_bytes_max: 64 };
    let one = || {
        let claims = (**draft).clone().into_claims().map_err(|error| failed(&error))?;
        let (jti, claims) = complete(claims, defaults).map_err(|error| failed(&error))?;
        let compact = match kind {
            args::Flood::Replayed => key.sign(&claims).map_err(|error| failed(&error))?.to_string(),
            args::Flood::Costly => {
                let typ = Some("secevent+jwt".to_owned());
                let header = Header { typ, ..Header::new(jsonwebtoken::Algorithm::RS256) };
                let unnamed = unnamed.as_ref().map_err(|error| failed(error))?;
                encode(&header, &claims, unnamed).map_err(|error| failed(&error))?
            }
        };
        Ok((jti.to_string(), Value::from(compact)))
    };
    let message = || {
        let sets = (0..SETS).map(|_| one()).collect::<Result<serde_json::Map<_, _>, Error>>()?;
        Ok(json!({"sets": sets}).to_string())
    };
    Ok(Messages((0..SOCKETS).map(|_| message()).collect::<Result<_, Error>>()?))
}

/// The most costly key that is taken: nobody has the private part.
fn giant() -> Value {
    let mut random = Random::from_system();
    let mut modulus: Vec<u8> = (0..128).flat_map(|_| random.next_u64().to_be_bytes()).collect();
    modulus[0] |= 0x80;
    modulus[1023] |= 1;
    json!({"kty": "RSA", "alg": "RS256", "n": base64url::encode(&modulus), "e": base64url::encode(&[1, 0, 0, 0, 1])})
}

/// A flood that goes on.
pub(super) struct Flood {
    /// One for each WebSocket, without an end of its own.
    tasks: JoinSet<()>,
    sent: Arc<AtomicU64>,
    acked: Arc<AtomicBool>,
}

/// Opens its WebSockets, by each of which the same message leaves as often as it is taken.
pub(super) async fn begin(
    address: &str,
    pin: Option<&str>,
    token: &Secret,
    messages: Messages,
) -> Result<Flood, Error> {
    let mut flood = Flood { tasks: JoinSet::new(), sent: Arc::default(), acked: Arc::default() };
    for message in messages.0 {
        let (mut sink, mut stream) = mute::open(address, pin, token).await?.split();
        let (sent, acked) = (Arc::clone(&flood.sent), Arc::clone(&flood.acked));
        flood.tasks.spawn(async move {
            let sending = async {
                while sink.send(Message::text(message.clone())).await.is_ok() {
                    sent.fetch_add(SETS as u64, Ordering::Relaxed);
                }
            };
            let reading = async {
                while let Some(Ok(answer)) = stream.next().await {
                    // What else it says is not looked at: that would cost what the others are measured with.
                    if !acked.load(Ordering::Relaxed) {
                        acked.store(answer.to_text().is_ok_and(|text| text.contains("\"ack\"")), Ordering::Relaxed);
                    }
                }
            };
            tokio::select! {
                () = sending => {}
                () = reading => {}
            }
        });
    }
    Ok(flood)
}

impl Flood {
    /// Ends it: so many SETs had left. An error if it had come to an end before, or its SETs were not taken: the others have not
    /// met a flood then.
    pub(super) fn end(mut self) -> Result<u64, Error> {
        let broken = self.tasks.try_join_next().is_some();
        let sent = self.sent.load(Ordering::Relaxed);
        if broken || sent == 0 || !self.acked.load(Ordering::Relaxed) {
            let what = if broken { "a WebSocket of its own broke" } else { "its SETs were not acked" };
            return Err(Error::failed(format!("the partner that floods: {what}")));
        }
        Ok(sent)
    }
}
