//! Makes two organisations with the commands that a person would type, and pairs them.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::process::Command;

use crate::Link;
use crate::organisation::Organisation;

/// How the two reach each other.
pub(crate) struct Road {
    pub(crate) link: Link,
    /// Where each of the two listens.
    pub(crate) listens: [String; 2],
    /// The proxies by which each of the two is reached.
    pub(crate) through: [Option<String>; 2],
    /// Without TLS, so that a proxy can read what passes.
    pub(crate) plaintext: bool,
    /// More lines for both configurations.
    pub(crate) more: String,
}

impl Road {
    /// Straight from one to the other.
    pub(crate) fn new(link: Link) -> Self {
        let listens = [free_address(), free_address()];
        Self { link, listens, through: [None, None], plaintext: link == Link::Blockade, more: String::new() }
    }
}

/// Alpha and beta, not running yet.
pub(crate) async fn pair(place: &Path, road: &Road) -> [Organisation; 2] {
    let [alpha, beta] = &road.listens;
    let plans = [Plan::new(place, "alpha", alpha.clone()), Plan::new(place, "beta", beta.clone())];
    for plan in &plans {
        plan.init(road).await;
    }
    let [alpha, beta] = &plans;
    beta.add(&alpha.card(road, 0).await, "alpha", &[]).await;
    // What beta has minted is what alpha needs: the token that alpha presents, and the one that it expects.
    let (present, expect) = (beta.file("from-alpha.token"), beta.file("alpha.token"));
    let tokens = ["--token".as_ref(), present.as_ref(), "--accept-token".as_ref(), expect.as_ref()];
    alpha.add(&beta.card(road, 1).await, "beta", &tokens).await;
    match road.link {
        Link::Http => plans.iter().for_each(|plan| plan.replace("\"websocket\"", "\"http\"")),
        // Alpha's connection is enough for both directions.
        Link::Websocket | Link::Blockade => beta.replace("\"websocket\"", "\"none\""),
        Link::Both => beta.replace("\"websocket\"", "\"http\""),
    }
    plans.map(|plan| {
        let token = fs::read_to_string(plan.file("admin.token")).expect("init made the token");
        Organisation::new(plan.name, plan.directory, plan.admin, token.trim().to_owned())
    })
}

/// A loopback address whose port nobody else will be given while its daemon is dead: below those that the system
/// hands out by itself.
pub(crate) fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Runs that begin together have numbers that follow each other, and each needs many ports.
    let start = u16::try_from(std::process::id().wrapping_mul(211) % 17_000).expect("small enough");
    loop {
        let port = 12_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return format!("127.0.0.1:{port}");
        }
    }
}

/// Listens at an address that was free. A child that is being started has a copy of the listener that found it so, for a moment.
pub(crate) async fn listen(address: &str) -> tokio::net::TcpListener {
    let since = tokio::time::Instant::now();
    loop {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && since.elapsed().as_secs() < 5 => {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            Err(error) => panic!("cannot listen at {address}: {error}"),
        }
    }
}

/// This program: the one that was built with the tests, or the one that the environment names.
pub(crate) fn program_path() -> PathBuf {
    match std::env::var_os("PUSHPULL_CHAOS_BINARY") {
        Some(path) => fs::canonicalize(&path).unwrap_or_else(|error| panic!("PUSHPULL_CHAOS_BINARY: {error}")),
        None => env!("CARGO_BIN_EXE_pushpull").into(),
    }
}

/// This program, without the caller's own configuration in its environment.
pub(crate) fn program() -> Command {
    clean(Command::new(program_path()))
}

/// A command without the caller's own configuration, which dies with the test.
pub(crate) fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PUSHPULL_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// An organisation in the making.
struct Plan {
    name: &'static str,
    directory: PathBuf,
    listen: String,
    admin: String,
}

impl Plan {
    fn new(place: &Path, name: &'static str, listen: String) -> Self {
        Self { name, directory: place.join(name), listen, admin: free_address() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    async fn init(&self, road: &Road) {
        let issuer = format!("https://{}.example", self.name);
        let directory = self.directory.to_str().expect("a path in UTF-8");
        let args = ["init", directory, "--issuer", &issuer, "--listen", &self.listen, "--admin-listen", &self.admin];
        done(&args.map(OsStr::new)).await;
        let mut more = format!("\n[network]\nallow = [\"127.0.0.0/8\"]\n{}", road.more);
        if road.plaintext {
            more.push_str("\n[server.tls]\nmode = \"dangerous-plaintext\"\n");
        }
        if let Ok(level) = std::env::var("PUSHPULL_CHAOS_LOG") {
            more.push_str(&format!("\n[log]\nlevel = \"{level}\"\n"));
        }
        self.write(&(self.config() + &more));
    }

    /// The card for the partner, with another endpoint than our own if there is a proxy.
    async fn card(&self, road: &Road, side: usize) -> PathBuf {
        let config = self.file("pushpull.toml");
        let scheme = if road.plaintext { "http" } else { "https" };
        let endpoint = road.through[side].as_ref().map(|proxy| format!("{scheme}://{proxy}/pushpull"));
        let mut args = vec!["peer".as_ref(), "card".as_ref(), "--name".as_ref(), self.name.as_ref()];
        match &endpoint {
            Some(endpoint) => args.extend(["--endpoint", endpoint].map(OsStr::new)),
            None => args.extend(["--public", &self.listen].map(OsStr::new)),
        }
        args.extend([OsStr::new("-c"), config.as_os_str()]);
        let card = self.file("card.toml");
        fs::write(&card, done(&args).await).expect("the card is written");
        card
    }

    async fn add(&self, card: &Path, name: &str, more: &[&OsStr]) {
        let config = self.file("pushpull.toml");
        let mut args = vec!["peer".as_ref(), "add".as_ref(), "--card".as_ref(), card.as_os_str()];
        args.extend([OsStr::new("--name"), name.as_ref(), "-c".as_ref(), config.as_ref()]);
        args.extend(more);
        done(&args).await;
    }

    /// Says how the partner is reached.
    fn replace(&self, from: &str, to: &str) {
        self.write(&self.config().replace(&format!("transport = {from}"), &format!("transport = {to}")));
    }

    fn config(&self) -> String {
        fs::read_to_string(self.file("pushpull.toml")).expect("init made the configuration")
    }

    fn write(&self, config: &str) {
        fs::write(self.file("pushpull.toml"), config).expect("the configuration is written");
    }
}

/// Runs a command to its end; what it printed.
async fn done(args: &[&OsStr]) -> String {
    let ended = program().args(args).output().await.expect("the program starts");
    assert!(ended.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).expect("UTF-8")
}
