//! How many SETs a process has under way to each of its partners, which are those that it keeps in memory: asked of the product
//! itself, as nobody else can tell, and held against its window (I16). Bytes and verdicts are for unit tests of the core.

use std::sync::Arc;
use std::time::Duration;

use pushpull::peer::{Config, Stats};
use tokio::time::sleep;

use super::life::Life;
use super::world::some_of;

/// Looks every few seconds, for as long as the chaos lasts.
pub async fn watch(life: Arc<Life>) {
    let mut luck = life.world.luck(&[81, u64::from(life.org.0), life.number]);
    while !life.world.is_healed() {
        sleep(Duration::from_secs(1) + some_of(&mut luck, Duration::from_secs(8))).await;
        life.awake().await;
        for (other, partner) in &life.partners {
            let Ok(stats) = partner.handle().stats().await else { continue };
            life.world.meet("looked at what is under way");
            if let Some(what) = exceeded(&stats, &life.member.plan.peer) {
                life.world.violate(format!("more under way than configured: {:?} for {other:?}: {what}", life.org));
            }
        }
    }
}

fn exceeded(stats: &Stats, config: &Config) -> Option<String> {
    let (found, most) = (stats.in_flight, config.window);
    (found > most).then(|| format!("{found} SETs under way, expected at most {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_than_configured_is_too_much() {
        let config = Config { window: 8, ..Config::default() };
        let stats = |in_flight| Stats { in_flight, ..Stats::default() };
        assert_eq!(exceeded(&stats(8), &config), None);
        assert_eq!(exceeded(&stats(9), &config).unwrap(), "9 SETs under way, expected at most 8");
    }
}
