//! Flipped bytes and cut files: the daemon refuses them, or says what is damaged. It never sends, hands out or forgets
//! anything in silence that was safe in bytes that are still there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::sync::Mutex;

use futures_util::future::try_join_all;

use super::image::{Image, Victim, commits};
use super::observe::{Seen, observe};
use super::sizes;
use crate::plan::{Random, fresh_seed, number};
use crate::world::{Place, Violation};

/// How a damaged database was dealt with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Dealt {
    /// It did not start, and said why.
    Refused,
    /// It started, met the damage and ended with 70.
    Stopped,
    /// It started, and told of what is damaged.
    Told,
    /// Nothing was missing: the bytes meant nothing.
    Harmless,
    /// Missing is what stood in a cut part of the log, or in its last transaction.
    Tail,
}

/// What is done to which file.
#[derive(Clone, Copy, Debug)]
struct Damage {
    file: &'static str,
    how: How,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Flip { at: u64, by: u8 },
    Cut { to: u64 },
}

#[derive(Default)]
struct Tally {
    cases: u64,
    flips: usize,
    cuts: usize,
    dealt: [usize; 5],
}

const PAGE: u64 = 8_192;
const STORAGE_FAILED: i32 = 70;
const CONFIG_INVALID: i32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_at_rest_is_refused_or_told_and_never_taken_for_good_or_for_nothing() {
    let seed = number("PUSHPULL_CHAOS_SEED").unwrap_or_else(fresh_seed);
    let count = sizes::damages();
    println!("chaos damage: {count} flips and cuts, PUSHPULL_CHAOS_SEED={seed}");
    let only = number("PUSHPULL_CHAOS_CASE");
    let place = Place::new();
    let (next, tally) = (Mutex::new(0..count), Mutex::new(Tally::default()));
    let lanes = (0..sizes::lanes()).map(|lane| {
        let (place, next, tally) = (place.path().join(format!("lane-{lane}")), &next, &tally);
        async move {
            let victim = Victim::make(&place, &mut Random::new(seed, "images")).await?;
            let mut sound = Vec::new();
            for image in &victim.images {
                victim.restore(image);
                let seen = observe(&victim).await?;
                image.judge_sound(&seen, &victim)?;
                sound.push(seen);
            }
            loop {
                let number = next.lock().expect("nobody panicked").next();
                let Some(number) = number else { break };
                if only.is_some_and(|only| only != number) {
                    continue;
                }
                let mut random = Random::new(seed, &format!("damage {number}"));
                let place = usize::try_from(random.below(victim.images.len() as u64)).expect("a place");
                let (image, sound) = (&victim.images[place], &sound[place]);
                let case = Case::prepare(&victim, image, &mut random);
                let replay = format!(
                    "PUSHPULL_CHAOS_SEED={seed} PUSHPULL_CHAOS_DAMAGES={count} PUSHPULL_CHAOS_CASE={number} cargo test \
                     --test chaos disk::damage -- --nocapture"
                );
                let blame = |violation: Violation| {
                    violation.with(&format!("{} of the image {}", case.damage, image.name)).in_case(&replay)
                };
                let seen = observe(&victim).await.map_err(blame)?;
                let dealt = case
                    .judge(&seen, sound)
                    .map_err(|why| blame(Violation::new(why).with(&format!("it said:\n{}", seen.log))))?;
                tally.lock().expect("nobody panicked").take(case.damage, dealt);
                if only.is_some() {
                    println!("{} of the image {}: {dealt:?}\n{}", case.damage, image.name, seen.log);
                }
            }
            Ok::<_, Violation>(())
        }
    });
    if let Err(violation) = try_join_all(lanes).await {
        panic!("chaos damage, seed {seed}: {violation}\nkept: {}", place.keep().display());
    }
    let tally = tally.into_inner().expect("nobody panicked");
    println!("chaos damage: ok, seed {seed}, {tally}");
    assert_eq!(tally.cases, if only.is_some() { 1 } else { count });
}

impl Image {
    /// The image without damage shows everything, so that its loss would be seen.
    fn judge_sound(&self, seen: &Seen, victim: &Victim) -> Result<(), Violation> {
        let is_whole = seen.started
            && seen.ended.is_none()
            && !is_told(&seen.log)
            && !seen.sent.is_empty()
            && seen.sent.values().all(|tokens| tokens.len() == 1)
            && !seen.inbox.is_empty()
            && seen.dead.len() > 4
            && seen.known.len() == victim.jtis.len()
            && seen.known.values().filter(|known| known.ends_with("acked")).count() > seen.sent.len();
        if is_whole {
            return Ok(());
        }
        let Seen { sent, inbox, dead, log, .. } = seen;
        let counts = (sent.len(), inbox.len(), dead.len());
        Err(Violation::new(format!("the image {} is not whole without damage: {counts:?}\n{log}", self.name)))
    }
}

/// One damage, and what may be missing by it.
struct Case {
    damage: Damage,
    may_miss: BTreeSet<String>,
    /// How these have ended may be missing: they are sent again.
    may_be_queued: BTreeSet<String>,
}

impl Case {
    /// Puts the image into its place, and does the damage.
    fn prepare(victim: &Victim, image: &Image, random: &mut Random) -> Self {
        victim.restore(image);
        let has_log = !image.in_log.is_empty();
        let file = if has_log && random.chance(0.6) { "-wal" } else { "" };
        let path = format!("{}{file}", victim.database.display());
        let mut bytes = fs::read(&path).expect("the file is there");
        let damage = Damage { file, how: How::draw(&bytes, file, random) };
        let commits = if file == "-wal" { commits(&bytes) } else { Vec::new() };
        // Whatever was safe only behind this byte of the log may be gone.
        let safe_to = match damage.how {
            How::Flip { at, by } => {
                bytes[usize::try_from(at).expect("it is in memory")] ^= by;
                // A flip is no power cut, unless it is in the last transaction.
                commits.iter().rev().nth(1).copied().unwrap_or(0)
            }
            How::Cut { to } => {
                bytes.truncate(usize::try_from(to).expect("it is in memory"));
                to
            }
        };
        fs::write(&path, bytes).expect("the file can be written");
        let is_log = file == "-wal";
        let gone = |ends: &BTreeMap<String, u64>| {
            ends.iter().filter(|(_, at)| is_log && **at > safe_to).map(|(jti, _)| jti.clone()).collect()
        };
        Self { damage, may_miss: gone(&image.in_log), may_be_queued: gone(&image.acks_in_log) }
    }

    fn judge(&self, seen: &Seen, sound: &Seen) -> Result<Dealt, String> {
        if seen.log.contains("panicked") {
            return Err("it panicked".to_owned());
        }
        for (jti, tokens) in &seen.sent {
            if sound.sent.get(jti) != Some(tokens) {
                return Err(format!("it sent what was never to be sent, or other bytes: {jti} {tokens:?}"));
            }
        }
        for (seq, row) in &seen.inbox {
            if sound.inbox.get(seq) != Some(row) {
                return Err(format!("it hands out what was never received, or other bytes: {seq} {row:?}"));
            }
        }
        if let Some((jti, token)) = seen.dead.iter().find(|(jti, token)| sound.dead.get(*jti) != Some(token)) {
            return Err(format!("it shows a dead letter that never was, or other bytes: {jti} {token}"));
        }
        if let Some(status) = seen.ended {
            // A file whose first bytes are damaged is taken for another program's, before it is opened.
            let is_foreign = status.code() == Some(CONFIG_INVALID) && seen.log.contains("no SQLite database");
            if status.code() != Some(STORAGE_FAILED) && !is_foreign {
                return Err(format!("it ended with {status}, not with 70"));
            }
            if !seen.log.contains("pushpull.db")
                || !["backup", "cut the log"].iter().any(|help| seen.log.contains(help))
            {
                return Err("it ended without the file's name and a remedy".to_owned());
            }
            return Ok(if seen.started { Dealt::Stopped } else { Dealt::Refused });
        }
        let missing: BTreeSet<&String> = sound
            .sent
            .keys()
            .filter(|jti| !seen.sent.contains_key(*jti))
            .chain(sound.inbox.iter().filter(|(seq, _)| !seen.inbox.contains_key(seq)).map(|(_, (jti, _))| jti))
            .chain(sound.dead.keys().filter(|jti| !seen.dead.contains_key(*jti)))
            .chain(sound.known.iter().filter(|(jti, known)| seen.known.get(*jti) != Some(known)).map(|(jti, _)| jti))
            .collect();
        // How it ended was in the part that is gone: it goes on as before. What delta is to get has not ended.
        let is_queued = |jti: &str| {
            let known = seen.known.get(jti).map(String::as_str).unwrap_or_default();
            self.may_be_queued.contains(jti) && known.ends_with(" queued") && !known.starts_with("out delta")
        };
        let unexplained: Vec<_> =
            missing.iter().filter(|jti| !self.may_miss.contains(**jti) && !is_queued(jti.as_str())).collect();
        match (missing.is_empty(), unexplained.is_empty(), is_told(&seen.log)) {
            (true, _, false) => Ok(Dealt::Harmless),
            (_, _, true) => Ok(Dealt::Told),
            (false, true, false) => Ok(Dealt::Tail),
            (false, false, false) => {
                let known: Vec<_> =
                    unexplained.iter().map(|jti| (seen.known.get(**jti), sound.known.get(**jti))).collect();
                Err(format!("missing, and it says nothing: {unexplained:?}, known of them now and before: {known:?}"))
            }
        }
    }
}

impl How {
    fn draw(bytes: &[u8], file: &str, random: &mut Random) -> Self {
        let len = bytes.len() as u64;
        if random.chance(0.3) {
            return Self::Cut { to: random.below(len) };
        }
        let by = u8::try_from(1 + random.below(255)).expect("a byte");
        // Anywhere; or where something is; or where a page or a frame says what is in it.
        let at = match random.below(3) {
            0 => random.below(len),
            1 => {
                let mut places = (0..200).map(|_| random.below(len));
                places.find(|at| usize::try_from(*at).is_ok_and(|at| bytes[at] != 0)).unwrap_or(0)
            }
            _ if file == "-wal" => {
                let frames = (len - 32) / (PAGE + 24);
                (32 + random.below(frames.max(1)) * (PAGE + 24) + random.below(64)).min(len - 1)
            }
            _ => (random.below(len / PAGE) * PAGE + random.below(64)).min(len - 1),
        };
        Self::Flip { at, by }
    }
}

fn is_told(log: &str) -> bool {
    log.contains("data_damaged") || log.contains("storage_failed")
}

impl Tally {
    fn take(&mut self, damage: Damage, dealt: Dealt) {
        self.cases += 1;
        match damage.how {
            How::Flip { .. } => self.flips += 1,
            How::Cut { .. } => self.cuts += 1,
        }
        self.dealt[dealt as usize] += 1;
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pushpull.db{}: {:?}", self.file, self.how)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [refused, stopped, told, harmless, tail] = self.dealt;
        write!(
            f,
            "{} bytes flipped, {} files cut: refused {refused}, ended with 70 later {stopped}, told and went on {told}, \
             harmless {harmless}, the log's torn end {tail}; damaged SETs sent or handed out 0, missing in silence 0",
            self.flips, self.cuts
        )
    }
}
