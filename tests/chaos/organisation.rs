//! One organisation's daemon: started, killed, started again.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::admin::Client;
use crate::pairing::program;
use crate::process::{self, Memory};
use crate::world::Violation;

/// One side of the run.
pub(crate) struct Organisation {
    pub(crate) name: &'static str,
    directory: PathBuf,
    admin: String,
    token: String,
    daemon: tokio::sync::Mutex<Option<Child>>,
    history: Mutex<History>,
    /// What is in the environment of its processes besides.
    environment: Vec<(String, String)>,
}

/// What this side's processes have been through.
#[derive(Clone, Default)]
pub(crate) struct History {
    pub(crate) kills: usize,
    /// From each process's start to its being ready, for those that got so far.
    pub(crate) ready_after: Vec<Duration>,
    /// CPU time of the processes that are dead.
    cpu: Duration,
    /// The most memory that any process had, in KiB.
    memory_peak: u64,
}

/// How long a daemon may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(90);

impl Organisation {
    pub(crate) fn new(name: &'static str, directory: PathBuf, admin: String, token: String) -> Self {
        let (daemon, history) = (tokio::sync::Mutex::default(), Mutex::default());
        Self { name, directory, admin, token, daemon, history, environment: Vec::new() }
    }

    /// Gives its processes variables of their own.
    pub(crate) fn with_environment(mut self, environment: Vec<(String, String)>) -> Self {
        self.environment = environment;
        self
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.admin.clone(), self.token.clone())
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts the daemon without waiting for it.
    pub(crate) async fn start(&self) -> Instant {
        self.start_as(program()).await
    }

    /// The same by a command that takes the daemon's arguments behind its own, and becomes the daemon.
    pub(crate) async fn start_as(&self, mut program: Command) -> Instant {
        let path = self.directory.join("serve.log");
        let log = OpenOptions::new().create(true).append(true).open(path).expect("the log can be written");
        let mut daemon = self.daemon.lock().await;
        assert!(daemon.is_none(), "{} is started twice", self.name);
        let begun = Instant::now();
        let spawned = program
            .args(["serve".as_ref(), "-c".as_ref(), self.directory.join("pushpull.toml").as_os_str()])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        *daemon = Some(spawned.expect("the daemon starts"));
        begun
    }

    /// Waits until the daemon that was started at `begun` is ready.
    pub(crate) async fn ready(&self, begun: Instant) -> Result<(), Violation> {
        let mut client = self.client();
        loop {
            if client.get("/readyz").await.is_ok_and(|answer| answer.status == 200) {
                self.history().ready_after.push(begun.elapsed());
                return Ok(());
            }
            self.alive().await?;
            if begun.elapsed() > READY_WITHIN {
                return Err(Violation::new(format!("{} is not ready after {READY_WITHIN:?}", self.name)));
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) async fn start_and_wait(&self) -> Result<(), Violation> {
        let begun = self.start().await;
        self.ready(begun).await
    }

    /// SIGKILL, and waits until nothing of the process is left.
    pub(crate) async fn kill(&self) {
        let Some(mut daemon) = self.daemon.lock().await.take() else { return };
        self.take_stock(daemon.id());
        daemon.kill().await.expect("it is ours to kill");
        self.history().kills += 1;
    }

    /// A daemon must not end by itself, whatever its partner goes through.
    pub(crate) async fn alive(&self) -> Result<(), Violation> {
        let mut daemon = self.daemon.lock().await;
        match daemon.as_mut().map(|daemon| daemon.try_wait().expect("it is our child")) {
            Some(Some(status)) => {
                Err(Violation::new(format!("{} has ended by itself, {status}:\n{}", self.name, self.last_words())))
            }
            Some(None) | None => Ok(()),
        }
    }

    /// How the daemon has ended by itself, if it has.
    pub(crate) async fn ended(&self) -> Option<ExitStatus> {
        let mut daemon = self.daemon.lock().await;
        let status = daemon.as_mut()?.try_wait().expect("it is our child")?;
        *daemon = None;
        Some(status)
    }

    /// SIGTERM, and waits for the orderly end.
    pub(crate) async fn stop(&self) -> Option<ExitStatus> {
        let mut daemon = self.daemon.lock().await.take()?;
        if let Some(pid) = daemon.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is ours to stop");
        }
        Some(daemon.wait().await.expect("it is our child"))
    }

    pub(crate) async fn is_running(&self) -> bool {
        self.daemon.lock().await.is_some()
    }

    /// Memory of the running process, and the most that any had.
    pub(crate) async fn memory(&self) -> Memory {
        let pid = self.pid().await;
        self.take_peak(pid);
        Memory { now: pid.map_or(0, |pid| Memory::of(pid).now), peak: self.history().memory_peak }
    }

    /// CPU time of all its processes.
    pub(crate) async fn cpu(&self) -> Duration {
        let running = self.pid().await.map(process::cpu).unwrap_or_default();
        self.history().cpu + running
    }

    /// Bytes of the database and its log.
    pub(crate) fn database_bytes(&self) -> u64 {
        let files = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let files = files.filter(|file| file.file_name().to_string_lossy().starts_with("pushpull.db"));
        files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
    }

    /// To be let go at once: it is a lock.
    pub(crate) fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().expect("nobody panicked")
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(self.directory.join("serve.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// All that its processes have said since this many bytes.
    pub(crate) fn said_since(&self, bytes: u64) -> String {
        let log = fs::read(self.directory.join("serve.log")).unwrap_or_default();
        let from = usize::try_from(bytes).unwrap_or(usize::MAX).min(log.len());
        String::from_utf8_lossy(&log[from..]).into_owned()
    }

    /// How much its processes have said so far.
    pub(crate) fn said_bytes(&self) -> u64 {
        fs::metadata(self.directory.join("serve.log")).map_or(0, |log| log.len())
    }

    /// How often the log says this.
    pub(crate) fn logged(&self, words: &str) -> usize {
        let log = fs::read_to_string(self.directory.join("serve.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains(words)).count()
    }

    pub(crate) async fn pid(&self) -> Option<u32> {
        self.daemon.lock().await.as_ref().and_then(Child::id)
    }

    /// What would be gone with the process.
    fn take_stock(&self, pid: Option<u32>) {
        self.take_peak(pid);
        self.history().cpu += pid.map(process::cpu).unwrap_or_default();
    }

    fn take_peak(&self, pid: Option<u32>) {
        let peak = pid.map_or(0, |pid| Memory::of(pid).peak);
        let mut history = self.history();
        history.memory_peak = history.memory_peak.max(peak);
    }
}
