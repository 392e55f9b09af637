//! The WebSocket layer at both ends: a partner that says anything at all after the handshake, or instead of it.

use std::sync::Arc;

use pushpull::transport::pushpull::{Dial, converse};
use pushpull::wire::net::{Allow, Dialer, Target};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::frames;
use super::site::{Site, WAITING, Wire, within};

/// What came of a conversation.
#[derive(Debug)]
pub struct Ended {
    /// All that we wrote.
    pub written: Vec<u8>,
    /// Whether there was a WebSocket at all.
    pub opened: bool,
}

/// Who is at our end, as the first byte of an input says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// The handshake is over, frames of a client follow.
    Server,
    /// Our handshake is answered by the input.
    Client,
}

/// Holds one conversation.
pub type Hold = fn(Role, usize, &[u8]) -> Ended;

/// Runs the program's WebSocket layer. The first byte says in which role, and how many bytes come at a time.
pub fn check(data: &[u8]) {
    check_with(hold, data);
}

/// The same of anybody's layer.
pub fn check_with(hold: Hold, data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else { return };
    let role = if first & 1 == 0 { Role::Server } else { Role::Client };
    let portion = [usize::MAX, 1, 7, 200][usize::from(first >> 1 & 3)];
    let ended = hold(role, portion, bytes);
    let written = match role {
        Role::Server => &ended.written[..],
        Role::Client => after_head(&ended.written),
    };
    if !ended.opened {
        return assert!(written.is_empty(), "frames before the handshake is over");
    }
    let heard = frames::read(written, role == Role::Client);
    if let Some(Some((code, _))) = heard.close {
        // What we close with (docs/delivery.md), and whatever the partner closed with, given back.
        let ours = [1001, 1002, 1003, 1007, 1008, 1009, 1011, 1013].contains(&code);
        let theirs = code.to_be_bytes();
        let partner_said = bytes.windows(2).any(|two| two[0] == theirs[0] && two[1] == theirs[1]);
        assert!(ours || partner_said || role == Role::Server, "we close with {code}");
    }
    let sets: usize = heard.texts.iter().map(|text| text.windows(6).filter(|part| part == b"\"ours-").count()).sum();
    assert!(sets <= WAITING * 2, "SETs go out again and again");
}

/// The program's own.
pub fn hold(role: Role, portion: usize, bytes: &[u8]) -> Ended {
    within(async |site| {
        let partner = Arc::clone(&site.partner);
        let ended = match role {
            Role::Server => accept(site, portion, bytes).await,
            Role::Client => dial(site, portion, bytes).await,
        };
        assert_eq!(partner.link().sockets, 0, "a connection is still counted");
        ended
    })
}

async fn accept(site: Site, portion: usize, bytes: &[u8]) -> Ended {
    let wire = Wire::new(bytes, portion);
    let written = wire.written();
    let seat = site.partner.seat();
    let why = converse(wire, seat, site.config, site.stop, None).await;
    assert!(!why.is_empty());
    Ended { written: written.take(), opened: true }
}

async fn dial(site: Site, portion: usize, bytes: &[u8]) -> Ended {
    let wire = Wire::new(bytes, portion).answering(accept_key);
    let written = wire.written();
    let dial = Dial {
        dialer: Arc::new(Dialer::new(Allow::default())),
        target: Target::parse("wss://partner.example/pushpull").expect("a URL"),
        pin: None,
        token: None,
        http_only: false,
        name: None,
        clock: site.clock,
    };
    let seat = site.partner.seat();
    let ended = dial.converse(wire, seat, site.config, site.stop).await;
    assert!(!ended.as_ref().unwrap_or_else(|why| why).is_empty());
    Ended { written: written.take(), opened: ended.is_ok() }
}

/// Puts the right `Sec-WebSocket-Accept` where the input asks for it: no input could know it.
fn accept_key(request: &[u8], answer: Vec<u8>) -> Vec<u8> {
    const HERE: &[u8] = b"{accept}";
    let Some(at) = answer.windows(HERE.len()).position(|part| part == HERE) else { return answer };
    let request = String::from_utf8_lossy(request);
    let key = request
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    let key = derive_accept_key(key.expect("a handshake has a key").1.as_bytes());
    [&answer[..at], key.as_bytes(), &answer[at + HERE.len()..]].concat()
}

/// What follows the head of our request.
fn after_head(written: &[u8]) -> &[u8] {
    let end = written.windows(4).position(|part| part == b"\r\n\r\n").expect("a request has a head");
    &written[end + 4..]
}
