//! `/api/v1/peers`: how they fare, adding, removing, pausing, verifying.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};

use super::problem::{Problem, json_response};
use super::{AddFault, Admin, RemoveFault, Terms, body};
use crate::clock::{Timestamp, Wall};
use crate::codes::{self, Code};
use crate::quantity::parse_duration;
use crate::transceiver::{LinkState, PeerStatus, SubmitFault, Transceiver, VerifyError};
use crate::transport::NOT_OUR_TOKEN;

/// How long a verification event may take.
const VERIFY_WITHIN: Duration = Duration::from_secs(15);

pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Response<Body> {
    let now = admin.transceiver.now().wall;
    let peers: Vec<Value> = admin.transceiver.peers().await.iter().map(|peer| shown(peer, now)).collect();
    json_response(StatusCode::OK, &with_ours(json!({ "peers": peers }), &admin.transceiver))
}

/// The answer, and beside it what is wrong here, whoever the partner is.
fn with_ours(mut answer: Value, transceiver: &Transceiver) -> Value {
    let troubles = [
        ("store", transceiver.disk_is_full().then_some(Code::StorageFull)),
        ("inbox", transceiver.inbox_is_full().then_some(Code::InboxFull)),
    ];
    for (place, code) in troubles {
        if let Some(code) = code {
            let entry = code.entry();
            answer[place] = json!({ "code": code.as_str(), "why": entry.meaning, "fix": entry.remedy });
        }
    }
    with_clock(answer, transceiver.now())
}

/// The answer, and beside it that the clock is not believed, if that is so.
fn with_clock(mut answer: Value, now: Timestamp) -> Value {
    if now.suspect {
        answer["clock"] = json!({
            "code": Code::ClockSuspect.as_str(),
            "shows": now.shown.to_rfc3339(),
            "dated": now.wall.to_rfc3339(),
            "fix": Code::ClockSuspect.entry().remedy,
        });
    }
    answer
}

pub(super) async fn show(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response<Body> {
    match admin.transceiver.peer(&name).await {
        Some(peer) => {
            json_response(StatusCode::OK, &with_ours(shown(&peer, admin.transceiver.now().wall), &admin.transceiver))
        }
        None => Problem::no_such_peer(&name).respond(),
    }
}

/// Adds a peer at run time: `{"name", "definition": {…the keys of a [[peer]] block}}`.
pub(super) async fn add(State(admin): State<Arc<Admin>>, request: Request<Body>) -> Response<Body> {
    let (name, definition) = match addition(request).await {
        Ok(addition) => addition,
        Err(problem) => return problem.respond(),
    };
    match admin.steward.add_peer(name.clone(), definition).await {
        Ok(()) => json_response(StatusCode::CREATED, &json!({ "name": name })),
        Err(AddFault::Invalid(why)) => Problem::new(StatusCode::BAD_REQUEST, Code::InvalidPeer, why).respond(),
        Err(AddFault::Conflict(why)) => Problem::conflict(why).respond(),
        Err(AddFault::Unavailable(why)) => Problem::unavailable(why).respond(),
    }
}

async fn addition(request: Request<Body>) -> Result<(String, Value), Problem> {
    let mut object = body::object(request).await?;
    let name = body::need_text(&mut object, "name")?;
    let definition = object.remove("definition").filter(Value::is_object);
    let definition = definition.ok_or_else(|| Problem::invalid("definition: expected the keys of a [[peer]] block"))?;
    body::nothing_else(&object, "name and definition")?;
    Ok((name, definition))
}

/// Removes a peer that was added at run time.
pub(super) async fn remove(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    let terms = match terms(query.as_deref().unwrap_or_default()) {
        Ok(terms) => terms,
        Err(problem) => return problem.respond(),
    };
    match admin.steward.remove_peer(name.clone(), terms).await {
        Ok(removal) => json_response(
            StatusCode::OK,
            &json!({
                "name": name,
                "queued": removal.removed.queued,
                "dead_letters": removal.removed.dead,
                "definition": removal.definition,
            }),
        ),
        Err(fault) => kept(&name, fault).respond(),
    }
}

fn terms(query: &str) -> Result<Terms, Problem> {
    let mut terms = Terms::default();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match (&*key, &*value) {
            ("drain", value) => {
                let drain = parse_duration(value);
                terms.drain = Some(drain.ok_or_else(|| Problem::invalid("drain: expected a duration such as 30s"))?);
            }
            ("keep_queue", "true") => terms.keep_queue = true,
            ("keep_queue", "false") => terms.keep_queue = false,
            ("keep_queue", _) => return Err(Problem::invalid("keep_queue: expected true or false")),
            _ => return Err(Problem::invalid(format!("{key:?}: unknown; known are drain and keep_queue"))),
        }
    }
    Ok(terms)
}

/// Why a peer was not removed.
fn kept(name: &str, fault: RemoveFault) -> Problem {
    let conflict = |code, detail: String| Problem::new(StatusCode::CONFLICT, code, detail);
    match fault {
        RemoveFault::NoSuchPeer => Problem::no_such_peer(name),
        RemoveFault::InFile(place) => {
            let detail = format!("peer {name} stands in {place}: it was not added at run time");
            conflict(Code::PeerInFile, detail)
        }
        RemoveFault::HasQueue(queued) => {
            let fix = format!(
                "send them first: `pushpull peer rm {name} --drain 10m`; or keep them for a peer of that name: --keep-queue"
            );
            conflict(Code::PeerHasQueue, format!("{} for {name}, which was not removed", waiting(queued))).fix(fix)
        }
        RemoveFault::Paused(queued) => {
            let detail = format!("{} for {name}, which is paused: they would never leave", waiting(queued));
            conflict(Code::PeerHasQueue, detail).fix(format!("`pushpull peer resume {name}`, or --keep-queue"))
        }
        RemoveFault::NotDrained(queued) => {
            let detail = format!("{} for {name} when the time was over; it was not removed", still_waiting(queued));
            let fix = format!("see why they do not leave: `pushpull status {name}`; or keep them: --keep-queue");
            Problem::new(StatusCode::GATEWAY_TIMEOUT, Code::TimedOut, detail).fix(fix)
        }
        RemoveFault::Unavailable(why) => Problem::unavailable(why),
    }
}

fn waiting(queued: u64) -> String {
    if queued == 1 { "1 SET waits".to_owned() } else { format!("{queued} SETs wait") }
}

fn still_waiting(queued: u64) -> String {
    if queued == 1 { "1 SET still waited".to_owned() } else { format!("{queued} SETs still waited") }
}

pub(super) async fn pause(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response<Body> {
    set_paused(&admin, &name, true).await
}

pub(super) async fn resume(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response<Body> {
    set_paused(&admin, &name, false).await
}

async fn set_paused(admin: &Admin, name: &str, paused: bool) -> Response<Body> {
    match admin.transceiver.pause(name, paused).await {
        Ok(()) => json_response(StatusCode::OK, &json!({ "name": name, "paused": paused })),
        Err(error) => Problem::from(error).respond(),
    }
}

/// Sends a verification event and waits for its ack.
pub(super) async fn verify(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response<Body> {
    match admin.transceiver.verify(&name, VERIFY_WITHIN).await {
        Ok(verified) => {
            let ms = (verified.after.as_secs_f64() * 1e6).round() / 1e3;
            json_response(StatusCode::OK, &json!({ "jti": verified.jti.as_str(), "ms": ms }))
        }
        Err(VerifyError::Submit(error)) if matches!(error.fault, SubmitFault::NoSuchPeer(_)) => {
            Problem::no_such_peer(&name).respond()
        }
        Err(VerifyError::Submit(error)) => Problem::from(error).respond(),
        Err(error @ VerifyError::Refused(_)) => {
            let problem = Problem::new(StatusCode::BAD_GATEWAY, Code::RefusedByPeer, error.to_string());
            if let VerifyError::Refused(refusal) = &error {
                return problem.fix(codes::answer(&refusal.err).remedy).respond();
            }
            problem.respond()
        }
        Err(error) => {
            let problem = Problem::new(StatusCode::GATEWAY_TIMEOUT, Code::TimedOut, error.to_string());
            match admin.transceiver.peer(&name).await {
                Some(peer) if !peer.is_sent_to => problem.fix(format!(
                    "Nothing of ours is brought to {name}: the event leaves when {name} polls us or connects. Whoever only sends to us \
                     cannot be verified."
                )),
                _ => problem,
            }
            .respond()
        }
    }
}

fn shown(peer: &PeerStatus, now: Wall) -> Value {
    let mut value = json!({
        "name": &*peer.name,
        "link": peer.link.as_str(),
        "transport": peer.transport,
        "queued": peer.queued,
        "in_flight": peer.in_flight,
        "oldest_seconds": peer.oldest.map(|age| age.as_secs()),
        "owed": peer.owed,
        "acked": peer.acked,
        "refused": peer.refused,
        "dead": peer.dead,
        "received": peer.received,
        "rejected": peer.rejected,
        "dead_letters": peer.dead_letters,
    });
    let Value::Object(members) = &mut value else { return value };
    members.insert("out".to_owned(), out(peer));
    members.insert("in".to_owned(), incoming(peer));
    members.insert("since".to_owned(), time(peer.since));
    members.insert(
        "keys".to_owned(),
        json!({
            "count": peer.keys.count,
            "age_seconds": peer.keys.age.map(|age| age.as_secs()),
            "trouble": peer.keys.trouble,
        }),
    );
    if let Some(trouble) = &peer.trouble {
        members.insert("trouble".to_owned(), json!(trouble));
    }
    if let Some(socketless) = &peer.socketless {
        members.insert("no_websocket".to_owned(), json!(socketless));
    }
    if peer.busy {
        members.insert("busy".to_owned(), json!(true));
    }
    if let Some((code, why, fix)) = advice(peer, now) {
        let who = code.entry().who.as_str();
        members.insert("advice".to_owned(), json!({ "code": code.as_str(), "why": why, "who_acts": who, "fix": fix }));
    }
    value
}

fn out(peer: &PeerStatus) -> Value {
    let refusal = peer
        .last
        .refusal
        .as_ref()
        .map(|refusal| json!({ "at": refusal.at.to_rfc3339(), "jti": refusal.jti.as_str(), "err": refusal.err }));
    json!({
        "state": peer.link.as_str(),
        "queued": peer.queued,
        "in_flight": peer.in_flight,
        "oldest_seconds": peer.oldest.map(|age| age.as_secs()),
        "acked": peer.acked,
        "refused": peer.refused,
        "dead": peer.dead,
        "last_ack_at": time(peer.last.ack_at),
        "last_refusal": refusal,
    })
}

fn incoming(peer: &PeerStatus) -> Value {
    json!({
        "state": peer.link_in().as_str(),
        "received": peer.received,
        "rejected": peer.rejected,
        "owed": peer.owed,
        "last_received_at": time(peer.last.received_at),
        "last_verdict_at": time(peer.last.verdict_at),
    })
}

fn time(at: Option<Wall>) -> Value {
    at.map_or(Value::Null, |at| json!(at.to_rfc3339()))
}

/// What most needs attention: its code, in words, and what to do.
fn advice(peer: &PeerStatus, now: Wall) -> Option<(Code, String, String)> {
    let own = |code: Code, why: String| Some((code, why, code.entry().remedy.to_owned()));
    let name = &peer.name;
    if peer.busy {
        return own(Code::Unavailable, "its conversation does not tell its figures".to_owned());
    }
    if peer.paused {
        let fix = format!("pushpull peer resume {name}");
        return Some((Code::PeerPaused, "an operator has paused sending; nothing is lost".to_owned(), fix));
    }
    if peer.link == LinkState::Down {
        let why = peer.trouble.clone().unwrap_or_else(|| {
            "the partner comes to us, and has not come lately: see that its daemon runs and has our address and its token"
                .to_owned()
        });
        let is_polling = peer.transport == "poll" && !peer.is_sent_to || why.starts_with("poll_endpoint: ");
        let fix = match peer.is_sent_to {
            // Nothing of ours goes by these, so no event of ours can show whether they work.
            _ if is_polling => format!("pushpull status {name} # once that is mended: it is polled again by itself"),
            true => format!("pushpull peer verify {name} # once that is mended"),
            false => format!("pushpull status {name} # once it has come again"),
        };
        return Some((Code::LinkDown, why, fix));
    }
    if let Some(trouble) = &peer.keys.trouble {
        return own(Code::PartnerKeysUnreachable, trouble.clone());
    }
    if let Some(socketless) = &peer.socketless {
        // Where HTTP serves with that very token, something in between minds the upgrade.
        let fix = match socketless.ends_with(NOT_OUR_TOKEN) && peer.transport != "http" {
            true => "See that `token_file` of this peer holds what the partner gave you, then `pushpull reload`.",
            false => Code::NoWebsocket.entry().remedy,
        };
        return Some((Code::NoWebsocket, socketless.clone(), fix.to_owned()));
    }
    // Of a link that has just come up it says nothing.
    let up = peer.since.filter(|_| peer.link == LinkState::Up).map(|since| now.since(since));
    let waiting = peer.oldest?.min(up?);
    if !peer.is_sent_to && peer.transport == "poll" && peer.in_flight == 0 {
        let fix = format!(
            "See that {name} polls us or connects to us; or have us push to it: `transport = \"push\"` and its `endpoint`, with \
             `poll_endpoint` for what we collect (docs/delivery-methods.md)."
        );
        return Some((Code::Unanswered, uncollected(waiting)?, fix));
    }
    own(Code::Unanswered, unanswered(waiting)?)
}

/// That a SET of ours has not been collected, or not been answered, for so long, if that is worth a word.
fn uncollected(age: Duration) -> Option<String> {
    let minutes = age.as_secs() / 60;
    let why = "none is brought to the partner, which has to collect them";
    (age >= UNCOLLECTED_LEAST).then(|| format!("our oldest SET has waited for {minutes} minutes: {why}"))
}

/// A partner that polls does so more often than that.
const UNCOLLECTED_LEAST: Duration = Duration::from_secs(120);

/// When a SET that is not answered, though the partner is reached, is worth a word.
const UNANSWERED_LEAST: Duration = Duration::from_secs(600);

/// That the oldest SET has waited for so long, if that is worth a word.
fn unanswered(age: Duration) -> Option<String> {
    let minutes = age.as_secs() / 60;
    (age >= UNANSWERED_LEAST)
        .then(|| format!("the partner is reached, but has not answered the oldest SET for {minutes} minutes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_that_waits_for_long_though_the_partner_is_reached_is_worth_a_word() {
        assert_eq!(unanswered(Duration::from_secs(599)), None);
        assert!(unanswered(Duration::from_secs(1_000)).is_some_and(|why| why.ends_with("for 16 minutes")));
        assert_eq!(uncollected(Duration::from_secs(119)), None);
        assert!(
            uncollected(Duration::from_secs(120)).is_some_and(|why| why.contains("for 2 minutes: none is brought"))
        );
    }

    #[test]
    fn a_clock_that_is_not_believed_is_told_beside_the_peers_and_one_that_is_is_not() {
        let day = Wall(86_400_000);
        let believed = Timestamp { mono: Duration::ZERO, wall: Wall(0), shown: Wall(0), suspect: false };
        assert_eq!(with_clock(json!({"name": "a"}), believed), json!({"name": "a"}));
        let answer = with_clock(json!({"name": "a"}), Timestamp { shown: day, suspect: true, ..believed });
        assert_eq!((&answer["name"], &answer["clock"]["code"]), (&json!("a"), &json!("clock_suspect")));
        let (shows, dated) = (answer["clock"]["shows"].as_str().unwrap(), answer["clock"]["dated"].as_str().unwrap());
        assert!(shows.starts_with("1970-01-02T") && dated.starts_with("1970-01-01T"), "{answer}");
        assert!(answer["clock"]["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{answer}");
    }
}
