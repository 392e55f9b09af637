//! `pushpull demo` cleans up after itself, however it is ended.

#![cfg(unix)]

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};

/// A supervisor or `timeout` sends SIGTERM. Without care the daemons would live on, unseen, with their ports.
#[test]
fn a_demo_that_is_terminated_shows_its_accounts_and_leaves_no_daemon_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_pushpull"))
        .args(["demo", "--for", "1m", "--dir"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(demo.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let mut addresses = Vec::new();
    while !lines.next().expect("it goes on").contains("acked in") {
        let text = std::fs::read_to_string(dir.path().join("alpha/pushpull.toml")).unwrap_or_default();
        addresses = text
            .lines()
            .filter_map(|line| line.strip_prefix("listen = \"")?.strip_suffix('"'))
            .map(str::to_owned)
            .collect();
    }
    assert_eq!(addresses.len(), 2, "the public listener and the admin API's");
    assert!(addresses.iter().all(|address| TcpStream::connect(address).is_ok()), "{addresses:?}");
    let told = Command::new("kill").args(["-TERM", &demo.id().to_string()]).status().expect("kill");
    assert!(told.success());
    assert!(lines.any(|line| line.contains("ok: every SET ended acked")), "no accounts");
    assert!(demo.wait().expect("it ends").success());
    assert!(addresses.iter().all(|address| TcpStream::connect(address).is_err()), "{addresses:?} is still served");
}
