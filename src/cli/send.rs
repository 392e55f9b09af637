//! `pushpull send PEER TYPE`: one event, and perhaps the partner's answer to it.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::codes::Code;
use crate::set::events;
use crate::set::subject::Subject;

use super::args::{Global, Send};
use super::client::{Call, Client, escape};
use super::{Error, Exit, output, site};

/// Pauses between two looks at the event: short at first, for most answers come at once.
const POLL_FIRST: Duration = Duration::from_millis(50);
const POLL_MAX: Duration = Duration::from_millis(500);

pub(super) async fn run(send: &Send, global: &Global) -> Result<Exit, Error> {
    let body = event(send)?;
    let mut daemon = site::client(global)?;
    let answer = daemon.json(Call::post_json("/api/v1/events", &body)).await?;
    let jti = answer["jtis"][0].as_str().ok_or_else(|| Error::failed("the daemon's answer names no jti"))?.to_owned();
    let Some(wait) = send.wait else {
        tell(&jti, None, global.json)?;
        return Ok(Exit::Done);
    };
    let started = Instant::now();
    let ended = match settle(&mut daemon, &send.peer, &jti, started + wait).await {
        Ok(ended) => ended,
        Err(error) => {
            // It was accepted all the same: without its jti it would be sent a second time.
            tell(&jti, None, global.json)?;
            return Err(error);
        }
    };
    match &ended {
        Some(record) if record["state"] == "acked" => {
            tell(&jti, Some((record, started.elapsed())), global.json)?;
            Ok(Exit::Done)
        }
        Some(record) => {
            if global.json {
                tell(&jti, Some((record, started.elapsed())), true)?;
            }
            Err(not_acked(&send.peer, &jti, record))
        }
        None => {
            tell(&jti, None, global.json)?;
            Err(Error::new(
                Exit::TimedOut,
                format!("{} has not answered {} within {wait:?}", send.peer, output::clean(&jti)),
            )
            .who_acts("nobody yet: it is stored, and is delivered as soon as the partner can be reached")
            .fix(format!("pushpull status {}", send.peer)))
        }
    }
}

/// The request, from what was typed.
fn event(send: &Send) -> Result<Value, Error> {
    let usage = |what: String| Error::new(Exit::Usage, what);
    let (event_type, subject) =
        (send.event_type.as_deref().unwrap_or_default(), send.subject.as_deref().unwrap_or_default());
    let uri = event_type_uri(event_type)?;
    let subject = Subject::from_text(subject).map_err(|fault| usage(format!("--subject: {fault}")))?;
    let members: Map<String, Value> = send.claims.iter().cloned().collect();
    let warnings = events::conformance(&uri, &members);
    for warning in warnings.into_iter().chain(events::subject_conformance(&uri, &subject)) {
        output::note(&format!("warning: {warning}"));
    }
    let mut body = json!({ "peer": send.peer, "type": event_type, "sub_id": subject.to_value(), "event": members });
    for (name, value) in [("jti", &send.jti), ("txn", &send.txn)] {
        if let Some(value) = value {
            body[name] = value.as_str().into();
        }
    }
    Ok(body)
}

/// The event type that was typed. A short name close to a known one is taken for a slip; the URI says it is none.
fn event_type_uri(typed: &str) -> Result<String, Error> {
    let unknown = Error::new(Exit::Usage, format!("there is no event type {typed:?}"))
        .expected("a short name such as caep:session-revoked, or the type's URI");
    match (events::expand(typed), events::suggest(typed)) {
        (Some(uri), None) => Ok(uri),
        (Some(uri), Some(_)) if uri == typed => Ok(uri),
        (_, Some(near)) => Err(unknown.fix(format!("did you mean {near}? A type of your own is named by its URI"))),
        (None, None) => Err(unknown),
    }
}

/// Waits until the event is settled and returns its record; `None` when it is not by then.
async fn settle(daemon: &mut Client, peer: &str, jti: &str, until: Instant) -> Result<Option<Value>, Error> {
    let path = format!("/api/v1/events/{}", escape(jti));
    let mut pause = POLL_FIRST;
    loop {
        let answer = daemon.json(Call::get(&path)).await?;
        let records = answer["records"].as_array().into_iter().flatten();
        let ours = records.into_iter().find(|record| record["direction"] == "out" && record["peer"] == peer);
        if let Some(record) =
            ours.filter(|record| matches!(record["state"].as_str(), Some("acked" | "refused" | "dead")))
        {
            return Ok(Some(record.clone()));
        }
        let now = Instant::now();
        if now >= until {
            return Ok(None);
        }
        tokio::time::sleep(pause.min(until - now)).await;
        pause = (pause * 2).min(POLL_MAX);
    }
}

fn tell(jti: &str, settled: Option<(&Value, Duration)>, as_json: bool) -> Result<(), Error> {
    if !as_json {
        return output::line(&match settled {
            Some((_, elapsed)) => format!("{}  acked after {} ms", output::clean(jti), elapsed.as_millis()),
            None => output::clean(jti),
        });
    }
    let mut object = json!({ "jti": jti });
    if let Some((record, elapsed)) = settled {
        object["state"] = record["state"].clone();
        object["ms"] = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).into();
        for name in ["err", "description"] {
            if !record[name].is_null() {
                object[name] = record[name].clone();
            }
        }
    }
    output::json(&object)
}

fn not_acked(peer: &str, jti: &str, record: &Value) -> Error {
    let jti = output::clean(jti);
    // The code may stand alone or with its description, beside it or inside it.
    let text = |value: &Value| value.as_str().map(output::clean);
    let err = text(&record["err"]).or_else(|| text(&record["err"]["err"])).unwrap_or_default();
    let description = text(&record["description"]).or_else(|| text(&record["err"]["description"])).unwrap_or_default();
    // The daemon knows best; an older one says nothing.
    let told = |name: &str, otherwise: &str| text(&record[name]).unwrap_or_else(|| otherwise.to_owned());
    if record["state"] == "refused" {
        return Error::new(Exit::PartnerRefused, format!("{peer} refused {jti}: {err}"))
            .found(if description.is_empty() {
                "no description".to_owned()
            } else {
                format!("{peer} said: {description}")
            })
            .who_acts(told("who_acts", "you, unless the partner is wrong"))
            .fix(told("fix", "the same jti is never sent again; correct the cause, then pushpull dlq reissue"));
    }
    Error::new(Exit::PartnerRefused, format!("{jti} became a dead letter: {peer} never took it"))
        .code(Code::GivenUp)
        .found(if err.is_empty() { "no answer".to_owned() } else { err })
        .who_acts(told("who_acts", "the partner, if its server is down; else you"))
        .fix(told("fix", &format!("pushpull status {peer}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use clap::Parser as _;

    fn typed(line: &str) -> Result<Value, Error> {
        let cli = Cli::try_parse_from(std::iter::once("pushpull").chain(line.split_whitespace())).expect("it parses");
        match cli.command {
            Some(Command::Send(send)) => event(&send),
            _ => panic!("another command"),
        }
    }

    #[test]
    fn what_is_typed_becomes_the_request() {
        let body = typed("send globex caep:session-revoked --subject opaque:7 --claim n=1 --claim t=x --txn t1")
            .expect("a request");
        assert_eq!(
            body,
            json!({
                "peer": "globex", "type": "caep:session-revoked", "sub_id": {"format": "opaque", "id": "7"},
                "event": {"n": 1, "t": "x"}, "txn": "t1"
            })
        );
    }

    #[test]
    fn an_unknown_type_is_answered_with_the_nearest_one() {
        let error = typed("send globex caep:sesion-revoked --subject opaque:7").expect_err("no such type");
        assert_eq!(error.exit, Exit::Usage);
        assert!(error.to_string().contains("caep:session-revoked?"), "{error}");
    }

    #[test]
    fn a_bad_subject_is_refused_without_repeating_it() {
        let error = typed("send globex caep:session-revoked --subject s3cret@x").expect_err("no format");
        assert_eq!(error.exit, Exit::Usage);
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }

    #[test]
    fn a_refusal_says_who_acts_and_exits_8() {
        let record = json!({ "state": "refused", "err": "invalid_key", "description": "no key acme-2\u{1b}" });
        let error = not_acked("globex", "j1", &record);
        assert_eq!(error.exit, Exit::PartnerRefused);
        let text = error.to_string();
        assert!(
            text.contains("invalid_key") && text.contains("no key acme-2\\u{1b}") && text.contains("who acts"),
            "{text}"
        );
    }
}
