//! The application of one organisation: reads its inbox, is given SETs, confirms them, and forgets itself at times.

use std::sync::Arc;
use std::time::Duration;

use super::event::Event;
use super::life::Life;
use super::world::strikes;

/// The one consumer.
const NAME: &str = "app";

/// Reads for as long as the process lives.
pub async fn run(life: Arc<Life>) {
    let mut luck = life.world.luck(&[50, u64::from(life.org.0), life.number]);
    let plan = &life.member.plan;
    loop {
        let mut inbox = life.supervisor.inbox(NAME);
        // A new one begins behind what is confirmed, as after a crash of the application alone.
        loop {
            let rows = match inbox.read(None, plan.rows, Duration::from_secs(3600)).await {
                Ok(rows) => rows,
                Err(error) => {
                    life.supervisor.note_failure(&error);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            life.awake().await;
            let mut crashed = false;
            let mut given = Vec::new();
            for row in rows {
                let event = Event::Handed {
                    org: life.org,
                    from: life.orgs[&row.peer],
                    jti: row.row.jti.clone(),
                    digest: row.row.digest,
                    redelivered: row.redelivered,
                };
                if !life.note(&event) {
                    return;
                }
                if !life.world.is_healed() && strikes(&mut luck, life.world.options.faults.apps) {
                    life.world.fault(Some(life.org), "application crashed before it confirmed");
                    crashed = true;
                    break;
                }
                given.push((row.seq, life.orgs[&row.peer], row.row.jti));
                if !plan.reads_for.is_zero() {
                    tokio::time::sleep(plan.reads_for).await;
                }
            }
            if crashed {
                break;
            }
            let Some((up_to, ..)) = given.last().cloned() else { continue };
            match inbox.confirm(up_to).await {
                Ok(()) => given.into_iter().for_each(|(_, from, jti)| {
                    life.note(&Event::Confirmed { org: life.org, from, jti });
                }),
                Err(error) => {
                    life.supervisor.note_failure(&error);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
