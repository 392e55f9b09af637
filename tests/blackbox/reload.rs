//! The configuration is reread while the daemon runs: what changes, what goes on undisturbed, and what a bad file does.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::common::daemon::{Daemon, Plan, write};
use crate::common::partner::{Partner, verdict};
use crate::common::responder::Responder;
use crate::common::socket::Socket;
use crate::common::until;

/// Two partners that come to us.
async fn scene() -> (Partner, Partner, Daemon) {
    let (a, b) = (Partner::new("a"), Partner::new("b"));
    let plan = Plan::new(false).with("[delivery]\nretry_first = \"2m\"");
    let daemon = plan.with_peer(&a, "").with_peer(&b, "").start().await;
    (a, b, daemon)
}

/// Whether the daemon takes a SET of this partner by this WebSocket.
async fn works(socket: &mut Socket, partner: &Partner, jti: &str) -> Option<String> {
    socket.send(&json!({"sets": {jti: partner.set(jti)}})).await;
    Some(socket.object_with(|object| verdict(object, jti)).await)
}

#[tokio::test]
async fn another_token_shuts_the_old_one_out_and_disturbs_nobody_else() {
    let (mut a, b, daemon) = scene().await;
    let (mut old, mut other) = (Socket::open(&daemon, &a).await, Socket::open(&daemon, &b).await);
    works(&mut old, &a, "before").await;
    let new = "from-a-a-new-token-0123456789abcdef".to_owned();
    write(&daemon.dir().join("from-a.token"), &new);
    let begun = Instant::now();
    let (changes, restart) = daemon.reload().await;
    assert_eq!((changes, restart), (vec!["peer a: accept token changed".to_owned()], vec![]));
    assert_eq!(old.close_code().await, Some(1008));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(a.post(&daemon, b"{}").await.status(), 401);
    a.token = new;
    works(&mut Socket::open(&daemon, &a).await, &a, "after").await;
    assert_eq!(works(&mut other, &b, "undisturbed").await.as_deref(), Some("ack"));
    let log = daemon.log().join("\n");
    assert!(log.contains("reload: peer a: accept token changed"), "{log}");
    assert!(log.contains("a bearer token that is no partner's"), "whoever presents the old one is told of: {log}");
    assert!(!log.contains("0123456789abcdef"), "a token is in the log");
    assert_eq!(daemon.reload().await, (vec![], vec![]), "the same again changes nothing");
}

/// A daemon that reads its database for itself gives up the locks that SQLite has on it. Nobody sees that it is there then: the next
/// `sqlite3` that is run on the file removes the log, and what the daemon accepts from then on goes into one that nobody finds again.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_reload_leaves_the_locks_on_the_database_alone() {
    use std::os::unix::fs::MetadataExt as _;

    let (_, b, daemon) = scene().await;
    let database = std::fs::metadata(daemon.dir().join("pushpull.db")).unwrap();
    let locks = || {
        let all = std::fs::read_to_string("/proc/locks").unwrap();
        let of_database = |line: &&str| line.contains("POSIX") && line.contains(&format!(":{} ", database.ino()));
        all.lines().filter(of_database).count()
    };
    assert_eq!(locks(), 1, "SQLite's, for as long as it is open");
    daemon.reload().await;
    daemon.hang_up();
    until("reloaded twice", async || {
        (daemon.log().iter().filter(|line| line.contains("\"reloaded\"")).count() == 2).then_some(())
    })
    .await;
    let answer = b.exchange(&daemon, &json!({"sets": {"event": b.set("event")}})).await;
    assert_eq!(verdict(&answer, "event").as_deref(), Some("ack"));
    assert_eq!(locks(), 1);
}

#[tokio::test]
async fn tokens_pass_from_one_partner_to_the_other_in_one_reload() {
    let (mut a, mut b, daemon) = scene().await;
    std::mem::swap(&mut a.token, &mut b.token);
    write(&daemon.dir().join("from-a.token"), &a.token);
    write(&daemon.dir().join("from-b.token"), &b.token);
    daemon.reload().await;
    for (partner, jti) in [(&a, "of-a"), (&b, "of-b")] {
        let answer = partner.exchange(&daemon, &json!({"sets": {jti: partner.set(jti)}})).await;
        assert_eq!(verdict(&answer, jti).as_deref(), Some("ack"));
    }
    assert_eq!(daemon.inbox().await, [("a".to_owned(), "of-a".to_owned()), ("b".to_owned(), "of-b".to_owned())]);
}

#[tokio::test]
async fn other_event_types_and_keys_hold_from_the_next_set_on_and_the_link_stays() {
    let (mut a, _, daemon) = scene().await;
    let mut socket = Socket::open(&daemon, &a).await;
    assert_eq!(works(&mut socket, &a, "before").await.as_deref(), Some("ack"));
    daemon.edit(|text| text.replace("name = \"a\"\n", "name = \"a\"\naccept = [\"risc:*\"]\nsend = [\"risc:*\"]\n"));
    assert_eq!(daemon.reload().await.0, ["peer a: accept, send changed"]);
    assert_eq!(works(&mut socket, &a, "after").await.as_deref(), Some("access_denied"));
    let answer = daemon.admin("POST", "/api/v1/events", Some(&crate::common::daemon::event("a", "x"))).await;
    assert_eq!(answer.json()["code"], "type_not_sent");

    daemon.edit(|text| text.replace("accept = [\"risc:*\"]\nsend = [\"risc:*\"]\n", ""));
    a.key = crate::common::partner::Key::new("a-2");
    write(&daemon.dir().join("a.jwks.json"), &a.jwks().to_string());
    assert_eq!(daemon.reload().await.0, ["peer a: accept, keys, send changed"]);
    assert_eq!(works(&mut socket, &a, "new-key").await.as_deref(), Some("ack"), "on the same link");
}

#[tokio::test]
async fn another_endpoint_is_dialled_and_the_old_link_closed() {
    let (mut first, mut second) = (Responder::listen().await, Responder::listen().await);
    first.take_websockets();
    second.take_websockets();
    let partner = Partner::new("globex");
    let daemon = Plan::new(false).with_peer(&partner, &first.keys("websocket")).start().await;
    let (_, mut old) = first.socket().await;
    daemon.send("globex", "one").await;
    old.object_with(|object| object["sets"].get("one").map(drop)).await;

    daemon.edit(|text| text.replace(&first.address.to_string(), &second.address.to_string()));
    assert_eq!(daemon.reload().await.0, ["peer globex: endpoint changed"]);
    assert_eq!(old.close_code().await, Some(1001));
    let (_, mut new) = second.socket().await;
    new.object_with(|object| object["sets"].get("one").map(drop)).await;
    new.send(&json!({"ack": ["one"]})).await;
    daemon.settled("globex", "one", "acked").await;

    write(&daemon.dir().join("globex.token"), "to-globex-another-token");
    daemon.hang_up();
    assert_eq!(new.close_code().await, Some(1001));
    let (handshake, _socket) = second.socket().await;
    assert_eq!(handshake.header("authorization"), Some("Bearer to-globex-another-token"));
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_everything_wrong_with_it_is_told() {
    let (a, _, daemon) = scene().await;
    let mut socket = Socket::open(&daemon, &a).await;
    let good = std::fs::read_to_string(daemon.dir().join("pushpull.toml")).unwrap();
    let line = |text: &str, what: &str| text.lines().position(|line| line.starts_with(what)).unwrap() + 1;
    for (bad, named) in [
        (good.replace("level = \"debug\"", "level = \"loud\""), vec!["log.level"]),
        (
            good.replace("name = \"a\"", "name = \"A\"").replace("retry_first", "retry_frist"),
            vec!["name", "retry_frist"],
        ),
        (good.replace("from-a.token", "nowhere.token"), vec!["nowhere.token"]),
        (good.replace("from-b.token", "from-a.token"), vec!["the same token"]),
        ("[[peer".to_owned(), vec!["pushpull.toml"]),
    ] {
        daemon.edit(|_| bad.clone());
        let answer = daemon.admin("POST", "/api/v1/reload", None).await;
        assert_eq!((answer.status(), &answer.json()["code"]), (422, &json!("reload_failed")), "{}", answer.text());
        let problems = answer.json()["problems"].to_string();
        assert!(named.iter().all(|name| problems.contains(name)), "{named:?}: {problems}");
        if named == ["log.level"] {
            let place = format!("pushpull.toml:{}:", line(&good, "level"));
            assert!(problems.contains(&place), "{place}: {problems}");
        }
    }
    let before = daemon.log().len();
    daemon.hang_up();
    until("the outcome in the log", async || {
        let log = daemon.log();
        log[before..].iter().any(|line| line.contains("reload_failed")).then_some(())
    })
    .await;
    assert_eq!(works(&mut socket, &a, "still").await.as_deref(), Some("ack"));
    daemon.edit(|_| good);
    assert_eq!(daemon.reload().await, (vec![], vec![]));
    assert_eq!(works(&mut socket, &a, "again").await.as_deref(), Some("ack"));
}

#[tokio::test]
async fn partners_come_and_go_with_their_blocks_and_a_queue_waits_for_its_partner() {
    let (a, b, daemon) = scene().await;
    daemon.send("a", "one").await;
    let whole = std::fs::read_to_string(daemon.dir().join("pushpull.toml")).unwrap();
    let (head, _) = whole.split_once("[[peer]]").unwrap();
    let (_, of_b) = whole.rsplit_once("[[peer]]").unwrap();
    daemon.edit(|_| format!("{head}[[peer]]{of_b}"));
    let (changes, _) = daemon.reload().await;
    assert_eq!(changes[0], "peer a removed");
    assert!(changes[1].contains("1 SETs stay queued"), "{changes:?}");
    assert_eq!(a.post(&daemon, b"{}").await.status(), 401);
    assert_eq!(b.post(&daemon, b"{}").await.status(), 200);
    daemon.edit(|_| whole);
    assert_eq!(daemon.reload().await.0, ["peer a added"]);
    a.fetch(&daemon, "one").await;
    a.exchange(&daemon, &json!({"ack": ["one"]})).await;
    daemon.settled("a", "one", "acked").await;
}

#[tokio::test]
async fn the_level_of_the_log_changes_and_what_needs_a_restart_is_named() {
    let (a, _, daemon) = scene().await;
    daemon.edit(|text| {
        text.replace("level = \"debug\"", "level = \"error\"")
            .replace("issuer = \"https://us.example\"", "issuer = \"https://we.example\"")
    });
    let (changes, restart) = daemon.reload().await;
    assert_eq!(changes, ["log.level: debug → error"]);
    assert_eq!(restart, ["server.issuer changed: needs a restart"]);
    let answer = a.exchange(&daemon, &json!({"sets": {"x": a.set("x")}})).await;
    assert_eq!(verdict(&answer, "x").as_deref(), Some("ack"), "the issuer, and so the audience, is as it was");

    daemon.edit(|text| text.replace("level = \"error\"", "level = \"debug\""));
    daemon.reload().await;
    until("the level to be back", async || {
        daemon.log().iter().any(|line| line.contains("log.level: error → debug")).then_some(())
    })
    .await;
    let begun = daemon.log().iter().filter(|line| line.contains("rereading the configuration")).count();
    assert_eq!(begun, 1, "the second reload began while nothing below error was logged");
}

#[tokio::test]
async fn a_name_in_the_file_and_in_the_store_keeps_the_old_configuration() {
    let (_, _, daemon) = scene().await;
    let late = Partner::new("late");
    let block = late.block(daemon.dir(), "");
    let file = |name: &str| daemon.dir().join(name).display().to_string();
    let definition = json!({
        "issuer": late.issuer, "transport": "none", "jwks_file": file("late.jwks.json"),
        "accept_token_file": file("from-late.token"),
    });
    let added = daemon.admin("POST", "/api/v1/peers", Some(&json!({"name": "late", "definition": definition}))).await;
    assert_eq!(added.status(), 201, "{}", added.text());
    daemon.edit(|text| format!("{text}{block}"));
    let answer = daemon.admin("POST", "/api/v1/reload", None).await;
    assert_eq!(answer.status(), 422);
    assert!(answer.json()["problems"].to_string().contains("in the store"), "{}", answer.text());
    assert_eq!(late.post(&daemon, b"{}").await.status(), 200);
}

#[tokio::test]
async fn another_certificate_is_presented_to_whoever_connects_from_then_on() {
    let daemon = Plan::new(true).start().await;
    let before = daemon.connect().await;
    let other = tempfile::tempdir().unwrap();
    let place = other.path().to_str().unwrap();
    let made = crate::common::daemon::program(&["init", place, "--issuer", "https://us.example"]);
    assert!(made.status.success());
    for file in ["tls.crt", "tls.key"] {
        std::fs::copy(other.path().join(file), daemon.dir().join(file)).unwrap();
    }
    assert_eq!(daemon.reload().await.0, ["server.tls: certificate or key changed"]);
    let pem = std::fs::read(other.path().join("tls.crt")).unwrap();
    let pin = pushpull::wire::net::Pin::of_cert_pem(&pem).unwrap();
    let target = pushpull::wire::net::Target::parse(&format!("https://{}/", daemon.address())).unwrap();
    let allow = pushpull::wire::net::Allow::parse(["127.0.0.0/8"]).unwrap();
    pushpull::wire::net::Dialer::new(allow).connect(&target, Some(&pin)).await.expect("the new certificate");
    drop(before);
}
