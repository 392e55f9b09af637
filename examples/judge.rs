//! Says of each token on standard input whether it is taken: a JSON object a line in and out. For `tests/differential`,
//! which asks somebody else the same.

use std::collections::HashMap;
use std::io::{self, BufRead as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use pushpull::clock::{Timestamp, Wall};
use pushpull::set::{Fault, Jti, KeySet, Policy, Profile, events::Filter, report, verify};
use serde::Deserialize;
use serde_json::{Value, json};

/// A token, and all that its verdict depends on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    number: u64,
    token: Arc<str>,
    jwks: Value,
    name: Option<String>,
    issuer: String,
    audience: String,
    accept: Option<Vec<String>>,
    jti_bytes_max: usize,
    set_bytes_max: usize,
    profile: String,
    now: u64,
    suspect: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pushpull::set::install_crypto();
    // Few sets of keys are asked about again and again, and to parse one costs more than a verdict.
    let mut key_sets: HashMap<String, KeySet> = HashMap::new();
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let question: Question = serde_json::from_str(&line?)?;
        let jwks = question.jwks.to_string();
        if !key_sets.contains_key(&jwks) {
            if key_sets.len() >= 1000 {
                key_sets.clear();
            }
            key_sets.insert(jwks.clone(), KeySet::parse(jwks.as_bytes())?);
        }
        writeln!(out, "{}", answer(question, &key_sets[&jwks])?)?;
        out.flush()?;
    }
    Ok(())
}

fn answer(question: Question, keys: &KeySet) -> Result<Value, String> {
    let accept = question.accept.map_or_else(|| Ok(Filter::all()), |patterns| Filter::new(&patterns))?;
    let profile = match question.profile.as_str() {
        "ssf" => Profile::Ssf,
        "plain8417" => Profile::Plain8417,
        other => return Err(format!("there is no profile {other}")),
    };
    let policy = Policy {
        issuer: question.issuer,
        audience: question.audience,
        accept,
        jti_bytes_max: question.jti_bytes_max,
        set_bytes_max: question.set_bytes_max,
        profile,
    };
    let wall = Wall(question.now * 1000);
    let now = Timestamp { mono: Duration::ZERO, wall, shown: wall, suspect: question.suspect };
    let name = question.name.map(Jti::from);
    let (valid, err, undecided) = match verify(&question.token, name.as_ref(), &policy, keys, now) {
        Ok(_) => (true, None, false),
        Err(Fault::Refused(refusal) | Fault::Key(refusal)) => (false, Some(refusal), false),
        Err(Fault::NotNow(_)) => (false, None, true),
    };
    // The two ways to ask have to agree before anybody else is asked.
    let told = report(&question.token, name.as_ref(), &policy, keys, now);
    if (told.valid, &told.err, told.undecided.is_some()) != (valid, &err, undecided) {
        return Err(format!("number {}: `verify` and `report` differ: {told:?}", question.number));
    }
    let rule = told.checks.iter().find(|check| !check.ok).map(|check| check.rule);
    Ok(json!({"valid": valid, "err": err.map(|refusal| refusal.code.as_str()), "rule": rule}))
}
