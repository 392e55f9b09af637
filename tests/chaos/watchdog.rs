//! Watches a run from aside: no daemon may end by itself, and there must be progress.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::accounts;
use crate::world::{Violation, World};

/// Without any progress for so long, something is stuck. Longer than every pause that the daemons are allowed.
const STALLED_AFTER: Duration = Duration::from_secs(150);
/// Without progress for so long although both sides call everything settled, something is lost.
const LOST_AFTER: Duration = Duration::from_secs(15);
/// Pause between two looks, and between two lines about them.
const LOOK: Duration = Duration::from_millis(50);
const TELL: Duration = Duration::from_secs(5);
/// A pause that is worth a line.
const LONG_PAUSE: Duration = Duration::from_secs(3);
/// One that is worth knowing what both sides say.
const WORTH_A_LOOK: Duration = Duration::from_secs(30);

/// Ends only with a violation.
pub(crate) async fn watch(world: &World) -> Violation {
    let (mut steps, mut moved_at, mut told_at) = (0, Instant::now(), Instant::now());
    loop {
        sleep(LOOK).await;
        for side in &world.sides {
            if let Err(violation) = side.alive().await {
                return violation;
            }
        }
        let now = world.steps();
        if now > steps {
            if moved_at.elapsed() > LONG_PAUSE {
                println!("  {} no progress for {:.1?} until now", at(world), moved_at.elapsed());
            }
            (steps, moved_at) = (now, Instant::now());
        }
        if world.progress() >= 1.0 {
            // There is no more to do; what else goes on may take its time.
            moved_at = Instant::now();
        }
        if told_at.elapsed() > TELL {
            told_at = Instant::now();
            tell(world).await;
            if moved_at.elapsed() > LONG_PAUSE {
                let statuses = accounts::statuses(world).await;
                if let Some([alpha, beta]) = &statuses
                    && moved_at.elapsed() > WORTH_A_LOOK
                {
                    println!("  {} no progress, alpha says {alpha}\n    beta says {beta}", at(world));
                }
                let over = statuses.as_ref().is_some_and(|both| both.iter().all(|status| status["queued"] == 0));
                if over && world.all_accepted() && moved_at.elapsed() > LOST_AFTER {
                    return Violation::new(format!(
                        "nothing is queued any more, and SETs have not arrived: {statuses:?}"
                    ))
                    .about(accounts::some_unsettled(world).await);
                }
            }
        }
        if moved_at.elapsed() > STALLED_AFTER {
            let statuses = accounts::statuses(world).await;
            return Violation::new(format!("no progress for {STALLED_AFTER:?}: {statuses:?}"))
                .about(accounts::some_unsettled(world).await);
        }
    }
}

async fn tell(world: &World) {
    let count = |counts: &[std::sync::atomic::AtomicUsize; 2]| {
        let [alpha, beta] = counts;
        let read = |count: &std::sync::atomic::AtomicUsize| count.load(std::sync::atomic::Ordering::Relaxed);
        format!("{} and {}", read(alpha), read(beta))
    };
    let [alpha, beta] = &world.sides;
    let kills = [alpha.history().kills, beta.history().kills];
    let memory = [alpha.memory().await.now >> 10, beta.memory().await.now >> 10];
    println!(
        "  {} accepted {}, confirmed {}, kills {kills:?}, memory {memory:?} MiB",
        at(world),
        count(&world.accepted),
        count(&world.confirmed),
    );
}

fn at(world: &World) -> String {
    format!("{:>6.1} s", world.started.elapsed().as_secs_f64())
}
