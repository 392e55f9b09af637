//! Kills the daemons as the plan says, and starts them again.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::organisation::Organisation;
use crate::plan::{Again, Blow, Moment};
use crate::world::{BY_KILLS, Violation, World};

/// What was done.
#[derive(Clone, Copy, Default)]
pub(crate) struct Kills {
    /// Blows that fell on both sides at once.
    pub(crate) both: usize,
    /// Kills within milliseconds of a batch of events being submitted or accepted there.
    pub(crate) in_submission: usize,
    /// Kills within milliseconds of a batch having left for there.
    pub(crate) in_arrival: usize,
    /// Kills of a process that was started just before: not ready yet, and just become ready.
    pub(crate) in_recovery: usize,
    pub(crate) when_ready: usize,
}

/// Events are submitted no further ahead of the next kill than this part of them, so that kills meet work.
const AHEAD: f64 = 0.1;

pub(crate) async fn strike(world: &World) -> Result<Kills, Violation> {
    let mut kills = Kills::default();
    for blow in &world.plan.blows {
        world.may_submit[BY_KILLS].send_replace(blow.at + AHEAD);
        while world.progress() < blow.at {
            sleep(Duration::from_millis(5)).await;
        }
        wait_for_moment(world, blow).await;
        fall(world, blow).await?;
        kills.count(blow);
    }
    world.may_submit[BY_KILLS].send_replace(f64::INFINITY);
    Ok(kills)
}

/// Lets more events be submitted, and waits for the moment in that which the blow is meant for.
async fn wait_for_moment(world: &World, blow: &Blow) {
    let (news, time) = match blow.moment {
        Moment::After(time) => (None, time),
        Moment::InSubmission(side, time) => (Some(&world.submitting[side]), time),
        Moment::Accepted(side) => (Some(&world.accepting[side]), Duration::ZERO),
        Moment::Arriving(side, time) => (Some(&world.accepting[1 - side]), time),
    };
    let go_on = || world.may_submit[BY_KILLS].send_replace(blow.at + 2.0 * AHEAD);
    if let Some(news) = news {
        // Listens before there is anything to hear.
        let mut heard = std::pin::pin!(news.notified());
        heard.as_mut().enable();
        go_on();
        // When everything is submitted already, any moment will do.
        let _ = timeout(Duration::from_millis(500), heard).await;
    } else {
        go_on();
    }
    // Even the shortest sleep is longer than nothing.
    if !time.is_zero() {
        sleep(time).await;
    }
}

async fn fall(world: &World, blow: &Blow) -> Result<(), Violation> {
    let [alpha, beta] = &world.sides;
    let (first, second) = tokio::join!(fall_on(alpha, blow, 0), fall_on(beta, blow, 1));
    first.and(second)
}

/// Kills one side if it is a target, and starts it again until the blow is over.
async fn fall_on(side: &Organisation, blow: &Blow, index: usize) -> Result<(), Violation> {
    if !blow.targets[index] {
        return Ok(());
    }
    // It must not have died of anything else.
    side.alive().await?;
    side.kill().await;
    sleep(blow.down[index]).await;
    for again in &blow.again {
        let begun = side.start().await;
        match again {
            Again::InRecovery(time) => sleep(*time).await,
            Again::WhenReady => side.ready(begun).await?,
        }
        side.alive().await?;
        side.kill().await;
    }
    side.start_and_wait().await
}

impl Kills {
    fn count(&mut self, blow: &Blow) {
        let targets = blow.targets.iter().filter(|target| **target).count();
        self.both += usize::from(targets == 2);
        match blow.moment {
            Moment::After(_) => {}
            Moment::InSubmission(..) | Moment::Accepted(_) => self.in_submission += targets,
            Moment::Arriving(..) => self.in_arrival += targets,
        }
        for again in &blow.again {
            match again {
                Again::InRecovery(_) => self.in_recovery += targets,
                Again::WhenReady => self.when_ready += targets,
            }
        }
    }
}
