//! The Responder over HTTP: whatever comes by a connection of the public listener, head and body, to the routes and on
//! into the engine.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use pushpull::auth::{KeyRing, Secret};
use pushpull::set::{Algorithm, SigningKey};
use pushpull::transport::{App, Directory, router};
use pushpull::wire;

use super::frames;
use super::site::{self, LIMITS, Wire, within};
use super::strict::{self, Json};

/// The bearer token that the partner has; inputs know it.
pub const TOKEN: &str = "s3cret";

/// Longest head of a request.
const HEAD_MAX: usize = 8 << 10;

/// Answers the bytes of one connection by bytes.
pub type Serve = fn(usize, &[u8]) -> Vec<u8>;

/// Feeds the program's routes. The first byte says how many bytes come at a time.
pub fn check(data: &[u8]) {
    check_with(serve, data);
}

/// The same of any server.
pub fn check_with(serve: Serve, data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else { return };
    let portion = [usize::MAX, 1, 7, 200][usize::from(first & 3)];
    let written = serve(portion, bytes);
    if bytes.windows(5).any(|part| part == b"HEAD ") {
        // Whether a body follows an answer cannot be told from it.
        return;
    }
    let mut rest = &written[..];
    let mut first = true;
    while let Some(answer) = Answer::read(rest) {
        rest = answer.rest;
        answer.is_well_made();
        if first && answer.status >= 200 {
            answer.is_right_for(bytes);
        }
        first &= answer.status < 200;
        if answer.status == 101 {
            frames::read(rest, false);
            return;
        }
    }
    assert!(rest.is_empty(), "half an answer: {}", rest.escape_ascii());
}

/// The program's own server.
pub fn serve(portion: usize, bytes: &[u8]) -> Vec<u8> {
    static KEYS: LazyLock<Arc<KeyRing>> = LazyLock::new(|| {
        let (key, _) = SigningKey::generate(Algorithm::EdDsa, "ours").expect("a key");
        KeyRing::of(vec![key], None, pushpull::clock::Wall(0)).expect("one key")
    });
    static SECRET: LazyLock<Secret> = LazyLock::new(|| Secret::new(TOKEN.to_owned(), "here").expect("a token"));
    within(async |site| {
        let directory = Directory::default();
        drop(directory.change(&[], &[(Arc::clone(&site.partner), std::slice::from_ref(&*SECRET))]).expect("free"));
        let app = App {
            directory: Arc::new(directory),
            pushpull: Arc::new(ArcSwap::new(Arc::clone(&site.config))),
            keys: Arc::clone(&KEYS),
            clock: Arc::clone(&site.clock),
            stop: site.stop.clone(),
        };
        let service = TowerToHyperService::new(router(Arc::new(app), site::metrics()));
        let wire = Wire::new(bytes, portion);
        let written = wire.written();
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.header_read_timeout(None).max_header_size(HEAD_MAX).max_buf_size(HEAD_MAX);
        // An error is how the engine ends a connection that it does not understand.
        let _ = builder.serve_connection(TokioIo::new(wire), service).with_upgrades().await;
        for _ in 0..100 {
            if site.partner.link().sockets == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(site.partner.link().sockets, 0, "a WebSocket never ends");
        written.take()
    })
}

struct Answer<'a> {
    status: u16,
    headers: Vec<(String, String)>,
    body: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Answer<'a> {
    /// The first answer in what was written, if one begins there.
    fn read(written: &'a [u8]) -> Option<Self> {
        let end = written.windows(4).position(|part| part == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&written[..end]).expect("heads are ASCII");
        let mut lines = head.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.").expect("an answer of HTTP/1");
        let status = status.split(' ').nth(1)?.parse().expect("a status");
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").expect("name and value"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let rest = &written[end + 4..];
        let length = headers.iter().find(|(name, _)| name == "content-length").map(|(_, length)| length);
        let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
        let length = if status < 200 { 0 } else { length };
        let (body, rest) = rest.split_at_checked(length).expect("the body is whole");
        Some(Self { status, headers, body, rest })
    }

    fn header(&self, wanted: &str) -> Option<&str> {
        self.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    fn is_well_made(&self) {
        const STATUSES: [u16; 15] = [100, 101, 200, 400, 401, 403, 404, 405, 408, 413, 414, 415, 426, 431, 503];
        assert!(STATUSES.contains(&self.status), "{}", self.status);
        if self.status == 401 {
            assert!(self.header("www-authenticate").is_some());
        }
        if self.header("content-type") == Some("application/json") && !self.body.is_empty() {
            let json = strict::read(self.body);
            let members = json.as_ref().and_then(Json::members).expect("an answer is a strict JSON object");
            if self.status != 200 {
                let known = |name: &str| members.iter().any(|(own, value)| own == name && value.text().is_some());
                assert!(known("err") && known("description"), "an error says what and why (RFC 8935 §2.3)");
                assert_eq!(self.header("content-language"), Some("en"));
            }
            assert!(self.header("cache-control").is_some());
        }
    }

    /// As far as the request can be told from the bytes: one with a length, and complete.
    fn is_right_for(&self, bytes: &[u8]) {
        let Some((head, body)) = head_and_rest(bytes) else { return };
        let mut lines = head.into_iter();
        let line = lines.next().unwrap_or_default();
        let headers: Vec<(String, &str)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim_matches([' ', '\t'])))
            .collect();
        let only = |wanted: &str| {
            let mut found = headers.iter().filter(|(name, _)| name == wanted);
            found.next().filter(|_| found.next().is_none()).map(|(_, value)| *value)
        };
        if self.status != 200 || line != "POST /pushpull HTTP/1.1" {
            return;
        }
        let scheme = only("authorization").and_then(|value| value.split_once(' ')).expect("only who may is answered");
        assert!(scheme.0.eq_ignore_ascii_case("bearer") && scheme.1.trim() == TOKEN, "{scheme:?}");
        let media = only("content-type").expect("one content type").to_ascii_lowercase();
        assert!(media.starts_with("application/json"), "{media}");
        assert!(only("content-encoding").is_none());
        let Some(length) = only("content-length").and_then(|length| length.parse::<usize>().ok()) else { return };
        assert!(length <= LIMITS.object_bytes_max, "a body of {length} bytes is taken");
        let Some(body) = body.get(..length) else { panic!("half a body is answered by 200") };
        let request = strict::read(body).expect("what is no strict JSON is answered by 200");
        let sets = wire::parse(self.body, &wire::Limits::default()).expect("the answer is a Communication Object").sets;
        let most = request.get("maxResponseEvents").and_then(Json::number).unwrap_or(f64::MAX);
        assert!(sets.len() as f64 <= most && sets.len() <= LIMITS.sets_per_object_max, "{} SETs", sets.len());
    }
}

/// The lines of a request's head, and what follows it. A line may end without CR (RFC 9112 §2.2).
fn head_and_rest(bytes: &[u8]) -> Option<(Vec<&str>, &[u8])> {
    let mut lines = Vec::new();
    let mut rest = bytes;
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let line = std::str::from_utf8(&rest[..end]).ok()?;
        rest = &rest[end + 1..];
        match line.strip_suffix('\r').unwrap_or(line) {
            "" => return Some((lines, rest)),
            line => lines.push(line),
        }
    }
}
