//! Tells whoever follows how SETs end, a step's worth at a time.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::peer::Outcome;
use crate::set::Jti;

/// SETs that ended with one commit, in their order, and how.
pub type Settled = Arc<[(Jti, Outcome)]>;

/// Steps that a follower may be behind before it misses some.
const BEHIND_MAX: usize = 1024;

/// Those who follow one conversation.
#[derive(Debug, Default)]
pub(super) struct Followers {
    all: Option<broadcast::Sender<Settled>>,
    settled: Vec<(Jti, Outcome)>,
}

impl Followers {
    /// One more.
    pub(super) fn join(&mut self) -> broadcast::Receiver<Settled> {
        self.all.get_or_insert_with(|| broadcast::channel(BEHIND_MAX).0).subscribe()
    }

    /// A SET has ended.
    pub(super) fn settled(&mut self, jti: Jti, outcome: Outcome) {
        if self.all.is_some() {
            self.settled.push((jti, outcome));
        }
    }

    /// Tells them what has ended. Never waits.
    pub(super) fn tell(&mut self) {
        if self.settled.is_empty() {
            return;
        }
        let settled = std::mem::take(&mut self.settled);
        if let Some(all) = &self.all
            && all.send(settled.into()).is_err()
        {
            // Nobody follows any more.
            self.all = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_follower_hears_of_every_end_and_a_slow_one_of_what_it_missed() {
        let mut followers = Followers::default();
        followers.settled(Jti::new(), Outcome::Acked);
        followers.tell();
        let (mut quick, mut slow) = (followers.join(), followers.join());
        let jtis: Vec<Jti> = (0..BEHIND_MAX + 5).map(|_| Jti::new()).collect();
        for jti in &jtis {
            followers.settled(jti.clone(), Outcome::Acked);
            followers.tell();
            assert_eq!(*quick.recv().await.unwrap(), [(jti.clone(), Outcome::Acked)]);
        }
        let missed = slow.recv().await.unwrap_err();
        assert_eq!(missed, broadcast::error::RecvError::Lagged(5));
        assert_eq!(slow.recv().await.unwrap()[0].0, jtis[5], "and it goes on behind that");
        drop((quick, slow));
        followers.settled(Jti::new(), Outcome::Acked);
        followers.tell();
        assert!(followers.all.is_none(), "nobody follows any more");
    }
}
