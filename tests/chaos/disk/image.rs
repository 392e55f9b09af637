//! Databases worth damaging: with SETs queued, received, dead and remembered, in the file and in the log, and from when on
//! each of them was safe where.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::bench::copy;
use crate::Link;
use crate::organisation::Organisation;
use crate::pairing::{Road, free_address, pair};
use crate::partner::{self, Partner};
use crate::plan::Random;
use crate::world::Violation;

/// Alpha, whose database is damaged; beta, who is there while the images are made; gamma, who never answers; and delta,
/// who comes when the damage is done and keeps what it gets.
pub(crate) struct Victim {
    pub(crate) alpha: Organisation,
    pub(crate) delta: Partner,
    pub(crate) database: PathBuf,
    pub(crate) images: Vec<Image>,
    /// Every jti that alpha has sent or received.
    pub(crate) jtis: BTreeSet<String>,
}

/// A database as it was left.
pub(crate) struct Image {
    pub(crate) name: &'static str,
    pub(crate) folder: PathBuf,
    /// Where the log stood when a SET was known to be safe in it; those that are not here are in the database.
    pub(crate) in_log: BTreeMap<String, u64>,
    /// The same of the partner's acks.
    pub(crate) acks_in_log: BTreeMap<String, u64>,
}

const QUIET_WITHIN: Duration = Duration::from_secs(60);

impl Victim {
    pub(crate) async fn make(place: &Path, random: &mut Random) -> Result<Self, Violation> {
        fs::create_dir_all(place).expect("a folder can be made");
        let [alpha, beta] = pair(place, &Road::new(Link::Websocket)).await;
        let (gamma, delta) = (free_address(), free_address());
        partner::accept_only_caep(beta.directory(), "alpha");
        partner::add(alpha.directory(), "gamma", &gamma);
        partner::add(alpha.directory(), "delta", &delta);
        let impatient = "\n[delivery]\nattempts_max = 3\nretry_first = \"150ms\"\nretry_max = \"300ms\"\ngive_up_after = \"500ms\"\n";
        partner::append(alpha.directory(), impatient);
        let mute = Partner::mute(&gamma).await;
        let maker = Maker { database: alpha.directory().join("pushpull.db"), alpha, beta, state: RefCell::default() };
        maker.beta.start_and_wait().await?;
        maker.alpha.start_and_wait().await?;
        let many = |random: &mut Random, least: u64| usize::try_from(least + random.below(least)).expect("few");
        maker.send("fine", "beta", "caep:session-revoked", many(random, 6)).await?;
        maker.send("refused", "beta", "risc:account-disabled", many(random, 3)).await?;
        maker.send("mute", "gamma", "caep:session-revoked", many(random, 3)).await?;
        maker.send("queued", "delta", "caep:session-revoked", many(random, 12)).await?;
        maker.receive("first", many(random, 10)).await?;
        maker.until_quiet().await?;
        maker.confirm(4).await;
        maker.note_all();
        maker.alpha.stop().await;
        let mut images = vec![maker.image(place, "stopped")];
        maker.alpha.start_and_wait().await?;
        maker.send("later", "beta", "caep:session-revoked", many(random, 4)).await?;
        maker.receive("second", many(random, 6)).await?;
        maker.until_quiet().await?;
        maker.note_all();
        maker.send("last", "delta", "caep:session-revoked", many(random, 8)).await?;
        maker.alpha.kill().await;
        images.push(maker.image(place, "killed"));
        maker.beta.kill().await;
        drop(mute);
        let Maker { alpha, database, state, .. } = maker;
        let jtis = state.into_inner().jtis;
        Ok(Self { alpha, delta: Partner::collector(&delta).await, database, images, jtis })
    }

    /// Puts an image in the place of alpha's database.
    pub(crate) fn restore(&self, image: &Image) {
        for suffix in ["-shm", "", "-wal", "-journal"] {
            let _ = fs::remove_file(format!("{}{suffix}", self.database.display()));
        }
        copy(&image.folder.join("pushpull.db"), self.database.parent().expect("it is in a folder"));
    }
}

struct Maker {
    alpha: Organisation,
    beta: Organisation,
    database: PathBuf,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    jtis: BTreeSet<String>,
    /// SETs since the last image, and where the log stood.
    since: BTreeMap<String, LogEnd>,
    acked: BTreeMap<String, LogEnd>,
    unnoted: Vec<String>,
    unacked: Vec<String>,
}

impl Maker {
    async fn send(&self, name: &str, peer: &str, kind: &str, count: usize) -> Result<(), Violation> {
        for number in 0..count {
            let jti = format!("{name}-{number}");
            submit(&self.alpha, peer, kind, &jti).await?;
            let at = log_end(&self.log());
            let mut state = self.state.borrow_mut();
            state.since.insert(jti.clone(), at.clone());
            state.unacked.push(jti.clone());
            state.jtis.insert(jti);
        }
        Ok(())
    }

    async fn receive(&self, name: &str, count: usize) -> Result<(), Violation> {
        for number in 0..count {
            let jti = format!("{name}-{number}");
            submit(&self.beta, "alpha", "caep:session-revoked", &jti).await?;
            let mut state = self.state.borrow_mut();
            state.unnoted.push(jti.clone());
            state.jtis.insert(jti);
        }
        Ok(())
    }

    /// Beta knows that all of its SETs are acked, and alpha that those to beta are.
    fn note_all(&self) {
        let at = log_end(&self.log());
        let mut state = self.state.borrow_mut();
        for jti in std::mem::take(&mut state.unnoted) {
            state.since.insert(jti, at.clone());
        }
        for jti in std::mem::take(&mut state.unacked) {
            state.acked.insert(jti, at.clone());
        }
    }

    /// Waits until nothing is queued but what delta is to get.
    async fn until_quiet(&self) -> Result<(), Violation> {
        let deadline = Instant::now() + QUIET_WITHIN;
        loop {
            let peers = self.alpha.client().document("/api/v1/peers").await;
            let all = peers["peers"].as_array().cloned().unwrap_or_default();
            let others = all.iter().filter(|peer| peer["name"] != "delta");
            let beta = self.beta.client().document("/api/v1/peers/alpha").await;
            if others.clone().count() == 2 && others.clone().all(|peer| peer["queued"] == 0) && beta["queued"] == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Violation::new(format!("not quiet after {QUIET_WITHIN:?}: {peers}, {beta}")));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn confirm(&self, up_to: u64) {
        let mut client = self.alpha.client();
        client.document("/api/v1/inbox?consumer=auditor&max=1").await;
        client.document("/api/v1/inbox?consumer=application&max=100").await;
        let body = json!({ "consumer": "application", "up_to": up_to }).to_string();
        let confirmed = client.post("/api/v1/inbox/confirm", "application/json", body).await;
        assert!(confirmed.is_ok_and(|answer| answer.status == 200), "it can be confirmed");
    }

    fn image(&self, place: &Path, name: &'static str) -> Image {
        let folder = place.join(name);
        fs::create_dir_all(&folder).expect("a folder can be made");
        copy(&self.database, &folder);
        let (since, acked) = {
            let mut state = self.state.borrow_mut();
            (std::mem::take(&mut state.since), std::mem::take(&mut state.acked))
        };
        // What stood in an earlier log is in the database by now.
        let salts = log_end(&folder.join("pushpull.db-wal")).salts;
        let in_log = |ends: BTreeMap<String, LogEnd>| {
            let ends = ends.into_iter().filter(|(_, end)| end.salts == salts && !salts.is_empty());
            ends.map(|(jti, end)| (jti, end.at)).collect()
        };
        Image { name, folder, in_log: in_log(since), acks_in_log: in_log(acked) }
    }

    fn log(&self) -> PathBuf {
        format!("{}-wal", self.database.display()).into()
    }
}

async fn submit(side: &Organisation, peer: &str, kind: &str, jti: &str) -> Result<(), Violation> {
    let event = json!({
        "peer": peer, "jti": jti, "txn": jti, "type": kind,
        "sub_id": { "format": "opaque", "id": jti }, "event": {},
    });
    match side.client().post("/api/v1/events", "application/json", event.to_string()).await {
        Ok(answer) if answer.status == 202 => Ok(()),
        Ok(answer) => Err(Violation::new(format!("a sound submission was refused: {}", answer.text()))),
        Err(_) => Err(Violation::new("no answer to a submission")),
    }
}

const HEADER: usize = 32;

/// The ends of the transactions in a log: behind each frame that ends one, as far as frames bear the log's salts.
pub(crate) fn commits(log: &[u8]) -> Vec<u64> {
    let Some(salts) = log.get(16..24) else { return Vec::new() };
    // The log says itself how large a page is: older files have larger ones.
    let page = log.get(8..12).and_then(|size| size.try_into().ok()).map_or(0, u32::from_be_bytes) as usize;
    let frame_size = 24 + page.clamp(512, 65_536);
    let frames = log[HEADER.min(log.len())..].chunks_exact(frame_size).take_while(|frame| frame[8..16] == *salts);
    let ends = frames.enumerate().filter(|(_, frame)| frame[4..8] != [0; 4]);
    ends.map(|(number, _)| (HEADER + (number + 1) * frame_size) as u64).collect()
}

/// Where a log ends, and which one it is.
#[derive(Clone, Default)]
struct LogEnd {
    salts: Vec<u8>,
    at: u64,
}

fn log_end(path: &Path) -> LogEnd {
    let log = fs::read(path).unwrap_or_default();
    LogEnd { salts: log.get(16..24).unwrap_or_default().to_vec(), at: commits(&log).last().copied().unwrap_or(0) }
}
