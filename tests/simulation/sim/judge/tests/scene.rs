//! Events made by hand. `P` sends to `Q`; `H` is hostile.

use std::sync::Arc;
use std::time::Duration;

use pushpull::clock::Wall;
use pushpull::peer::{Chapter, DeathCause, Fate, InboxRow, OutboxRow, Outcome, Remembered, Story, Verdict, Write};
use pushpull::set::{Digest, ErrorCode, Jti, Refusal, SetErr};

use crate::sim::event::{Contents, Death, Event, Org, Role, Truth, Watch};
use crate::sim::judge::{Bounds, Invariant, Judge, Limits};

pub(super) const P: Org = Org(0);
pub(super) const Q: Org = Org(1);
pub(super) const H: Org = Org(2);

/// A judge and the time.
pub(super) struct Scene {
    pub(super) judge: Judge,
    pub(super) at: Duration,
    seq: u64,
}

pub(super) fn token(jti: &str) -> String {
    format!("token of {jti}")
}

pub(super) fn digest(jti: &str) -> Digest {
    Digest::of(token(jti).as_bytes())
}

pub(super) fn other() -> Digest {
    Digest::of(b"another token")
}

pub(super) fn refused() -> Outcome {
    Outcome::Refused(SetErr { err: "invalid_key".to_owned(), description: "no such key".to_owned() })
}

pub(super) fn limits() -> Limits {
    let mut limits = Limits { inbox_max: 5, ..Limits::default() };
    limits.peer.attempts_max = 3;
    limits.peer.give_up_after = Duration::from_secs(60);
    limits.peer.age_max = Duration::from_secs(3600);
    limits.peer.retry_first = Duration::from_secs(2);
    limits.peer.outbox_max = 5;
    limits
}

impl Scene {
    /// Honest `P` and `Q`, and a hostile third.
    pub(super) fn new() -> Self {
        Self::of(Role::Honest)
    }

    /// The same with `Q` like this.
    pub(super) fn of(role: Role) -> Self {
        let bounds = Bounds { repeat_objects: 3, empty_objects_per_minute: 5, ..Bounds::default() };
        Self::made(Judge::new(limits(), bounds), role)
    }

    /// All honest but the third, within other limits.
    pub(super) fn within(limits: Limits) -> Self {
        Self::made(Judge::new(limits, Bounds::default()), Role::Honest)
    }

    /// All honest but the third, within other bounds.
    pub(super) fn bounded(bounds: Bounds) -> Self {
        Self::made(Judge::new(limits(), bounds), Role::Honest)
    }

    fn made(judge: Judge, role: Role) -> Self {
        let mut scene = Self { judge, at: Duration::ZERO, seq: 0 };
        for (org, role) in [(P, Role::Honest), (Q, role), (H, Role::Hostile)] {
            scene.note(Event::Member { org, role });
            if role != Role::Hostile {
                scene.note(Event::Started { org, contents: Contents::default() });
            }
        }
        scene
    }

    pub(super) fn note(&mut self, event: Event) -> &mut Self {
        self.judge.note(self.at, &event);
        self
    }

    pub(super) fn after(&mut self, secs: u64) -> &mut Self {
        self.at += Duration::from_secs(secs);
        self
    }

    /// Exactly this was broken.
    #[track_caller]
    pub(super) fn breaks(&self, invariant: Invariant) {
        let found = self.judge.violation().map(|violation| violation.invariant);
        assert_eq!(found, Some(invariant), "{:?}", self.judge.violation().map(ToString::to_string));
        assert!(self.judge.tally().tested(invariant) > 0);
    }

    /// Nothing was broken, and this was put to the test.
    #[track_caller]
    pub(super) fn passes(&self, invariant: Invariant) {
        assert_eq!(self.judge.violation().map(ToString::to_string), None);
        assert!(self.judge.tally().tested(invariant) > 0, "{invariant} was not put to the test");
    }

    /// How often an exception was made whose name has this word.
    pub(super) fn excused(&self, word: &str) -> u64 {
        self.judge.tally().exceptions().filter(|(why, _)| why.contains(word)).map(|(_, count)| count).sum()
    }

    pub(super) fn durable(&mut self, org: Org, partner: Org, writes: Vec<Write>) -> &mut Self {
        self.note(Event::Durable { org, partner, writes: Arc::new(writes) })
    }
}

/// What `P` does.
impl Scene {
    pub(super) fn submitted(&mut self, jti: &str) -> &mut Self {
        self.note(Event::Submitted { from: P, to: Q, jti: jti.into(), digest: digest(jti) })
    }

    pub(super) fn row(&mut self, jti: &str, story: Story) -> OutboxRow {
        self.seq += 1;
        let (seq, accepted_at) = (self.seq, Wall(0));
        OutboxRow {
            seq,
            jti: jti.into(),
            compact: token(jti).into(),
            digest: digest(jti),
            accepted_at,
            attempts: 0,
            story,
        }
    }

    pub(super) fn enqueued(&mut self, jti: &str) -> &mut Self {
        let row = self.row(jti, Story::default());
        self.durable(P, Q, vec![Write::Enqueue(row)])
    }

    pub(super) fn accepted(&mut self, jti: &str) -> &mut Self {
        self.note(Event::Accepted { from: P, to: Q, jti: jti.into(), digest: digest(jti) })
    }

    pub(super) fn declined(&mut self, jti: &str, digest: Digest, why: &'static str) -> &mut Self {
        self.note(Event::Declined { from: P, to: Q, jti: jti.into(), digest, why })
    }

    /// Submitted, durable, accepted.
    pub(super) fn sent(&mut self, jti: &str) -> &mut Self {
        self.submitted(jti).enqueued(jti).accepted(jti)
    }

    pub(super) fn left_as(&mut self, jti: &str, digest: Digest) -> &mut Self {
        let sets = vec![(jti.into(), digest)];
        self.object(P, Q, sets, &[], &[]);
        self.note(Event::Heard { org: P, from: Q })
    }

    pub(super) fn left(&mut self, jti: &str) -> &mut Self {
        self.left_as(jti, digest(jti))
    }

    pub(super) fn object(
        &mut self,
        from: Org,
        to: Org,
        sets: Vec<(Jti, Digest)>,
        acks: &[&str],
        errors: &[&str],
    ) -> &mut Self {
        let acks = acks.iter().map(|jti| Jti::from(*jti)).collect();
        let errors = errors.iter().map(|jti| (Jti::from(*jti), "invalid_key".to_owned())).collect();
        self.note(Event::Left {
            from,
            to,
            link: 1,
            sets,
            acks,
            errors,
            sets_max: 10,
            bytes: 100,
            bytes_max: 1000,
            tells: true,
        })
    }

    /// The verdict of this one reaches `P`.
    pub(super) fn verdict_came(&mut self, from: Org, acks: &[&str], errors: &[&str]) -> &mut Self {
        let acks = acks.iter().map(|jti| Jti::from(*jti)).collect();
        let errors = errors.iter().map(|jti| (Jti::from(*jti), "invalid_key".to_owned())).collect();
        self.note(Event::Came { to: P, from, link: 1, sets: Vec::new(), acks, errors })
    }

    pub(super) fn settle(&self, seq: u64, jti: &str, outcome: Outcome, attempts: u32) -> Write {
        let (digest, jti, story) = (digest(jti), jti.into(), Story::default());
        Write::Settle { seq, jti, digest, accepted_at: Wall(0), outcome, at: Wall(1), attempts, story }
    }

    pub(super) fn settled(&mut self, seq: u64, jti: &str, outcome: Outcome) -> &mut Self {
        let write = self.settle(seq, jti, outcome, 0);
        self.durable(P, Q, vec![write])
    }

    pub(super) fn attempts(&mut self, seq: u64, attempts: u32) -> &mut Self {
        self.durable(P, Q, vec![Write::Attempts { seq, attempts }])
    }

    /// Left as often as it may, answered never, and given up by policy. Its seq must be 1.
    pub(super) fn given_up(&mut self, jti: &str) -> &mut Self {
        self.left(jti).after(30).left(jti).attempts(1, 2).after(30).left(jti).after(30);
        let write = self.settle(1, jti, Outcome::Dead(DeathCause::Attempts), 3);
        self.durable(P, Q, vec![write])
    }

    pub(super) fn lift(&self, seq: u64, jti: &str, chapter: Option<Chapter>) -> Write {
        let memory = chapter.map(|chapter| Remembered {
            digest: digest(jti),
            seq,
            since: Wall(0),
            fate: Fate::Settled { outcome: Outcome::Dead(DeathCause::Attempts), at: Wall(1), attempts: 3 },
            story: Story::of(vec![chapter]),
        });
        Write::Lift { seq, jti: jti.into(), memory }
    }

    pub(super) fn series() -> Story {
        Story::of(vec![Chapter::Series { since: Wall(0), cause: DeathCause::Attempts, at: Wall(1), attempts: 3 }])
    }

    pub(super) fn redriving(&mut self, jti: &str, how: &'static str) -> &mut Self {
        self.note(Event::Redriving { org: P, to: Q, jti: jti.into(), how })
    }
}

/// What `Q` does.
impl Scene {
    pub(super) fn came_from(&mut self, from: Org, jti: &str, digest: Digest, truth: Truth) -> &mut Self {
        let sets = vec![(jti.into(), digest, truth)];
        self.note(Event::Came { to: Q, from, link: 1, sets, acks: Vec::new(), errors: Vec::new() })
    }

    pub(super) fn came(&mut self, jti: &str, truth: Truth) -> &mut Self {
        self.came_from(P, jti, digest(jti), truth)
    }

    pub(super) fn receive(jti: &str) -> Write {
        let compact = token(jti).into();
        Write::Receive(InboxRow { jti: jti.into(), compact, digest: digest(jti), received_at: Wall(0) })
    }

    pub(super) fn received(&mut self, jti: &str) -> &mut Self {
        self.durable(Q, P, vec![Self::receive(jti)])
    }

    pub(super) fn answered(&mut self, jti: &str, verdict: Verdict) -> &mut Self {
        self.durable(Q, P, vec![Write::Answer { jti: jti.into(), digest: digest(jti), verdict, at: Wall(0) }])
    }

    pub(super) fn refusal() -> Verdict {
        Verdict::Refused(Refusal::new(ErrorCode::InvalidKey, "no such key"))
    }

    pub(super) fn acks(&mut self, jtis: &[&str]) -> &mut Self {
        self.object(Q, P, Vec::new(), jtis, &[])
    }

    pub(super) fn refuses(&mut self, jtis: &[&str]) -> &mut Self {
        self.object(Q, P, Vec::new(), &[], jtis)
    }

    pub(super) fn handed(&mut self, jti: &str, redelivered: bool) -> &mut Self {
        self.note(Event::Handed { org: Q, from: P, jti: jti.into(), digest: digest(jti), redelivered })
    }

    pub(super) fn confirmed(&mut self, jti: &str) -> &mut Self {
        self.note(Event::Confirmed { org: Q, from: P, jti: jti.into() })
    }

    /// From `send` to the application's confirmation and `P`'s knowledge of it. Its seq must be this.
    pub(super) fn delivered(&mut self, seq: u64, jti: &str) -> &mut Self {
        self.sent(jti).left(jti).came(jti, Truth::Sound).received(jti).handed(jti, false).acks(&[jti]).confirmed(jti);
        self.verdict_came(Q, &[jti], &[]).settled(seq, jti, Outcome::Acked)
    }
}

/// Disks.
impl Scene {
    pub(super) fn died(&mut self, org: Org, contents: Contents) -> &mut Self {
        self.note(Event::Died { org, why: Death::Killed, contents })
    }

    pub(super) fn started(&mut self, org: Org, contents: Contents) -> &mut Self {
        self.note(Event::Started { org, contents })
    }

    /// Down and up again with this on its disk.
    pub(super) fn restarted(&mut self, org: Org, contents: Contents) -> &mut Self {
        self.died(org, contents.clone()).started(org, contents)
    }
}

/// A disk with these rows about one partner.
pub(super) fn disk(partner: Org) -> On {
    On { partner, contents: Contents::default() }
}

pub(super) struct On {
    partner: Org,
    contents: Contents,
}

impl On {
    fn rows(jtis: &[&str]) -> Vec<(Jti, Digest)> {
        jtis.iter().map(|jti| ((*jti).into(), digest(jti))).collect()
    }

    pub(super) fn queued(mut self, jtis: &[&str]) -> Self {
        self.contents.outbox.insert(self.partner, Self::rows(jtis));
        self
    }

    pub(super) fn dead(mut self, jtis: &[&str]) -> Self {
        self.contents.dead.insert(self.partner, Self::rows(jtis));
        self
    }

    pub(super) fn inbox(mut self, jtis: &[&str]) -> Self {
        self.contents.inbox.insert(self.partner, Self::rows(jtis));
        self
    }

    pub(super) fn answered(mut self, jtis: &[(&str, bool)]) -> Self {
        let jtis = jtis.iter().map(|(jti, ack)| ((*jti).into(), *ack)).collect();
        self.contents.answered.insert(self.partner, jtis);
        self
    }

    pub(super) fn settled(mut self, jtis: &[(&str, &'static str)]) -> Self {
        let jtis = jtis.iter().map(|(jti, how)| ((*jti).into(), *how)).collect();
        self.contents.settled.insert(self.partner, jtis);
        self
    }

    pub(super) fn damaged(mut self, jtis: &[&str]) -> Self {
        self.contents.damaged.insert(self.partner, jtis.iter().map(|jti| (*jti).into()).collect());
        self
    }

    pub(super) fn counts(mut self, counts: pushpull::peer::Counts) -> Self {
        self.contents.counts.insert(self.partner, counts);
        self
    }

    pub(super) fn done(self) -> Contents {
        self.contents
    }
}
