//! One of the demo's two organisations: made with the same commands that a person would type, and run as a daemon.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::auth::Secret;
use crate::cli::client::{Call, Client};
use crate::cli::{Error, Exit};

/// One organisation, running.
pub(super) struct Organisation {
    pub(super) name: &'static str,
    pub(super) address: String,
    admin: String,
    directory: PathBuf,
    daemon: Mutex<Child>,
}

/// How long a daemon may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// How long a daemon may take to stop.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

/// Makes alpha and beta, pairs them, and starts them.
pub(super) async fn pair(place: &Path, http: bool) -> Result<[Organisation; 2], Error> {
    let plans = [Plan::new(place, "alpha")?, Plan::new(place, "beta")?];
    for plan in &plans {
        plan.init().await?;
    }
    let [alpha, beta] = &plans;
    beta.add(&alpha.card().await?, "alpha", &[]).await?;
    // What beta has minted is what alpha needs: the token that alpha presents, and the one that it expects.
    let (present, expect) = (beta.file("from-alpha.token"), beta.file("alpha.token"));
    alpha
        .add(
            &beta.card().await?,
            "beta",
            &["--token".as_ref(), present.as_ref(), "--accept-token".as_ref(), expect.as_ref()],
        )
        .await?;
    if http {
        alpha.transport("http")?;
        beta.transport("http")?;
    } else {
        // One WebSocket is enough for both directions.
        beta.transport("none")?;
    }
    let [alpha, beta] = plans;
    let (alpha, beta) = (alpha.start()?, beta.start()?);
    alpha.ready().await?;
    beta.ready().await?;
    Ok([alpha, beta])
}

/// Waits until one of the daemons ends, which none of them should.
pub(super) async fn first_death(organisations: &[Organisation; 2]) -> Error {
    loop {
        for organisation in organisations {
            if let Some(error) = organisation.death().await {
                return error;
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// An organisation that does not run yet.
struct Plan {
    name: &'static str,
    directory: PathBuf,
    address: String,
    admin: String,
}

impl Plan {
    fn new(place: &Path, name: &'static str) -> Result<Self, Error> {
        // Bound together, so that they differ; freed at once, so that the daemon can have them.
        let free = || TcpListener::bind("127.0.0.1:0").map_err(|error| Error::failed(format!("no free port: {error}")));
        let (first, second) = (free()?, free()?);
        let text = |listener: TcpListener| listener.local_addr().map(|address| address.to_string());
        let address = text(first).map_err(|error| Error::failed(error.to_string()))?;
        let admin = text(second).map_err(|error| Error::failed(error.to_string()))?;
        Ok(Self { name, directory: place.join(name), address, admin })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    async fn init(&self) -> Result<(), Error> {
        let issuer = format!("https://{}.example", self.name);
        let directory = self.directory.display().to_string();
        let args = ["init", &directory, "--issuer", &issuer, "--listen", &self.address, "--admin-listen", &self.admin];
        run(&args.map(str::as_ref)).await?;
        let mut config = self.config()?;
        config.push_str("\n[network]\nallow = [\"127.0.0.0/8\"]\n");
        self.write(&config)
    }

    async fn card(&self) -> Result<PathBuf, Error> {
        let config = self.file("pushpull.toml");
        let args = ["peer", "card", "--public", &self.address, "--name", self.name];
        let mut args: Vec<&std::ffi::OsStr> = args.iter().map(AsRef::as_ref).collect();
        args.extend(["-c".as_ref(), config.as_os_str()]);
        let card = self.file("card.toml");
        let text = run(&args).await?;
        fs::write(&card, text).map_err(|error| Error::failed(format!("{}: {error}", card.display())))?;
        Ok(card)
    }

    async fn add(&self, card: &Path, name: &str, more: &[&std::ffi::OsStr]) -> Result<(), Error> {
        let config = self.file("pushpull.toml");
        let mut args: Vec<&std::ffi::OsStr> = vec!["peer".as_ref(), "add".as_ref(), "--card".as_ref(), card.as_ref()];
        args.extend(["--name".as_ref(), name.as_ref(), "-c".as_ref(), config.as_os_str()]);
        args.extend(more);
        run(&args).await.map(drop)
    }

    /// Says how the partner is reached, instead of by WebSocket.
    fn transport(&self, transport: &str) -> Result<(), Error> {
        let config = self.config()?;
        self.write(&config.replace("transport = \"websocket\"", &format!("transport = \"{transport}\"")))
    }

    fn config(&self) -> Result<String, Error> {
        let path = self.file("pushpull.toml");
        fs::read_to_string(&path).map_err(|error| Error::failed(format!("{}: {error}", path.display())))
    }

    fn write(&self, config: &str) -> Result<(), Error> {
        let path = self.file("pushpull.toml");
        fs::write(&path, config).map_err(|error| Error::failed(format!("{}: {error}", path.display())))
    }

    fn start(self) -> Result<Organisation, Error> {
        let failed = |error: std::io::Error| Error::failed(format!("cannot start {}: {error}", self.name));
        let log = fs::File::create(self.file("serve.log")).map_err(failed)?;
        let daemon = command()?
            .args(["serve".as_ref(), "-c".as_ref(), self.file("pushpull.toml").as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for the demo, which then stops the daemons itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let Self { name, directory, address, admin } = self;
        Ok(Organisation { name, address, admin, directory, daemon: Mutex::new(daemon) })
    }
}

impl Organisation {
    /// A client of its admin API.
    pub(super) fn client(&self) -> Result<Client, Error> {
        let token =
            Secret::read_file(&self.directory.join("admin.token")).map_err(|error| Error::failed(error.to_string()))?;
        Ok(Client::new(self.admin.clone(), token))
    }

    /// Ends the daemon in an orderly way.
    pub(super) async fn stop(self) {
        let mut daemon = self.daemon.into_inner();
        let id = daemon.id().unwrap_or_default().to_string();
        // Bare systems lack that command. To be killed costs the daemon nothing but its last log lines.
        let told = Command::new("kill").args(["-TERM", &id]).status().await.is_ok_and(|status| status.success());
        if !told || tokio::time::timeout(STOPPED_WITHIN, daemon.wait()).await.is_err() {
            let _ = daemon.kill().await;
        }
    }

    async fn ready(&self) -> Result<(), Error> {
        let deadline = Instant::now() + READY_WITHIN;
        let mut client = self.client()?;
        loop {
            if client.call(&Call::get("/readyz")).await.is_ok_and(|answer| answer.status.is_success()) {
                return Ok(());
            }
            if let Some(error) = self.death().await {
                return Err(error);
            }
            if Instant::now() > deadline {
                return Err(Error::new(Exit::TimedOut, format!("{} is not ready", self.name)).found(self.last_words()));
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn death(&self) -> Option<Error> {
        let status = self.daemon.lock().await.try_wait().ok()??;
        Some(Error::failed(format!("{} has ended: {status}", self.name)).found(self.last_words()))
    }

    /// The end of its log.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.directory.join("serve.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// This program.
fn command() -> Result<Command, Error> {
    let program =
        std::env::current_exe().map_err(|error| Error::failed(format!("cannot find this program: {error}")))?;
    let mut command = Command::new(program);
    // The caller's configuration is not the demo's.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PUSHPULL_") {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// Runs a command of this program to its end; what it printed.
async fn run(args: &[&std::ffi::OsStr]) -> Result<String, Error> {
    let ended = command()?.args(args).stdin(Stdio::null()).output().await;
    let ended = ended.map_err(|error| Error::failed(format!("cannot run this program: {error}")))?;
    if ended.status.success() {
        return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
    }
    // What it says is an error of this form already.
    let text = String::from_utf8_lossy(&ended.stderr);
    let text = text.split_once("]: ").map_or(&*text, |(_, text)| text);
    Err(Error::failed(text.trim()))
}
