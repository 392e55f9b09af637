//! `pushpull.toml`: any text through the real reader, with all its checks, and variables laid over it.

use std::path::Path;

use pushpull::config::{Config, Environment, Error, Place, parse};
use pushpull::wire::net::Target;

/// The reader under test.
pub type Parse = fn(&str, &Path, &Environment) -> Result<Config, Error>;

/// Holds the program's reader to what it promises. Behind the first NUL come variables, `NAME=VALUE` with a NUL after
/// each.
pub fn check(data: &[u8]) {
    check_with(parse, data);
}

/// The same of any reader.
pub fn check_with(parse: Parse, data: &[u8]) {
    let data = String::from_utf8_lossy(data);
    let (text, variables) = data.split_once('\0').unwrap_or((&data, ""));
    let environment: Environment = variables.split('\0').filter_map(|line| line.split_once('=')).collect();
    let file = Path::new("pushpull.toml");
    match parse(text, file, &environment) {
        Ok(config) => {
            if let Err(error) = text.parse::<toml::Table>() {
                panic!("a file is taken that is no TOML: {error}");
            }
            holds_together(&config);
            if !variables.contains("PUSHPULL__") {
                let again = parse(&toml(&config), file, &Environment::default());
                let again = again.unwrap_or_else(|error| panic!("what it amounts to is refused: {error}"));
                assert_eq!(values(&again), values(&config), "written out it is something else");
            }
        }
        Err(error) => is_told_well(text, &error),
    }
}

/// What follows from the checks, asked in another way.
fn holds_together(config: &Config) {
    let issuer = Target::parse(&config.server.issuer).expect("an issuer is a URL");
    let here = issuer.host() == "localhost" || issuer.address().is_some_and(|address| address.is_loopback());
    assert!(!issuer.is_websocket() && (issuer.is_secure() || here), "{issuer}");
    let mut names: Vec<&str> = config.peers.iter().map(|peer| peer.name.as_str()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|two| two[0] != two[1]), "two peers have one name");
    for peer in &config.peers {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(!peer.name.is_empty() && peer.name.chars().all(is_plain), "{:?}", peer.name);
        assert!(peer.issuer != config.server.issuer, "a partner is ourselves");
        assert!(peer.jwks_uri.is_some() != peer.jwks_file.is_some(), "one source of keys");
    }
    assert!(config.limits.set_bytes_max <= config.limits.object_bytes_max);
    assert!(config.delivery.retry_first <= config.delivery.retry_max);
}

fn toml(config: &Config) -> String {
    toml::to_string(config).expect("a configuration can be written out")
}

fn values(config: &Config) -> toml::Table {
    toml(config).parse().expect("what is written out is TOML")
}

fn is_told_well(text: &str, error: &Error) {
    assert!(!error.problems.is_empty(), "refused without a reason");
    let lines = text.split('\n').count();
    for problem in &error.problems {
        assert!(!problem.what.is_empty() && !problem.fix.is_empty(), "{problem:?}");
        if let Place::Line { line, column } = problem.place {
            assert!((1..=lines).contains(&line) && column >= 1, "there is no line {line}");
        }
    }
    let shown = error.to_string();
    let acts = |c| c != '\n' && pushpull::set::acts_on_display(c);
    assert!(!shown.chars().any(acts), "it acts on a terminal: {shown:?}");
    assert!(error.to_json()["problems"].as_array().is_some_and(|problems| problems.len() == error.problems.len()));
}
