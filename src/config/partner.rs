//! What must hold for one `[[peer]]`, whether it comes from the file or was added at run time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::set::events::Filter;
use crate::wire::net::{Allow, Pin, Target};

use super::Config;
use super::peer::{Peer, Transport, is_slug};
use super::problem::Problem;

/// Every fault of this peer in the light of the rest of the configuration. The paths start inside the peer.
pub(super) fn problems(peer: &Peer, config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(name(peer));
    problems.extend(issuer(peer, config));
    problems.extend(keys(peer, config));
    problems.extend(endpoint(peer, config));
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
    for (key, patterns) in [("send", &peer.send), ("accept", &peer.accept)] {
        for pattern in patterns {
            if let Err(fault) = Filter::new(std::slice::from_ref(pattern)) {
                problems.push(
                    Problem::at(key, "this is no pattern of event types")
                        .expected(
                            "a short name (\"caep:session-revoked\"), a full URI, or a pattern with * (\"caep:*\")",
                        )
                        .found(fault.to_string()),
                );
            }
        }
    }
    problems
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
        "" => Problem::at("name", "missing"),
        name => Problem::at("name", "this is no slug").found(format!("{name:?}")),
    };
    Some(problem.expected(expected).fix("choose a short name, as in name = \"globex\""))
}

fn issuer(peer: &Peer, config: &Config) -> Option<Problem> {
    if peer.issuer.is_empty() {
        return Some(
            Problem::at("issuer", "missing")
                .expected("whose SETs the partner sends, such as \"https://signals.globex.example\"")
                .fix("copy it from the partner's `pushpull peer card`"),
        );
    }
    (peer.issuer == config.server.issuer).then(|| {
        Problem::at("issuer", "this is our own issuer: we would talk to ourselves")
            .found(format!("{:?}", peer.issuer))
            .fix("write the partner's issuer; it stands in the partner's `pushpull peer card`, not in ours")
    })
}

fn keys(peer: &Peer, config: &Config) -> Option<Problem> {
    match (&peer.jwks_uri, &peer.jwks_file) {
        (Some(uri), None) => url("jwks_uri", uri, false, config),
        (None, Some(_)) => None,
        (None, None) => Some(
            Problem::at("jwks_uri", "missing: without the partner's keys nothing it sends can be verified")
                .expected("either jwks_uri or jwks_file")
                .fix("write jwks_uri = \"https://…/jwks.json\""),
        ),
        (Some(_), Some(_)) => Some(
            Problem::at("jwks_file", "jwks_uri stands there as well")
                .expected("either jwks_uri or jwks_file")
                .fix("remove one of them"),
        ),
    }
}

fn endpoint(peer: &Peer, config: &Config) -> Option<Problem> {
    if !peer.transport.is_available() {
        return Some(
            Problem::at("transport", "not available yet")
                .expected("\"websocket\", \"http\" or \"none\"")
                .found(format!("\"{}\"", peer.transport))
                .fix("use \"websocket\"; it falls back to HTTP by itself"),
        );
    }
    match &peer.endpoint {
        Some(endpoint) => url("endpoint", endpoint, true, config),
        None if peer.transport == Transport::None => None,
        None => Some(
            Problem::at("endpoint", format!("missing, and transport = \"{}\" needs it", peer.transport))
                .expected("where to reach the partner, such as \"wss://signals.globex.example/pushpull\"")
                .fix("write it, or set transport = \"none\" if the partner comes to us"),
        ),
    }
}

/// What is wrong with a URL that we would connect to. It is not repeated: a password may stand in it.
fn url(key: &str, text: &str, websocket: bool, config: &Config) -> Option<Problem> {
    let expected = if websocket { "a wss:// or https:// URL" } else { "an https:// URL" };
    let target = match Target::parse(text) {
        Ok(target) if websocket || !target.is_websocket() => target,
        Ok(_) => {
            return Some(
                Problem::at(key, "keys are fetched with plain requests").expected(expected).fix("write https://"),
            );
        }
        Err(fault) => return Some(Problem::at(key, fault.to_string()).expected(expected)),
    };
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
                .expected("either token or token_file")
                .fix("remove one of them"),
        );
    }
    (peer.transport == Transport::None && peer.accept_token_file.is_none()).then(|| {
        Problem::at("accept_token_file", "missing: we do not dial this partner, and it could not prove who it is")
            .expected("the file with the token that the partner presents")
            .fix("write accept_token_file, or let us dial it: transport = \"websocket\" and endpoint")
    })
}
