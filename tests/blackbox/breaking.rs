//! A partner that breaks off at one SET, without a word on which: it must not keep the others, and a partner that is down for
//! all of them must not be taken for one.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use futures_util::future::Either;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::initiator::{dialling, dialling_websockets};
use crate::common::daemon::{Daemon, Plan};
use crate::common::partner::Partner;
use crate::common::responder::Request;
use crate::common::socket::{Came, Socket};
use crate::common::{soon, until};

/// SETs that are queued together.
const SETS: usize = 60;

/// Those at which the partner breaks off, and which wait for a second or two then.
#[derive(Clone)]
struct Poison(Range<usize>);

const ONE: Poison = Poison(17..18);

const FIRST: Poison = Poison(0..1);

/// More side by side than may fail alone until it is taken for the partner.
const MANY: Poison = Poison(20..32);

impl Poison {
    fn is_in(&self, jtis: &[String]) -> bool {
        jtis.iter().any(|jti| self.0.clone().any(|number| *jti == jti_of(number)))
    }

    fn others(&self) -> usize {
        SETS - self.0.len()
    }
}

fn jti_of(number: usize) -> String {
    format!("event-{number:02}")
}

const QUICK: &str = "[delivery]\nspeak_interval = \"1h\"\nretry_first = \"2s\"\nretry_max = \"2s\"\n";

/// How a partner breaks off.
#[derive(Clone, Copy, Debug)]
enum How {
    Answers(u16),
    Resets,
}

impl How {
    fn at(self, request: Request) {
        match self {
            Self::Answers(status) => request.answer(status, &[], "no word on why"),
            Self::Resets => request.lose(),
        }
    }
}

async fn queued_at_once(daemon: &Daemon) {
    let jtis: Vec<String> = (0..SETS).map(jti_of).collect();
    daemon.admin("POST", "/api/v1/peers/globex/pause", None).await;
    daemon.send_all("globex", &jtis).await;
    daemon.admin("POST", "/api/v1/peers/globex/resume", None).await;
}

/// All others have been acked, and these are still queued.
async fn all_but(poison: &Poison, daemon: &Daemon) {
    let acked = async || (daemon.totals("globex").await["acked"] == poison.others()).then_some(());
    until("the others acked", acked).await;
    let totals = daemon.totals("globex").await;
    assert_eq!((&totals["refused"], &totals["dead"]), (&json!(0), &json!(0)));
    assert_eq!(totals["queued"], poison.0.len());
}

async fn the_others_arrive(transport: &str, taken: u16, how: How, poison: Poison) {
    let what = format!("{transport}, {how:?}");
    let (mut responder, _, daemon) = dialling(transport, QUICK).await;
    if transport == "http" {
        responder.request().await.answer_object(&json!({}));
    }
    queued_at_once(&daemon).await;
    let (mut arrived, mut alone) = (BTreeSet::new(), false);
    let taking = async {
        while arrived.len() < poison.others() || !alone {
            let request = responder.request().await;
            let jtis = request.jtis();
            if poison.is_in(&jtis) {
                alone |= jtis.len() == 1;
                how.at(request);
            } else {
                request.answer(taken, &[], &json!({"ack": jtis}).to_string());
                for jti in jtis {
                    assert!(arrived.insert(jti.clone()), "{what}: {jti} arrived twice");
                }
            }
        }
    };
    soon(&what, taking).await;
    all_but(&poison, &daemon).await;
    // They come again by themselves, and are none the worse for what they were taken for.
    let taking = async {
        while daemon.totals("globex").await["acked"] != SETS {
            if let Some(request) = responder.request_within(Duration::from_millis(50)).await {
                let jtis = request.jtis();
                assert!(poison.0.len() > 1 || jtis.len() == 1, "{what}: {jtis:?}");
                request.answer(taken, &[], &json!({"ack": jtis}).to_string());
            }
        }
    };
    soon(&what, taking).await;
}

#[tokio::test]
async fn one_set_at_which_a_partner_breaks_off_keeps_no_other_where_many_are_pushed() {
    tokio::join!(
        the_others_arrive("multi-push", 202, How::Answers(500), ONE),
        the_others_arrive("multi-push", 202, How::Resets, ONE)
    );
}

#[tokio::test]
async fn one_set_at_which_a_partner_breaks_off_keeps_no_other_over_http() {
    tokio::join!(
        the_others_arrive("http", 200, How::Answers(500), ONE),
        the_others_arrive("http", 200, How::Answers(422), ONE),
        the_others_arrive("http", 200, How::Resets, ONE)
    );
}

#[tokio::test]
async fn many_side_by_side_keep_no_other_where_many_are_pushed_and_over_http() {
    tokio::join!(
        the_others_arrive("multi-push", 202, How::Answers(500), MANY),
        the_others_arrive("http", 200, How::Resets, MANY)
    );
}

#[tokio::test]
async fn many_side_by_side_keep_no_other_where_each_is_pushed() {
    // More than are under way together, beside those that may fail before it is taken for the partner.
    the_others_arrive("push", 202, How::Answers(500), Poison(20..40)).await;
}

/// The partner says nothing at the first of them, and keeps the request; it has answered another one before.
async fn the_others_do_not_wait_out_each_silence(transport: &str, taken: u16) {
    let (mut responder, _, daemon) = dialling(transport, QUICK).await;
    if transport == "http" {
        responder.request().await.answer_object(&json!({}));
    }
    daemon.send_all("globex", &["before".to_owned()]).await;
    let ack = |jtis: &[String]| json!({"ack": jtis}).to_string();
    let before = responder.request().await;
    let jtis = before.jtis();
    before.answer(taken, &[], &ack(&jtis));
    queued_at_once(&daemon).await;
    let (mut arrived, mut kept) = (BTreeSet::new(), Vec::new());
    let taking = async {
        while arrived.len() < SETS - 1 {
            let Some(request) = responder.request_within(Duration::from_secs(40)).await else { continue };
            let jtis = request.jtis();
            if FIRST.is_in(&jtis) {
                kept.push(request);
            } else {
                request.answer(taken, &[], &ack(&jtis));
                arrived.extend(jtis);
            }
        }
    };
    // Once it is waited for as long as ever, half a minute, and then for seconds. Each step of the search used to take half a minute.
    let most = Duration::from_secs(75);
    assert!(tokio::time::timeout(most, taking).await.is_ok(), "{transport}: {} arrived in {most:?}", arrived.len());
    assert!(kept.len() <= 4, "{transport}: the partner was silent {} times", kept.len());
}

#[tokio::test]
async fn a_set_at_which_a_partner_hangs_costs_one_long_wait() {
    tokio::join!(
        the_others_do_not_wait_out_each_silence("multi-push", 202),
        the_others_do_not_wait_out_each_silence("http", 200)
    );
}

/// What a partner makes of what comes by its WebSocket: none once it has broken off at the one SET.
async fn take_until_it_breaks(
    socket: &mut Socket,
    how: Breaks,
    poison: &Poison,
    arrived: &mut BTreeSet<String>,
    alone: &mut bool,
) {
    loop {
        let object = match socket.next().await {
            Came::Object(object) => object,
            Came::Pong(_) => continue,
            Came::Close(_) | Came::Gone => return,
        };
        let jtis: Vec<String> =
            object["sets"].as_object().map(|sets| sets.keys().cloned().collect()).unwrap_or_default();
        if poison.is_in(&jtis) {
            *alone |= jtis.len() == 1;
            if let Breaks::With(code) = how {
                socket.frame(Frame::Close(Some(CloseFrame { code, reason: "".into() }))).await;
            }
            return;
        }
        socket.send(&json!({"ack": jtis})).await;
        arrived.extend(jtis);
        if arrived.len() == poison.others() && *alone {
            return;
        }
    }
}

/// How a partner breaks a WebSocket.
#[derive(Clone, Copy, Debug)]
enum Breaks {
    /// By closing it so.
    With(CloseCode),
    /// Without a word.
    Off,
}

async fn the_others_arrive_by_websockets_that_we_dial(how: Breaks) {
    let (mut responder, _, daemon) = dialling_websockets().await;
    queued_at_once(&daemon).await;
    let (mut arrived, mut alone) = (BTreeSet::new(), false);
    let taking = async {
        while arrived.len() < ONE.others() || !alone {
            // Where WebSockets do not last, HTTP is used for a while, and the search goes on by it.
            match responder.socket_or_request().await {
                Either::Left(mut socket) => {
                    take_until_it_breaks(&mut socket, how, &ONE, &mut arrived, &mut alone).await;
                    if arrived.len() == ONE.others() && alone {
                        return Some(socket);
                    }
                }
                Either::Right(request) => {
                    let jtis = request.jtis();
                    if ONE.is_in(&jtis) {
                        alone |= jtis.len() == 1;
                        request.lose();
                    } else {
                        request.answer_object(&json!({"ack": jtis}));
                        arrived.extend(jtis);
                    }
                }
            }
        }
        None
    };
    let _open = soon("all the others", taking).await;
    all_but(&ONE, &daemon).await;
}

#[tokio::test]
async fn one_set_at_which_a_partner_closes_the_websockets_that_we_dial_keeps_no_other() {
    tokio::join!(
        the_others_arrive_by_websockets_that_we_dial(Breaks::With(CloseCode::Error)),
        the_others_arrive_by_websockets_that_we_dial(Breaks::Off)
    );
}

async fn the_others_arrive_by_websockets_that_it_dials(poison: Poison) {
    let partner = Partner::new("globex");
    let daemon = Plan::new(false).with(QUICK).with_peer(&partner, "").start().await;
    queued_at_once(&daemon).await;
    let (mut arrived, mut alone) = (BTreeSet::new(), false);
    let close = Breaks::With(CloseCode::Error);
    let taking = async {
        while arrived.len() < poison.others() || !alone {
            let mut socket = Socket::open(&daemon, &partner).await;
            take_until_it_breaks(&mut socket, close, &poison, &mut arrived, &mut alone).await;
        }
    };
    soon("all the others", taking).await;
    all_but(&poison, &daemon).await;
    let told = async || {
        let peer = daemon.get("/api/v1/peers/globex").await;
        let advice = peer["advice"]["why"].as_str()?.to_owned();
        advice.contains("its last WebSocket ended").then_some(())
    };
    until("why its WebSockets end", told).await;
    let mut socket = Socket::open(&daemon, &partner).await;
    let taking = async {
        while arrived.len() < SETS {
            let object = socket.object().await;
            let jtis: Vec<String> =
                object["sets"].as_object().map(|sets| sets.keys().cloned().collect()).unwrap_or_default();
            socket.send(&json!({"ack": jtis})).await;
            arrived.extend(jtis);
        }
    };
    soon("the rest", taking).await;
    until("all acked", async || (daemon.totals("globex").await["acked"] == SETS).then_some(())).await;
}

#[tokio::test]
async fn sets_at_which_a_partner_closes_the_websockets_that_it_dials_keep_no_other() {
    tokio::join!(
        the_others_arrive_by_websockets_that_it_dials(ONE),
        the_others_arrive_by_websockets_that_it_dials(MANY)
    );
}

#[tokio::test]
async fn a_partner_that_is_down_for_all_sets_is_asked_seldom_and_no_set_is_blamed_for_ever() {
    let (mut responder, _, daemon) = dialling("multi-push", QUICK).await;
    queued_at_once(&daemon).await;
    let mut asked = 0;
    let down = async {
        loop {
            responder.request().await.answer(500, &[], "");
            asked += 1;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(12), down).await;
    // Two for the partner, a halving each for 60, 30, 15, 8, 4 and 2, eight SETs one by one, and pauses that grow.
    assert!((10..40).contains(&asked), "{asked} requests");
    let taking = async {
        while daemon.totals("globex").await["acked"] != SETS {
            if let Some(request) = responder.request_within(Duration::from_millis(50)).await {
                let jtis = request.jtis();
                request.answer(202, &[], &json!({"ack": jtis}).to_string());
            }
        }
    };
    soon("all of them", taking).await;
    let totals = daemon.totals("globex").await;
    assert_eq!((&totals["refused"], &totals["dead"], &totals["queued"]), (&json!(0), &json!(0), &json!(0)));
}

#[tokio::test]
async fn while_a_partner_takes_nothing_at_all_no_set_uses_up_an_attempt() {
    tokio::join!(nothing_is_charged("multi-push", 202), nothing_is_charged("http", 200));
}

/// Few SETs, so that they would not show that it is the partner.
async fn nothing_is_charged(transport: &str, taken: u16) {
    let (mut responder, _, daemon) = dialling(transport, QUICK).await;
    if transport == "http" {
        responder.request().await.answer_object(&json!({}));
    }
    let jtis = ["one", "two", "three"];
    daemon.send_all("globex", &jtis.map(str::to_owned)).await;
    let mut alone: std::collections::BTreeMap<String, usize> = jtis.map(|jti| (jti.to_owned(), 0)).into();
    let failing = async {
        while alone.values().any(|times| *times < 2) {
            let request = responder.request().await;
            if let [jti] = request.jtis().as_slice() {
                *alone.get_mut(jti).expect("one of them") += 1;
            }
            request.answer(500, &[], "");
        }
    };
    soon("each of them twice by itself", failing).await;
    for jti in jtis {
        let record = daemon.record("out", "globex", jti).await.expect("it is known");
        assert_eq!(record["attempts"], 0, "{transport}, {jti}: {record}");
    }
    let taking = async {
        while daemon.totals("globex").await["acked"] != jtis.len() {
            if let Some(request) = responder.request_within(Duration::from_millis(50)).await {
                let jtis = request.jtis();
                request.answer(taken, &[], &json!({"ack": jtis}).to_string());
            }
        }
    };
    soon("all of them", taking).await;
}
