//! What must hold for one `[[peer]]`, whether it comes from the file or was added at run time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::codes::Code;
use crate::set::events::{self, Filter};
use crate::set::nearest::nearest;
use crate::wire::net::{Allow, InvalidTarget, Pin, Target};

use super::peer::{Peer, Transport, is_slug};
use super::problem::Problem;
use super::{Config, amounts, check};

/// Every fault of this peer in the light of the rest of the configuration. The paths start inside the peer.
pub(super) fn problems(peer: &Peer, config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(name(peer));
    problems.extend(issuer(peer, config));
    problems.extend(keys(peer, config));
    problems.extend(endpoint(peer, config));
    problems.extend(poll_endpoint(peer, config));
    problems.extend(credentials(peer));
    if let Some(pin) = &peer.tls_pin
        && Pin::parse(pin).is_err()
    {
        problems.push(
            Problem::at("tls_pin", "this is no pin")
                .expected("\"sha256/\" and the base64 of 32 bytes")
                .fix("copy it from the partner's `pushpull peer card`"),
        );
    }
    if let (Some(_), true) = (&peer.tls_pin, nothing_to_pin(peer)) {
        problems.push(
            Problem::at("tls_pin", "without TLS there is no certificate to pin")
                .code(Code::ConfigConflict)
                .rests_on("endpoint")
                .rests_on("poll_endpoint")
                .rests_on("jwks_uri")
                .fix("remove it, or write wss:// and https://"),
        );
    }
    if let Some(fault) = peer.audience.as_deref().and_then(check::unfit) {
        problems.push(
            Problem::at("audience", format!("the audience {fault}"))
                .fix("remove it, so that it is the partner's issuer"),
        );
    }
    if let Some(fault) = peer.accept_audience.as_deref().and_then(check::unfit) {
        problems.push(
            Problem::at("accept_audience", format!("the audience {fault}"))
                .fix("remove it, so that it is server.audience"),
        );
    }
    amounts::refresh(peer.jwks_refresh, &mut problems);
    for (key, patterns) in [("send", &peer.send), ("accept", &peer.accept)] {
        for pattern in patterns {
            problems.extend(filter(key, pattern));
        }
    }
    problems
}

fn filter(key: &str, pattern: &str) -> Option<Problem> {
    let known = |name: &str| events::KNOWN.iter().any(|(known, _)| *known == name);
    // A short name of a known family that nobody knows expands all the same, and would never match.
    let misspelt = pattern.split_once(':').is_some_and(|(family, _)| matches!(family, "caep" | "risc" | "ssf"))
        && !pattern.contains('*')
        && !known(pattern);
    let meant = events::suggest(pattern);
    if Filter::new(&[pattern.to_owned()]).is_ok() && !(misspelt && meant.is_some()) {
        return None;
    }
    let problem = Problem::at(key, "this is no event type")
        .expected("a short name (\"caep:session-revoked\"), a full URI, or a pattern with * (\"caep:*\")")
        .found(format!("{pattern:?}"));
    let family = pattern.split_once(':').and_then(|(family, name)| {
        nearest(family, ["caep", "risc", "ssf", "scim"]).map(|near| format!("{near}:{name}"))
    });
    let meant = meant.map(str::to_owned).or(family).filter(|_| !pattern.is_empty());
    Some(match meant {
        Some(meant) => problem.fix(format!("did you mean \"{meant}\"? Write the full URI if another type is meant")),
        None => problem.fix("write one of these forms; docs/configuration.md has the families of short names"),
    })
}

fn nothing_to_pin(peer: &Peer) -> bool {
    let plain = |url: &Option<String>| match url.as_deref().map(Target::parse) {
        Some(Ok(target)) => !target.is_secure(),
        Some(Err(_)) => false,
        None => true,
    };
    let urls = [&peer.endpoint, &peer.poll_endpoint, &peer.jwks_uri];
    urls.iter().any(|url| url.is_some()) && urls.into_iter().all(plain)
}

/// Whether a URL leads to us: to the address we listen on, or to what our own card would say.
fn is_ours(target: &Target, path: &str, config: &Config) -> bool {
    let listen = config.server.listen;
    let listens = match target.address() {
        Some(address) => address == listen.ip() || (address.is_loopback() && listen.ip().is_unspecified()),
        None => target.host() == "localhost" && (listen.ip().is_loopback() || listen.ip().is_unspecified()),
    };
    if listens && target.port() == listen.port() {
        return true;
    }
    // Several organisations may share a host and differ by the path; then it takes the whole URL to tell.
    let Ok(issuer) = Target::parse(&config.server.issuer) else { return false };
    let same_port = target.port() == issuer.port() || target.port() == listen.port();
    issuer.host() == target.host() && same_port && issuer.path().path() == "/" && target.path().path() == path
}

/// What is wrong with a URL, without the words that introduce it.
pub(super) fn said(fault: &InvalidTarget) -> String {
    let text = fault.to_string();
    text.strip_prefix("invalid URL: ").unwrap_or(&text).to_owned()
}

/// Whether this can be the name of a variable.
pub(super) fn is_variable(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(allowed)
}

/// Whether the host of a URL is this machine itself.
pub(crate) fn is_loopback(target: &Target) -> bool {
    target.address().map_or_else(|| target.host() == "localhost", |address| address.is_loopback())
}

fn name(peer: &Peer) -> Option<Problem> {
    if is_slug(&peer.name) {
        return None;
    }
    let expected = "1 to 63 of a-z, 0-9 and -, not starting with -";
    let problem = match peer.name.as_str() {
        "" => Problem::at("name", "missing").code(Code::ConfigMissingKey),
        name => Problem::at("name", "this is no slug").found(format!("{name:?}")),
    };
    let near = peer.name.to_ascii_lowercase().replace(['_', ' ', '.'], "-");
    let fix = match is_slug(&near) {
        true => format!("write name = \"{near}\""),
        false => "choose a short name, as in name = \"globex\"".to_owned(),
    };
    Some(problem.expected(expected).fix(fix))
}

fn issuer(peer: &Peer, config: &Config) -> Option<Problem> {
    if peer.issuer.is_empty() {
        return Some(
            Problem::at("issuer", "missing")
                .code(Code::ConfigMissingKey)
                .expected("whose SETs the partner sends, such as \"https://signals.globex.example\"")
                .fix("copy it from the partner's `pushpull peer card`"),
        );
    }
    if let Some(fault) = check::unfit(&peer.issuer) {
        let problem = Problem::at("issuer", format!("the issuer {fault}"));
        return Some(problem.fix("copy it from the partner's `pushpull peer card`"));
    }
    // Nobody is the partner of somebody whose name differs by a slash or a capital letter alone.
    let same = |a: &str, b: &str| a.trim_end_matches('/').eq_ignore_ascii_case(b.trim_end_matches('/'));
    same(&peer.issuer, &config.server.issuer).then(|| {
        Problem::at("issuer", "this is our own issuer: we would talk to ourselves")
            .code(Code::ConfigConflict)
            .found(format!("{:?}", peer.issuer))
            .fix("write the partner's issuer; it stands in the partner's `pushpull peer card`, not in ours")
    })
}

fn keys(peer: &Peer, config: &Config) -> Option<Problem> {
    match (&peer.jwks_uri, &peer.jwks_file) {
        (Some(uri), None) => {
            let purpose = Use::Requests { path: "/jwks.json", what: "keys are fetched with plain requests" };
            url("jwks_uri", uri, purpose, config)
        }
        (None, Some(_)) => None,
        (None, None) => Some(
            Problem::at("jwks_uri", "missing: without the partner's keys nothing it sends can be verified")
                .code(Code::ConfigMissingKey)
                .rests_on("jwks_file")
                .expected("either jwks_uri or jwks_file")
                .fix("write jwks_uri = \"https://…/jwks.json\""),
        ),
        (Some(_), Some(_)) => Some(
            Problem::at("jwks_file", "jwks_uri stands there as well")
                .code(Code::ConfigConflict)
                .expected("either jwks_uri or jwks_file")
                .fix("remove one of them"),
        ),
    }
}

fn endpoint(peer: &Peer, config: &Config) -> Option<Problem> {
    if !peer.transport.is_available() {
        return Some(
            Problem::at("transport", "not available yet")
                .expected("\"websocket\", \"http\", \"push\", \"multi-push\", \"poll\" or \"none\"")
                .found(format!("\"{}\"", peer.transport))
                .fix("use \"websocket\"; it falls back to HTTP by itself"),
        );
    }
    match &peer.endpoint {
        Some(endpoint) if !peer.transport.is_pushpull() => {
            let purpose = Use::Requests { path: peer.transport.path(), what: "this method speaks in plain requests" };
            url("endpoint", endpoint, purpose, config)
        }
        Some(endpoint) => url("endpoint", endpoint, Use::PushPull, config),
        None if peer.transport == Transport::None => None,
        None => Some(
            Problem::at("endpoint", format!("missing, and transport = \"{}\" needs it", peer.transport))
                .code(Code::ConfigMissingKey)
                .rests_on("transport")
                .expected(match peer.transport.is_pushpull() {
                    true => "where to reach the partner, such as \"wss://signals.globex.example/pushpull\"".to_owned(),
                    false => format!(
                        "where to reach the partner, such as \"https://signals.globex.example{}\"",
                        peer.transport.path()
                    ),
                })
                .fix("write it, or set transport = \"none\" if the partner comes to us"),
        ),
    }
}

/// `poll_endpoint`, which goes along with every transport but the one that polls itself.
fn poll_endpoint(peer: &Peer, config: &Config) -> Option<Problem> {
    let endpoint = peer.poll_endpoint.as_deref()?;
    if peer.transport == Transport::Poll {
        return Some(
            Problem::at("poll_endpoint", "transport = \"poll\" stands there as well, and polls `endpoint`")
                .code(Code::ConfigConflict)
                .rests_on("transport")
                .expected("poll_endpoint beside a transport by which we send, or `endpoint` alone")
                .fix("remove poll_endpoint"),
        );
    }
    url("poll_endpoint", endpoint, Use::Requests { path: "/poll", what: "polls are plain requests" }, config)
}

/// What a URL is for.
enum Use {
    /// Push-pull, which may begin with a WebSocket.
    PushPull,
    /// Plain requests; where such an endpoint of ours is, and what to say of a `wss://`.
    Requests { path: &'static str, what: &'static str },
}

/// What is wrong with a URL that we would connect to. It is not repeated: a password may stand in it.
fn url(key: &str, text: &str, purpose: Use, config: &Config) -> Option<Problem> {
    let (expected, path) = match &purpose {
        Use::PushPull => ("a wss:// or https:// URL", "/pushpull"),
        Use::Requests { path, .. } => ("an https:// URL", *path),
    };
    let target = match (Target::parse(text), purpose) {
        (Ok(target), Use::Requests { what, .. }) if target.is_websocket() => {
            return Some(
                Problem::at(key, what).expected(expected).found(format!("\"{target}\"")).fix("write https://"),
            );
        }
        (Ok(target), _) => target,
        (Err(fault), _) => {
            let problem = Problem::at(key, format!("this is no URL to connect to: {}", said(&fault)));
            return Some(problem.expected(expected).fix("copy it from the partner's `pushpull peer card`"));
        }
    };
    if is_ours(&target, path, config) {
        return Some(
            Problem::at(key, "this leads to ourselves: we would talk to ourselves")
                .code(Code::ConfigConflict)
                .rests_on("server.listen")
                .rests_on("server.issuer")
                .expected("where the partner is reached")
                .found(format!("\"{target}\""))
                .fix("write the partner's; it stands in the partner's `pushpull peer card`, not in ours"),
        );
    }
    if target.is_secure() {
        return None;
    }
    if !is_loopback(&target) {
        let problem = Problem::at(key, "without TLS only loopback hosts are accepted").expected(expected);
        return Some(problem.found(format!("\"{target}\"")).fix(format!("write {}", secure(&target))));
    }
    // A range that cannot be read is reported on its own; it covers nothing here.
    let allow = Allow::parse(config.network.allow.iter().map(String::as_str)).unwrap_or_default();
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let covered = match target.address() {
        Some(address) => allow.covers(address),
        None => loopback.into_iter().any(|address| allow.covers(address)),
    };
    (!covered).then(|| {
        Problem::at(key, "network.allow does not cover this loopback host")
            .code(Code::ConfigConflict)
            .rests_on("network.allow")
            .expected("allow = [\"127.0.0.0/8\"] under [network]")
            .found(format!("\"{target}\""))
            .fix("add the range that holds the host to network.allow")
    })
}

fn secure(target: &Target) -> &'static str {
    if target.is_websocket() { "wss://" } else { "https://" }
}

fn credentials(peer: &Peer) -> Option<Problem> {
    if peer.token.is_some() && peer.token_file.is_some() {
        return Some(
            Problem::at("token", "token_file stands there as well")
                .code(Code::ConfigConflict)
                .expected("either token or token_file")
                .fix("remove one of them"),
        );
    }
    if peer.token.as_ref().is_some_and(|token| !is_variable(&token.env)) {
        // What stands there may be the token.
        return Some(
            Problem::at("token", "this is no name of an environment variable")
                .expected("{ env = \"NAME\" }, of letters, digits and _")
                .fix("write the variable's name, not the token itself"),
        );
    }
    let comes = peer.transport == Transport::None && peer.poll_endpoint.is_none();
    (comes && peer.accept_token_file.is_none()).then(|| {
        Problem::at("accept_token_file", "missing: we do not dial this partner, and it could not prove who it is")
            .code(Code::ConfigMissingKey)
            .rests_on("transport")
            .expected("the file with the token that the partner presents")
            .fix("write accept_token_file, or let us dial it: transport = \"websocket\" and endpoint")
    })
}
