//! Bad configurations, each in a file of `tests/config_corpus` that says in its first lines what must be reported: by
//! `serve --check` for programs and for people, and by `serve` itself, which must start nothing.
//!
//! The lines are `# setup: …` (see [`Case::prepare`]), and for each fault `# problem: LINE FIELD CODE` with LINE `-` for
//! the file as a whole or `$NAME` for a variable, FIELD `-` for none; below it `#   says: PART` of the text, and
//! `#   fix: PART` of the remedy. Nothing else may be reported.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use pushpull::clock::{Clock as _, SystemClock};
use pushpull::set::{Algorithm, KeySet, SigningKey};
use serde_json::Value;

/// How soon a bad configuration must have been refused.
const PROMPT: Duration = Duration::from_secs(1);

#[test]
fn every_bad_file_is_refused_at_once_with_all_its_faults_and_no_other() {
    let site = site();
    let files = corpus();
    assert!(files.len() >= 60, "only {} bad files", files.len());
    let failures: Vec<String> = files.iter().filter_map(|file| Case::read(file).failure(site.path())).collect();
    assert!(failures.is_empty(), "{} of {} files:\n\n{}", failures.len(), files.len(), failures.join("\n\n"));
}

/// Without it every file might be refused for something that is wrong with all of them.
#[test]
fn the_site_that_the_files_are_put_into_is_sound_by_itself() {
    let site = site();
    fs::write(site.path().join("pushpull.toml"), SOUND).unwrap();
    let output = pushpull(site.path(), &["serve", "--check", "-c", "pushpull.toml"], &BTreeMap::new());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_bad_configuration_is_refused_before_an_address_is_bound() {
    let site = site();
    let held = ["server", "admin"].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [partners, admin] = held.each_ref().map(|listener| listener.local_addr().unwrap().to_string());
    let sound = SOUND.replace("127.0.0.1:18443", &partners).replace("127.0.0.1:18480", &admin);
    let exit = |text: &str| {
        fs::write(site.path().join("pushpull.toml"), text).unwrap();
        let output = pushpull(site.path(), &["serve"], &BTreeMap::new());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = exit(&format!("{sound}nonsense = 1\n"));
    assert_eq!(code, Some(3), "{text}");
    assert!(!site.path().join("pushpull.db").exists());
    let (code, text) = exit(&sound);
    assert!(code == Some(1) && text.contains("cannot listen"), "it comes as far as that without the fault: {text}");
}

/// Such a variable can stand in no file of the corpus.
#[test]
fn a_variable_that_is_not_unicode_is_named() {
    let site = site();
    fs::write(site.path().join("pushpull.toml"), SOUND).unwrap();
    let value = std::os::unix::ffi::OsStrExt::from_bytes(b"127.0.0.1:8\xff");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushpull"));
    command.args(["serve", "--check", "-c", "pushpull.toml"]).current_dir(site.path()).stdin(Stdio::null());
    let output = command.env::<_, &std::ffi::OsStr>("PUSHPULL__SERVER__LISTEN", value).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("environment variable PUSHPULL__SERVER__LISTEN: the value is not Unicode"), "{text}");
}

#[test]
fn every_code_occurs_in_the_corpus() {
    let cases: Vec<Case> = corpus().iter().map(|file| Case::read(file)).collect();
    for code in ["not_toml", "unknown_key", "bad_value", "missing_key", "conflict", "bad_file", "permissions"] {
        let code = format!("config_{code}");
        assert!(cases.iter().any(|case| case.faults.iter().any(|fault| fault.code == code)), "{code}");
    }
}

/// What the corpus' files are variations of.
const SOUND: &str = r#"[server]
issuer = "https://signals.acme.example"
listen = "127.0.0.1:18443"
[admin]
listen = "127.0.0.1:18480"
[[peer]]
name = "globex"
issuer = "https://signals.globex.example"
jwks_file = "globex.jwks.json"
endpoint = "wss://signals.globex.example/pushpull"
token_file = "globex.token"
accept_token_file = "from-globex.token"
"#;

/// A bad file, and what must be said of it.
struct Case {
    name: String,
    bytes: Vec<u8>,
    setup: Vec<String>,
    faults: Vec<Fault>,
}

#[derive(Debug, Default)]
struct Fault {
    /// As it stands in the file: a number, `-` or `$NAME`.
    line: String,
    field: String,
    code: String,
    says: Vec<String>,
    fix: String,
}

impl Case {
    fn read(file: &Path) -> Self {
        let bytes = fs::read(file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let mut case = Self { name, setup: Vec::new(), faults: Vec::new(), bytes };
        let text = String::from_utf8_lossy(&case.bytes).into_owned();
        for line in text.trim_start_matches('\u{feff}').lines().map_while(|line| line.strip_prefix('#')) {
            let Some((word, rest)) = line.trim().split_once(": ") else { continue };
            let last = case.faults.last_mut();
            match word {
                "setup" => case.setup.push(rest.to_owned()),
                "problem" => {
                    let (line, rest) = rest.split_once(' ').expect("a line");
                    let (field, code) = rest.rsplit_once(' ').expect("a field and a code");
                    let field = if field == "-" { "" } else { field }.to_owned();
                    case.faults.push(Fault { line: line.into(), field, code: code.into(), ..Fault::default() });
                }
                "says" => last.expect("below a problem").says.push(rest.to_owned()),
                "fix" => last.expect("below a problem").fix = rest.to_owned(),
                _ => {}
            }
        }
        let complete = |fault: &Fault| !fault.says.is_empty() && !fault.fix.is_empty();
        assert!(!case.faults.is_empty() && case.faults.iter().all(complete), "{}: {:#?}", case.name, case.faults);
        case
    }

    /// What is wrong with how the program takes this file.
    fn failure(&self, site: &Path) -> Option<String> {
        let place = tempfile::tempdir().unwrap();
        copy(site, place.path());
        fs::write(place.path().join("pushpull.toml"), &self.bytes).unwrap();
        let environment = self.prepare(place.path());
        let before = listing(place.path());
        let run = |arguments: &[&str]| {
            // A busy machine may take its time once, and not every time.
            let timed = || {
                let clock = SystemClock::new();
                let start = clock.now().mono;
                (pushpull(place.path(), arguments, &environment), clock.now().mono - start)
            };
            let (output, took) = (0..3).map(|_| timed()).find_or_last(|(_, took)| *took < PROMPT);
            let complaint = match (output.status.code(), took < PROMPT) {
                (Some(3), true) => None,
                (code, _) => Some(format!("{arguments:?}: exit {code:?} after {took:?}")),
            };
            (output, complaint)
        };
        let mut wrong = Vec::new();
        let (json, complaint) = run(&["serve", "--check", "--json"]);
        wrong.extend(complaint);
        let (text, complaint) = run(&["serve", "--check"]);
        wrong.extend(complaint);
        let (started, complaint) = run(&["serve"]);
        wrong.extend(complaint);

        let shown = String::from_utf8_lossy(&text.stderr).into_owned();
        if started.stderr != text.stderr {
            wrong.push("`serve` says something else than `serve --check`".to_owned());
        }
        if !text.stdout.is_empty() || !json.stderr.is_empty() {
            wrong.push("the text belongs to stderr, the JSON to stdout".to_owned());
        }
        let answer: Value = serde_json::from_slice(&json.stdout).unwrap_or_default();
        let problems = answer["problems"].as_array().cloned().unwrap_or_default();
        if answer["ok"] != false || problems.len() != self.faults.len() {
            wrong.push(format!("{} faults are expected, {} are reported", self.faults.len(), problems.len()));
        }
        let mut left = problems.clone();
        for fault in &self.faults {
            match left.iter().position(|problem| fault.is(problem)) {
                Some(index) => wrong.extend(missing_in(&shown, &left.remove(index))),
                None => wrong.push(format!("not reported: {fault:?}")),
            }
        }
        if shown.matches("\n   fix ").count() != problems.len() {
            wrong.push("the text has another number of remedies than there are faults".to_owned());
        }
        // Whatever is a secret in the corpus is called so.
        if [&json.stdout, &text.stderr, &started.stderr]
            .iter()
            .any(|out| String::from_utf8_lossy(out).contains("hunter2"))
        {
            wrong.push("a secret is shown".to_owned());
        }
        if listing(place.path()) != before {
            wrong.push("something was made or changed".to_owned());
        }
        (!wrong.is_empty()).then(|| format!("{}:\n  {}\n{shown}", self.name, wrong.join("\n  ")))
    }

    /// Changes the site as the file's `setup` lines say; what is left is the environment. In texts `\n`, `\r` and
    /// `\0` stand for what they stand for in Rust.
    fn prepare(&self, place: &Path) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        let unescaped = |text: &str| text.replace("\\n", "\n").replace("\\r", "\r").replace("\\0", "\0");
        for line in &self.setup {
            let (what, rest) = line.split_once(' ').unwrap();
            let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
            let path = place.join(first);
            match what {
                "env" => {
                    let (name, value) = rest.split_once('=').unwrap();
                    environment.insert(name.to_owned(), unescaped(value));
                }
                "chmod" => set_mode(&place.join(second), u32::from_str_radix(first, 8).unwrap()),
                "write" => private(&path, &unescaped(second)),
                "copy" => drop(fs::copy(path, place.join(second)).unwrap()),
                "mkdir" => fs::create_dir(path).unwrap(),
                "remove" => fs::remove_file(path).unwrap(),
                "key" => private(&path, &key(second)),
                other => panic!("{}: setup {other}", self.name),
            }
        }
        environment
    }
}

impl Fault {
    /// Whether this problem is the one that is meant.
    fn is(&self, problem: &Value) -> bool {
        let line = match (problem["line"].as_u64(), problem["variable"].as_str()) {
            (Some(line), _) => line.to_string(),
            (None, Some(name)) => format!("${name}"),
            (None, None) => "-".to_owned(),
        };
        let column = problem["column"].as_u64().is_some_and(|column| column > 0);
        let said = ["what", "expected", "found"].map(|member| problem[member].as_str().unwrap_or_default()).join(" | ");
        line == self.line
            && column == problem["line"].is_u64()
            && problem["field"] == *self.field
            && problem["code"] == *self.code
            && self.says.iter().all(|part| said.contains(part.as_str()))
            && problem["fix"].as_str().is_some_and(|fix| fix.contains(self.fix.as_str()))
    }
}

/// What the text for people lacks of a problem.
fn missing_in(shown: &str, problem: &Value) -> Option<String> {
    let text = |member: &str| problem[member].as_str().unwrap_or_default();
    let place = match (problem["line"].as_u64(), problem["variable"].as_str()) {
        (Some(line), _) => format!("pushpull.toml:{line}:{}: ", problem["column"]),
        (None, Some(name)) => format!("environment variable {name}: "),
        (None, None) => "pushpull.toml: ".to_owned(),
    };
    let field = if text("field").is_empty() { String::new() } else { format!("{}: ", text("field")) };
    let head = format!("\n{place}{field}{} [{}]\n", text("what"), text("code"));
    let lines = [head, format!("\n   fix       {}", text("fix"))];
    lines.into_iter().find(|line| !shown.contains(line.as_str())).map(|line| format!("the text lacks {line:?}"))
}

trait FindOrLast: Iterator {
    /// The first item of this kind, or else the last one.
    fn find_or_last(self, is: impl Fn(&Self::Item) -> bool) -> Self::Item;
}

impl<I: Iterator> FindOrLast for I {
    fn find_or_last(mut self, is: impl Fn(&Self::Item) -> bool) -> Self::Item {
        let mut last = self.next().expect("at least one");
        while !is(&last) {
            match self.next() {
                Some(next) => last = next,
                None => break,
            }
        }
        last
    }
}

fn corpus() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config_corpus");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// What a configuration may name: keys, certificate, tokens, a partner's keys.
fn site() -> tempfile::TempDir {
    let site = tempfile::tempdir().unwrap();
    let made = pushpull(site.path(), &["init", "--issuer", "https://signals.acme.example"], &BTreeMap::new());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::remove_file(site.path().join("pushpull.toml")).unwrap();
    for partner in ["globex", "initech"] {
        private(&site.path().join(format!("{partner}.token")), &format!("presented-to-{partner}\n"));
        private(&site.path().join(format!("from-{partner}.token")), &format!("presented-by-{partner}\n"));
    }
    let (theirs, _) = SigningKey::generate(Algorithm::Es256, "globex-1").unwrap();
    let jwks = KeySet::of([theirs.public_jwk()]).to_json().to_string();
    private(&site.path().join("globex.jwks.json"), &jwks);
    site
}

/// A key of a kind that signs no SETs, or is none.
fn key(kind: &str) -> String {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    match kind {
        "p384" => pair.serialize_pem(),
        "public" => pair.public_key_pem(),
        "tls" => rcgen::KeyPair::generate().unwrap().serialize_pem(),
        "cut" => SigningKey::generate(Algorithm::Es256, "x").unwrap().1.chars().take(60).collect(),
        other => panic!("a key of the kind {other}"),
    }
}

fn pushpull(place: &Path, arguments: &[&str], environment: &BTreeMap<String, String>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushpull"));
    command.args(arguments).current_dir(place).envs(environment).env_remove("PUSHPULL_CONFIG");
    command.stdin(Stdio::null()).output().unwrap()
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).unwrap();
            set_mode(&target, 0o700);
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every file with its permissions and content.
fn listing(place: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(place).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let mode = entry.metadata().unwrap().permissions().mode();
        if path.is_dir() {
            all.extend(listing(&path));
        }
        let content = if path.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        all.insert(path, (mode, content));
    }
    all
}

fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    set_mode(path, 0o600);
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}
