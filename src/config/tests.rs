//! A corpus of good and bad files: what is reported, where, and with which remedy.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::set::acts_on_display;

/// A configuration without faults, to which the tests add some.
const SOUND: &str = r#"
[server]
issuer = "https://signals.acme.example"
listen = "127.0.0.1:8443"
[network]
allow = ["127.0.0.0/8"]
[[peer]]
name = "globex"
issuer = "https://signals.globex.example"
jwks_uri = "https://signals.globex.example/jwks.json"
endpoint = "wss://signals.globex.example/pushpull"
token_file = "globex.token"
accept_token_file = "from-globex.token"
"#;

/// The example of the interface's description, word for word but for what is not available yet.
const COMPLETE: &str = r#"
[server]
issuer = "https://signals.acme.example"
audience = "https://signals.acme.example"
listen = "0.0.0.0:8443"
[server.tls]
mode = "self-signed"
[admin]
listen = "127.0.0.1:8480"
token_file = "admin.token"
hosts = []
[store]
url = "sqlite:pushpull.db"
[keys]
dir = "keys"
active = "acme-1"
[network]
allow = []
[limits]
object_bytes_max = "4MiB"
set_bytes_max = "256KiB"
sets_per_object_max = 1000
jti_bytes_max = 512
inbox_max = 10000000
[delivery]
window = 4096
window_bytes = "16MiB"
retry_first = "1s"
retry_max = "5m"
attempts_max = 20
give_up_after = "72h"
age_max = "14d"
outbox_max = 20000000
speak_interval = "5s"
ping_interval = "20s"
[log]
level = "info"
format = "auto"
[[peer]]
name = "globex"
issuer = "https://signals.globex.example"
jwks_uri = "https://signals.globex.example/jwks.json"
jwks_refresh = "10m"
audience = "https://signals.globex.example"
transport = "websocket"
endpoint = "wss://signals.globex.example/pushpull"
token_file = "globex.token"
accept_token_file = "from-globex.token"
tls_pin = "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
send = ["caep:*"]
accept = ["caep:*", "risc:*"]
"#;

fn read(text: &str) -> Result<Config, Error> {
    read_with(text, &[])
}

fn read_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, Error> {
    parse(text, Path::new("pushpull.toml"), &variables.iter().copied().collect())
}

/// The faults of a text as `line field: what | fix`.
fn faults(text: &str) -> Vec<String> {
    faults_with(text, &[])
}

fn faults_with(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let error = read_with(text, variables).expect_err("the text has faults");
    let line = |problem: &Problem| match &problem.place {
        Place::File => "-".to_owned(),
        Place::Line { line, .. } => line.to_string(),
        Place::Environment(name) => name.clone(),
    };
    let one = |problem: &Problem| format!("{} {}: {} | {}", line(problem), problem.field, problem.what, problem.fix);
    error.problems.iter().map(one).collect()
}

/// Whether the only fault stands at this line and field, and its text holds this.
#[track_caller]
fn only_fault(text: &str, line: usize, field: &str, holds: &str) {
    let found = faults(text);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with(&format!("{line} {field}: ")), "{found:#?}");
    let whole = read(text).expect_err("it has a fault").to_string();
    assert!(whole.contains(holds), "{whole}");
}

#[test]
fn the_documented_example_is_what_the_defaults_say() {
    let config = read(COMPLETE).expect("the example is sound");
    let defaults = Config::default();
    assert_eq!(config.admin, defaults.admin);
    assert_eq!(config.store, defaults.store);
    assert_eq!(config.network, defaults.network);
    assert_eq!(config.limits, defaults.limits);
    assert_eq!(config.delivery, defaults.delivery);
    assert_eq!(config.log, defaults.log);
    assert_eq!(config.server.listen, defaults.server.listen);
    assert_eq!(config.server.tls, defaults.server.tls);
    assert_eq!(config.keys.dir, defaults.keys.dir);
    let peer = &config.peers[0];
    assert_eq!((peer.jwks_refresh, peer.transport), (Peer::default().jwks_refresh, Peer::default().transport));
    assert_eq!(peer.line, Some(39));
    assert_eq!(config.delivery.give_up_after, Duration::from_secs(72 * 3600));
    assert_eq!(config.delivery.to_peer(), crate::peer::Config::default());
}

#[test]
fn what_is_left_out_is_filled_in() {
    let config = read(SOUND).expect("it is sound");
    assert_eq!(config.server.audience(), "https://signals.acme.example");
    assert_eq!(config.peers[0].audience(), "https://signals.globex.example");
    assert_eq!(config.peers[0].accept, ["*"]);
}

#[test]
fn an_empty_file_lacks_only_the_issuer() {
    assert_eq!(faults(""), ["- server.issuer: missing | write who signs: issuer = \"https://…\" under [server]"]);
}

#[test]
fn misspelt_keys_get_a_suggestion() {
    let text = SOUND.replace("token_file = \"globex", "tokenfile = \"globex").replace("listen =", "lisen =");
    assert_eq!(
        faults(&text),
        [
            "4 server.lisen: unknown key | did you mean `listen`?",
            "12 peer[globex].tokenfile: unknown key | did you mean `token_file`?"
        ]
    );
    assert_eq!(
        faults(&format!("[sever]\nx = 1\n{SOUND}")),
        ["1 sever: unknown key | did you mean `server`?"],
        "a section too"
    );
}

#[test]
fn every_fault_is_reported_at_once() {
    let text = r#"
[server]
issuer = "http://signals.acme.example?x"
listen = "nowhere"
tls = { mode = "self-singed" }
[store]
url = "postgres://db/pushpull"
[limits]
object_bytes_max = "4 megabytes"
sets_per_object_max = 0
[delivery]
retry_first = 5
window = "many"
[[peer]]
name = "Globex!"
issuer = "https://signals.globex.example"
jwks_uri = "http://signals.globex.example/jwks.json"
jwks_file = "globex.json"
transport = "carrier-pigeon"
"#;
    let found = faults(text);
    let places: Vec<&str> = found.iter().filter_map(|fault| fault.split(": ").next()).collect();
    assert_eq!(
        places,
        [
            "3 server.issuer",
            "4 server.listen",
            "5 server.tls.mode",
            "7 store.url",
            "9 limits.object_bytes_max",
            "10 limits.sets_per_object_max",
            "12 delivery.retry_first",
            "13 delivery.window",
            "15 peer[Globex!].name",
            "18 peer[Globex!].jwks_file",
            "19 peer[Globex!].transport",
        ],
        "{found:#?}"
    );
    assert!(found[2].contains("write \"self-signed\""), "{}", found[2]);
    let whole = read(text).expect_err("it has faults").to_string();
    assert!(whole.contains("pushpull.toml:12:"), "{whole}");
    assert!(whole.contains("expected  a duration with its unit"), "{whole}");
    assert!(whole.contains("expected  a whole number"), "{whole}");
    assert!(whole.contains("found     string \"4 megabytes\""), "{whole}");
}

#[test]
fn what_is_not_toml_is_reported_by_line() {
    let found = faults("[server]\nissuer = https://a.example\nlisten = \"127.0.0.1:1\"\naudience = \"x\n");
    assert!(found[0].starts_with("2 server.issuer: not TOML: "), "{found:#?}");
    assert!(found.iter().any(|fault| fault.starts_with("4 server.audience: not TOML: ")), "{found:#?}");
    assert!(found.iter().all(|fault| !fault.contains("missing")), "{found:#?}");
}

#[test]
fn the_issuer_is_an_https_url_without_query() {
    let with = |issuer: &str| SOUND.replacen("https://signals.acme.example", issuer, 1);
    for bad in [
        "http://signals.acme.example",
        "https://a.example/?q",
        "https://a.example#f",
        "acme",
        "wss://a.example",
        "https://u:p@a.example",
    ] {
        let found = faults(&with(bad));
        assert!(found.len() == 1 && found[0].starts_with("3 server.issuer: "), "{bad}: {found:#?}");
    }
    for good in ["http://127.0.0.1:8443", "http://localhost", "http://[::1]:1", "https://a.example/tenant"] {
        read(&with(good)).expect(good);
    }
}

#[test]
fn plaintext_needs_a_loopback_address() {
    let text = format!("{SOUND}[server.tls]\nmode = \"dangerous-plaintext\"\n");
    read(&text).expect("a loopback address is fine");
    only_fault(&text.replace("127.0.0.1:8443", "0.0.0.0:8443"), 15, "server.tls.mode", "self-signed");
}

#[test]
fn files_mode_needs_both_files_and_client_certificates_must_wait() {
    let found = faults(&format!("{SOUND}[server.tls]\nmode = \"files\"\nclient_ca = \"ca.pem\"\n"));
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found.iter().any(|fault| fault.starts_with("14 server.tls.cert: missing")), "{found:#?}");
    assert!(
        found.iter().any(|fault| fault.starts_with("16 server.tls.client_ca: ") && fault.contains("not available yet"))
    );
}

#[test]
fn postgres_is_not_built_yet() {
    only_fault(
        &format!("{SOUND}[store]\nurl = \"postgres://db\"\n"),
        15,
        "store.url",
        "use url = \"sqlite:pushpull.db\"",
    );
    only_fault(&format!("{SOUND}[store]\nurl = \"sqlite::memory:\"\n"), 15, "store.url", "names no file");
}

#[test]
fn a_transport_that_waits_for_later_says_so() {
    only_fault(&format!("{SOUND}transport = \"auto\"\n"), 14, "peer[globex].transport", "not available yet");
    let found = faults(&format!("{SOUND}transport = \"websockt\"\n"));
    assert_eq!(found, ["14 peer[globex].transport: unknown value | write \"websocket\""]);
}

#[test]
fn methods_of_plain_requests_need_an_https_endpoint() {
    let plain = SOUND.replace("wss://signals.globex.example/pushpull", "https://signals.globex.example/in");
    for transport in ["push", "multi-push", "poll"] {
        let text = format!("{SOUND}transport = \"{transport}\"\n");
        only_fault(&text, 11, "peer[globex].endpoint", "write https://");
        read(&format!("{plain}transport = \"{transport}\"\n")).expect(transport);
        let missing = plain.replace("endpoint = \"https://signals.globex.example/in\"\n", "");
        let path = format!("globex.example/{transport}");
        only_fault(&format!("{missing}transport = \"{transport}\"\n"), 7, "peer[globex].endpoint", &path);
    }
}

#[test]
fn collecting_goes_along_with_what_sends() {
    let with = |transport: &str, keys: &str| format!("{SOUND}transport = \"{transport}\"\n{keys}");
    let polled = "poll_endpoint = \"https://signals.globex.example/poll\"\n";
    read(&with("websocket", polled)).expect("beside push-pull");
    let pushing = with("push", polled).replace("wss://", "https://");
    read(&pushing).expect("beside push");
    let twice = with("poll", polled).replace("wss://", "https://");
    only_fault(&twice, 15, "peer[globex].poll_endpoint", "remove poll_endpoint");
    only_fault(&with("websocket", &polled.replace("https", "wss")), 15, "peer[globex].poll_endpoint", "write https://");
    // Whom we collect from needs no token for us.
    let collected = with("none", polled).replace("accept_token_file = \"from-globex.token\"\n", "");
    read(&collected).expect("we go there");
}

#[test]
fn unprotected_urls_are_for_allowed_loopback_hosts() {
    let with = |endpoint: &str| SOUND.replace("wss://signals.globex.example/pushpull", endpoint);
    for good in ["ws://127.0.0.1:9000/pushpull", "http://localhost:9000/pushpull", "https://globex.example/pushpull"] {
        read(&with(good)).expect(good);
    }
    only_fault(&with("ws://globex.example/pushpull"), 11, "peer[globex].endpoint", "write wss://");
    only_fault(&with("ws://[::1]:9000/pushpull"), 11, "peer[globex].endpoint", "network.allow");
    only_fault(&with("ftp://globex.example"), 11, "peer[globex].endpoint", "wss:// or https://");
    let hidden = read(&with("wss://user:s3cret@globex.example")).expect_err("no user part").to_string();
    assert!(!hidden.contains("s3cret"), "{hidden}");
    let keys = SOUND.replace("https://signals.globex.example/jwks.json", "http://globex.example/jwks.json");
    only_fault(&keys, 10, "peer[globex].jwks_uri", "write https://");
}

#[test]
fn a_peer_must_be_complete() {
    let without = |key: &str| {
        SOUND.lines().filter(|line| !line.starts_with(key)).map(|line| format!("{line}\n")).collect::<String>()
    };
    only_fault(&without("jwks_uri"), 7, "peer[globex].jwks_uri", "either jwks_uri or jwks_file");
    only_fault(&without("endpoint"), 7, "peer[globex].endpoint", "transport = \"none\"");
    only_fault(&without("name"), 7, "peer[1].name", "missing");
    let silent = format!("{}transport = \"none\"\n", without("accept_token_file"));
    only_fault(&silent, 7, "peer[globex].accept_token_file", "could not prove who it is");
    read(&without("accept_token_file")).expect("whom we dial needs no token for us");
    read(&format!("{SOUND}transport = \"none\"\n")).expect("whoever proves who it is may come to us");
}

#[test]
fn our_own_issuer_is_no_partner() {
    let text = SOUND.replace("issuer = \"https://signals.globex", "issuer = \"https://signals.acme");
    only_fault(&text, 9, "peer[globex].issuer", "talk to ourselves");
}

#[test]
fn two_peers_share_neither_name_nor_issuer_nor_token() {
    let peer = SOUND.split_once("[[peer]]").expect("there is a peer").1;
    let found = faults(&format!("{SOUND}[[peer]]{peer}"));
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[0].contains("two peers are called globex (line 7)"), "{found:#?}");
    assert!(found.iter().all(|fault| fault.contains("globex")), "{found:#?}");
}

#[test]
fn a_token_never_shows_in_an_error() {
    let text = SOUND.replace("token_file = \"globex.token\"", "token = \"s3cret\"");
    only_fault(&text, 12, "peer[globex].token", "{ env = \"NAME\" }");
    assert!(!read(&text).expect_err("a token in the file").to_string().contains("s3cret"));
    read(&SOUND.replace("token_file = \"globex.token\"", "token = { env = \"GLOBEX\" }")).expect("a variable is fine");
}

#[test]
fn patterns_pins_and_levels_are_checked() {
    only_fault(&format!("{SOUND}tls_pin = \"sha256/abc\"\n"), 14, "peer[globex].tls_pin", "32 bytes");
    only_fault(&format!("{SOUND}send = [\"no such type\"]\n"), 14, "peer[globex].send", "short name");
    only_fault(&format!("{SOUND}[log]\nlevel = \"inof\"\n"), 15, "log.level", "write \"info\"");
    only_fault(&format!("{SOUND}[log]\nlevel = \"info,hyper=loud\"\n"), 15, "log.level", "hyper=debug");
    only_fault(&SOUND.replace("127.0.0.0/8", "127.0.0.1/8"), 6, "network.allow", "127.0.0.0/8");
    only_fault(&format!("{SOUND}[delivery]\nretry_first = \"10m\"\n"), 14, "delivery.retry_max", "at least 10m");
}

#[test]
fn the_environment_overrides_the_file() {
    let variables = [
        ("PUSHPULL__SERVER__LISTEN", "127.0.0.1:9443"),
        ("PUSHPULL__SERVER__TLS__MODE", "dangerous-plaintext"),
        ("PUSHPULL__KEYS__ACTIVE", "2026"),
        ("PUSHPULL__LIMITS__SETS_PER_OBJECT_MAX", "10"),
        ("PUSHPULL__NETWORK__ALLOW", "[\"10.0.0.0/8\"]"),
        ("PUSHPULL_CONFIG", "elsewhere.toml"),
        ("HOME", "/root"),
    ];
    let config = read_with(SOUND, &variables).expect("it is sound");
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:9443");
    assert_eq!(config.server.tls.mode, TlsMode::DangerousPlaintext);
    assert_eq!(config.keys.active.as_deref(), Some("2026"), "a text even where it looks like a number");
    assert_eq!(config.limits.sets_per_object_max, 10);
    assert_eq!(config.network.allow, ["10.0.0.0/8"]);
}

#[test]
fn faults_of_the_environment_name_the_variable() {
    let variables = [
        ("PUSHPULL__DELIVERY__RETRY_FIRST", "soon"),
        ("PUSHPULL__SERVER__LISEN", "127.0.0.1:1"),
        ("PUSHPULL__PEER__NAME", "x"),
        ("PUSHPULL__SERVR__ISSUER", "https://a.example"),
    ];
    let mut found = faults_with(SOUND, &variables);
    found.sort();
    assert_eq!(
        found,
        [
            "PUSHPULL__DELIVERY__RETRY_FIRST delivery.retry_first: invalid value | write a number and a unit, such as \"5s\"",
            "PUSHPULL__PEER__NAME : peers cannot be set by the environment | write the [[peer]] into the file",
            "PUSHPULL__SERVER__LISEN server.lisen: unknown key | did you mean `listen`?",
            "PUSHPULL__SERVR__ISSUER servr: unknown key | did you mean `server`?",
        ]
    );
}

#[test]
fn the_names_of_a_variable_and_of_the_file_give_no_orders_to_a_terminal() {
    let environment: Environment = [("PUSHPULL__SERVER__\u{1b}[2J\u{7f}", "x")].into_iter().collect();
    let error = parse("", Path::new("\u{9b}2J.toml"), &environment).expect_err("there is no such key").to_string();
    assert!(!error.chars().any(|c| c != '\n' && acts_on_display(c)), "{error:?}");
    assert!(error.contains("PUSHPULL__SERVER__\\u{1b}[2J"), "{error}");
}

#[test]
fn files_are_looked_for_where_the_configuration_lies() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pushpull.toml");
    std::fs::write(&file, SOUND).unwrap();
    let config = load(&file, &Environment::default()).expect("the file itself is sound");
    assert_eq!(config.keys.dir, dir.path().join("keys"));
    assert_eq!(config.store.path(), Some(dir.path().join("pushpull.db").as_path()));
    let token = dir.path().join("from-globex.token");
    std::fs::write(&token, "\n").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let error = config.check_files(&file, &Environment::default()).expect_err("files are missing");
    let fields: Vec<&str> = error.problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(
        fields,
        ["admin.token_file", "keys.dir", "peer[globex].token_file", "peer[globex].accept_token_file"],
        "{error}"
    );
    assert!(error.problems[3].what.contains("empty"), "{error}");
}

#[test]
fn a_missing_file_says_how_to_make_one() {
    let error = load(Path::new("no/such/pushpull.toml"), &Environment::default()).expect_err("there is none");
    assert!(error.to_string().contains("pushpull init"), "{error}");
}

#[test]
fn a_date_is_no_section() {
    for (text, fault) in [
        ("server = 2020-01-01", "1 server: invalid type | write [server], and its keys below it"),
        ("peer = 07:00:00", "1 peer: invalid type | write [[peer]]"),
        ("peer = [07:00:00]", "1 peer[1]: invalid type | write [[peer]]"),
        (
            "[server]\ntls = 2020-01-01T00:00:00Z",
            "2 server.tls: invalid type | write [server.tls], and its keys below it",
        ),
    ] {
        let faults = faults(text);
        assert!(faults.iter().any(|one| one == fault), "{text}: {faults:?}");
    }
}

/// Whatever is cut off, doubled or put in, the text is read to its end, and every fault says what to do.
#[test]
fn no_text_is_too_broken_to_be_reported() {
    let places = (0..COMPLETE.len()).filter(|at| COMPLETE.is_char_boundary(*at));
    for (number, at) in places.enumerate().filter(|(number, _)| number % 5 == 0) {
        let (before, after) = COMPLETE.split_at(at);
        let put = ["\"", "[", "]", "=", "\n[[peer]]\n", "{", "é\u{1b}", "\\u", "'''", "x = 5\n", "[server]\n"];
        let texts = [
            before.to_owned(),
            after.to_owned(),
            format!("{before}{}{after}", put[number / 5 % put.len()]),
            format!("{before}{}", after.get(1..).unwrap_or_default()),
        ];
        for text in texts {
            let Err(error) = read_with(&text, &[("PUSHPULL__LOG__LEVEL", "inof")]) else { panic!("{text}") };
            for problem in &error.problems {
                assert!(!problem.what.is_empty() && !problem.fix.is_empty(), "{problem:?}");
            }
            assert!(!error.to_string().contains('\u{1b}'), "{error}");
        }
    }
}
