//! Traffic beside the main line: SETs that the partner refuses, that die because nobody answers, and that are queued for
//! a partner who is not there. With them every term of the accounts is met: accepted = acked + refused + dead + queued. Where
//! links are mangled nobody dies by policy, and only the refused are there.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::admin::NoAnswer;
use crate::organisation::Organisation;
use crate::pairing::free_address;
use crate::partner::{self, Partner};
use crate::world::{Violation, World};

/// Who never answers, and who is not there.
const MUTE: &str = "mute";
const ABSENT: &str = "nobody";
/// SETs of each side for each of them, and for the partner to refuse.
const EACH: usize = 40;
/// They come in so many batches, spread over the run.
const BATCHES: usize = 10;
/// Over this part of it: what is to die takes its time.
const PART: f64 = 0.6;
/// How long the last of them may take to die, and to be submitted.
const DEAD_WITHIN: Duration = Duration::from_secs(120);
const ACCEPTED_WITHIN: Duration = Duration::from_secs(180);

/// The partners that both sides have beside each other; they end with it.
pub(crate) struct Sidings {
    _mute: Partner,
}

impl Sidings {
    /// Writes the two into both configurations, before the daemons start.
    pub(crate) async fn lay(sides: &[Organisation; 2]) -> Self {
        let (mute, absent) = (free_address(), free_address());
        for side in sides {
            let directory = side.directory();
            partner::add(directory, MUTE, &mute);
            partner::add(directory, ABSENT, &absent);
            // Five attempts within some nine seconds; a partner that is killed uses up none.
            let patience = "\n[delivery]\nattempts_max = 5\nretry_max = \"1s\"\ngive_up_after = \"1s\"\n";
            partner::append(directory, patience);
        }
        Self { _mute: Partner::mute(&mute).await }
    }
}

/// Has both sides refuse some of what the other one sends, before the daemons start.
pub(crate) fn refuse_some(sides: &[Organisation; 2]) {
    for (side, other) in sides.iter().zip(["beta", "alpha"]) {
        partner::accept_only_caep(side.directory(), other);
    }
}

/// What becomes of them.
#[derive(Clone, Copy)]
enum Fate {
    Refused,
    Dead,
    Queued,
}

/// Terms of the accounts, of both sides.
#[derive(Clone, Copy, Default)]
pub(crate) struct Terms {
    pub(crate) acked: u64,
    pub(crate) refused: u64,
    pub(crate) dead: u64,
    pub(crate) queued: u64,
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acked, refused, dead, queued } = self;
        let accepted = acked + refused + dead + queued;
        write!(f, "{accepted} accepted = {acked} acked + {refused} refused + {dead} dead + {queued} queued")
    }
}

/// SETs of a side that its partner refuses.
pub(crate) const REFUSED: usize = EACH;

/// Submits them bit by bit while the main line runs, each batch again and again until it is known to be accepted.
pub(crate) async fn submit_all(world: &World, side: usize) -> Result<(), Violation> {
    for batch in 0..BATCHES {
        while world.progress() < batch as f64 / BATCHES as f64 * PART {
            sleep(Duration::from_millis(10)).await;
        }
        let numbers = batch * EACH / BATCHES..(batch + 1) * EACH / BATCHES;
        for &fate in fates(world) {
            let lines: Vec<String> = numbers.clone().map(|number| line(world, side, fate, number)).collect();
            submit(world, side, lines.join("\n")).await?;
        }
    }
    Ok(())
}

/// Who is nowhere cannot keep anything queued.
fn fates(world: &World) -> &'static [Fate] {
    match world.sidings {
        Some(_) => &[Fate::Refused, Fate::Dead, Fate::Queued],
        None => &[Fate::Refused],
    }
}

async fn submit(world: &World, side: usize, body: String) -> Result<(), Violation> {
    let mut client = world.sides[side].client();
    let deadline = Instant::now() + ACCEPTED_WITHIN;
    while Instant::now() < deadline {
        match client.post("/api/v1/events", "application/x-ndjson", body.clone()).await {
            Ok(answer) if answer.status == 202 => return Ok(()),
            Ok(answer) if answer.status == 503 => sleep(Duration::from_millis(100)).await,
            Ok(answer) => return Err(Violation::new(format!("refused a sound submission: {}", answer.text()))),
            Err(NoAnswer) => sleep(Duration::from_millis(10)).await,
        }
    }
    Err(Violation::new(format!("{} did not accept a batch for minutes", world.name(side))))
}

fn jti(world: &World, side: usize, fate: Fate, number: usize) -> String {
    let fate = match fate {
        Fate::Refused => "refused",
        Fate::Dead => "dead",
        Fate::Queued => "queued",
    };
    format!("chaos-{}-{}-{fate}-{number}", world.plan.seed, world.name(side))
}

fn line(world: &World, side: usize, fate: Fate, number: usize) -> String {
    let (peer, kind) = match fate {
        Fate::Refused => (world.name(1 - side), "risc:account-disabled"),
        Fate::Dead => (MUTE, "caep:session-revoked"),
        Fate::Queued => (ABSENT, "caep:session-revoked"),
    };
    let jti = jti(world, side, fate, number);
    let subject = json!({ "format": "opaque", "id": jti });
    json!({ "peer": peer, "jti": jti, "type": kind, "sub_id": subject, "event": {} }).to_string()
}

/// Waits until those that are to die are dead, and looks at every one of them: accepted = acked + refused + dead + queued.
pub(crate) async fn check(world: &World) -> Result<Terms, Violation> {
    let mut terms = Terms::default();
    let parties = if world.sidings.is_some() { 3 } else { 1 };
    for (index, side) in world.sides.iter().enumerate() {
        let mut client = side.client();
        let deadline = Instant::now() + DEAD_WITHIN;
        let of = loop {
            let peers = client.document("/api/v1/peers").await["peers"].take();
            let of = |name: &str, what: &str| {
                let peer = peers.as_array().into_iter().flatten().find(|peer| peer["name"] == name);
                peer.and_then(|peer| peer[what].as_u64())
            };
            if world.sidings.is_none() || of(MUTE, "queued") == Some(0) {
                let all = [world.name(1 - index), MUTE, ABSENT];
                let all = all.into_iter().take(parties);
                break all
                    .map(|name| ["acked", "refused", "dead", "queued"].map(|what| of(name, what).unwrap_or(u64::MAX)))
                    .collect::<Vec<_>>();
            }
            if Instant::now() > deadline {
                return Err(Violation::new(format!("{}: not dead after {DEAD_WITHIN:?}: {peers}", side.name)));
            }
            sleep(Duration::from_millis(20)).await;
        };
        let each = EACH as u64;
        let expected = &[[world.plan.events as u64, each, 0, 0], [0, 0, each, 0], [0, 0, 0, each]][..parties];
        if of != expected {
            let what = "acked, refused, dead and queued with the partner, the mute one and the absent one";
            return Err(Violation::new(format!("{}: {what} are {of:?}, not {expected:?}", side.name)));
        }
        for of in of {
            terms.acked += of[0];
            terms.refused += of[1];
            terms.dead += of[2];
            terms.queued += of[3];
        }
        letters(world, index).await?;
    }
    Ok(terms)
}

/// The dead letters are exactly those that were refused and those that nobody answered, each once, and what is queued is
/// known by its name.
async fn letters(world: &World, side: usize) -> Result<(), Violation> {
    let name = world.name(side);
    let mut client = world.sides[side].client();
    let page = client.document("/api/v1/dead-letters?max=10000").await;
    let found: Vec<&str> =
        page["dead_letters"].as_array().into_iter().flatten().filter_map(|letter| letter["jti"].as_str()).collect();
    let expected: BTreeSet<String> = fates(world)
        .iter()
        .filter(|fate| !matches!(fate, Fate::Queued))
        .flat_map(|fate| (0..EACH).map(move |number| jti(world, side, *fate, number)))
        .collect();
    let distinct: BTreeSet<String> = found.iter().map(|jti| (*jti).to_owned()).collect();
    if found.len() != expected.len() || distinct != expected || page["next"] != Value::Null {
        return Err(Violation::new(format!("{name}: {} dead letters, not {}: {page}", found.len(), expected.len())));
    }
    for number in (0..EACH).filter(|_| world.sidings.is_some()) {
        let jti = jti(world, side, Fate::Queued, number);
        let event = client.document(&format!("/api/v1/events/{jti}")).await;
        // Its partner is dialled again and again: while it is, what waits is under way.
        let waits = ["queued", "in_flight"].iter().any(|state| event["records"][0]["state"] == *state);
        if !waits || event["records"][1] != Value::Null {
            return Err(Violation::new(format!("{name}: not queued: {event}")).about([jti]));
        }
    }
    Ok(())
}
