//! `pushpull dlq resend|reissue|discard`: single dead letters by their jtis, or all of a peer or reason.

use serde_json::{Map, Value, json};

use super::args::{Global, Which};
use super::client::{Call, Client, escape};
use super::dlq::text;
use super::{Error, Exit, output, site};
use crate::codes::Code;

/// Dead letters a request.
const BATCH: u32 = 1_000;

pub(super) async fn run(verb: &str, which: &Which, global: &Global) -> Result<Exit, Error> {
    let mut daemon = site::client(global)?;
    if !which.jtis.is_empty() {
        return by_jti(&mut daemon, verb, which, global.json).await;
    }
    if which.peer.is_none() && which.reason.is_none() && !which.all {
        return Err(Error::new(Exit::Usage, format!("which dead letters are to be {}?", participle(verb)))
            .expected("their jtis, or --peer, --reason or --all")
            .fix("pushpull dlq ls"));
    }
    if which.yes || which.dry_run {
        return bulk(&mut daemon, verb, which, which.dry_run, global.json).await;
    }
    let counted = collect(&mut daemon, verb, which, true).await?;
    let (fit, unfit) = (counted.done.len(), counted.failed.len());
    let rest = if unfit == 0 { String::new() } else { format!(", and {unfit} cannot be") };
    Err(Error::new(
        Exit::Usage,
        format!("{fit} dead {} would be {}{rest}", if fit == 1 { "letter" } else { "letters" }, participle(verb)),
    )
    .expected("--yes, when many are meant at once")
    .fix("put --yes behind the command, or --dry-run to see which they are"))
}

fn participle(verb: &str) -> &'static str {
    match verb {
        "resend" => "resent",
        "reissue" => "reissued",
        _ => "discarded",
    }
}

/// Each by itself: what cannot be done with one does not keep the others.
async fn by_jti(daemon: &mut Client, verb: &str, which: &Which, as_json: bool) -> Result<Exit, Error> {
    let (mut done, mut errors) = (0, Vec::new());
    for jti in &which.jtis {
        let answer = if which.dry_run {
            look(daemon, verb, jti, which.peer.as_deref()).await
        } else {
            let path = path(jti, which.peer.as_deref(), &format!("/{verb}"));
            daemon.json(Call::post(&path, "application/json", "")).await
        };
        match answer {
            Ok(answer) => {
                done += 1;
                tell(&answer, verb, which.dry_run, as_json)?;
            }
            // Without a daemon there is no use in asking for the rest.
            Err(error) if error.exit == Exit::Unreachable || which.jtis.len() == 1 => return Err(error),
            Err(error) => errors.push(error),
        }
    }
    for error in &errors {
        output::note(&error.to_string());
    }
    Ok(match errors.first() {
        None => Exit::Done,
        Some(_) if done > 0 => Exit::PartlyDone,
        Some(first) => first.exit,
    })
}

/// Whether it could be done, without doing it.
async fn look(daemon: &mut Client, verb: &str, jti: &str, peer: Option<&str>) -> Result<Value, Error> {
    let letter = daemon.json(Call::get(&path(jti, peer, ""))).await?;
    let (can, hindrance, code) = match verb {
        "resend" => ("can_resend", "resend_hindrance", Code::ResendRefused),
        "reissue" => ("can_reissue", "reissue_hindrance", Code::ForeignIssuer),
        _ => return Ok(letter),
    };
    if letter[can] == true {
        return Ok(letter);
    }
    let error = Error::new(Exit::Conflict, format!("{} cannot be {}", output::clean(jti), participle(verb)));
    Err(error.code(code).found(text(&letter, hindrance)).fix(text(&letter, "command")))
}

fn path(jti: &str, peer: Option<&str>, end: &str) -> String {
    let peer = peer.map(|peer| format!("?peer={}", escape(peer))).unwrap_or_default();
    format!("/api/v1/dead-letters/{}{end}{peer}", escape(jti))
}

/// What a filter came to, over all requests.
#[derive(Default)]
struct Collected {
    done: Vec<Value>,
    failed: Vec<Value>,
    /// Met on the way, with rows that cannot be read.
    damaged: u64,
}

async fn bulk(daemon: &mut Client, verb: &str, which: &Which, dry_run: bool, as_json: bool) -> Result<Exit, Error> {
    let Collected { done, failed, damaged } = collect(daemon, verb, which, dry_run).await?;
    let (fit, unfit) = (done.len(), failed.len());
    if as_json {
        output::json(&json!({
            "done": participle(verb), "dry_run": dry_run, "count": fit, "dead_letters": done, "failed": failed,
            "damaged": damaged
        }))?;
    } else {
        for letter in &done {
            tell(letter, verb, dry_run, false)?;
        }
        for letter in &failed {
            output::note(&format!(
                "{}: error[{}]: {}",
                text(letter, "jti"),
                text(letter, "code"),
                text(letter, "detail")
            ));
        }
        let would = if dry_run { "would be " } else { "" };
        output::note(&format!("{fit} of {} {would}{}", fit + unfit, participle(verb)));
    }
    if damaged > 0 {
        output::note(&format!(
            "warning: {damaged} dead letters are damaged in the database, and nothing was done with them: `pushpull dlq discard JTI` \
             takes one out, a backup brings it back"
        ));
    }
    Ok(match (fit, unfit) {
        (_, 0) => Exit::Done,
        (0, _) => Exit::Conflict,
        _ => Exit::PartlyDone,
    })
}

/// Asks until nothing is left that was there when it began.
async fn collect(daemon: &mut Client, verb: &str, which: &Which, dry_run: bool) -> Result<Collected, Error> {
    let mut body = Map::new();
    for (name, value) in [("peer", &which.peer), ("reason", &which.reason)] {
        if let Some(value) = value {
            body.insert(name.to_owned(), value.as_str().into());
        }
    }
    body.insert("all".to_owned(), which.all.into());
    body.insert("dry_run".to_owned(), dry_run.into());
    body.insert("max".to_owned(), BATCH.into());
    let mut collected = Collected::default();
    loop {
        let call = Call::post("", "application/json", Value::Object(body.clone()).to_string());
        let mut answer = daemon.json(Call { path: &format!("/api/v1/dead-letters/{verb}"), ..call }).await?;
        for (place, all) in [("dead_letters", &mut collected.done), ("failed", &mut collected.failed)] {
            if let Value::Array(some) = answer[place].take() {
                all.extend(some);
            }
        }
        collected.damaged += answer["damaged"].as_u64().unwrap_or_default();
        match answer["next"].as_str() {
            Some(next) => body.insert("after".to_owned(), next.into()),
            None => return Ok(collected),
        };
    }
}

fn tell(answer: &Value, verb: &str, dry_run: bool, as_json: bool) -> Result<(), Error> {
    if as_json {
        return output::json(answer);
    }
    let (jti, new) = (text(answer, "jti"), text(answer, "reissued_as"));
    output::line(&match (dry_run, new.is_empty()) {
        (true, _) => format!("{jti}  would be {}", participle(verb)),
        (false, true) => format!("{jti}  {}", participle(verb)),
        (false, false) => format!("{jti}  reissued as {new}"),
    })
}
