//! The operator of one organisation: pauses and resumes, deals with dead letters, has old rows removed, restarts in order and
//! has keys rotated.

use std::sync::Arc;
use std::time::Duration;

use pushpull::clock::{Clock as _, Wall};
use pushpull::engine::Redriving;
use pushpull::peer::{Act, Fate, Outcome, Place, Redrive, Redriven, Stretch};
use pushpull::random::Random;
use pushpull::set::{Digest, Jti};
use pushpull::store::{Horizon, Journal as _};
use pushpull::transceiver::MEMORY;
use tokio::time::sleep;

use super::event::{Death, Event, Org};
use super::keys;
use super::life::Life;
use super::mint::{self, Kind, Order};
use super::world::{some_of, strikes};

/// Dead letters that are looked at at once.
const LETTERS_MAX: usize = 8;

/// Acts now and then, for as long as the chaos lasts.
pub async fn run(life: Arc<Life>) {
    let mut luck = life.world.luck(&[80, u64::from(life.org.0), life.number]);
    let span = life.world.options.chaos / 6;
    let mut horizon = Horizon::new(MEMORY);
    if let Some(last) = life.last_time {
        horizon.resume(life.clock.now(), last);
    }
    horizon.pass(life.clock.now());
    loop {
        sleep(Duration::from_secs(1) + some_of(&mut luck, span)).await;
        life.awake().await;
        if life.world.is_healed() {
            return;
        }
        if life.member.plan.rotates && strikes(&mut luck, 500) {
            keys::rotate(&life);
        }
        if !life.member.plan.operates {
            continue;
        }
        let before = horizon.pass(life.clock.now());
        match luck.below(6) {
            0 => pause(&life, &mut luck).await,
            1 => purge(&life, before).await,
            2 if strikes(&mut luck, 300) => return restart(&life).await,
            _ => redrive(&life, &mut luck).await,
        }
    }
}

/// Lets everything be sent again.
pub async fn resume(life: Arc<Life>) {
    for partner in life.partners.values() {
        let _ = partner.handle().operate(Act::Resume).await;
    }
}

async fn pause(life: &Arc<Life>, luck: &mut Random) {
    let place = luck.below(life.partners.len() as u64) as usize;
    let Some(partner) = life.partners.values().nth(place) else { return };
    if partner.handle().operate(Act::Pause).await.is_ok() {
        life.world.meet("paused by an operator");
    }
    sleep(some_of(luck, Duration::from_secs(120))).await;
    let _ = partner.handle().operate(Act::Resume).await;
}

/// What the janitor does, a step of it.
async fn purge(life: &Arc<Life>, before: Option<Wall>) {
    // As the janitor: nothing is forgotten by a clock that is not believed.
    let remembered = || {
        let contents = life.member.disk.contents();
        let answered: usize = contents.answered.values().map(Vec::len).sum();
        let settled: usize = contents.settled.values().map(Vec::len).sum();
        answered + settled
    };
    let had = remembered();
    match life.store.purge(before.unwrap_or(Wall(0))).await {
        Ok(_) => {
            life.world.meet("purged");
            if remembered() < had {
                life.world.meet("memory of a jti ended");
            }
        }
        Err(error) => life.supervisor.note_failure(&error),
    }
}

/// Stops in order, and is started again.
async fn restart(life: &Arc<Life>) {
    life.world.meet("restarted in order");
    let in_time = life.supervisor.drain(Duration::from_secs(20)).await;
    if !in_time {
        life.world.meet("drained too slowly");
    }
    life.store.close().await;
    life.member.end(life, Death::Stopped);
}

async fn redrive(life: &Arc<Life>, luck: &mut Random) {
    let all = Stretch { after: Place::default(), up_to: Place::LAST, rows_max: LETTERS_MAX, bytes_max: 1 << 20 };
    let page = match life.store.read_dead_letters(all).await {
        Ok(page) => page,
        Err(error) => return life.supervisor.note_failure(&error),
    };
    for (id, letter) in page.letters {
        let Some(to) = life.orgs.get(&id).copied() else { continue };
        let given_up = matches!(&letter.memory.fate, Fate::Settled { outcome: Outcome::Dead(_), .. });
        let (how, name) = match luck.below(4) {
            0 => (Redrive::Discard, "discarded"),
            1 => (reissue(life, to, &letter.jti), "reissued"),
            // Also what the partner has answered, which the product must not do.
            2 => (Redrive::Resend, "resent"),
            _ if given_up => (Redrive::Resend, "resent"),
            _ => continue,
        };
        let kid = mint::kid_of(Digest::of(letter.compact.as_bytes()));
        let twice = strikes(luck, 300);
        if !act(life, to, (letter.memory.seq, letter.jti), how, name, &kid, twice).await {
            return;
        }
    }
}

/// The same, said again in a new SET.
fn reissue(life: &Arc<Life>, to: Org, jti: &Jti) -> Redrive {
    let key = mint::number(life.member.ring.signer().key.kid());
    let jti = Jti::from(format!("{jti}~").as_str());
    Redrive::Reissue(mint::token(&Order { from: life.org, to, jti, kind: Kind::Sound, key }))
}

async fn act(
    life: &Arc<Life>,
    to: Org,
    (seq, jti): (u64, Jti),
    how: Redrive,
    name: &'static str,
    kid: &str,
    twice: bool,
) -> bool {
    let (org, from) = (life.org, life.org);
    // What signed it has to stay published until it is settled.
    let signer = life.member.ring.signer();
    let new = if let Redrive::Reissue(set) = &how { Some(set.clone()) } else { None };
    let held = life.member.ring.hold(kid).ok().flatten();
    if matches!(how, Redrive::Resend) && held.is_none() {
        // Its key has retired: it can only be reissued.
        life.world.meet("resend refused for its key");
        return true;
    }
    if let Some(set) = &new {
        let (jti, digest) = (set.jti.clone(), set.digest);
        let kid = mint::kid_of(digest);
        if !life.note(&Event::Signed { org, jti: jti.clone(), kid })
            || !life.note(&Event::Submitted { from, to, jti, digest })
        {
            return false;
        }
    }
    if !life.note(&Event::Redriving { org, to, jti: jti.clone(), how: name }) {
        return false;
    }
    let mut acts = vec![Redriving { seq, jti: jti.clone(), how }];
    if twice {
        // Somebody was impatient, and the same is asked for once more at the same time.
        life.world.meet("dead letter asked for twice");
        acts.extend(acts.clone());
    }
    let answers = life.partner(to).handle().redrive(acts).await;
    drop((signer, held));
    let Some(Ok(done)) = answers.ok().and_then(|mut answers| answers.pop()) else { return life.is_alive() };
    if let (Redriven::Reissued(_), Some(set)) = (&done, &new) {
        let (jti, digest) = (set.jti.clone(), set.digest);
        life.note(&Event::Accepted { from, to, jti, digest });
    }
    let (how, met, new) = match done {
        Redriven::Resent => ("resent", "dead letter resent", None),
        Redriven::Reissued(new) => ("reissued", "dead letter reissued", Some(new)),
        Redriven::Discarded => ("discarded", "dead letter discarded", None),
    };
    life.world.meet(met);
    life.note(&Event::Redriven { org, to, jti, how, new })
}
