//! What a service manager such as systemd hears from the daemon: when it is ready, that it lives, when it stops.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The manager's end of its socket.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(place: &Path) -> Self {
        let socket = UnixDatagram::bind(place).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self(socket)
    }

    /// Reads on until a message holds this.
    #[track_caller]
    fn hears(&self, what: &str) -> String {
        let mut before = Vec::new();
        loop {
            let mut bytes = [0; 4096];
            let Ok(length) = self.0.recv(&mut bytes) else { panic!("no {what:?}, but {before:?}") };
            let message = String::from_utf8(bytes[..length].to_vec()).unwrap();
            if message.contains(what) {
                return message;
            }
            before.push(message);
        }
    }
}

/// Kills what it holds, should a test end early.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushpull"));
    command.current_dir(dir).env_remove("PUSHPULL_CONFIG").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn serve(dir: &Path, watchdog: Option<Duration>) -> (Daemon, Manager) {
    let anywhere = "127.0.0.1:0";
    let init = ["init", "--issuer", "https://us.example", "--listen", anywhere, "--admin-listen", anywhere];
    assert!(program(dir).args(init).status().unwrap().success());
    let socket = dir.join("notify");
    let manager = Manager::listen(&socket);
    let mut command = program(dir);
    command.arg("serve").env("NOTIFY_SOCKET", &socket).stderr(Stdio::null());
    if let Some(watchdog) = watchdog {
        command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
    }
    (Daemon(command.spawn().unwrap()), manager)
}

fn signal(daemon: &Daemon, signal: &str) {
    assert!(Command::new("kill").args([signal, &daemon.0.id().to_string()]).status().unwrap().success());
}

/// The signal stops nothing before the thread that it was given to has returned to itself, which may be writing to a slow disk
/// meanwhile.
fn until_it_stands_still(daemon: &Daemon) {
    let threads = format!("/proc/{}/task", daemon.0.id());
    if !Path::new(&threads).exists() {
        // Elsewhere than on Linux: some time has to do.
        return std::thread::sleep(Duration::from_secs(1));
    }
    let stands = |thread: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // Behind the name, which may hold anything.
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['T', 't']))
    };
    for _ in 0..6_000 {
        if std::fs::read_dir(&threads).unwrap().all(|thread| stands(thread.unwrap())) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it does not stop");
}

#[test]
fn it_is_ready_when_it_serves_says_how_it_stands_and_stops_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (mut daemon, manager) = serve(dir.path(), None);
    manager.hears("READY=1");
    assert_eq!(manager.hears("STATUS=").trim(), "STATUS=0 of 0 peers up, 0 SETs queued");
    signal(&daemon, "-HUP");
    assert!(manager.hears("RELOADING=1").contains("MONOTONIC_USEC="));
    manager.hears("READY=1");
    signal(&daemon, "-TERM");
    assert!(manager.hears("STOPPING=1").contains("EXTEND_TIMEOUT_USEC="));
    assert_eq!(daemon.0.wait().unwrap().code(), Some(0));
}

#[test]
fn the_watchdog_is_fed_while_the_process_turns_and_not_while_it_stands_still() {
    let dir = tempfile::tempdir().unwrap();
    let (daemon, manager) = serve(dir.path(), Some(Duration::from_millis(500)));
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    signal(&daemon, "-STOP");
    until_it_stands_still(&daemon);
    // What it had sent before it was stopped.
    manager.0.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut bytes = [0; 4096];
    while manager.0.recv(&mut bytes).is_ok() {}
    manager.0.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
    assert!(manager.0.recv(&mut bytes).is_err(), "three watchdog times without a word");
    signal(&daemon, "-CONT");
    manager.0.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    manager.hears("WATCHDOG=1");
}
