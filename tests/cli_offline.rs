//! The commands that need no daemon, run as a person runs them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// Runs the program in a directory.
fn run(dir: &Path, arguments: &[&str]) -> Output {
    run_with(dir, arguments, "")
}

fn run_with(dir: &Path, arguments: &[&str], input: &str) -> Output {
    use std::io::Write as _;
    let mut child = Command::new(env!("CARGO_BIN_EXE_pushpull"))
        .args(arguments)
        .current_dir(dir)
        .env_remove("PUSHPULL_CONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // A program that does not read its input closes the pipe, which is no fault.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("the program ends")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// The JSON on stdout of a command that must end with this code.
#[track_caller]
fn json_of(output: &Output, code: i32) -> Value {
    assert_eq!(output.status.code(), Some(code), "{}{}", out(output), err(output));
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

#[track_caller]
fn done(output: Output) -> Output {
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    output
}

/// A directory with a fresh configuration. The admin address is one where nobody listens.
fn organisation(issuer: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    done(run(dir.path(), &["init", "--issuer", issuer, "--admin-listen", "127.0.0.1:9"]));
    dir
}

fn mode(file: &Path) -> u32 {
    std::fs::metadata(file).expect("it exists").permissions().mode() & 0o777
}

#[test]
fn the_version_is_printed_for_people_and_for_programs() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(out(&done(run(dir.path(), &["--version"]))), "pushpull 0.1.0\n");
    let version = json_of(&run(dir.path(), &["--version", "--json"]), 0);
    assert_eq!((&version["name"], &version["version"]), (&json!("pushpull"), &json!("0.1.0")));
}

#[test]
fn misuse_exits_2_and_help_exits_0() {
    let dir = tempfile::tempdir().unwrap();
    assert!(err(&run(dir.path(), &["serve", "--chekc"])).starts_with("error[usage]: "));
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&["nonsense"][..], &[], &["send", "x"], &["init"], &["demo", "--for", "soon"]] {
        let output = run(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["peer", "add", "--help"], &["send", "--help"]] {
        assert!(out(&done(run(dir.path(), arguments))).contains("pushpull"), "{arguments:?}");
    }
}

#[test]
fn a_code_is_explained_without_a_configuration_and_an_unknown_one_exits_6() {
    let dir = tempfile::tempdir().unwrap();
    let text = out(&done(run(dir.path(), &["explain", "outbox_full"])));
    assert!(text.starts_with("outbox_full\n   meaning   ") && text.contains("who acts  you and the partner"), "{text}");
    let explained = json_of(&run(dir.path(), &["explain", "invalid_request", "--json"]), 0);
    assert!(explained["here"]["fix"].is_string() && explained["in_set_errs"]["who_acts"] == "you", "{explained}");
    let all = out(&done(run(dir.path(), &["explain", "--json"])));
    assert!(all.lines().count() > 40 && all.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    let unknown = run(dir.path(), &["explain", "outbox_ful"]);
    assert_eq!(unknown.status.code(), Some(6));
    assert!(err(&unknown).starts_with("error[not_found]: ") && err(&unknown).contains("did you mean outbox_full?"));
}

#[test]
fn init_makes_a_configuration_that_serves() {
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("new/site");
    let made = run(dir.path(), &["init", "new/site", "--issuer", "https://signals.acme.example", "--json"]);
    let made = json_of(&made, 0);
    assert_eq!(
        (&made["kid"], &made["alg"], &made["config"]),
        (&json!("acme-1"), &json!("ES256"), &json!("new/site/pushpull.toml"))
    );
    assert!(made["pin"].as_str().is_some_and(|pin| pin.starts_with("sha256/") && pin.len() == 51), "{made}");
    for secret in ["keys/acme-1.pem", "tls.key", "admin.token"] {
        assert_eq!(mode(&site.join(secret)), 0o600, "{secret}");
    }
    assert_eq!(mode(&site.join("keys")), 0o700);
    assert!(site.join("tls.crt").exists());
    done(run(&site, &["serve", "--check"]));
    done(run(dir.path(), &["serve", "--check", "-c", "new/site/pushpull.toml"]));
}

#[test]
fn init_overwrites_nothing_and_makes_nothing_by_halves() {
    for existing in ["pushpull.toml", "tls.key", "keys/acme-1.pem", "admin.token"] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(existing);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "mine").unwrap();
        let output = run(dir.path(), &["init", "--issuer", "https://acme.example"]);
        assert_eq!(output.status.code(), Some(7), "{existing}");
        assert!(err(&output).contains(existing), "{}", err(&output));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
        for other in ["pushpull.toml", "tls.crt", "tls.key", "keys/acme-1.pem", "admin.token"] {
            assert!(other == existing || !dir.path().join(other).exists(), "{other} beside {existing}");
        }
    }
}

#[test]
fn init_refuses_what_is_no_issuer() {
    let dir = tempfile::tempdir().unwrap();
    for issuer in ["acme", "http://acme.example", "https://acme.example?x"] {
        let output = run(dir.path(), &["init", "--issuer", issuer]);
        assert_eq!(output.status.code(), Some(2), "{issuer}: {}", err(&output));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
    }
}

#[test]
fn an_invalid_configuration_exits_3_and_names_every_fault() {
    let dir = organisation("https://acme.example");
    let file = dir.path().join("pushpull.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\n[limits]\nset_bytes_mx = \"1KiB\"\n[delivery]\nwindow = 0\n")).unwrap();
    let output = run(dir.path(), &["serve", "--check"]);
    assert_eq!(output.status.code(), Some(3));
    let text = err(&output);
    assert!(
        text.contains("limits.set_bytes_mx: unknown key") && text.contains("did you mean `set_bytes_max`?"),
        "{text}"
    );
    assert!(text.contains("delivery.window: too small") && text.contains("pushpull.toml:"), "{text}");
    assert_eq!(run(dir.path(), &["serve", "--check", "-c", "none.toml"]).status.code(), Some(3));
    let missing = organisation("https://acme.example");
    std::fs::remove_file(missing.path().join("admin.token")).unwrap();
    assert_eq!(run(missing.path(), &["serve", "--check"]).status.code(), Some(3));
}

#[test]
fn keys_are_listed_and_counted_up() {
    let dir = organisation("https://acme.example");
    let keys = json_of(&run(dir.path(), &["key", "ls", "--json"]), 0);
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(1));
    assert_eq!((&keys["keys"][0]["kid"], &keys["keys"][0]["active"]), (&json!("acme-1"), &json!(true)));
    let new = run(dir.path(), &["key", "new", "--alg", "EdDSA"]);
    assert!(err(&new).contains("pushpull key rotate --kid acme-2"), "{}", err(&new));
    done(new);
    assert_eq!(mode(&dir.path().join("keys/acme-2.pem")), 0o600);
    let keys = json_of(&run(dir.path(), &["key", "ls", "--json"]), 0);
    let second = &keys["keys"][1];
    assert_eq!((&second["kid"], &second["alg"], &second["active"]), (&json!("acme-2"), &json!("EdDSA"), &json!(false)));
    assert_eq!(run(dir.path(), &["key", "new", "--kid", "acme-2"]).status.code(), Some(7));
    assert_eq!(run(dir.path(), &["key", "new", "--kid", "../x"]).status.code(), Some(2));
    assert!(out(&done(run(dir.path(), &["key", "ls"]))).contains("acme-2"));
    done(run(dir.path(), &["serve", "--check"]));
}

/// With several keys somebody has to say which one signs: keys.active, or what was rotated before.
#[test]
fn several_keys_need_a_word_about_who_signs_and_a_rotated_key_has_lost_it() {
    let dir = organisation("https://acme.example");
    done(run(dir.path(), &["key", "new"]));
    let file = dir.path().join("pushpull.toml");
    let named = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, named.replace("active = \"acme-1\"", "")).unwrap();
    let undecided = run(dir.path(), &["serve", "--check"]);
    assert_eq!(undecided.status.code(), Some(3));
    assert!(err(&undecided).contains("keys.active: missing, and there are several keys"), "{}", err(&undecided));
    assert_eq!(run(dir.path(), &["set", "sign", "-f", "pushpull.toml"]).status.code(), Some(3));
    let third = run(dir.path(), &["key", "new"]);
    assert!(err(&third).contains("must say which one signs"), "{}", err(&third));
    let state = |first: &str, second: &str| {
        let key =
            |state: &str| json!({"state": state, "since_ms": 1, "jwk": {"kty": "EC"}, "marks": null, "settled_ms": 0});
        let text = json!({"keys": {"acme-1": key(first), "acme-2": key(second)}}).to_string();
        let file = dir.path().join("keys/rotation.json");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let signer = || {
        let claims = run_with(dir.path(), &["set", "sign", "-f", "-"], "{\"events\":{\"https://e.example\":{}}}");
        let set = out(&done(claims));
        pushpull::set::decode(set.trim()).unwrap().0["kid"].as_str().unwrap().to_owned()
    };
    state("retiring", "active");
    done(run(dir.path(), &["serve", "--check"]));
    assert_eq!(signer(), "acme-2");
    std::fs::write(&file, &named).unwrap();
    assert_eq!(signer(), "acme-2", "keys.active names one that was rotated away");
    state("active", "next_unless_damaged");
    let damaged = run(dir.path(), &["serve", "--check"]);
    assert_eq!(damaged.status.code(), Some(3));
    assert!(err(&damaged).contains("rotation.json"), "{}", err(&damaged));
    std::fs::remove_file(dir.path().join("keys/rotation.json")).unwrap();
    assert_eq!(signer(), "acme-1");
}

/// The public half of a site's key as a file, and a SET that it signed.
fn signed(dir: &Path, alg_kid: &str, claims: &Value) -> String {
    let output = done(run_with(dir, &["set", "sign", "--kid", alg_kid, "-f", "-"], &claims.to_string()));
    out(&output).trim().to_owned()
}

fn claims(audience: &str) -> Value {
    json!({
        "aud": audience,
        "sub_id": { "format": "opaque", "id": "7" },
        "events": { "https://schemas.openid.net/secevent/caep/event-type/session-revoked": {} },
    })
}

#[test]
fn a_set_is_signed_decoded_and_verified() {
    let dir = organisation("https://acme.example");
    let compact = signed(dir.path(), "acme-1", &claims("https://globex.example"));
    let decoded = json_of(&run_with(dir.path(), &["set", "decode", "-"], &compact), 0);
    assert_eq!((&decoded["header"]["kid"], &decoded["header"]["typ"]), (&json!("acme-1"), &json!("secevent+jwt")));
    assert_eq!(decoded["claims"]["iss"], "https://acme.example");
    assert!(decoded["claims"]["jti"].is_string() && decoded["claims"]["iat"].is_u64());

    let pem = std::fs::read_to_string(dir.path().join("keys/acme-1.pem")).unwrap();
    let key = pushpull::set::SigningKey::from_pem("acme-1", &pem).expect("our own key");
    let keys = pushpull::set::KeySet::of([key.public_jwk()]).to_json();
    std::fs::write(dir.path().join("jwks.json"), keys.to_string()).unwrap();
    let verify = |audience: &str, compact: &str, json: bool| {
        let mut arguments =
            vec!["set", "verify", "-", "--jwks", "jwks.json", "--iss", "https://acme.example", "--aud", audience];
        if json {
            arguments.push("--json");
        }
        run_with(dir.path(), &arguments, compact)
    };
    let report = json_of(&verify("https://globex.example", &compact, true), 0);
    assert_eq!(report["valid"], true);
    assert!(report["checks"].as_array().is_some_and(|checks| checks.len() > 5
        && checks.iter().all(|check| check["ok"] == true && check["rule"].is_string() && check["clause"].is_string())));
    let report = json_of(&verify("https://elsewhere.example", &compact, true), 1);
    assert_eq!((&report["valid"], &report["err"]), (&json!(false), &json!("invalid_audience")));
    let mut forged = compact.clone();
    forged.truncate(compact.len() - 8);
    forged.push_str("AAAAAAAA");
    assert_eq!(json_of(&verify("https://globex.example", &forged, true), 1)["valid"], false);
    let shown = verify("https://elsewhere.example", &compact, false);
    assert_eq!(shown.status.code(), Some(1));
    assert!(out(&shown).contains('✓') && out(&shown).contains('✗'), "{}", out(&shown));
    let globex = organisation("https://globex.example");
    let file = globex.path().join("pushpull.toml");
    let keys = dir.path().join("jwks.json");
    let peer = format!(
        "[[peer]]\nname = \"acme\"\nissuer = \"https://acme.example\"\njwks_file = {keys:?}\ntransport = \"none\"\naccept_token_file = \"admin.token\"\naccept = [\"caep:*\"]\n"
    );
    std::fs::write(&file, format!("{}{peer}", std::fs::read_to_string(&file).unwrap())).unwrap();
    let against = |peer: &str| run_with(globex.path(), &["set", "verify", "-", "--against", peer, "--json"], &compact);
    assert_eq!(json_of(&against("acme"), 0)["valid"], true);
    let nobody = against("acmee");
    assert_eq!(nobody.status.code(), Some(6));
    assert!(err(&nobody).contains("did you mean acme?"), "{}", err(&nobody));
    assert_eq!(run_with(dir.path(), &["set", "decode"], "garbage").status.code(), Some(1));
    assert_eq!(run(dir.path(), &["set", "sign", "--kid", "none", "-f", "jwks.json"]).status.code(), Some(6));
}

#[test]
fn two_organisations_pair_with_two_cards_and_two_tokens() {
    let (acme, globex) = (organisation("https://signals.acme.example"), organisation("https://signals.globex.example"));
    for (from, to, card) in [(&acme, &globex, "acme.toml"), (&globex, &acme, "globex.toml")] {
        let text = out(&done(run(from.path(), &["peer", "card"])));
        assert!(
            text.contains("[[peer]]") && text.contains("tls_pin = \"sha256/") && !text.contains("token_file"),
            "{text}"
        );
        assert!(text.contains("endpoint = \"wss://signals."), "{text}");
        std::fs::write(to.path().join(card), text).unwrap();
    }
    let added = run(acme.path(), &["peer", "add", "--card", "globex.toml", "--send", "caep:*", "--json"]);
    let added = json_of(&added, 0);
    assert_eq!((&added["name"], &added["stored"]), (&json!("globex"), &json!("file")));
    let shown = out(&done(run(globex.path(), &["peer", "add", "--card", "acme.toml"])));
    assert!(shown.contains("hand over") && shown.contains("from-acme.token"), "{shown}");

    // Each side hands over what the other presents.
    for (from, to, given, taken) in
        [(&acme, &globex, "from-globex.token", "acme.token"), (&globex, &acme, "from-acme.token", "globex.token")]
    {
        assert_eq!(mode(&from.path().join(given)), 0o600);
        std::fs::copy(from.path().join(given), to.path().join(taken)).unwrap();
    }
    for site in [&acme, &globex] {
        done(run(site.path(), &["serve", "--check"]));
    }
    let file = std::fs::read_to_string(acme.path().join("pushpull.toml")).unwrap();
    assert!(file.contains("# window = 4096") && file.contains("send = [\"caep:*\"]"), "comments are kept");
    let again = run(acme.path(), &["peer", "add", "--card", "globex.toml"]);
    assert_eq!(again.status.code(), Some(7));
    assert!(err(&again).contains("line "), "{}", err(&again));
}

#[test]
fn tokens_that_were_handed_over_are_taken_at_once() {
    let (acme, globex) = (organisation("https://acme.example"), organisation("https://globex.example"));
    let card = |site: &tempfile::TempDir| out(&done(run(site.path(), &["peer", "card"])));
    std::fs::write(acme.path().join("globex.toml"), card(&globex)).unwrap();
    std::fs::write(globex.path().join("acme.toml"), card(&acme)).unwrap();
    done(run(acme.path(), &["peer", "add", "--card", "globex.toml"]));
    let (ours, theirs) = (acme.path().join("globex.token"), acme.path().join("from-globex.token"));
    let (ours, theirs) = (ours.to_str().unwrap(), theirs.to_str().unwrap());
    done(run(globex.path(), &["peer", "add", "--card", "acme.toml", "--token", theirs, "--accept-token", ours]));
    let same = |left: &str, right: &str| {
        assert_eq!(std::fs::read(acme.path().join(left)).unwrap(), std::fs::read(globex.path().join(right)).unwrap());
    };
    same("globex.token", "from-acme.token");
    same("from-globex.token", "acme.token");
}

#[test]
fn a_card_that_names_our_files_or_is_ourselves_is_refused() {
    let dir = organisation("https://acme.example");
    let own = out(&done(run(dir.path(), &["peer", "card"])));
    let before = std::fs::read_to_string(dir.path().join("pushpull.toml")).unwrap();
    let evil = own.replace("acme.example", "evil.example");
    let cases = [
        ("our own", own, "ourselves"),
        ("a file", format!("{evil}accept_token_file = \"/etc/hostname\"\n"), "accept_token_file"),
        ("plain", evil.replace("wss://", "ws://"), "loopback"),
        ("two", format!("{evil}{evil}"), "2 peers"),
        ("empty", String::new(), "no card"),
    ];
    for (what, card, holds) in cases {
        let output = run_with(dir.path(), &["peer", "add", "--card", "-"], &card);
        assert_eq!(output.status.code(), Some(3), "{what}: {}", err(&output));
        assert!(err(&output).contains(holds), "{what}: {}", err(&output));
        assert_eq!(std::fs::read_to_string(dir.path().join("pushpull.toml")).unwrap(), before, "{what}");
        assert!(
            std::fs::read_dir(dir.path()).unwrap().all(|entry| !entry
                .unwrap()
                .file_name()
                .to_string_lossy()
                .contains("from-"))
        );
    }
}

#[test]
fn without_a_daemon_its_commands_exit_4() {
    let dir = organisation("https://acme.example");
    // Faults elsewhere in the file are none of theirs: the daemon may run by what it read before.
    let config = dir.path().join("pushpull.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n[limits]\nfoo = 1\n")).unwrap();
    let output = run(dir.path(), &["status"]);
    assert_eq!(output.status.code(), Some(4), "{}", err(&output));
    assert!(err(&output).contains("serve --check"), "{}", err(&output));
    std::fs::write(&config, format!("{text}\n[admin]\n")).unwrap();
    assert_eq!(run(dir.path(), &["status"]).status.code(), Some(3), "these are");
    std::fs::write(&config, text).unwrap();
    for arguments in [
        &["status"][..],
        &["peer", "ls"],
        &["peer", "show", "globex"],
        &["peer", "verify", "globex"],
        &["tail"],
        &["consumer", "ls"],
        &["send", "globex", "caep:session-revoked", "--subject", "opaque:1"],
    ] {
        let output = run(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(4), "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains("pushpull serve") && output.stdout.is_empty(), "{arguments:?}");
    }
    let lines =
        run_with(dir.path(), &["send", "globex", "-f", "-", "--retry-for", "100ms"], "{\"type\":\"caep:x\"}\nbroken\n");
    assert_eq!(lines.status.code(), Some(4), "{}", err(&lines));
    let results: Vec<Value> = out(&lines).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(results.len(), 2);
    assert!(results.iter().all(|result| result["error"].is_string()), "{results:?}");
    assert!(results[0]["jti"].is_string(), "the jti is known, so that the line can be sent again");
}

#[test]
fn the_environment_names_and_overrides_the_configuration() {
    let dir = organisation("https://acme.example");
    let elsewhere = tempfile::tempdir().unwrap();
    let check = |variables: &[(&str, &str)]| {
        Command::new(env!("CARGO_BIN_EXE_pushpull"))
            .args(["serve", "--check"])
            .current_dir(elsewhere.path())
            .env("PUSHPULL_CONFIG", dir.path().join("pushpull.toml"))
            .envs(variables.iter().copied())
            .output()
            .expect("it runs")
    };
    done(check(&[]));
    let output = check(&[("PUSHPULL__SERVER__LISTEN", "nowhere")]);
    assert_eq!(output.status.code(), Some(3));
    assert!(err(&output).contains("PUSHPULL__SERVER__LISTEN"), "{}", err(&output));
}

#[test]
fn nobody_is_told_when_the_reader_of_the_result_is_gone() {
    let dir = organisation("https://acme.example");
    let mut child = Command::new(env!("CARGO_BIN_EXE_pushpull"))
        .args(["key", "ls"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""));
}
