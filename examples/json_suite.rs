//! JSONTestSuite against both readers of JSON that partners reach: `json_suite VECTORS`, a file with an array of
//! `{"name", "input"}` that `tests/vectors/run` makes of the package. Ends with 1 when a vector fares otherwise than told.

#![expect(clippy::unwrap_used, reason = "a program that tests fails by panicking")]

#[path = "../tests/vectors/receiver.rs"]
mod receiver;

use std::collections::BTreeMap;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{SinkExt as _, StreamExt as _};
use pushpull::clock::{Clock as _, SystemClock};
use pushpull::set::{Algorithm, Draft, KeySet, SigningKey, decode};
use pushpull::transceiver::Event;
use receiver::{OURS, PARTNER, PATIENCE, Receiver, THEIRS, TYPE};
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// Where a vector stands.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Place {
    /// It is the body of a request.
    Whole,
    /// In a member of the object that nobody knows.
    Member,
    /// In the place of a token.
    Token,
    /// In the place of a setErr.
    SetErr,
    /// In a member of a setErr that nobody knows.
    InSetErr,
    /// In the claims of a token; what is asked is [`decode`].
    Claims,
}

use Place::{Claims, InSetErr, Member, SetErr, Token, Whole};

const PLACES: [Place; 6] = [Whole, Member, Token, SetErr, InSetErr, Claims];

/// Valid JSON that we refuse wherever it stands, and why.
const STRICTER: [(&str, &str); 2] = [
    ("y_object_duplicated_key.json", "a name twice in one object: two readers could take different members"),
    ("y_object_duplicated_key_and_value.json", "a name twice, even with the same value"),
];

struct Vector {
    name: String,
    bytes: Vec<u8>,
    /// The package has replaced bytes that are no UTF-8. 0xFF stands for each of them.
    mended: bool,
}

impl Vector {
    /// One vector; two of what must be refused whether its bytes are UTF-8 or not.
    fn read(value: &Value) -> Vec<Self> {
        let (name, input) = (value["name"].as_str().unwrap(), value["input"].as_str().unwrap());
        let parts: Vec<&[u8]> = input.split('\u{fffd}').map(str::as_bytes).collect();
        let mended = parts.len() > 1;
        let mut vectors = vec![Self { name: name.to_owned(), bytes: parts.join(&0xff), mended }];
        if mended && name.starts_with('n') {
            vectors.push(Self { name: format!("{name}, in UTF-8"), bytes: input.as_bytes().to_vec(), mended });
        }
        vectors
    }

    /// Whether it has to be taken there, refused there, or whether that is ours to choose.
    fn must_be_taken(&self, place: Place) -> Option<bool> {
        let first = self.bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        match self.name.as_bytes().first() {
            Some(b'n') => Some(false),
            Some(b'y') if STRICTER.iter().any(|(name, _)| *name == self.name) => Some(false),
            Some(b'y') => Some(match place {
                Member | InSetErr | Claims => true,
                // A Communication Object is an object, and so are its setErrs, which have a member `err`; a token is text.
                Whole => first == Some(&b'{'),
                Token => first == Some(&b'"'),
                SetErr => false,
            }),
            Some(b'i') => None,
            _ => panic!("{}: neither y_, n_ nor i_", self.name),
        }
    }
}

/// A partner's object around a vector: a good SET and an ack come with it, so that any effect would show.
fn object(place: Place, vector: &[u8], set: &str) -> Vec<u8> {
    let around = |before: &str, after: &str| [before.as_bytes(), vector, after.as_bytes()].concat();
    match place {
        Whole | Claims => vector.to_vec(),
        Member => around(&format!("{{\"sets\":{{{set}}},\"ack\":[\"ours\"],\"x\":"), "}"),
        Token => around(&format!("{{\"ack\":[\"ours\"],\"sets\":{{{set},\"v\":"), "}}"),
        SetErr => around(&format!("{{\"sets\":{{{set}}},\"ack\":[\"ours\"],\"setErrs\":{{\"v\":"), "}}"),
        InSetErr => {
            let before = format!("{{\"sets\":{{{set}}},\"ack\":[\"ours\"],\"setErrs\":{{\"v\":{{\"err\":\"e\",\"x\":");
            around(&before, "}}}")
        }
    }
}

struct Suite {
    receiver: Receiver,
    key: SigningKey,
    sets: usize,
    requests: usize,
    sockets: usize,
    faults: Vec<String>,
}

impl Suite {
    /// Whether the vector is taken there. What is refused must have no effect at all.
    async fn ask(&mut self, vector: &Vector, place: Place) -> bool {
        let jti = format!("set-{}", self.sets);
        self.sets += 1;
        let taken = if place == Claims {
            let claims = [br#"{"x":"#, vector.bytes.as_slice(), b"}"].concat();
            decode(&format!("e30.{}.", URL_SAFE_NO_PAD.encode(claims))).is_ok()
        } else {
            let set = format!("{}:{}", json!(jti), json!(self.sign(&jti)));
            let before = self.effects().await;
            let (status, answer) = self.receiver.post(&object(place, &vector.bytes, &set)).await;
            self.requests += 1;
            let after = self.effects().await;
            // One SET more, and the ack if it is still of use; a body without either has no effect when it is taken, too.
            let more = u64::from(place != Whole && status == 200);
            self.check(&vector.name, place, [400, 200].contains(&status), &format!("answered {status} {answer}"));
            self.check(&vector.name, place, after[0] == before[0] + more, "the SET beside it counts wrongly");
            self.check(&vector.name, place, status == 200 || after == before, "refused, and something has changed");
            status == 200
        };
        if vector.must_be_taken(place).is_some_and(|must| must != taken) {
            self.faults.push(format!("{} {place:?}: {}", vector.name, if taken { "taken" } else { "refused" }));
        }
        taken
    }

    fn check(&mut self, name: &str, place: Place, ok: bool, what: &str) {
        if !ok {
            self.faults.push(format!("{name} {place:?}: {what}"));
        }
    }

    /// What an object can change: received, refused by us, acked and refused by the partner.
    async fn effects(&self) -> [u64; 4] {
        let status = self.receiver.transceiver.peer(PARTNER).await.unwrap();
        [status.received, status.rejected, status.acked, status.refused]
    }

    fn sign(&self, jti: &str) -> String {
        let now = SystemClock::new().now().wall.0 / 1000;
        let claims = json!({
            "iss": THEIRS, "aud": OURS, "iat": now, "jti": jti,
            "sub_id": {"format": "opaque", "id": jti}, "events": {TYPE: {}},
        });
        self.key.sign(claims.as_object().unwrap()).unwrap().to_string()
    }
}

/// Sends these bytes as a text message on a WebSocket of its own: the code with which we close it.
async fn say_void(receiver: &Receiver, text: &[u8]) -> Option<u16> {
    let mut request = format!("ws://{}/pushpull", receiver.address).into_client_request().unwrap();
    let bearer = HeaderValue::try_from(format!("Bearer {}", receiver.token.expose())).unwrap();
    request.headers_mut().insert("authorization", bearer);
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("pushpull"));
    let exchange = async {
        let stream = TcpStream::connect(receiver.address).await.unwrap();
        let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        let frame = Frame::message(text.to_vec(), OpCode::Data(Data::Text), true);
        socket.send(Message::Frame(frame)).await.unwrap();
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                // What it has to send to us comes, too.
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return None,
            }
        }
    };
    timeout(PATIENCE, exchange).await.expect("an end in time")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let file = std::env::args().nth(1).expect("usage: json_suite VECTORS");
    let package: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let vectors: Vec<Vector> = package.iter().flat_map(Vector::read).collect();
    let key = SigningKey::generate(Algorithm::EdDsa, "them-1").unwrap().0;
    let receiver = Receiver::start(&KeySet::of([key.public_jwk()]).to_json().to_string()).await;
    let draft = Draft {
        event_type: TYPE.to_owned(),
        sub_id: json!({"format": "opaque", "id": "x"}),
        event: Map::new(),
        jti: Some("ours".into()),
        txn: None,
    };
    receiver.transceiver.send(PARTNER, Event::Draft(draft)).await.unwrap();
    let mut suite = Suite { receiver, key, sets: 0, requests: 0, sockets: 0, faults: Vec::new() };

    let (refused, rest): (Vec<&Vector>, Vec<&Vector>) = vectors.iter().partition(|vector| vector.name.starts_with('n'));
    for vector in &refused {
        for place in PLACES {
            suite.ask(vector, place).await;
        }
        for place in [Whole, Member] {
            let set = format!("{}:{}", json!("by-socket"), json!(suite.sign("by-socket")));
            let code = say_void(&suite.receiver, &object(place, &vector.bytes, &set)).await;
            suite.sockets += 1;
            suite.check(&vector.name, place, code == Some(1007), &format!("the WebSocket closed with {code:?}"));
        }
    }
    let untouched = suite.effects().await;
    suite.check("all n_", Whole, untouched == [0; 4], &format!("they had effects: {untouched:?}"));
    let mut choices: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    for vector in &rest {
        let mut taken = Vec::new();
        for place in PLACES {
            taken.push(suite.ask(vector, place).await);
        }
        if vector.name.starts_with('i') {
            choices.insert(&vector.name, taken);
        }
    }
    let acked = suite.effects().await[2];
    suite.check("all y_", Member, acked == 1, &format!("their ack counted {acked} times, not once"));

    let count = |prefix| package.iter().filter(|vector| vector["name"].as_str().unwrap().starts_with(prefix)).count();
    let counts = [count("y_"), count("n_"), count("i_")];
    if counts != [95, 188, 35] {
        suite.faults.push(format!("95 y_, 188 n_ and 35 i_ were expected, found {counts:?}"));
    }
    println!("\nvalid JSON that is refused:");
    for (name, why) in STRICTER {
        println!("  {name}: {why}");
    }
    println!("\nleft to the implementation; * had bytes that are no UTF-8, which the package has lost:");
    println!("  {:<58} {}", "", PLACES.map(|place| format!("{place:?}")).join(" "));
    for (name, taken) in &choices {
        let mended = if vectors.iter().any(|vector| vector.name == *name && vector.mended) { "*" } else { "" };
        let cell = |(place, taken): (&Place, &bool)| {
            let width = format!("{place:?}").len();
            format!("{:<width$}", if *taken { "yes" } else { "no" })
        };
        let row: Vec<String> = PLACES.iter().zip(taken).map(cell).collect();
        println!("  {:<58} {}", format!("{name}{mended}"), row.join(" "));
    }
    for fault in &suite.faults {
        println!("FAULT {fault}");
    }
    let Suite { requests, sockets, faults, .. } = &suite;
    println!(
        "\nJSONTestSuite: {} vectors, {requests} requests, {sockets} WebSockets, {} faults",
        package.len(),
        faults.len()
    );
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
