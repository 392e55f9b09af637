//! `/api/v1/dead-letters`: SETs that were refused or never answered, and what an operator does with them.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};

use super::problem::{Problem, json_response};
use super::{Admin, body};
use crate::clock::Wall;
use crate::codes::Code;
use crate::set::Jti;
use crate::transceiver::{Advice, Bulk, Cursor, DeadLetter, Group, Hindrance, RedriveFault, Remedy, Sieve, named};

/// Dead letters in one answer, or dealt with by one request.
const LETTERS_MAX: usize = 10_000;

#[derive(Debug, Default)]
struct Query {
    sieve: Sieve,
    after: Option<Cursor>,
    max: Option<usize>,
    by_reason: bool,
}

/// Dead letters, one by one or counted by reason.
pub(super) async fn list(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response<Body> {
    match listed(&admin, query.as_deref().unwrap_or_default()).await {
        Ok(value) => json_response(StatusCode::OK, &value),
        Err(problem) => problem.respond(),
    }
}

async fn listed(admin: &Admin, query: &str) -> Result<Value, Problem> {
    let query = Query::parse(query, &["peer", "reason", "after", "max", "by"])?;
    known(admin, &query.sieve)?;
    if query.by_reason {
        let (groups, damaged) = admin.transceiver.dead_letter_groups(&query.sieve).await?;
        let groups: Vec<Value> = groups.iter().map(group).collect();
        return Ok(json!({ "groups": groups, "damaged": damaged }));
    }
    let found = admin.transceiver.dead_letters(&query.sieve, query.after, query.max.unwrap_or(100)).await?;
    let letters: Vec<Value> = found.letters.iter().map(letter).collect();
    let next = found.next.map(|next| next.to_string());
    Ok(json!({ "dead_letters": letters, "damaged": found.damaged, "next": next }))
}

/// One dead letter, with what it says.
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    Path(jti): Path<String>,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    let shown = async {
        let query = Query::parse(query.as_deref().unwrap_or_default(), &["peer"])?;
        let found = admin.transceiver.dead_letter(&Jti::from(jti), query.sieve.peer.as_deref()).await?;
        let mut value = letter(&found);
        value["header"] = Value::Object(found.header.clone());
        value["claims"] = Value::Object(found.claims.clone());
        value["set"] = (*found.compact).into();
        Ok(value)
    };
    match shown.await {
        Ok(value) => json_response(StatusCode::OK, &value),
        Err::<_, Problem>(problem) => problem.respond(),
    }
}

/// Deals with one dead letter. Durable when it answers.
pub(super) async fn one(
    State(admin): State<Arc<Admin>>,
    Path((jti, verb)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    request: Request<Body>,
) -> Response<Body> {
    let done = async {
        let (remedy, done) = remedy(&verb)?;
        let mut query = Query::parse(query.as_deref().unwrap_or_default(), &["peer"])?;
        let bytes = body::read(request).await?;
        if !bytes.trim_ascii().is_empty() {
            let mut object = body::parse(&bytes)?;
            query.sieve.peer = body::take_text(&mut object, "peer")?.or(query.sieve.peer);
            body::nothing_else(&object, "peer")?;
        }
        let jti = Jti::from(jti);
        let (peer, new) = admin.transceiver.redrive(remedy, &jti, query.sieve.peer.as_deref()).await?;
        let mut value = json!({ "peer": &*peer, "jti": jti.as_str(), "done": done });
        if let Some(new) = new {
            value["reissued_as"] = new.as_str().into();
        }
        Ok(value)
    };
    match done.await {
        Ok(value) => json_response(StatusCode::OK, &value),
        Err::<_, Problem>(problem) => problem.respond(),
    }
}

/// Deals with all dead letters that a filter means, a bounded number in one request.
pub(super) async fn many(
    State(admin): State<Arc<Admin>>,
    Path(verb): Path<String>,
    request: Request<Body>,
) -> Response<Body> {
    let done = async {
        let (remedy, done) = remedy(&verb)?;
        let mut object = body::object(request).await?;
        let sieve =
            Sieve { peer: body::take_text(&mut object, "peer")?, reason: body::take_text(&mut object, "reason")? };
        let all = body::take_flag(&mut object, "all")?;
        let dry_run = body::take_flag(&mut object, "dry_run")?;
        let after = body::take_text(&mut object, "after")?.map(|after| cursor(&after)).transpose()?;
        let max = match object.remove("max") {
            None => 1_000,
            Some(max) => max.as_u64().filter(|max| *max > 0).ok_or_else(no_number)?,
        };
        body::nothing_else(&object, "peer, reason, all, after, max, dry_run")?;
        if sieve.peer.is_none() && sieve.reason.is_none() && !all {
            return Err(Problem::invalid("which ones? Give peer or reason, or \"all\": true"));
        }
        known(&admin, &sieve)?;
        let max = usize::try_from(max).unwrap_or(LETTERS_MAX).min(LETTERS_MAX);
        let bulk = admin.transceiver.redrive_all(remedy, &sieve, after, max, dry_run).await?;
        Ok(told(&bulk, done, dry_run))
    };
    match done.await {
        Ok(value) => json_response(StatusCode::OK, &value),
        Err::<_, Problem>(problem) => problem.respond(),
    }
}

fn no_number() -> Problem {
    Problem::invalid("max: expected a number of dead letters, at least 1")
}

fn told(bulk: &Bulk, done: &str, dry_run: bool) -> Value {
    let each = bulk.done.iter().map(|(peer, jti, new)| {
        let mut value = json!({ "peer": &**peer, "jti": jti.as_str() });
        if let Some(new) = new {
            value["reissued_as"] = new.as_str().into();
        }
        value
    });
    let failed = bulk.failed.iter().map(|(peer, jti, fault)| {
        let problem = Problem::from(fault.clone());
        json!({ "peer": &**peer, "jti": jti.as_str(), "code": problem.code().as_str(), "detail": fault.to_string() })
    });
    json!({
        "done": done,
        "dry_run": dry_run,
        "count": bulk.done.len(),
        "dead_letters": each.collect::<Vec<_>>(),
        "failed": failed.collect::<Vec<_>>(),
        "damaged": bulk.damaged,
        "next": bulk.next.map(|next| next.to_string()),
    })
}

fn remedy(verb: &str) -> Result<(Remedy, &'static str), Problem> {
    match verb {
        "resend" => Ok((Remedy::Resend, "resent")),
        "reissue" => Ok((Remedy::Reissue, "reissued")),
        "discard" => Ok((Remedy::Discard, "discarded")),
        _ => Err(Problem::not_found("there is nothing at this path: dead letters are resent, reissued or discarded")),
    }
}

fn known(admin: &Admin, sieve: &Sieve) -> Result<(), Problem> {
    match &sieve.peer {
        Some(peer) if !admin.transceiver.is_or_was_peer(peer) => Err(Problem::no_such_peer(peer)),
        _ => Ok(()),
    }
}

fn cursor(text: &str) -> Result<Cursor, Problem> {
    text.parse().map_err(|()| Problem::invalid("after: expected the `next` of an earlier answer"))
}

impl Query {
    fn parse(text: &str, known: &[&str]) -> Result<Self, Problem> {
        let mut query = Self::default();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            if !known.contains(&&*name) {
                let name: String = name.chars().take(60).collect();
                return Err(Problem::invalid(format!("{name:?}: unknown; known are {}", known.join(", "))));
            }
            match &*name {
                "peer" => query.sieve.peer = Some(value.into_owned()),
                "reason" => query.sieve.reason = Some(value.into_owned()),
                "after" => query.after = Some(cursor(&value)?),
                "by" if value == "reason" => query.by_reason = true,
                "by" => return Err(Problem::invalid("by: expected reason")),
                _ => {
                    let max: usize = value.parse().ok().filter(|max| *max > 0).ok_or_else(no_number)?;
                    query.max = Some(max.min(LETTERS_MAX));
                }
            }
        }
        Ok(query)
    }
}

fn letter(letter: &DeadLetter) -> Value {
    let mut value = json!({
        "peer": &*letter.peer,
        "jti": letter.jti.as_str(),
        "reason": letter.reason,
        "attempts": letter.attempts,
        "since": letter.since.to_rfc3339(),
        "accepted_at": letter.accepted_at.to_rfc3339(),
        "types": letter.types(),
        "can_resend": letter.resend.is_ok(),
        "can_reissue": letter.reissue.is_ok(),
    });
    advise(&mut value, &letter.advice());
    if let Some(error) = &letter.error {
        value["err"] = error.err.as_str().into();
        value["description"] = error.description.as_str().into();
    }
    for (name, hindrance) in [("resend_hindrance", &letter.resend), ("reissue_hindrance", &letter.reissue)] {
        if let Err(hindrance) = hindrance {
            value[name] = hindrance.to_string().into();
        }
    }
    if let Some(old) = letter.story.reissue_of() {
        value["reissue_of"] = old.as_str().into();
    }
    value
}

fn group(group: &Group) -> Value {
    let mut value = json!({
        "peer": &*group.peer,
        "reason": group.reason,
        "count": group.count,
        "can_resend": group.can_resend,
        "can_reissue": group.can_reissue,
        "since": Wall::to_rfc3339(group.example.since),
        "newest": group.newest.to_rfc3339(),
        "example": group.example.jti.as_str(),
    });
    if let Some(error) = &group.example.error {
        value["description"] = error.description.as_str().into();
    }
    advise(&mut value, &group.advice());
    value
}

/// Adds who has to act, and how.
pub(super) fn advise(value: &mut Value, advice: &Advice) {
    value["who_acts"] = advice.who.as_str().into();
    value["fix"] = advice.fix.as_str().into();
    if let Some(command) = &advice.command {
        value["command"] = command.as_str().into();
    }
}

/// A remedy for this one. With a name that cannot be shown whole it stays as it is.
fn with_jti(remedy: &str, jti: &Jti) -> String {
    match named(jti.as_str()) {
        Some(jti) => remedy.replace("JTI", &jti),
        None => format!("{remedy} (`pushpull dlq ls --json` tells the JTI)"),
    }
}

impl From<RedriveFault> for Problem {
    fn from(fault: RedriveFault) -> Self {
        let detail = fault.to_string();
        let conflict = |code: Code| {
            let problem = Self::new(StatusCode::CONFLICT, code, detail.clone());
            match fault.jti() {
                Some(jti) => problem.fix(with_jti(code.entry().remedy, jti)),
                None => problem,
            }
        };
        match &fault {
            RedriveFault::NoSuchPeer(name) => Self::no_such_peer(name),
            RedriveFault::NoSuchEvent(_) => Self::new(StatusCode::NOT_FOUND, Code::NoSuchEvent, detail),
            RedriveFault::NotDead { .. } => conflict(Code::NotADeadLetter),
            RedriveFault::SeveralPeers { .. } => conflict(Code::SeveralPeers),
            RedriveFault::NotResendable(jti, Hindrance::PeerGone(_))
            | RedriveFault::NotReissuable(jti, Hindrance::PeerGone(_)) => {
                let fix = with_jti("Add the peer again (`pushpull peer add`), or `pushpull dlq discard JTI`.", jti);
                Self::new(StatusCode::CONFLICT, Code::NoSuchPeer, detail).fix(fix)
            }
            RedriveFault::NotResendable(_, Hindrance::Answered(_)) => conflict(Code::ResendRefused),
            RedriveFault::NotResendable(_, Hindrance::KeyNotPublished(_)) => conflict(Code::KeyNotPublished),
            RedriveFault::NotResendable(..) | RedriveFault::NotReissuable(..) => conflict(Code::ForeignIssuer),
            RedriveFault::Damaged(jti) => {
                let discard = with_jti("`pushpull dlq discard JTI`, or restore a backup.", jti);
                conflict(Code::DataDamaged).fix(discard)
            }
            RedriveFault::Invalid(_) | RedriveFault::NoSuchJob(_) => Self::invalid(detail),
            RedriveFault::OtherJob { .. } => Self::conflict(detail),
            RedriveFault::Submit(fault) => Self::from_fault(fault, detail),
        }
    }
}
