//! Secrets stay with their owner: what the program makes is private whatever the umask, and what others can read it
//! refuses, with the command that mends it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Runs the program under a umask, which a process passes on to its children.
fn under(umask: &str, place: &Path, arguments: &[&str]) -> Output {
    command(umask, place, arguments).output().unwrap()
}

fn command(umask: &str, place: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_pushpull")]);
    command.args(arguments).current_dir(place).env_remove("PUSHPULL_CONFIG").stdin(Stdio::null());
    command
}

#[track_caller]
fn ended(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A site with a partner, made under this umask.
fn site(umask: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let init = ["init", "--issuer", "https://acme.example", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:9"];
    ended(&under(umask, dir.path(), &init), 0);
    let card = "[[peer]]\nname = \"globex\"\nissuer = \"https://globex.example\"\n\
        jwks_uri = \"https://globex.example/jwks.json\"\nendpoint = \"wss://globex.example/pushpull\"\n";
    fs::write(dir.path().join("card.toml"), card).unwrap();
    dir
}

#[test]
fn what_is_made_is_private_whatever_the_umask() {
    for umask in ["000", "022", "077", "177"] {
        let dir = site(umask);
        let file = |name: &str| dir.path().join(name);
        ended(&under(umask, dir.path(), &["key", "new"]), 0);
        let given = file("handed-over");
        fs::write(&given, "a-token-of-theirs\n").unwrap();
        set_mode(&given, 0o600);
        ended(&under(umask, dir.path(), &["peer", "add", "--card", "card.toml", "--token", "handed-over"]), 0);
        assert_eq!(mode(&file("keys")), 0o700, "umask {umask}");
        for secret in
            ["keys/acme-1.pem", "keys/acme-2.pem", "tls.key", "admin.token", "globex.token", "from-globex.token"]
        {
            assert_eq!(mode(&file(secret)), 0o600, "{secret}, umask {umask}");
        }
        assert_eq!(mode(&file("pushpull.toml")) & 0o022, 0, "umask {umask}");
        ended(&under(umask, dir.path(), &["serve", "--check"]), 0);
    }
}

#[test]
fn a_token_that_was_copied_stays_private() {
    let dir = site("022");
    ended(&under("022", dir.path(), &["peer", "add", "--card", "card.toml"]), 0);
    let copy = ["-c", "umask 022; cp from-globex.token copy.token"];
    assert!(Command::new("sh").args(copy).current_dir(dir.path()).status().unwrap().success());
    assert_eq!(mode(&dir.path().join("copy.token")), 0o600);
}

#[test]
fn the_database_is_private_whatever_the_umask() {
    for umask in ["000", "077"] {
        let dir = site(umask);
        let file = dir.path().join("pushpull.toml");
        let text = fs::read_to_string(&file).unwrap().replace("127.0.0.1:9\"", "127.0.0.1:0\"");
        fs::write(&file, text).unwrap();
        let mut daemon = command(umask, dir.path(), &["serve"]).stderr(Stdio::null()).spawn().unwrap();
        let names = ["pushpull.db", "pushpull.db-wal", "pushpull.db-shm", "pushpull.db.lock"];
        for _ in 0..1_500 {
            if names.iter().all(|name| dir.path().join(name).exists()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let modes =
            names.map(|name| (name, fs::metadata(dir.path().join(name)).map(|it| it.permissions().mode() & 0o7777)));
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        for (name, mode) in modes {
            assert_eq!(mode.unwrap_or_else(|error| panic!("{name}: {error}")), 0o600, "{name}, umask {umask}");
        }
        ended(&under(umask, dir.path(), &["serve", "--check"]), 0);
    }
}

#[test]
fn a_daemon_does_not_start_on_a_database_that_others_can_read() {
    let dir = site("022");
    let database = dir.path().join("pushpull.db");
    fs::write(&database, "").unwrap();
    set_mode(&database, 0o640);
    let text = ended(&under("022", dir.path(), &["serve"]), 3);
    assert!(text.contains("config_permissions") && text.contains("chmod 600 pushpull.db"), "{text}");
    assert_eq!(fs::metadata(&database).unwrap().len(), 0, "nothing was made of it");
}

#[test]
fn commands_that_read_a_secret_refuse_one_that_others_can_read() {
    let dir = site("022");
    fs::write(dir.path().join("claims.json"), "{}").unwrap();
    let cases: [(&str, &[&str]); 5] = [
        ("keys/acme-1.pem", &["key", "ls"]),
        ("keys/acme-1.pem", &["set", "sign", "-f", "claims.json"]),
        ("keys/acme-1.pem", &["set", "sign", "--key", "keys/acme-1.pem", "-f", "claims.json"]),
        ("admin.token", &["status"]),
        ("admin.token", &["peer", "add", "--card", "card.toml", "--token", "admin.token"]),
    ];
    for (secret, arguments) in cases {
        let path = dir.path().join(secret);
        set_mode(&path, 0o644);
        let text = ended(&under("022", dir.path(), arguments), 3);
        assert!(
            text.contains(&format!("chmod 600 {secret}")) || text.contains(&format!("chmod 600 ./{secret}")),
            "{text}"
        );
        assert!(text.contains("mode 0644"), "{arguments:?}: {text}");
        assert!(!text.contains(fs::read_to_string(&path).unwrap().trim()), "{arguments:?} shows the secret");
        set_mode(&path, 0o600);
    }
    ended(&under("022", dir.path(), &["key", "ls"]), 0);
}

/// Such as `root:pushpull 0640`, which its reader could not take the group's bit from, and needs it.
#[test]
fn a_file_of_another_owner_may_be_read_through_its_group() {
    let dir = site("022");
    let token = dir.path().join("admin.token");
    // Giving a file away takes root, as whom containers and CI often run; elsewhere there is nothing to try.
    if std::os::unix::fs::chown(&token, Some(12_345), None).is_err() {
        return;
    }
    set_mode(&token, 0o640);
    ended(&under("022", dir.path(), &["serve", "--check"]), 0);
    set_mode(&token, 0o644);
    assert!(ended(&under("022", dir.path(), &["serve", "--check"]), 3).contains("other users can get at"));
}

#[test]
fn a_pipe_or_a_device_in_the_place_of_a_file_is_refused_and_waits_for_nobody() {
    for name in ["pushpull.toml", "admin.token", "tls.key", "tls.crt", "keys/acme-1.pem", "pushpull.db", "jwks.json"] {
        let dir = site("077");
        let config = dir.path().join("pushpull.toml");
        let peer = "[[peer]]\nname = \"globex\"\nissuer = \"https://globex.example\"\njwks_file = \"jwks.json\"\n\
            transport = \"none\"\naccept_token_file = \"from-globex.token\"\n";
        fs::write(&config, fs::read_to_string(&config).unwrap() + peer).unwrap();
        let file = dir.path().join(name);
        let _ = fs::remove_file(&file);
        let made = match name {
            "pushpull.toml" | "tls.crt" => Command::new("ln").args(["-s", "/dev/zero"]).arg(&file).status(),
            _ => Command::new("mkfifo").args(["-m", "600"]).arg(&file).status(),
        };
        assert!(made.unwrap().success());
        for arguments in [&["serve", "--check"][..], &["serve"]] {
            let mut child = command("077", dir.path(), arguments).stderr(Stdio::piped()).spawn().unwrap();
            for _ in 0..1000 {
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let said = ended(&child.wait_with_output().unwrap(), 3);
            assert!(said.contains(name.trim_start_matches("keys/").trim_end_matches(".db")), "{name}: {said}");
        }
    }
}
