//! The program itself, run by `serve` in a directory of its own, and its admin API.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use pushpull::wire::net::{Allow, Dialer, Pin, Target};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::http::{Message, Wire};
use super::partner::Partner;
use super::{soon, until};

/// Who we are in every test.
pub(crate) const ISSUER: &str = "https://us.example";

/// What a `[limits]` table of the tests holds, so that oversize things are small.
pub(crate) const SMALL_LIMITS: &str = "[limits]\nobject_bytes_max = \"64KiB\"\nset_bytes_max = \"8KiB\"\n\
    sets_per_object_max = 20\njti_bytes_max = 64\n";

/// A daemon that does not run yet.
pub(crate) struct Plan {
    dir: tempfile::TempDir,
    tls: bool,
    config: String,
}

impl Plan {
    /// With keys, certificate and token, made by `pushpull init`.
    pub(crate) fn new(tls: bool) -> Self {
        Self::of(ISSUER, tls)
    }

    /// The same for another organisation.
    pub(crate) fn of(issuer: &str, tls: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().to_str().unwrap();
        let made = program(&["init", place, "--issuer", issuer, "--listen", "127.0.0.1:8443"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mode = if tls { "self-signed" } else { "dangerous-plaintext" };
        let config = format!(
            "[server]\nissuer = \"{issuer}\"\nlisten = \"127.0.0.1:0\"\n[server.tls]\nmode = \"{mode}\"\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n[network]\nallow = [\"127.0.0.0/8\"]\n\
             [log]\nlevel = \"debug\"\nformat = \"json\"\n"
        );
        Self { dir, tls, config }
    }

    /// Adds tables to the configuration.
    pub(crate) fn with(mut self, tables: &str) -> Self {
        self.config.push_str(tables);
        self.config.push('\n');
        self
    }

    /// Adds a partner, with these further keys in its block.
    pub(crate) fn with_peer(self, partner: &Partner, keys: &str) -> Self {
        let block = partner.block(self.dir.path(), keys);
        self.with(&block)
    }

    /// Has partners reach it at this port, also after a restart.
    pub(crate) fn at_port(mut self, port: u16) -> Self {
        self.config = self.config.replacen("listen = \"127.0.0.1:0\"", &format!("listen = \"127.0.0.1:{port}\""), 1);
        self
    }

    /// Where its files are.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Logs at this level.
    pub(crate) fn at_level(mut self, level: &str) -> Self {
        self.config = self.config.replace("level = \"debug\"", &format!("level = \"{level}\""));
        self
    }

    /// Runs it with no other range of private addresses allowed than this one.
    pub(crate) async fn start_allowing(mut self, range: &str) -> Daemon {
        self.config = self.config.replace("allow = [\"127.0.0.0/8\"]", &format!("allow = [\"{range}\"]"));
        self.start().await
    }

    /// Runs it, and waits until it is ready.
    pub(crate) async fn start(self) -> Daemon {
        write(&self.dir.path().join("pushpull.toml"), &self.config);
        let token = fs::read_to_string(self.dir.path().join("admin.token")).unwrap().trim().to_owned();
        let pem = fs::read(self.dir.path().join("tls.crt")).unwrap();
        let pin = self.tls.then(|| Pin::of_cert_pem(&pem).unwrap());
        let process = Process::start(self.dir.path()).await.unwrap_or_else(|log| panic!("no daemon: {log}"));
        Daemon { dir: self.dir, pin, token, process: Some(process) }
    }
}

/// A running daemon. It is killed when this is dropped.
pub(crate) struct Daemon {
    dir: tempfile::TempDir,
    pin: Option<Pin>,
    token: String,
    process: Option<Process>,
}

impl Daemon {
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where partners reach it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.process().partners
    }

    pub(crate) fn admin_token(&self) -> &str {
        &self.token
    }

    /// Where its admin API is.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.process().admin
    }

    /// A new connection to where partners reach it.
    pub(crate) async fn connect(&self) -> Wire {
        let scheme = if self.pin.is_some() { "https" } else { "http" };
        let target = Target::parse(&format!("{scheme}://{}/", self.address())).unwrap();
        let dialer = Dialer::new(Allow::parse(["127.0.0.0/8"]).unwrap());
        Wire::new(soon("connecting", dialer.connect(&target, self.pin.as_ref())).await.unwrap())
    }

    /// A new connection to its admin API.
    pub(crate) async fn connect_admin(&self) -> Wire {
        Wire::new(soon("connecting", TcpStream::connect(self.process().admin)).await.unwrap())
    }

    /// Asks the admin API, with the token; a body is JSON.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Message {
        let body = body.map(Value::to_string).unwrap_or_default();
        self.admin_raw(method, path, &[("Content-Type", "application/json")], body.as_bytes()).await
    }

    /// Asks the admin API, with the token and these header fields.
    pub(crate) async fn admin_raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Message {
        let bearer = format!("Bearer {}", self.token);
        let mut headers = headers.to_vec();
        headers.push(("Authorization", &bearer));
        let mut wire = self.connect_admin().await;
        soon(path, wire.ask(method, path, &headers, body)).await.unwrap().expect("an answer of the admin API")
    }

    /// Runs a command of the program against it: the exit code, and what was printed.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pushpull"));
        let admin = self.process().admin.to_string();
        command.args(arguments).args(["--admin", &admin, "--token-file"]).arg(self.dir().join("admin.token"));
        let output = soon("the end of the command", command.stdin(Stdio::null()).output()).await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }

    /// The JSON of a GET that succeeds.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let answer = self.admin("GET", path, None).await;
            assert_eq!(answer.status(), 200, "{path}: {} ({caller})", answer.text());
            answer.json()
        }
    }

    /// Submits one event for this peer; its jti.
    pub(crate) async fn send(&self, peer: &str, jti: &str) -> String {
        let answer = self.admin("POST", "/api/v1/events", Some(&event(peer, jti))).await;
        assert_eq!(answer.status(), 202, "{}", answer.text());
        answer.json()["jtis"][0].as_str().unwrap().to_owned()
    }

    /// Submits many events in one request.
    pub(crate) async fn send_all(&self, peer: &str, jtis: &[String]) {
        let lines: Vec<String> = jtis.iter().map(|jti| event(peer, jti).to_string()).collect();
        let ndjson = [("Content-Type", "application/x-ndjson")];
        let answer = self.admin_raw("POST", "/api/v1/events", &ndjson, lines.join("\n").as_bytes()).await;
        assert_eq!(answer.status(), 202, "{}", answer.text());
    }

    /// The state of what was sent to (or came from) this peer under this jti; `None` if there is no such record.
    pub(crate) async fn state(&self, direction: &str, peer: &str, jti: &str) -> Option<String> {
        let record = self.record(direction, peer, jti).await?;
        Some(record["state"].as_str().unwrap().to_owned())
    }

    /// The same, the whole record.
    pub(crate) async fn record(&self, direction: &str, peer: &str, jti: &str) -> Option<Value> {
        let answer = self.admin("GET", &format!("/api/v1/events/{jti}"), None).await;
        if answer.status() == 404 {
            return None;
        }
        let found = answer.json()["records"].as_array().unwrap().clone();
        found.into_iter().find(|record| record["direction"] == direction && record["peer"] == peer)
    }

    /// Waits until what was sent to this peer has this state.
    pub(crate) async fn settled(&self, peer: &str, jti: &str, state: &str) {
        until(&format!("{jti} {state}"), async || {
            (self.state("out", peer, jti).await.as_deref() == Some(state)).then_some(())
        })
        .await;
    }

    /// Everything in the inbox: (peer, jti), in order.
    pub(crate) async fn inbox(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let sets = self.get("/api/v1/inbox?max=10000").await["sets"].as_array().unwrap().clone();
        sets.iter().map(|set| (text(&set["peer"]), text(&set["jti"]))).collect()
    }

    /// The totals of a peer, which only effects change.
    pub(crate) async fn totals(&self, peer: &str) -> Value {
        let status = self.get(&format!("/api/v1/peers/{peer}")).await;
        let names = ["queued", "acked", "refused", "dead", "received", "rejected"];
        names.into_iter().map(|name| (name.to_owned(), status[name].clone())).collect::<serde_json::Map<_, _>>().into()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> Vec<String> {
        self.process().log.lock().unwrap().clone()
    }

    /// SIGHUP; returns at once.
    pub(crate) fn hang_up(&self) {
        self.process().signal("-HUP");
    }

    /// Changes the text of the configuration file.
    pub(crate) fn edit(&self, change: impl FnOnce(String) -> String) {
        let path = self.dir.path().join("pushpull.toml");
        let text = fs::read_to_string(&path).unwrap();
        write(&path, &change(text));
    }

    /// Has it reread its configuration, which is sound: what changed, and what needs a restart.
    pub(crate) async fn reload(&self) -> (Vec<String>, Vec<String>) {
        let answer = self.admin("POST", "/api/v1/reload", None).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let texts =
            |value: &Value| value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect();
        (texts(&answer.json()["changes"]), texts(&answer.json()["restart"]))
    }

    /// SIGTERM; returns at once.
    pub(crate) fn terminate(&self) {
        self.process().signal("-TERM");
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut process = self.process.take().unwrap();
        soon("the end of the daemon", process.child.wait()).await.unwrap()
    }

    /// The same, and what it has logged.
    pub(crate) async fn ended_telling(&mut self) -> (ExitStatus, Vec<String>) {
        let log = Arc::clone(&self.process().log);
        let status = self.ended().await;
        // The last of it may still be on its way here.
        let whole = async || log.lock().unwrap().iter().any(|line| line.contains("\"stopped; ")).then_some(());
        super::until("its last line", whole).await;
        let lines = log.lock().unwrap().clone();
        (status, lines)
    }

    /// Ends it without warning.
    pub(crate) async fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.child.kill().await.unwrap();
    }

    /// Runs it again after its end.
    pub(crate) async fn restart(&mut self) {
        assert!(self.process.is_none(), "it still runs");
        self.process = Some(Process::start(self.dir.path()).await.unwrap_or_else(|log| panic!("no daemon: {log}")));
    }

    /// Runs a second daemon on the same directory, which has to end by itself: its exit code and what it said.
    pub(crate) async fn rival(&self) -> (Option<i32>, String) {
        let mut command = serve(self.dir.path());
        let ended = soon("the end of the rival", command.output()).await.unwrap();
        (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("the daemon runs")
    }
}

struct Process {
    child: Child,
    partners: SocketAddr,
    admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    async fn start(dir: &Path) -> Result<Self, String> {
        let mut child = serve(dir).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (partners, admin) = loop {
            let Some(line) = soon("the daemon", lines.next_line()).await.unwrap() else {
                return Err(log.lock().unwrap().join("\n"));
            };
            let entry: Value = serde_json::from_str(&line).unwrap_or_default();
            let ready = find(&entry, "message") == Some("ready");
            log.lock().unwrap().push(line);
            if ready {
                let address = |name| find(&entry, name).unwrap().parse().unwrap();
                break (address("listen"), address("admin"));
            }
        };
        let kept = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                kept.lock().unwrap().push(line);
            }
        });
        Ok(Self { child, partners, admin, log })
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().unwrap().to_string();
        let sent = std::process::Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
    }
}

fn serve(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushpull"));
    command.args(["serve".as_ref(), "-c".as_ref(), dir.join("pushpull.toml").as_os_str()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs the program to its end.
pub(crate) fn program(args: &[&str]) -> std::process::Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_pushpull")).args(args).output().unwrap()
}

/// One event as the admin API takes it.
pub(crate) fn event(peer: &str, jti: &str) -> Value {
    json!({
        "peer": peer, "jti": jti, "type": "caep:session-revoked",
        "sub_id": {"format": "opaque", "id": format!("subject of {jti}")},
        "event": {"event_timestamp": 1_700_000_000},
    })
}

/// A field of a log line, wherever it stands.
fn find<'a>(entry: &'a Value, name: &str) -> Option<&'a str> {
    entry.get(name).or_else(|| entry.get("fields")?.get(name))?.as_str()
}

/// A file that only we may read.
pub(crate) fn write(path: &Path, text: &str) {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
