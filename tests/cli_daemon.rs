//! The commands that speak to the daemon, against an admin API that a script plays: what they ask, and how they end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// What the program asked: `METHOD path`, and the body.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// A daemon that answers the nth request with the script's nth line, and every later one with the last. A status of 0 breaks
/// off instead.
struct Daemon {
    address: String,
    asked: Asked,
    dir: tempfile::TempDir,
}

impl Daemon {
    fn play(script: Vec<(u16, Value)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let asked = Asked::default();
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, script) = (Arc::clone(&log), script.clone());
                std::thread::spawn(move || converse(stream, &log, &script));
            }
        });
        let dir = tempfile::tempdir().expect("a directory");
        private(&dir.path().join("token"), "t0ken\n");
        Self { address, asked, dir }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, "")
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pushpull"))
            .args(arguments)
            .args(["--admin", &self.address, "--token-file", "token"])
            .current_dir(self.dir.path())
            .env_remove("PUSHPULL_CONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        child.wait_with_output().expect("the program ends")
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").iter().map(|(line, _)| line.clone()).collect()
    }

    fn bodies(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").iter().map(|(_, body)| body.clone()).collect()
    }
}

/// Serves one connection. Whatever goes wrong ends it, and the program's own complaint fails the test.
fn converse(stream: TcpStream, asked: &Asked, script: &[(u16, Value)]) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let (mut length, mut authorised) = (0, false);
        loop {
            let mut field = String::new();
            reader.read_line(&mut field).ok()?;
            let field = field.trim().to_ascii_lowercase();
            match field.split_once(": ") {
                Some(("content-length", value)) => length = value.parse().ok()?,
                Some(("authorization", value)) => authorised = value == "bearer t0ken",
                None if field.is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let line = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
        let mut log = asked.lock().ok()?;
        let step = log.len().min(script.len() - 1);
        log.push((line, String::from_utf8(body).ok()?));
        drop(log);
        let (status, answer) = if authorised { script[step].clone() } else { (401, json!({"code": "unauthorised"})) };
        if status == 0 {
            return None;
        }
        let text = answer.to_string();
        let head =
            format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", text.len());
        writer.write_all(format!("{head}{text}").as_bytes()).ok()?;
    }
}

/// A file that only we may read; another would be refused.
fn private(path: &std::path::Path, text: &str) {
    std::fs::write(path, text).expect("it is written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, mode).expect("it is ours");
}

#[track_caller]
fn ended(output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    (out, err)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

const SEND: [&str; 5] = ["send", "globex", "caep:session-revoked", "--subject", "opaque:1"];

#[test]
fn one_event_is_sent_and_its_jti_printed() {
    let daemon = Daemon::play(vec![(202, json!({"jtis": ["j1"]}))]);
    assert_eq!(ended(&daemon.run(&SEND), 0).0, "j1\n");
    assert_eq!(daemon.asked(), ["POST /api/v1/events"]);
    let body: Value = serde_json::from_str(&daemon.bodies()[0]).expect("JSON");
    assert_eq!((&body["peer"], &body["type"]), (&json!("globex"), &json!("caep:session-revoked")));
}

#[test]
fn waiting_ends_with_the_partners_answer() {
    let record = |state: &str| {
        json!({"jti": "j1", "records": [{"direction": "in", "peer": "globex", "state": "received"},
        {"direction": "out", "peer": "globex", "state": state, "err": "invalid_key", "attempts": 1}]})
    };
    let with_wait = |wait: &'static str| SEND.into_iter().chain([wait, "--json"]).collect::<Vec<_>>();
    for (last, code) in [("acked", 0), ("refused", 8), ("dead", 8)] {
        let sent = (202, json!({"jtis": ["j1"]}));
        let daemon = Daemon::play(vec![sent, (200, record("queued")), (200, record("in_flight")), (200, record(last))]);
        let (out, err) = ended(&daemon.run(&with_wait("--wait")), code);
        assert_eq!(lines(&out)[0]["state"], last);
        assert!(code == 0 || err.contains("invalid_key"), "{err}");
        assert_eq!(daemon.asked()[1..], ["GET /api/v1/events/j1", "GET /api/v1/events/j1", "GET /api/v1/events/j1"]);
    }
    let daemon = Daemon::play(vec![(202, json!({"jtis": ["j1"]})), (200, record("queued"))]);
    let (out, _) = ended(&daemon.run(&with_wait("--wait=120ms")), 9);
    assert_eq!(lines(&out)[0]["jti"], "j1");
}

#[test]
fn refusals_of_the_daemon_have_their_exit_codes() {
    for (status, code) in [(400, 1), (401, 5), (404, 6), (409, 7), (502, 8), (504, 9)] {
        let daemon = Daemon::play(vec![(status, json!({"code": "some-code", "detail": "what is wrong"}))]);
        let (_, err) = ended(&daemon.run(&["peer", "verify", "globex"]), code);
        assert!(err.contains("what is wrong") && err.contains("some-code"), "{err}");
    }
    let daemon = Daemon::play(vec![(200, json!({"jti": "j", "ms": 12}))]);
    assert!(ended(&daemon.run(&["peer", "verify", "globex"]), 0).0.contains("12 ms"));
    assert_eq!(daemon.asked(), ["POST /api/v1/peers/globex/verify"]);
}

#[test]
fn status_is_a_table_for_people_and_the_answer_itself_for_programs() {
    let answer = json!({"peers": [{"name": "globex", "link": "up", "transport": "websocket", "queued": 3, "in_flight": 2,
        "oldest_seconds": 90, "owed": 0, "acked": 5, "refused": 0, "dead": 0, "received": 7, "rejected": 0,
        "advice": {"code": "no_websocket", "why": "the partner answered 404", "who_acts": "you and the partner", "fix": "ask it"}}]});
    let daemon = Daemon::play(vec![(200, answer.clone())]);
    let table = ended(&daemon.run(&["status"]), 0).0;
    assert!(table.contains("\nPEER    LINK  TRANSPORT  QUEUED  IN-FLIGHT  OLDEST"), "{table}");
    let over = |words: &str| table.lines().find_map(|line| line.find(words));
    assert_eq!(over("TO THE PARTNER"), over("QUEUED"), "{table}");
    assert_eq!(over("FROM THE PARTNER"), over("RECEIVED"), "{table}");
    assert!(table.contains("\nglobex: the partner answered 404\n  fix   ask it\n"), "{table}");
    assert!(table.contains("globex  up    websocket       3          2  90 s"), "{table}");
    assert_eq!(lines(&ended(&daemon.run(&["peer", "ls", "--json"]), 0).0), [answer]);
}

#[test]
fn many_lines_go_in_batches_and_a_bad_line_does_not_take_its_neighbours_along() {
    let good = (202, json!({"jtis": []}));
    let bad = (400, json!({"code": "invalid-event", "detail": "unknown type", "line": 2}));
    let daemon = Daemon::play(vec![bad, good.clone(), good]);
    let input = "{\"type\":\"a\",\"jti\":\"j1\"}\n{\"type\":\"b\",\"jti\":\"j2\"}\nnonsense\n{\"type\":\"c\",\"jti\":\"j4\"}\n{\"type\":\"d\",\"jti\":\"j5\"}\n";
    let (out, _) = ended(&daemon.run_with(&["send", "globex", "-f", "-", "--batch", "4"], input), 10);
    let results = lines(&out);
    let shown: Vec<_> =
        results.iter().map(|line| (line["line"].as_u64(), line["jti"].as_str(), line.get("error").is_some())).collect();
    assert_eq!(
        shown,
        [
            (Some(1), Some("j1"), false),
            (Some(2), Some("j2"), true),
            (Some(3), None, true),
            (Some(4), Some("j4"), false),
            (Some(5), Some("j5"), false)
        ]
    );
    let bodies = daemon.bodies();
    let jtis =
        |body: &String| lines(body).iter().map(|line| line["jti"].as_str().map(str::to_owned)).collect::<Vec<_>>();
    assert_eq!(jtis(&bodies[0]).len(), 3);
    assert_eq!(jtis(&bodies[1]), [Some("j1".to_owned()), Some("j4".to_owned())]);
    assert_eq!(jtis(&bodies[2]), [Some("j5".to_owned())]);
}

#[test]
fn an_overloaded_daemon_is_asked_again_with_the_same_jtis() {
    let busy = (503, json!({"code": "overloaded"}));
    let daemon = Daemon::play(vec![busy.clone(), busy.clone(), (202, json!({"jtis": []}))]);
    let (out, _) =
        ended(&daemon.run_with(&["send", "globex", "-f", "-", "--retry-for", "20s"], "{\"type\":\"a\"}\n"), 0);
    assert!(lines(&out)[0]["jti"].is_string());
    let bodies = daemon.bodies();
    assert!(bodies.len() == 3 && bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    let daemon = Daemon::play(vec![busy]);
    let (out, _) = ended(&daemon.run_with(&["send", "globex", "-f", "-"], "{\"type\":\"a\"}\n"), 1);
    assert!(lines(&out)[0]["error"].is_string());
}

#[test]
fn a_batch_that_is_too_large_is_halved() {
    let (large, good) = ((413, json!({"code": "too-large"})), (202, json!({"jtis": []})));
    let daemon = Daemon::play(vec![large.clone(), good.clone(), large.clone(), large, good]);
    let input = "{\"jti\":\"1\"}\n{\"jti\":\"2\"}\n{\"jti\":\"3\"}\n{\"jti\":\"4\"}\n";
    let results = lines(&ended(&daemon.run_with(&["send", "globex", "-f", "-", "--batch", "4"], input), 10).0);
    let failed: Vec<_> =
        results.iter().filter(|line| line.get("error").is_some()).map(|line| line["jti"].clone()).collect();
    assert_eq!(failed, ["3"], "only the line that is too large alone");
}

fn inbox(rows: &[(u64, &str)]) -> (u16, Value) {
    let row = |(seq, peer): &(u64, &str)| json!({"seq": seq, "peer": peer, "jti": format!("j{seq}"), "claims": {}, "set": "x"});
    (200, json!({"sets": rows.iter().map(row).collect::<Vec<_>>()}))
}

#[test]
fn the_inbox_is_read_to_its_end_without_changing_anything() {
    let daemon = Daemon::play(vec![inbox(&[(1, "a"), (4, "b")]), inbox(&[(9, "a")]), inbox(&[])]);
    let rows = lines(&ended(&daemon.run(&["tail"]), 0).0);
    assert_eq!(rows.iter().map(|row| row["seq"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(4), Some(9)]);
    assert_eq!(
        daemon.asked(),
        ["GET /api/v1/inbox?max=500", "GET /api/v1/inbox?max=500&after=4", "GET /api/v1/inbox?max=500&after=9"]
    );
}

#[test]
fn a_consumer_confirms_what_was_printed_and_no_more() {
    let done = (200, json!({}));
    let daemon = Daemon::play(vec![inbox(&[(1, "a"), (4, "b"), (5, "a")]), done]);
    let rows = lines(&ended(&daemon.run(&["tail", "--consumer", "s m", "--confirm", "--max", "2"]), 0).0);
    assert_eq!(rows.len(), 2);
    assert_eq!(daemon.asked(), ["GET /api/v1/inbox?max=2&consumer=s%20m", "POST /api/v1/inbox/confirm"]);
    assert_eq!(
        serde_json::from_str::<Value>(&daemon.bodies()[1]).expect("JSON"),
        json!({"consumer": "s m", "up_to": 4})
    );
}

#[test]
fn whoever_follows_waits_for_a_daemon_that_is_started_again() {
    let stopping = (503, json!({"code": "stopping", "detail": "the daemon is stopping"}));
    let (away, done) = ((0, Value::Null), (200, json!({})));
    let (first, second) = (inbox(&[(1, "a")]), inbox(&[(2, "a")]));
    let confirming = [first.clone(), stopping, away.clone(), first.clone(), first, done.clone()];
    let reading = [away, second.clone(), second, done];
    let daemon = Daemon::play([&confirming[..], &reading].concat());
    let (out, notes) = ended(&daemon.run(&["tail", "--follow", "--consumer", "s", "--confirm", "--max", "2"]), 0);
    assert_eq!(lines(&out).len(), 2, "{out}");
    assert_eq!(notes.matches("the daemon is away").count(), 2, "{notes}");
    assert_eq!(notes.matches("the daemon is back").count(), 2, "{notes}");
}

#[test]
fn what_was_printed_of_one_inbox_is_not_confirmed_in_another_and_nothing_of_that_is_passed_over() {
    let (away, done) = ((0, Value::Null), (200, json!({})));
    let other = |seq| (200, json!({"sets": [{"seq": seq, "peer": "a", "jti": "other", "claims": {}, "set": "x"}]}));
    let read = inbox(&[(1, "a"), (2, "a")]);
    let daemon = Daemon::play(vec![read, away.clone(), other(1), other(2), other(1), done.clone()]);
    let (out, notes) = ended(&daemon.run(&["tail", "-f", "--consumer", "s", "--confirm", "--max", "3"]), 0);
    assert_eq!(lines(&out).len(), 3, "{out}");
    assert!(notes.contains("another inbox"), "{notes}");
    let confirmed: Vec<_> = daemon.bodies().into_iter().filter(|body| !body.is_empty()).collect();
    assert_eq!(confirmed.len(), 2);
    assert_eq!(serde_json::from_str::<Value>(&confirmed[1]).expect("JSON"), json!({"consumer": "s", "up_to": 1}));
    // What has been confirmed is gone, and that tells nothing.
    let gone = inbox(&[]);
    let script = vec![
        inbox(&[(7, "a")]),
        done.clone(),
        away.clone(),
        gone.clone(),
        gone.clone(),
        gone,
        inbox(&[(8, "a")]),
        done,
    ];
    let daemon = Daemon::play(script);
    let (_, notes) = ended(&daemon.run(&["tail", "-f", "--consumer", "s", "--confirm", "--max", "2"]), 0);
    assert!(!notes.contains("another inbox"), "{notes}");
    // Without a consumer it is the client that knows where to go on.
    let beyond = (400, json!({"code": "invalid_request", "detail": "the inbox ends at 1"}));
    let daemon = Daemon::play(vec![inbox(&[(7, "a")]), away, beyond.clone(), beyond, other(1)]);
    let (out, notes) = ended(&daemon.run(&["tail", "-f", "--max", "2"]), 0);
    assert_eq!(lines(&out)[1]["jti"], "other");
    assert!(notes.contains("another inbox"), "{notes}");
    let beginning = "GET /api/v1/inbox?max=1&wait=20s";
    assert_eq!(daemon.asked().last().map(String::as_str), Some(beginning));
}

#[test]
fn a_daemon_that_never_answered_is_not_waited_for() {
    ended(&Daemon::play(vec![(0, Value::Null)]).run(&["tail", "--follow"]), 4);
    ended(&Daemon::play(vec![inbox(&[(1, "a")]), (0, Value::Null)]).run(&["tail"]), 4);
    ended(&Daemon::play(vec![inbox(&[(1, "a")]), (401, json!({"code": "unauthorised"}))]).run(&["tail", "-f"]), 5);
}

#[test]
fn a_partner_can_be_picked_out_and_must_exist() {
    let daemon = Daemon::play(vec![(200, json!({"name": "a"})), inbox(&[(1, "a"), (4, "b")]), inbox(&[])]);
    let rows = lines(&ended(&daemon.run(&["tail", "a"]), 0).0);
    assert_eq!(rows.iter().map(|row| row["jti"].as_str()).collect::<Vec<_>>(), [Some("j1")]);
    let daemon = Daemon::play(vec![(404, json!({"code": "unknown-peer"}))]);
    ended(&daemon.run(&["tail", "nobody"]), 6);
}

#[test]
fn whoever_adds_a_peer_to_a_running_daemon_is_told_that_the_partners_token_needs_a_reload() {
    let daemon = Daemon::play(vec![(201, json!({"name": "globex"}))]);
    ended(&daemon.run(&["init", "--issuer", "https://acme.example"]), 0);
    let card = "[[peer]]\nname = \"globex\"\nissuer = \"https://globex.example\"\njwks_uri = \"https://globex.example/jwks.json\"\n\
        endpoint = \"wss://globex.example/pushpull\"\n";
    let (_, notes) = ended(&daemon.run_with(&["peer", "add", "--card", "-"], card), 0);
    assert!(notes.contains("`pushpull reload`"), "{notes}");
    let given = daemon.dir.path().join("theirs");
    private(&given, "a-token-of-theirs\n");
    let card = card.replace("globex", "initech");
    let (_, notes) = ended(&daemon.run_with(&["peer", "add", "--card", "-", "--token", "theirs"], &card), 0);
    assert!(!notes.contains("reload"), "{notes}");
}

#[test]
fn a_running_daemon_takes_a_new_peer_itself() {
    let daemon = Daemon::play(vec![(201, json!({"name": "globex"})), (409, json!({"code": "peer-exists"}))]);
    let dir = daemon.dir.path();
    ended(&daemon.run(&["init", "--issuer", "https://acme.example"]), 0);
    let before = std::fs::read_to_string(dir.join("pushpull.toml")).expect("it is there");
    let card = "[[peer]]\nname = \"globex\"\nissuer = \"https://globex.example\"\njwks_uri = \"https://globex.example/jwks.json\"\n\
        endpoint = \"wss://globex.example/pushpull\"\n";
    let (out, _) = ended(&daemon.run_with(&["peer", "add", "--card", "-", "--json"], card), 0);
    assert_eq!(lines(&out)[0]["stored"], "daemon");
    assert_eq!(daemon.asked(), ["POST /api/v1/peers"]);
    let body: Value = serde_json::from_str(&daemon.bodies()[0]).expect("JSON");
    assert_eq!((&body["name"], &body["definition"]["issuer"]), (&json!("globex"), &json!("https://globex.example")));
    assert!(body["definition"]["token_file"].as_str().is_some_and(|file| file.starts_with('/')), "{body}");
    assert_eq!(std::fs::read_to_string(dir.join("pushpull.toml")).expect("it is there"), before);
    let other = card.replace("globex", "initech");
    ended(&daemon.run_with(&["peer", "add", "--card", "-"], &other), 7);
    assert!(!dir.join("initech.token").exists(), "what was made for nothing is removed");
}

/// It may have taken the peer all the same, and one that is in the file as well keeps it from starting.
#[test]
fn a_peer_is_not_written_into_the_file_when_the_daemon_breaks_off() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || listener.incoming().flatten().for_each(drop));
    let dir = tempfile::tempdir().expect("a directory");
    let run = |arguments: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_pushpull"));
        program.args(arguments).current_dir(dir.path()).env_remove("PUSHPULL_CONFIG").output().expect("it runs")
    };
    ended(&run(&["init", "--issuer", "https://acme.example", "--admin-listen", &address]), 0);
    let file = || std::fs::read_to_string(dir.path().join("pushpull.toml")).expect("it is there");
    let before = file();
    let card = "[[peer]]\nname = \"globex\"\nissuer = \"https://globex.example\"\njwks_uri = \"https://globex.example/jwks.json\"\n\
        endpoint = \"wss://globex.example/pushpull\"\n";
    std::fs::write(dir.path().join("card"), card).expect("it is written");
    ended(&run(&["peer", "add", "--card", "card"]), 4);
    assert_eq!(file(), before);
}

#[test]
fn removing_a_peer_says_what_is_left_and_how_to_undo_it() {
    let definition = json!({"issuer": "https://globex.example", "jwks_uri": "https://globex.example/jwks.json",
        "endpoint": "wss://globex.example/pushpull", "token_file": "/keep/globex.token"});
    let gone = json!({"name": "globex", "queued": 12, "dead_letters": 3, "definition": definition});
    let daemon = Daemon::play(vec![(200, gone)]);
    let (out, notes) = ended(&daemon.run(&["peer", "rm", "globex", "--drain", "90s", "--keep-queue"]), 0);
    assert!(out.contains("12 SETs queued") && out.contains("3 dead letters"), "{out}");
    assert!(notes.contains("[[peer]]\nname = \"globex\"") && notes.contains("/keep/globex.token"), "{notes}");
    assert_eq!(daemon.asked(), ["DELETE /api/v1/peers/globex?keep_queue=true&drain=90s"]);
}

#[test]
fn a_peer_that_cannot_be_removed_now_stays_with_the_exit_code_of_its_reason() {
    for (status, code, exit) in
        [(409, "peer_in_file", 7), (409, "peer_has_queue", 7), (504, "timed_out", 9), (404, "no_such_peer", 6)]
    {
        let daemon = Daemon::play(vec![(status, json!({"code": code, "detail": "because", "fix": "do this"}))]);
        let (_, notes) = ended(&daemon.run(&["peer", "rm", "globex"]), exit);
        assert!(notes.contains(&format!("error[{code}]: because")) && notes.contains("do this"), "{notes}");
    }
}

#[test]
fn a_peer_is_paused_and_resumed() {
    let daemon = Daemon::play(vec![
        (200, json!({"name": "globex", "paused": true})),
        (200, json!({"name": "globex", "paused": false})),
    ]);
    ended(&daemon.run(&["peer", "pause", "globex"]), 0);
    ended(&daemon.run(&["peer", "resume", "globex"]), 0);
    assert_eq!(daemon.asked(), ["POST /api/v1/peers/globex/pause", "POST /api/v1/peers/globex/resume"]);
}

#[test]
fn a_reload_prints_what_changed_or_everything_that_is_wrong() {
    let changed =
        json!({"changes": ["log.level: info → debug"], "restart": ["server.listen changed: needs a restart"]});
    let bad = json!({"code": "reload_failed", "detail": "nothing has changed", "problems": ["a.toml:1:1: one", "a.toml:2:1: two"]});
    let daemon = Daemon::play(vec![
        (200, changed),
        (200, json!({"changes": [], "restart": []})),
        (422, bad.clone()),
        (422, bad),
    ]);
    let (out, _) = ended(&daemon.run(&["reload"]), 0);
    assert_eq!(out, "log.level: info → debug\nserver.listen changed: needs a restart\n");
    assert_eq!(ended(&daemon.run(&["reload"]), 0).0, "nothing has changed\n");
    let (_, notes) = ended(&daemon.run(&["reload"]), 3);
    assert!(notes.contains("a.toml:1:1: one") && notes.contains("a.toml:2:1: two"), "{notes}");
    let (out, _) = ended(&daemon.run(&["reload", "--json"]), 3);
    assert_eq!(lines(&out)[0]["problems"][1], "a.toml:2:1: two");
}
