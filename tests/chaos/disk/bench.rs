//! A daemon that is put through one fault after another, each time from the same files, and its partner that lives on.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::strace::files;
use crate::Link;
use crate::admin::NoAnswer;
use crate::organisation::Organisation;
use crate::pairing::{Road, pair};
use crate::world::Violation;

/// Two organisations that speak over one WebSocket, which alpha dials. Alpha is the one whose disk fails.
pub(crate) struct Bench {
    pub(crate) alpha: Organisation,
    pub(crate) beta: Organisation,
    /// Where alpha's database is, and the files that every case begins with.
    pub(crate) database: PathBuf,
    template: PathBuf,
    /// How far the inboxes have been looked at.
    alpha_seen: Cell<u64>,
    beta_seen: Cell<u64>,
    /// What alpha has of acked SETs at the beginning of a case.
    alpha_acked: Cell<u64>,
}

/// SETs each way before the template is taken.
const BEFORE: usize = 12;
/// How long a daemon may take to be ready, on a machine that has better things to do.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(10);
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// Keeps every row of alpha's inbox.
const AUDITOR: &str = "auditor";
const APPLICATION: &str = "application";

impl Bench {
    /// Makes the two, with alpha's database in this folder, and takes the template: what a killed alpha has left, its log
    /// full of what is not in the database yet.
    pub(crate) async fn new(place: &Path, folder: Option<&Path>) -> Result<Self, Violation> {
        fs::create_dir_all(place).expect("a folder can be made");
        let [alpha, beta] = pair(place, &Road::new(Link::Websocket)).await;
        let database = folder.unwrap_or(alpha.directory()).join("pushpull.db");
        if folder.is_some() {
            let config = alpha.directory().join("pushpull.toml");
            let mut text = fs::read_to_string(&config).expect("init made the configuration");
            text.push_str(&format!("\n[store]\nurl = \"sqlite:{}\"\n", database.display()));
            fs::write(&config, text).expect("the configuration is written");
        }
        let bench = Self {
            template: place.join("template"),
            database,
            alpha,
            beta,
            alpha_seen: Cell::default(),
            beta_seen: Cell::default(),
            alpha_acked: Cell::default(),
        };
        bench.beta.start_and_wait().await?;
        bench.alpha.start_and_wait().await?;
        bench.alpha.client().document(&format!("/api/v1/inbox?consumer={AUDITOR}&max=1")).await;
        let case = Case::new(&bench, "template");
        for number in 0..BEFORE {
            case.submit_both(number).await?;
        }
        case.settle().await?;
        bench.alpha.kill().await;
        fs::create_dir_all(&bench.template).expect("a folder can be made");
        copy(&bench.database, &bench.template);
        bench.alpha_seen.set(case.alpha_end.get());
        bench.alpha_acked.set(case.alpha_acked.get());
        Ok(bench)
    }

    /// Where the template of alpha's database is.
    pub(crate) fn template(&self) -> PathBuf {
        self.template.join("pushpull.db")
    }

    /// Puts alpha's files back to what they were in the template.
    pub(crate) fn reset(&self) {
        self.remove();
        copy(&self.template(), self.database.parent().expect("it is in a folder"));
    }

    /// Takes alpha's database away.
    pub(crate) fn remove(&self) {
        for suffix in ["-shm", "", "-wal", "-journal"] {
            let _ = fs::remove_file(format!("{}{suffix}", self.database.display()));
        }
    }
}

/// Copies a database's files into a folder.
pub(crate) fn copy(database: &Path, folder: &Path) {
    for file in files(database) {
        if file.exists() {
            fs::copy(&file, folder.join(file.file_name().expect("it has a name"))).expect("a file can be copied");
        }
    }
}

/// How the start of a daemon went.
#[derive(Debug)]
pub(crate) enum Start {
    Ready,
    /// It is up, and says that its disk is full.
    Full,
    Ended(std::process::ExitStatus),
}

/// Waits until it is ready, or has ended.
pub(crate) async fn ready_or_ended(side: &Organisation, begun: Instant) -> Result<Start, Violation> {
    started(side, begun, false).await
}

/// Waits until it is ready, or has ended, or says that its disk is full.
pub(crate) async fn up_or_ended(side: &Organisation, begun: Instant) -> Result<Start, Violation> {
    started(side, begun, true).await
}

async fn started(side: &Organisation, begun: Instant, full_will_do: bool) -> Result<Start, Violation> {
    let mut client = side.client();
    loop {
        match client.get("/readyz").await {
            Ok(answer) if answer.status == 200 => return Ok(Start::Ready),
            Ok(answer) if full_will_do && answer.text().contains("the disk is full") => return Ok(Start::Full),
            Ok(_) | Err(NoAnswer) => {}
        }
        if let Some(status) = side.ended().await {
            return Ok(Start::Ended(status));
        }
        if begun.elapsed() > READY_WITHIN {
            let what =
                format!("{} is neither ready nor gone after {READY_WITHIN:?}:\n{}", side.name, side.last_words());
            return Err(Violation::new(what));
        }
        sleep(Duration::from_millis(3)).await;
    }
}

/// What became of one submission.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Submitted {
    Accepted,
    /// 503: it may be repeated.
    NotNow,
    NoAnswer,
}

/// The traffic of one case, and its accounts.
pub(crate) struct Case<'a> {
    bench: &'a Bench,
    name: String,
    /// Numbers of the SETs that were submitted to each side, and whether they are known to be accepted.
    submitted: [RefCell<BTreeMap<usize, bool>>; 2],
    /// What alpha's application was handed, and how far it has confirmed.
    handed: RefCell<BTreeSet<u64>>,
    confirmed: Cell<u64>,
    /// What the bench and a new alpha begin with.
    alpha_start: u64,
    acked_before: u64,
    /// Nobody else's position keeps what the application confirms, so it confirms nothing.
    is_new: bool,
    alpha_end: Cell<u64>,
    alpha_acked: Cell<u64>,
}

impl<'a> Case<'a> {
    pub(crate) fn new(bench: &'a Bench, name: impl Into<String>) -> Self {
        Self {
            bench,
            name: name.into(),
            submitted: Default::default(),
            handed: RefCell::default(),
            confirmed: Cell::default(),
            alpha_start: bench.alpha_seen.get(),
            acked_before: bench.alpha_acked.get(),
            is_new: false,
            alpha_end: Cell::new(bench.alpha_seen.get()),
            alpha_acked: Cell::new(bench.alpha_acked.get()),
        }
    }

    /// The same of an alpha that begins without a database.
    pub(crate) fn from_nothing(bench: &'a Bench, name: impl Into<String>) -> Self {
        Self { alpha_start: 0, acked_before: 0, is_new: true, ..Self::new(bench, name) }
    }

    fn jti(&self, side: usize, number: usize) -> String {
        format!("{}-{}-{number}", self.name, ["alpha", "beta"][side])
    }

    fn side(&self, side: usize) -> &'a Organisation {
        [&self.bench.alpha, &self.bench.beta][side]
    }

    /// Submits a SET of this number to a side.
    pub(crate) async fn submit(&self, side: usize, number: usize) -> Result<Submitted, Violation> {
        let (jti, to) = (self.jti(side, number), ["beta", "alpha"][side]);
        let event = json!({
            "peer": to, "jti": jti, "txn": jti, "type": "caep:session-revoked",
            "sub_id": { "format": "opaque", "id": jti }, "event": { "event_timestamp": 1_615_304_991 },
        });
        self.submitted[side].borrow_mut().entry(number).or_insert(false);
        match self.side(side).client().post("/api/v1/events", "application/json", event.to_string()).await {
            Ok(answer) if answer.status == 202 => {
                self.submitted[side].borrow_mut().insert(number, true);
                Ok(Submitted::Accepted)
            }
            Ok(answer) if answer.status == 503 => Ok(Submitted::NotNow),
            Ok(answer) => {
                Err(Violation::new(format!("a sound submission was refused: {}", answer.text())).about([jti]))
            }
            Err(_) => Ok(Submitted::NoAnswer),
        }
    }

    /// One each way; how it went at alpha.
    pub(crate) async fn submit_both(&self, number: usize) -> Result<Submitted, Violation> {
        let (at_alpha, at_beta) = tokio::try_join!(self.submit(0, number), self.submit(1, number))?;
        match at_beta {
            Submitted::Accepted => Ok(at_alpha),
            other => Err(Violation::new(format!("beta, whose disk is sound, answered {other:?}"))),
        }
    }

    /// Alpha's application reads what there is, and confirms most of it.
    pub(crate) async fn consume(&self) -> Result<(), Violation> {
        let mut client = self.bench.alpha.client();
        let path = format!("/api/v1/inbox?consumer={APPLICATION}&max=1000");
        let Ok(answer) = client.get(&path).await else { return Ok(()) };
        let document = answer.json();
        let rows = document["sets"].as_array().map(Vec::as_slice).unwrap_or_default();
        for row in rows {
            let seq = row["seq"].as_u64().unwrap_or(0);
            if seq <= self.confirmed.get() {
                return Err(Violation::new(format!("row {seq} was confirmed, and is handed out again: {row}")));
            }
            if !self.handed.borrow_mut().insert(seq) && row["redelivered"] != true {
                return Err(Violation::new(format!(
                    "row {seq} is handed out again, and not called redelivered: {row}"
                )));
            }
        }
        if self.is_new {
            return Ok(());
        }
        let Some(up_to) = rows.iter().rev().nth(1).and_then(|row| row["seq"].as_u64()) else { return Ok(()) };
        let body = json!({ "consumer": APPLICATION, "up_to": up_to }).to_string();
        let confirmed = client.post("/api/v1/inbox/confirm", "application/json", body).await;
        if confirmed.is_ok_and(|answer| answer.status == 200) {
            self.confirmed.set(up_to);
        }
        Ok(())
    }

    /// SETs that were submitted to a side, and those of them that it is known to have accepted.
    pub(crate) fn counts(&self, side: usize) -> (usize, usize) {
        let submitted = self.submitted[side].borrow();
        (submitted.len(), submitted.values().filter(|accepted| **accepted).count())
    }

    /// Repeats what is not known to be accepted, waits until nothing is queued on either side, and looks at both inboxes:
    /// each SET of the case stands there once, and nothing else does.
    pub(crate) async fn settle(&self) -> Result<(), Violation> {
        let deadline = Instant::now() + SETTLED_WITHIN;
        for side in [0, 1] {
            let again: Vec<usize> = {
                let submitted = self.submitted[side].borrow();
                submitted.iter().filter(|(_, accepted)| !**accepted).map(|(number, _)| *number).collect()
            };
            for number in again {
                while self.submit(side, number).await? != Submitted::Accepted {
                    self.in_time(deadline, "a SET is not accepted").await?;
                }
            }
        }
        let [out, back] = [0, 1].map(|side| self.submitted[side].borrow().len() as u64);
        let (mut alpha, mut beta) = (self.bench.alpha.client(), self.bench.beta.client());
        loop {
            let (of_alpha, of_beta) =
                (alpha.document("/api/v1/peers/beta").await, beta.document("/api/v1/peers/alpha").await);
            if of_alpha["queued"] == 0 && of_beta["queued"] == 0 {
                let expected = self.acked_before + out;
                if of_alpha["acked"] != expected || of_alpha["dead"] != 0 || of_alpha["refused"] != 0 {
                    return Err(Violation::new(format!("alpha should have {expected} acked, and says {of_alpha}")));
                }
                break;
            }
            self.in_time(deadline, &format!("not settled: alpha says {of_alpha}, beta {of_beta}")).await?;
        }
        self.alpha_acked.set(self.acked_before + out);
        let alpha_end = self.audit(0, self.alpha_start, back).await?;
        self.alpha_end.set(alpha_end);
        let beta_end = self.audit(1, self.bench.beta_seen.get(), out).await?;
        self.bench.beta_seen.set(beta_end);
        Ok(())
    }

    async fn in_time(&self, deadline: Instant, what: &str) -> Result<(), Violation> {
        if Instant::now() > deadline {
            return Err(Violation::new(format!("after {SETTLED_WITHIN:?}: {what}\n{}", self.bench.alpha.last_words())));
        }
        self.bench.alpha.alive().await?;
        sleep(Duration::from_millis(5)).await;
        Ok(())
    }

    /// Reads a side's inbox behind `after`; where it ends.
    async fn audit(&self, side: usize, after: u64, expected: u64) -> Result<u64, Violation> {
        let name = self.side(side).name;
        let mut missing: BTreeSet<String> =
            self.submitted[1 - side].borrow().keys().map(|number| self.jti(1 - side, *number)).collect();
        assert_eq!(missing.len() as u64, expected);
        let mut last = after;
        loop {
            let page = self.side(side).client().document(&format!("/api/v1/inbox?max=1000&after={last}")).await;
            let rows = page["sets"].as_array().map(Vec::as_slice).unwrap_or_default();
            for row in rows {
                let jti = row["jti"].as_str().unwrap_or_default();
                let is_sound = row["claims"]["jti"] == jti && row["claims"]["sub_id"]["id"] == jti;
                if !is_sound || !missing.remove(jti) {
                    return Err(Violation::new(format!("{name}: a row that is a copy, or wrong: {row}")).about([jti]));
                }
                last = row["seq"].as_u64().unwrap_or(last);
            }
            if rows.is_empty() {
                break;
            }
        }
        let some: Vec<&String> = missing.iter().take(5).collect();
        match missing.len() {
            0 => Ok(last),
            lost => {
                Err(Violation::new(format!("{name}: {lost} of {expected} SETs are lost, such as {some:?}")).about(some))
            }
        }
    }

    /// What both sides know of the SETs of a violation.
    pub(crate) async fn evidence(&self, violation: &Violation) -> String {
        let mut text = self.bench.alpha.last_words();
        for jti in &violation.jtis {
            for side in [&self.bench.alpha, &self.bench.beta] {
                let known = match side.client().get(&format!("/api/v1/events/{jti}")).await {
                    Ok(answer) => answer.text(),
                    Err(_) => Value::Null.to_string(),
                };
                text.push_str(&format!("\n{} about {jti}: {known}", side.name));
            }
        }
        text
    }
}
