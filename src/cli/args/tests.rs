//! Every command of the interface parses, and what makes no sense does not.

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("pushpull").chain(line.split_whitespace()))
}

#[test]
fn the_definition_holds_together() {
    use clap::CommandFactory as _;
    Cli::command().debug_assert();
}

#[test]
fn every_command_of_the_interface_parses() {
    for line in [
        "--version",
        "--version --json",
        "demo",
        "demo --for 2s --transport http --dir d --json",
        "init --issuer https://a.example",
        "init d --issuer https://a.example --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --alg RS256",
        "serve",
        "serve -c pushpull.toml --check",
        "-c pushpull.toml serve",
        "peer card",
        "peer add --card b.toml --name b --send caep:* --send risc:* --accept caep:*",
        "peer ls",
        "peer list --json",
        "peer show b",
        "peer verify b --admin 127.0.0.1:1 --token-file t",
        "send b caep:session-revoked --subject email:a@b.example",
        "send b caep:session-revoked --subject opaque:1 --claim a=1 --claim b=c --txn t --jti j --wait",
        "send b caep:session-revoked --subject opaque:1 --wait=5s",
        "send b -f events.jsonl --retry-for 10m --batch 10",
        "send b -f -",
        "tail",
        "tail b --consumer c --confirm --follow --max 3",
        "consumer ls",
        "consumer rm siem",
        "status",
        "status b --json",
        "set sign --key k.pem -f claims.json",
        "set sign --kid acme-1",
        "set decode -",
        "set verify --against b",
        "set verify set.jwt --jwks j.json --iss https://a.example --aud https://b.example",
        "key ls",
        "key new --alg EdDSA --kid x",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "nonsense",
        "init",
        "init --issuer https://a.example --alg HS256",
        "init --issuer https://a.example --listen nowhere",
        "demo --for 5",
        "peer add",
        "send b",
        "send b caep:session-revoked",
        "send b caep:session-revoked --subject opaque:1 -f x",
        "send b caep:session-revoked --subject opaque:1 --retry-for 5s",
        "send b caep:session-revoked --subject opaque:1 --claim x",
        "tail --confirm",
        "set verify",
        "set verify --jwks j.json --iss https://a.example",
        "set verify --against b --jwks j.json --iss x --aud y",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn a_claim_is_json_where_it_can_be_and_else_a_text() {
    assert_eq!(claim("n=1"), Ok(("n".to_owned(), 1.into())));
    assert_eq!(claim("t=hello=world"), Ok(("t".to_owned(), "hello=world".into())));
    assert_eq!(claim("o={\"en\":\"x\"}"), Ok(("o".to_owned(), serde_json::json!({"en": "x"}))));
    assert!(claim("=1").is_err() && claim("x").is_err());
}

#[test]
fn waiting_without_a_time_is_half_a_minute() {
    let Some(Command::Send(send)) = parse("send b t --subject opaque:1 --wait").unwrap().command else {
        panic!("another command")
    };
    assert_eq!(send.wait, Some(Duration::from_secs(30)));
}
