//! The dialler itself: literal addresses in all spellings, and a name server that lies.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use pushpull::wire::net::{Allow, ConnectError, Dialer, Resolve, Target};
use tokio::net::TcpListener;

use super::canary::Canary;
use super::urls::{HOSTS, Host};

#[tokio::test]
async fn no_spelling_of_an_address_leads_to_one_that_is_blocked() {
    let canary = Canary::new();
    let dialer = Dialer::new(Allow::default()).with_connect_timeout(Duration::from_secs(2));
    let (mut tried, port) = (0, canary.port());
    for host in &HOSTS {
        let (Host::Blocked(text) | Host::Unreadable(text)) = host;
        for scheme in ["https", "wss", "http", "ws"] {
            let url = format!("{scheme}://{text}:{port}/x");
            match (Target::parse(&url), host) {
                (Err(_), Host::Unreadable(_)) => {}
                (Err(error), Host::Blocked(_)) => panic!("{url}: {error}"),
                (Ok(_), Host::Unreadable(_)) => panic!("{url} was read"),
                (Ok(target), Host::Blocked(_)) => {
                    let error = dialer.connect(&target, None).await.expect_err(&url);
                    // Any other error would mean that something was tried.
                    let refused = matches!(error, ConnectError::Blocked { .. } | ConnectError::Plaintext { .. });
                    assert!(refused, "{url}: {error}");
                }
            }
            canary.is_untouched(&url);
            tried += 1;
        }
    }
    println!("{tried} URLs, no connection");
    // And the canary can sing.
    let allowed = Dialer::new(Allow::parse(["127.0.0.0/8"]).unwrap());
    allowed.connect(&Target::parse(&format!("http://127.0.0.1:{port}/")).unwrap(), None).await.unwrap();
    canary.is_touched();
}

/// A name server that answers as its script says, one answer for each question, the last one for ever.
#[derive(Debug, Default)]
struct Liar {
    script: Mutex<VecDeque<Vec<&'static str>>>,
    asked: Mutex<Vec<String>>,
}

impl Liar {
    fn new(answers: &[&[&'static str]]) -> Arc<Self> {
        let script = answers.iter().map(|answer| answer.to_vec()).collect();
        Arc::new(Self { script: Mutex::new(script), asked: Mutex::default() })
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Resolve for Liar {
    fn resolve(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        self.asked.lock().unwrap().push(host);
        let mut script = self.script.lock().unwrap();
        let answer = if script.len() > 1 { script.pop_front().unwrap() } else { script[0].clone() };
        let found = answer.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect();
        async move { Ok(found) }.boxed()
    }
}

/// Somebody at 127.0.0.2, which is all that may be connected to.
async fn allowed() -> (TcpListener, Dialer, u16) {
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, Dialer::new(Allow::parse(["127.0.0.2"]).unwrap()), port)
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_followed() {
    let canary = Canary::new();
    let url = format!("https://partner.example:{}/", canary.port());
    let target = Target::parse(&url).unwrap();
    for answer in [
        &["127.0.0.1"][..],
        &["::1"],
        &["10.0.0.1"],
        &["169.254.169.254"],
        &["192.168.1.1", "10.1.1.1"],
        &["::ffff:127.0.0.1"],
        &["64:ff9b::7f00:1"],
        &["fd00::1"],
        &["100.64.0.1"],
        &["0.0.0.0"],
        &["::"],
        &["2002:7f00:1::1"],
    ] {
        let dialer = Dialer::new(Allow::default()).with_resolver(Liar::new(&[answer]));
        let error = dialer.connect(&target, None).await.expect_err("it leads inside");
        assert!(matches!(error, ConnectError::Blocked { .. }), "{answer:?}: {error}");
        canary.is_untouched(&format!("{answer:?}"));
    }
}

#[tokio::test]
async fn of_mixed_answers_only_those_that_are_allowed_are_tried() {
    let (listener, dialer, port) = allowed().await;
    let canary = Canary::beside(port);
    let liar = Liar::new(&[&["127.0.0.1", "::1", "127.0.0.2", "10.0.0.1"]]);
    let dialer = dialer.with_resolver(liar.clone());
    let target = Target::parse(&format!("ws://partner.example:{port}/")).unwrap();
    dialer.connect(&target, None).await.unwrap();
    assert!(listener.accept().await.unwrap().1.ip().is_loopback());
    canary.is_untouched("mixed answers");
    assert_eq!(liar.asked(), 1);
}

#[tokio::test]
async fn the_address_that_was_checked_is_the_one_that_is_dialled() {
    let (listener, dialer, port) = allowed().await;
    let canary = Canary::beside(port);
    // Rebinding: the first answer is harmless, every later one leads inside.
    let liar = Liar::new(&[&["127.0.0.2"], &["127.0.0.1"]]);
    let dialer = dialer.with_resolver(liar.clone());
    let target = Target::parse(&format!("http://partner.example:{port}/")).unwrap();
    dialer.connect(&target, None).await.unwrap();
    listener.accept().await.unwrap();
    assert_eq!(liar.asked(), 1, "a second question could have had another answer");
    for _ in 0..3 {
        let error = dialer.connect(&target, None).await.expect_err("now it leads inside");
        assert!(matches!(error, ConnectError::Blocked { .. }), "{error}");
    }
    canary.is_untouched("rebinding");
}

#[tokio::test]
async fn more_answers_than_are_any_help_hide_nothing() {
    let (_listener, dialer, port) = allowed().await;
    let canary = Canary::beside(port);
    let many: Vec<&'static str> = std::iter::repeat_n("10.0.0.1", 500).chain(["127.0.0.1"]).collect();
    let dialer = dialer.with_resolver(Liar::new(&[&many]));
    let target = Target::parse(&format!("https://partner.example:{port}/")).unwrap();
    assert!(matches!(dialer.connect(&target, None).await, Err(ConnectError::Blocked { .. })));
    canary.is_untouched("five hundred answers");
}
