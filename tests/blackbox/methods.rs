//! Every delivery method in one direction with every one in the other: SETs cross exactly once, though each side is killed on
//! the way.

use std::collections::BTreeSet;
use std::net::TcpListener;

use serde_json::Value;

use crate::common::daemon::{Daemon, Plan, write};
use crate::common::until;

/// SETs each way.
const SETS: usize = 2_000;

/// SETs in one call.
const CALL: usize = 250;

/// By what SETs go from one side to the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Method {
    Push,
    MultiPush,
    Poll,
    Http,
    Websocket,
}

const METHODS: [Method; 5] = [Method::Push, Method::MultiPush, Method::Poll, Method::Http, Method::Websocket];

impl Method {
    fn word(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::MultiPush => "multi-push",
            Self::Poll => "poll",
            Self::Http => "http",
            Self::Websocket => "websocket",
        }
    }

    /// The endpoint at this port.
    fn endpoint(self, port: u16) -> String {
        let (scheme, path) = match self {
            Self::Push => ("http", "push"),
            Self::MultiPush => ("http", "multi-push"),
            Self::Poll => ("http", "poll"),
            Self::Http => ("http", "pushpull"),
            Self::Websocket => ("ws", "pushpull"),
        };
        format!("{scheme}://127.0.0.1:{port}/{path}")
    }
}

const NAMES: [&str; 2] = ["alpha", "beta"];

/// Two daemons. The first sends by the first method, the other by the other one.
struct Pair {
    daemons: [Daemon; 2],
    sent: [Vec<String>; 2],
}

impl Pair {
    async fn start(methods: [Method; 2]) -> Self {
        let ports = [free_port(), free_port()];
        let start = async |side: usize| {
            let other = 1 - side;
            let issuer = |side: usize| format!("https://{}.example", NAMES[side]);
            let plan = Plan::of(&issuer(side), false).at_port(ports[side]).at_level("info");
            // What we send by goes out from here; what the other sends may be collected from there.
            let mut block = match methods[side] {
                Method::Poll => "transport = \"none\"\n".to_owned(),
                sent => format!("transport = \"{}\"\nendpoint = \"{}\"\n", sent.word(), sent.endpoint(ports[other])),
            };
            if methods[other] == Method::Poll {
                let polled = Method::Poll.endpoint(ports[other]);
                block = match methods[side] {
                    Method::Poll => format!("transport = \"poll\"\nendpoint = \"{polled}\"\n"),
                    _ => format!("{block}poll_endpoint = \"{polled}\"\n"),
                };
            }
            let tokens =
                [format!("token-of-{}-0123456789", NAMES[side]), format!("token-of-{}-0123456789", NAMES[other])];
            write(&plan.dir().join("ours.token"), &tokens[0]);
            write(&plan.dir().join("theirs.token"), &tokens[1]);
            let block = format!(
                "[[peer]]\nname = \"{}\"\nissuer = \"{}\"\njwks_uri = \"http://127.0.0.1:{}/jwks.json\"\n{block}\
                 token_file = \"ours.token\"\naccept_token_file = \"theirs.token\"\n",
                NAMES[other],
                issuer(other),
                ports[other]
            );
            plan.with(&block).start().await
        };
        let (first, second) = tokio::join!(start(0), start(1));
        Self { daemons: [first, second], sent: [Vec::new(), Vec::new()] }
    }

    /// Both hand in so many SETs.
    async fn send(&mut self, count: usize) {
        for side in 0..2 {
            let from = self.sent[side].len();
            let jtis: Vec<String> = (from..from + count).map(|n| format!("{}-{n}", NAMES[side])).collect();
            self.daemons[side].send_all(NAMES[1 - side], &jtis).await;
            self.sent[side].extend(jtis);
        }
    }

    async fn bounce(&mut self, side: usize) {
        self.daemons[side].kill().await;
        self.daemons[side].restart().await;
    }

    /// Waits until all that was sent has its verdict, and looks whether it all is there, each once.
    async fn arrived(&self) {
        for side in 0..2 {
            let (from, to) = (&self.daemons[side], &self.daemons[1 - side]);
            let count = self.sent[side].len();
            until("everything settled", async || (from.totals(NAMES[1 - side]).await["queued"] == 0).then_some(()))
                .await;
            let totals = from.totals(NAMES[1 - side]).await;
            assert_eq!((&totals["acked"], &totals["refused"], &totals["dead"]), (&count.into(), &0.into(), &0.into()));
            let status = to.get(&format!("/api/v1/peers/{}", NAMES[side])).await;
            assert_eq!(status["received"], Value::from(count), "{status}");
            let inbox = to.inbox().await;
            let came: BTreeSet<&String> = inbox.iter().map(|(_, jti)| jti).collect();
            assert_eq!((inbox.len(), came.len()), (count, count), "twice, or not at all");
            assert!(self.sent[side].iter().all(|jti| came.contains(jti)));
        }
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn crosses_exactly_once(first: Method) {
    for second in METHODS {
        let mut pair = Pair::start([first, second]).await;
        for call in 0..SETS / CALL {
            pair.send(CALL).await;
            match call {
                2 => pair.bounce(0).await,
                4 => pair.bounce(1).await,
                _ => {}
            }
        }
        pair.arrived().await;
        println!("{first:?} one way, {second:?} the other: each once");
    }
}

#[tokio::test]
async fn push_with_every_other_method() {
    crosses_exactly_once(Method::Push).await;
}

#[tokio::test]
async fn multi_push_with_every_other_method() {
    crosses_exactly_once(Method::MultiPush).await;
}

#[tokio::test]
async fn poll_with_every_other_method() {
    crosses_exactly_once(Method::Poll).await;
}

#[tokio::test]
async fn push_pull_over_http_with_every_other_method() {
    crosses_exactly_once(Method::Http).await;
}

#[tokio::test]
async fn push_pull_over_websocket_with_every_other_method() {
    crosses_exactly_once(Method::Websocket).await;
}
