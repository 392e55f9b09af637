//! What the applications send: planned before anything happens, and handed in whatever may come.

use std::sync::Arc;
use std::time::Duration;

use pushpull::engine::SendError;
use pushpull::random::Random;
use pushpull::set::{Jti, SignedSet};
use tokio::time::{sleep, sleep_until};

use super::event::{Event, Org};
use super::life::Life;
use super::mint::{self, Kind, Order};
use super::world::{World, pick, some_of, strikes};

/// What is handed in at once.
#[derive(Clone, Debug)]
struct Call {
    after: Duration,
    items: Vec<(Jti, Kind)>,
}

/// How often a call that failed for a passing reason is repeated.
const REPEATS_MAX: u32 = 6;

/// Some are handed in when all is well again, up to so long after that.
const AFTERWARDS: Duration = Duration::from_secs(60);

/// All calls for one partner.
pub async fn run(world: Arc<World>, from: Org, to: Org) {
    let mut luck = world.luck(&[60, u64::from(from.0), u64::from(to.0)]);
    // Nothing is quiet before the last of them.
    world.count_call(true);
    for call in plan(&world, from, to, &mut luck) {
        sleep_until(world.began + call.after).await;
        let luck = world.luck(&[61, luck.next_u64()]);
        if world.is_healed() {
            world.meet("sent after healing");
        }
        world.count_call(true);
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            submit(Arc::clone(&world), from, to, call.items, luck).await;
            world.count_call(false);
        });
    }
    world.count_call(false);
}

fn plan(world: &World, from: Org, to: Org, luck: &mut Random) -> Vec<Call> {
    let pair = world.options.pair(from, to);
    let mut left = pair.sets[usize::from(pair.ends[0] != from)];
    let mut calls = Vec::new();
    let mut made: Vec<Jti> = Vec::new();
    while left > 0 {
        let size = pick(luck, &[1, 1, 1, 1, 2, 5, 20, 60]).min(left);
        let mut items = Vec::with_capacity(size);
        for _ in 0..size {
            let again = strikes(luck, 12).then(|| made.get(luck.below(made.len() as u64) as usize).cloned()).flatten();
            if let Some(jti) = again {
                items.push((jti, pick(luck, &[Kind::Sound, Kind::Changed])));
                continue;
            }
            let jti = Jti::from(format!("{}{}-{}", mint::name(from), mint::name(to), made.len()).as_str());
            made.push(jti.clone());
            let kind = match luck.below(1000) {
                0..15 => Kind::WrongAudience,
                15..25 => Kind::GhostKey,
                25..50 => Kind::Verification,
                _ => Kind::Sound,
            };
            items.push((jti, kind));
        }
        left -= size;
        let after = match strikes(luck, 60) {
            true => world.options.chaos + some_of(luck, AFTERWARDS),
            false => some_of(luck, world.options.chaos),
        };
        calls.push(Call { after, items });
    }
    calls.sort_by_key(|call| call.after);
    calls
}

/// Hands SETs in until they are accepted, or cannot be.
async fn submit(world: Arc<World>, from: Org, to: Org, items: Vec<(Jti, Kind)>, mut luck: Random) {
    for repeat in 0..=REPEATS_MAX {
        let Some(life) = world.member(from).life() else {
            sleep(Duration::from_secs(5)).await;
            continue;
        };
        life.awake().await;
        // The key is held until everything is stored: so long nobody believes that the end of a queue is known.
        let signer = life.member.ring.signer();
        let key = mint::number(signer.key.kid());
        let sets: Vec<SignedSet> = items
            .iter()
            .map(|(jti, kind)| mint::token(&Order { from, to, jti: jti.clone(), kind: *kind, key }))
            .collect();
        life.note(&Event::Calling { from, to, jtis: sets.iter().map(|set| set.jti.clone()).collect() });
        for set in &sets {
            let kid = mint::kid_of(set.digest);
            let told = life.note(&Event::Signed { org: from, jti: set.jti.clone(), kid })
                && life.note(&Event::Submitted { from, to, jti: set.jti.clone(), digest: set.digest });
            if !told {
                break;
            }
        }
        let fresh = false;
        let (done, answer) = tokio::sync::oneshot::channel();
        let (worker, copies) = (Arc::clone(&life), sets.clone());
        life.spawn(async move {
            let handle = worker.partner(to).handle();
            let sent = handle.send(copies.clone(), fresh).await;
            drop(signer);
            told(&worker, to, &copies, &sent);
            let _ = done.send(sent);
        });
        drop(life);
        match answer.await {
            Ok(Ok(()) | Err(SendError::Conflict(_))) => return,
            Ok(Err(_)) => {}
            // The process died meanwhile: some ask again, others never learn what became of it.
            Err(_) if strikes(&mut luck, 300) => return,
            Err(_) => world.meet("submitted again after a crash"),
        }
        sleep(Duration::from_secs(5 << repeat.min(5))).await;
    }
}

/// Tells what came of a call.
fn told(life: &Arc<Life>, to: Org, sets: &[SignedSet], sent: &Result<(), SendError>) {
    let from = life.org;
    for set in sets {
        let (jti, digest) = (&set.jti, set.digest);
        let why = match sent {
            Ok(()) => {
                if !life.note(&Event::Accepted { from, to, jti: jti.clone(), digest }) {
                    return;
                }
                continue;
            }
            Err(SendError::Conflict(other)) if other == jti => "conflict",
            // A call is taken as a whole or not at all.
            Err(SendError::Conflict(_)) => "beside a conflict",
            Err(SendError::OutboxFull { .. }) => "outbox full",
            Err(SendError::StorageFull) => "storage full",
            Err(_) => "stopped",
        };
        life.world.meet(match why {
            "conflict" | "beside a conflict" => "send: conflict",
            "outbox full" => "send: outbox full",
            "storage full" => "send: storage full",
            _ => "send: stopped",
        });
        if !life.note(&Event::Declined { from, to, jti: jti.clone(), digest, why }) {
            return;
        }
    }
}
