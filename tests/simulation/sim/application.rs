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
            // Whatever was read is given at once: what happens to a row later does not change what was read of it.
            for row in &rows {
                let (org, from) = (life.org, life.orgs[&row.peer]);
                let (jti, digest, redelivered) = (row.row.jti.clone(), row.row.digest, row.redelivered);
                if !life.note(&Event::Handed { org, from, jti, digest, redelivered }) {
                    return;
                }
            }
            life.awake().await;
            let mut done = None;
            let mut crashed = false;
            for row in rows {
                if !life.world.is_healed() && strikes(&mut luck, life.world.options.faults.apps) {
                    life.world.fault(Some(life.org), "application crashed before it confirmed");
                    crashed = true;
                    break;
                }
                done = Some(row.seq);
                if !plan.reads_for.is_zero() {
                    tokio::time::sleep(plan.reads_for).await;
                }
            }
            if crashed {
                break;
            }
            let Some(up_to) = done else { continue };
            // That it is durable is told by the disk, which knows even if we never hear of it.
            if let Err(error) = inbox.confirm(up_to).await {
                life.supervisor.note_failure(&error);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
