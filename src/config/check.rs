//! What the schema cannot say: values that must fit each other. Looks only at the values, never at a file.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::wire::net::{Allow, Target};

use super::problem::Problem;
use super::schema::{Delivery, Limits, TlsMode};
use super::{Config, partner};

/// Every fault between the values of this configuration.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    server(config, &mut problems);
    admin_and_store(config, &mut problems);
    if let Some(bad) = config.network.allow.iter().find(|range| Allow::parse([range.as_str()]).is_err()) {
        problems.push(
            Problem::at("network.allow", "this is no range of addresses")
                .expected(
                    "an address and a prefix length without further bits, such as \"127.0.0.0/8\" or \"10.1.0.0/16\"",
                )
                .found(format!("{bad:?}")),
        );
    }
    limits(&config.limits, &mut problems);
    delivery(&config.delivery, &mut problems);
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
    if server.audience.as_deref().is_some_and(str::is_empty) {
        problems
            .push(Problem::at("server.audience", "the audience is empty").fix("remove it, so that it is the issuer"));
    }
    let tls = &server.tls;
    if tls.mode == TlsMode::DangerousPlaintext && !server.listen.ip().is_loopback() {
        problems.push(
            Problem::at("server.tls.mode", "without TLS anybody on the way could read and change SETs and tokens")
                .expected("a loopback address in server.listen, such as \"127.0.0.1:8443\"")
                .found(format!("\"{}\"", server.listen))
                .fix("set mode = \"self-signed\", or listen on a loopback address behind a proxy that ends TLS"),
        );
    }
    if tls.mode == TlsMode::Files {
        for (key, value) in [("server.tls.cert", &tls.cert), ("server.tls.key", &tls.key)] {
            if value.is_none() {
                problems.push(
                    Problem::at(key, "missing, and mode = \"files\" needs it")
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
        return Some(problem("missing").fix("write who signs: issuer = \"https://…\" under [server]"));
    }
    let target = match Target::parse(issuer) {
        Ok(target) if !target.is_websocket() => target,
        _ => return Some(problem("this is no issuer").fix("write an https URL with nothing but host, port and path")),
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
    if config.admin.listen == config.server.listen && config.admin.listen.port() != 0 {
        problems.push(
            Problem::at("admin.listen", "the same address as server.listen")
                .found(format!("\"{}\" twice", config.admin.listen))
                .fix("give the admin API a port of its own"),
        );
    }
    if config.store.path().is_some() {
        return;
    }
    let scheme = config.store.url.split(':').next().unwrap_or_default();
    let problem = match scheme {
        "postgres" | "postgresql" => Problem::at("store.url", "PostgreSQL is not built yet"),
        "sqlite" => Problem::at("store.url", "this names no file").found(format!("{:?}", config.store.url)),
        _ => Problem::at("store.url", "an unknown kind of store"),
    };
    problems.push(problem.expected("\"sqlite:\" and a path").fix("use url = \"sqlite:pushpull.db\""));
}

fn limits(limits: &Limits, problems: &mut Vec<Problem>) {
    let least = [
        ("limits.object_bytes_max", limits.object_bytes_max, 1024),
        ("limits.set_bytes_max", limits.set_bytes_max, 512),
        ("limits.sets_per_object_max", limits.sets_per_object_max, 1),
        ("limits.jti_bytes_max", limits.jti_bytes_max, 36),
        ("limits.requests_per_second_max", limits.requests_per_second_max as usize, 1),
        ("limits.messages_per_second_max", limits.messages_per_second_max as usize, 1),
        ("limits.inbox_max", usize::try_from(limits.inbox_max).unwrap_or(usize::MAX), 1),
    ];
    at_least(&least, problems);
    if limits.set_bytes_max > limits.object_bytes_max {
        problems.push(
            Problem::at("limits.set_bytes_max", "a SET of this size would fit into no Communication Object")
                .expected(format!("at most object_bytes_max, {} bytes", limits.object_bytes_max))
                .found(format!("{} bytes", limits.set_bytes_max))
                .fix("lower set_bytes_max or raise object_bytes_max"),
        );
    }
}

fn delivery(delivery: &Delivery, problems: &mut Vec<Problem>) {
    let least = [
        ("delivery.window", delivery.window, 1),
        ("delivery.window_bytes", delivery.window_bytes, 1024),
        ("delivery.attempts_max", delivery.attempts_max as usize, 1),
        ("delivery.outbox_max", usize::try_from(delivery.outbox_max).unwrap_or(usize::MAX), 1),
    ];
    at_least(&least, problems);
    let positive = [
        ("delivery.retry_first", delivery.retry_first),
        ("delivery.speak_interval", delivery.speak_interval),
        ("delivery.ping_interval", delivery.ping_interval),
    ];
    for (key, value) in positive {
        if value < Duration::from_millis(10) {
            problems.push(
                Problem::at(key, "too short: it would keep a core busy")
                    .expected("10ms or longer")
                    .found(format!("{} ms", value.as_millis())),
            );
        }
    }
    let ordered = [
        ("delivery.retry_max", "delivery.retry_first", delivery.retry_first, delivery.retry_max),
        ("delivery.age_max", "delivery.give_up_after", delivery.give_up_after, delivery.age_max),
    ];
    for (key, other, low, high) in ordered {
        if low > high {
            problems.push(
                Problem::at(key, format!("shorter than {other}"))
                    .expected(format!("at least {}", crate::quantity::duration_text(low)))
                    .found(crate::quantity::duration_text(high))
                    .fix(format!("raise it, or lower {other}")),
            );
        }
    }
}

fn at_least(values: &[(&str, usize, usize)], problems: &mut Vec<Problem>) {
    for (key, value, least) in values {
        if value < least {
            problems.push(Problem::at(key, "too small").expected(format!("at least {least}")).found(value.to_string()));
        }
    }
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
            .expected("error, warn, info, debug or trace, and perhaps more for single modules: \"info,hyper=debug\"")
            .found(format!("{bad:?}"));
        problems.push(match near {
            Some(near) => problem.fix(format!("write \"{near}\"")),
            None => problem,
        });
    }
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
            problems.push(problem.fix("give one of them another name").in_peer(index));
        }
        if !peer.issuer.is_empty()
            && let Some(other) = issuers.insert(&peer.issuer, index)
        {
            let what = format!("{} and {} have the same issuer", name(&other), peer.name);
            problems.push(Problem::at("issuer", what).fix("make them one peer").in_peer(index));
        }
        if let Some(file) = &peer.accept_token_file
            && let Some(other) = tokens.insert(file, index)
        {
            let what = format!("{} and {} would present the same token", name(&other), peer.name);
            let problem = Problem::at("accept_token_file", what);
            problems.push(problem.fix("give each its own: a token says who is calling").in_peer(index));
        }
    }
}
