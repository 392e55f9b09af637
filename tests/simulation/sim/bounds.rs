//! What a process keeps in memory for each of its partners: asked of the product itself, as nobody else can tell, and held
//! against what it was configured to keep (I16).

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
            life.world.meet("looked at what is in memory");
            if let Some(what) = exceeded(&stats, &life.member.plan.peer) {
                life.world.violate(format!("more in memory than configured: {:?} for {other:?}: {what}", life.org));
            }
        }
    }
}

fn exceeded(stats: &Stats, config: &Config) -> Option<String> {
    let bounds = [("SETs under way", stats.in_flight, config.window), ("verdicts owed", stats.owed, config.owed_max)];
    let exceeded = bounds.into_iter().find(|(_, found, most)| found > most);
    exceeded.map(|(what, found, most)| format!("{found} {what}, expected at most {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_than_configured_is_too_much() {
        let config = Config { window: 8, owed_max: 20, ..Config::default() };
        let stats = |in_flight, owed| Stats { in_flight, owed, ..Stats::default() };
        assert_eq!(exceeded(&stats(8, 20), &config), None);
        assert_eq!(exceeded(&stats(9, 20), &config).unwrap(), "9 SETs under way, expected at most 8");
        assert_eq!(exceeded(&stats(8, 21), &config).unwrap(), "21 verdicts owed, expected at most 20");
    }
}
