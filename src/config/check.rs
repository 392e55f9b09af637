//! What the schema cannot say: values that must fit each other. Looks only at the values, never at a file.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::codes::Code;
use crate::wire::net::{Allow, Target};

use super::problem::Problem;
use super::schema::{Admin, TlsMode};
use super::{Config, amounts, partner};

/// Every fault between the values of this configuration.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    server(config, &mut problems);
    admin_and_store(config, &mut problems);
    for bad in config.network.allow.iter().filter(|range| Allow::parse([range.as_str()]).is_err()) {
        problems.push(
            Problem::at("network.allow", "this is no range of addresses")
                .expected(
                    "an address and a prefix length without further bits: \"127.0.0.0/8\", \"10.1.0.0/16\", \"::1\"",
                )
                .found(format!("{bad:?}"))
                .fix(match bad.split_once('/') {
                    _ if bad.contains(char::is_alphabetic) && !bad.contains(':') => {
                        "write its address: names are not looked up here"
                    }
                    Some(_) => "clear the bits behind the prefix, or mend the prefix length",
                    None => "write an address, or an address and a prefix length",
                }),
        );
    }
    amounts::store(&config.store, &mut problems);
    amounts::limits(&config.limits, &mut problems);
    amounts::delivery(&config.delivery, &config.limits, &mut problems);
    log(config, &mut problems);
    for (index, peer) in config.peers.iter().enumerate() {
        problems.extend(partner::problems(peer, config).into_iter().map(|problem| problem.in_peer(index)));
    }
    among_peers(config, &mut problems);
    problems
}

fn server(config: &Config, problems: &mut Vec<Problem>) {
    let server = &config.server;
    if let Some(problem) = issuer(&server.issuer) {
        problems.push(problem);
    }
    if let Some(fault) = server.audience.as_deref().and_then(unfit) {
        problems.push(
            Problem::at("server.audience", format!("the audience {fault}")).fix("remove it, so that it is the issuer"),
        );
    }
    let tls = &server.tls;
    if tls.mode == TlsMode::DangerousPlaintext && !server.listen.ip().is_loopback() {
        problems.push(
            Problem::at("server.tls.mode", "without TLS anybody on the way could read and change SETs and tokens")
                .expected("a loopback address in server.listen, such as \"127.0.0.1:8443\"")
                .found(format!("\"{}\"", server.listen))
                .code(Code::ConfigConflict)
                .rests_on("server.listen")
                .fix("set mode = \"self-signed\", or listen on a loopback address behind a proxy that ends TLS"),
        );
    }
    if tls.mode == TlsMode::Files {
        for (key, value) in [("server.tls.cert", &tls.cert), ("server.tls.key", &tls.key)] {
            if value.is_none() {
                problems.push(
                    Problem::at(key, "missing, and mode = \"files\" needs it")
                        .code(Code::ConfigMissingKey)
                        .expected("the path of a PEM file")
                        .fix("name the file, or set mode = \"self-signed\""),
                );
            }
        }
    }
    if tls.client_ca.is_some() {
        problems.push(
            Problem::at("server.tls.client_ca", "client certificates are not available yet")
                .fix("remove it and let partners present bearer tokens (accept_token_file)"),
        );
    }
}

/// What is wrong with our own issuer (SSF §7.1: an https URL without query and fragment).
pub(crate) fn issuer(issuer: &str) -> Option<Problem> {
    let problem = |what: &str| {
        Problem::at("server.issuer", what).expected("an https URL such as \"https://signals.acme.example\"")
    };
    if issuer.is_empty() {
        return Some(
            problem("missing")
                .code(Code::ConfigMissingKey)
                .fix("write who signs: issuer = \"https://…\" under [server]"),
        );
    }
    // The URL is not repeated: a password may stand in it.
    let fix = "write an https URL with nothing but host, port and path";
    let target = match Target::parse(issuer) {
        Ok(target) if !target.is_websocket() => target,
        Ok(_) => return Some(problem("this is no issuer: its scheme must be https").fix(fix)),
        Err(fault) => return Some(problem(&format!("this is no issuer: {}", partner::said(&fault))).fix(fix)),
    };
    let found = |problem: Problem| problem.found(format!("{issuer:?}"));
    if issuer.contains('?') {
        return Some(found(problem("an issuer has no query and no fragment")).fix("leave out what follows the path"));
    }
    if !target.is_secure() && !partner::is_loopback(&target) {
        return Some(found(problem("http is only for loopback hosts")).fix("write https://"));
    }
    None
}

fn admin_and_store(config: &Config, problems: &mut Vec<Problem>) {
    let (ours, theirs) = (config.admin.listen, config.server.listen);
    let covers = |a: SocketAddr, b: SocketAddr| a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    let meet = ours.ip() == theirs.ip() || covers(ours, theirs) || covers(theirs, ours);
    if ours.port() == theirs.port() && ours.port() != 0 && meet {
        problems.push(
            Problem::at("admin.listen", "the same address as server.listen")
                .code(Code::ConfigConflict)
                .rests_on("server.listen")
                .expected("another port than server.listen has")
                .found(format!("\"{ours}\", and \"{theirs}\" there"))
                .fix("give the admin API a port of its own"),
        );
    }
    hosts(&config.admin, problems);
    if config.store.path().is_some() {
        return;
    }
    let scheme = config.store.url.split(':').next().unwrap_or_default();
    let problem = match scheme {
        "postgres" | "postgresql" => Problem::at("store.url", "PostgreSQL is not built yet"),
        "sqlite" => Problem::at("store.url", "this names no file").found(format!("{:?}", config.store.url)),
        _ => Problem::at("store.url", "an unknown kind of store"),
    };
    let problem = problem.expected("\"sqlite:\" and a path");
    problems.push(problem.fix("use url = \"sqlite:pushpull.db\""));
}

fn log(config: &Config, problems: &mut Vec<Problem>) {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_directive = |part: &str| match part.split_once('=') {
        Some((target, level)) => !target.trim().is_empty() && LEVELS.contains(&level.trim()),
        None => LEVELS.contains(&part.trim()),
    };
    if let Some(bad) = config.log.level.split(',').find(|part| !is_directive(part)) {
        let near = crate::set::nearest::nearest(bad.trim(), LEVELS);
        let problem = Problem::at("log.level", "this is no level")
            .expected(
                "off, error, warn, info, debug or trace, and perhaps more for single modules: \"info,hyper=debug\"",
            )
            .found(format!("{bad:?}"));
        problems.push(match near {
            Some(near) => problem.fix(format!("write \"{near}\"")),
            None => problem.fix("write a level, and MODULE=LEVEL behind it where needed, with commas between"),
        });
    }
}

/// Whoever is on the list may be a page's host, so a slip in it would open or close the wrong door in silence.
fn hosts(admin: &Admin, problems: &mut Vec<Problem>) {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_host = |host: &str| {
        host.parse::<IpAddr>().is_ok() || (!host.is_empty() && host.len() <= 253 && host.chars().all(is_name))
    };
    for bad in admin.hosts.iter().filter(|host| !is_host(host)) {
        let rest = bad.split_once("://").map_or(bad.as_str(), |(_, rest)| rest);
        let bare = rest.split(['/', ':', '?', '#']).next().unwrap_or_default();
        let problem = Problem::at("admin.hosts", "this is no host name")
            .expected("a name or an address, without scheme, port and path")
            .found(format!("{bad:?}"));
        problems.push(match is_host(bare) {
            true => problem.fix(format!("write \"{bare}\"")),
            false => problem.fix("write a name such as \"signals-admin.internal\""),
        });
    }
}

/// What keeps a text from being an issuer or audience: both are compared byte for byte, so what cannot be seen matters.
pub(super) fn unfit(text: &str) -> Option<&'static str> {
    if text.trim().is_empty() {
        return Some("is empty");
    }
    let unseen = |c: char| c.is_control() || c.is_whitespace();
    text.contains(unseen).then_some("has spaces or line breaks, which no partner's has")
}

/// What two peers must not share: how they are called, whose SETs they bring, and what they prove themselves with.
fn among_peers(config: &Config, problems: &mut Vec<Problem>) {
    let mut names = BTreeMap::new();
    let mut issuers = BTreeMap::new();
    let mut tokens = BTreeMap::new();
    for (index, peer) in config.peers.iter().enumerate() {
        let name = |other: &usize| config.peers[*other].name.clone();
        if !peer.name.is_empty()
            && let Some(other) = names.insert(&peer.name, index)
        {
            let line = config.peers[other].line.map(|line| format!(" (line {line})")).unwrap_or_default();
            let problem = Problem::at("name", format!("two peers are called {}{line}", peer.name));
            let problem = problem.code(Code::ConfigConflict);
            problems.push(problem.fix("give one of them another name").in_peer(index));
        }
        if !peer.issuer.is_empty()
            && let Some(other) = issuers.insert(&peer.issuer, index)
        {
            let what = format!("{} and {} have the same issuer", name(&other), peer.name);
            let problem = Problem::at("issuer", what).code(Code::ConfigConflict);
            problems.push(problem.fix("make them one peer").in_peer(index));
        }
        if let Some(file) = &peer.accept_token_file
            && let Some(other) = tokens.insert(file, index)
        {
            let what = format!("{} and {} would present the same token", name(&other), peer.name);
            let problem = Problem::at("accept_token_file", what).code(Code::ConfigConflict);
            problems.push(problem.fix("give each its own: a token says who is calling").in_peer(index));
        }
    }
}
