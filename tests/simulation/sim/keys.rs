//! Our own keys, tended as `transceiver/keys.rs` tends them: they move on as time passes and queues empty.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use pushpull::auth::keyring::Rotate;
use pushpull::clock::Clock as _;
use pushpull::peer::Select;
use pushpull::store::Journal as _;
use tokio::time::{sleep, timeout};

use super::event::Event;
use super::life::Life;
use super::mint;

/// How long the actors may take to store what they have.
const PATIENCE: Duration = Duration::from_secs(5);

/// Keys that an organisation may ever have.
pub const KEYS_MAX: u8 = 4;

/// Tends the keys for as long as the process lives.
pub async fn tend(life: Arc<Life>) {
    let ring = Arc::clone(&life.member.ring);
    publish(&life);
    loop {
        if !ring.is_waiting() {
            ring.changed().await;
        }
        let (moment, begun) = (ring.moment(), life.clock.now().mono);
        let unmarked = ring.unmarked();
        if !unmarked.is_empty() {
            match ends_of_queues(&life).await {
                Some(marks) => drop(ring.mark(&unmarked, &marks)),
                None => sleep(Duration::from_secs(1)).await,
            }
        }
        settle(&life).await;
        tokio::select! {
            biased;
            () = ring.changed() => {}
            // Not as often as the product does, or there would be little else in a simulated hour.
            () = sleep(ring.pace() * 4) => {}
        }
        life.awake().await;
        let elapsed = life.clock.now().mono.saturating_sub(begun);
        ring.advance_since(moment, elapsed, life.clock.now().wall);
        publish(&life);
    }
}

/// Makes the next key, which signs once everybody could have fetched it.
pub fn rotate(life: &Arc<Life>) {
    let ring = &life.member.ring;
    let statuses = ring.statuses();
    let newest = statuses.iter().map(|key| mint::number(&key.kid)).max().unwrap_or(0);
    if newest >= KEYS_MAX || statuses.iter().any(|key| key.state == "next") {
        return;
    }
    let key = mint::make_key(life.org, newest + 1);
    if ring.rotate(Rotate::Given(key), false, life.clock.now().wall).is_ok() {
        life.world.meet("key rotation begun");
        publish(life);
    }
}

/// Tells what is published, if that is news.
pub fn publish(life: &Arc<Life>) {
    let kept = life.member.ring.statuses().into_iter().filter(|key| key.state != "retired");
    let kids: Vec<String> = kept.map(|key| key.kid).collect();
    if life.member.publishes(&kids) {
        if life.member.ring.statuses().iter().any(|key| key.state == "retired") {
            life.world.meet("key retired");
        }
        life.note(&Event::Published { org: life.org, kids });
    }
}

async fn ends_of_queues(life: &Arc<Life>) -> Option<BTreeMap<String, u64>> {
    let barriers = life.partners.values().map(async |partner| partner.handle().send(Vec::new(), true).await);
    timeout(PATIENCE, try_join_all(barriers)).await.ok()?.ok()?;
    let mut ends = BTreeMap::new();
    for partner in life.partners.values() {
        let saved = life.store.recover(partner.id).await.map_err(|error| life.supervisor.note_failure(&error)).ok()?;
        if saved.counts.queued > 0 {
            ends.insert(partner.name.to_string(), saved.next_seq);
        }
    }
    Some(ends)
}

async fn settle(life: &Arc<Life>) {
    let awaited = life.member.ring.awaited();
    let mut oldest = BTreeMap::new();
    for partner in life.partners.values().filter(|partner| awaited.contains(&*partner.name)) {
        let first = Select::After { after: 0, rows_max: 1, bytes_max: 0 };
        match life.store.read_outbox(partner.id, first).await {
            Ok(page) => {
                let first = page.rows.iter().map(|row| row.seq).chain(page.damaged).min();
                oldest.insert(partner.name.to_string(), first);
            }
            Err(error) => return life.supervisor.note_failure(&error),
        }
    }
    if !oldest.is_empty() {
        life.member.ring.settled(&oldest);
    }
}
