//! `pushpull set sign|decode|verify`: SETs without a daemon.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::clock::{Clock as _, SystemClock};
use crate::codes::Code;
use crate::config::{self, Config};
use crate::set::nearest::nearest;
use crate::set::{self, Defaults, Jti, KeySet, Policy, Profile, Report, events};
use crate::wire::net::{self, Allow, Dialer, Pin, Target};

use super::args::{Global, Verify};
use super::site::Site;
use super::{Error, Exit, key, output};

pub(super) fn sign(key_file: Option<&Path>, kid: Option<&str>, claims: &Path, global: &Global) -> Result<Exit, Error> {
    let site = Site::of(global);
    // With a key at hand no configuration is needed; if there is one, it fills what is absent.
    let config = if key_file.is_none() || site.exists() { Some(site.load()?) } else { None };
    let key = match (key_file, &config) {
        (Some(file), _) => {
            let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            key::read(stem, file)?
        }
        (None, Some(config)) => key::signing(config, kid)?,
        (None, None) => return Err(Error::new(Exit::Usage, "no key to sign with").fix("name one with --key")),
    };
    let text = read(claims)?;
    let claims = set::json::object(text.trim().as_bytes()).map_err(|error| {
        Error::failed(format!("the claims are no JSON object: {error}"))
            .code(Code::InvalidEvent)
            .expected("one JSON object with the claims of a SET")
    })?;
    let claims = complete(claims, config.as_ref());
    let compact = key.sign(&claims).map_err(|error| Error::failed(format!("cannot sign: {error}")))?;
    if global.json {
        output::json(&json!({ "jti": claims.get("jti"), "kid": key.kid(), "set": &*compact }))?;
    } else {
        output::line(&compact)?;
    }
    Ok(Exit::Done)
}

/// Fills in what is absent. Claims that make no conforming SET are signed as they are, with a warning: this command
/// also makes the bad examples that others are tested with.
fn complete(claims: Map<String, Value>, config: Option<&Config>) -> Map<String, Value> {
    let now = SystemClock::new().now().wall;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
    let issuer = config.map(|config| config.server.issuer.clone()).or_else(|| text("iss")).unwrap_or_default();
    let audience = text("aud").unwrap_or_default();
    let limits = config.map(|config| config.limits.clone()).unwrap_or_default();
    let defaults = Defaults { issuer: &issuer, audience: &audience, now, jti_bytes_max: limits.jti_bytes_max };
    let mut fallback = claims.clone();
    match set::complete(claims, defaults) {
        Ok((_, mut complete)) => {
            for (name, value) in [("aud", &audience), ("iss", &issuer)] {
                if value.is_empty() && !fallback.contains_key(name) {
                    complete.remove(name);
                    output::note(&format!("warning: `{name}` is absent, and nothing says what it should be"));
                }
            }
            complete
        }
        Err(fault) => {
            output::note(&format!("warning: {fault}"));
            if !issuer.is_empty() {
                fallback.entry("iss").or_insert_with(|| issuer.into());
            }
            fallback.entry("iat").or_insert_with(|| now.seconds().into());
            fallback.entry("jti").or_insert_with(|| Jti::new().as_str().into());
            fallback
        }
    }
}

pub(super) fn decode(file: &Path) -> Result<Exit, Error> {
    let compact = read(file)?;
    let (header, claims) = set::decode(compact.trim()).map_err(|refusal| {
        Error::failed(format!("this is no SET: {}", output::clean(&refusal.description))).code(Code::NotASet)
    })?;
    output::line(&pretty(&json!({ "header": header, "claims": claims })))?;
    Ok(Exit::Done)
}

pub(super) async fn verify(verify: &Verify, global: &Global) -> Result<Exit, Error> {
    let compact = read(&verify.file)?;
    let (policy, keys) = match (&verify.against, &verify.jwks, &verify.iss, &verify.aud) {
        (Some(peer), ..) => against(peer, global).await?,
        (None, Some(jwks), Some(iss), Some(aud)) => (policy(iss, aud, events::Filter::all(), None), key_set(jwks)?),
        _ => {
            return Err(
                Error::new(Exit::Usage, "nothing to verify against").fix("use --against, or --jwks, --iss and --aud")
            );
        }
    };
    let report = set::report(compact.trim(), None, &policy, &keys, SystemClock::new().now());
    if global.json {
        output::json(&report_json(&report))?;
    } else {
        output::line(&report_text(&report))?;
    }
    Ok(if report.valid { Exit::Done } else { Exit::Failed })
}

fn report_json(report: &Report) -> Value {
    let check = |check: &set::Check| {
        let mut object = json!({ "rule": check.rule, "ok": check.ok, "clause": check.clause });
        if let Some(detail) = &check.detail {
            object["detail"] = detail.as_str().into();
        }
        object
    };
    let mut object = json!({ "valid": report.valid, "checks": report.checks.iter().map(check).collect::<Vec<_>>() });
    if let Some(refusal) = &report.err {
        object["err"] = refusal.code.as_str().into();
        object["description"] = refusal.description.as_str().into();
    }
    if let Some(undecided) = report.undecided {
        object["undecided"] = undecided.into();
    }
    object
}

fn report_text(report: &Report) -> String {
    let mut lines = Vec::new();
    for check in &report.checks {
        let mark = if check.ok { "✓" } else { "✗" };
        let detail =
            check.detail.as_deref().map(|detail| format!("\n    {}", output::clean(detail))).unwrap_or_default();
        lines.push(format!("{mark} {:<24} {}{detail}", check.rule, check.clause));
    }
    lines.push(match (&report.err, report.undecided) {
        _ if report.valid => "valid".to_owned(),
        (Some(refusal), _) => format!("invalid: {}", refusal.code),
        (None, Some(why)) => format!("no verdict for now: {why}"),
        (None, None) => "invalid".to_owned(),
    });
    lines.join("\n")
}

fn policy(issuer: &str, audience: &str, accept: events::Filter, config: Option<&Config>) -> Policy {
    let limits = config.map(|config| config.limits.clone()).unwrap_or_default();
    Policy {
        issuer: issuer.to_owned(),
        audience: audience.to_owned(),
        accept,
        jti_bytes_max: limits.jti_bytes_max,
        set_bytes_max: limits.set_bytes_max,
        profile: Profile::Ssf,
    }
}

/// What we would hold a partner's SET against: its keys as they are published now, and its part of the configuration.
async fn against(name: &str, global: &Global) -> Result<(Policy, KeySet), Error> {
    let config = Site::of(global).load()?;
    let peer = config.peers.iter().find(|peer| peer.name == name).ok_or_else(|| no_such_peer(name, &config))?;
    let accept = events::Filter::new(&peer.accept).map_err(|fault| Error::new(Exit::ConfigInvalid, fault))?;
    let keys = match (&peer.jwks_file, &peer.jwks_uri) {
        (Some(file), _) => key_set(file)?,
        (None, Some(uri)) => fetch(uri, peer, &config).await?,
        (None, None) => return Err(Error::new(Exit::ConfigInvalid, format!("{name} has no keys"))),
    };
    Ok((
        policy(
            &peer.issuer,
            peer.accept_audience.as_deref().unwrap_or(config.server.audience()),
            accept,
            Some(&config),
        ),
        keys,
    ))
}

fn no_such_peer(name: &str, config: &Config) -> Error {
    let names: Vec<&str> = config.peers.iter().map(|peer| peer.name.as_str()).collect();
    let error =
        Error::new(Exit::NotFound, format!("there is no peer {name:?} in the configuration")).code(Code::NoSuchPeer);
    let error = match nearest(name, names.iter().copied()) {
        Some(near) => error.fix(format!("did you mean {near}?")),
        None => error,
    };
    if names.is_empty() { error } else { error.expected(format!("one of {}", names.join(", "))) }
}

async fn fetch(uri: &str, peer: &config::Peer, config: &Config) -> Result<KeySet, Error> {
    let failed = |fault: &dyn std::fmt::Display| {
        Error::new(Exit::PartnerRefused, format!("the keys of {} cannot be fetched: {fault}", peer.name))
            .code(Code::PartnerKeysUnreachable)
            .who_acts("the partner, if its server is down; else you")
    };
    let target = Target::parse(uri).map_err(|error| failed(&error))?;
    let allow = Allow::parse(config.network.allow.iter().map(String::as_str)).map_err(|error| failed(&error))?;
    let same_host = |endpoint: &String| Target::parse(endpoint).is_ok_and(|other| other.host() == target.host());
    let is_pinned = peer.endpoint.as_ref().is_none_or(same_host);
    let pin =
        peer.tls_pin.as_deref().filter(|_| is_pinned).map(Pin::parse).transpose().map_err(|error| failed(&error))?;
    let client = net::Client::new(Arc::new(Dialer::new(allow)), target, pin);
    let limits = net::Limits {
        body_bytes_max: KeySet::BYTES_MAX,
        timeout: Duration::from_secs(20),
        answer: None,
        head_counts: false,
    };
    let answer = client.get(http::HeaderMap::new(), limits).await.map_err(|error| failed(&error))?;
    if !answer.status.is_success() {
        return Err(failed(&format!("HTTP {}", answer.status)));
    }
    KeySet::parse(&answer.body).map_err(|error| failed(&error))
}

fn key_set(file: &Path) -> Result<KeySet, Error> {
    let bytes = std::fs::read(file).map_err(|error| Error::unreadable(file, &error))?;
    KeySet::parse(&bytes).map_err(|fault| {
        Error::failed(format!("{} is no JWK Set: {fault}", file.display()))
            .code(Code::KeyUnusable)
            .expected("{\"keys\": […]}, as at /jwks.json")
    })
}

/// A whole file, or stdin.
pub(super) fn read(file: &Path) -> Result<String, Error> {
    if file.as_os_str() != "-" {
        return std::fs::read_to_string(file).map_err(|error| Error::unreadable(file, &error));
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Error::failed(format!("cannot read stdin: {error}")).code(Code::FileUnreadable))?;
    Ok(text)
}

/// JSON for people.
pub(super) fn pretty(value: &Value) -> String {
    output::clean_json(serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string()))
}
