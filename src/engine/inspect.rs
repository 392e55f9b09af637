//! From bytes to an inspected object: every SET verified, refused, or undecidable for now.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::bucket::{Bucket, Rate};
use super::doubts::Doubts;
use super::pool::{Pool, Queue};
use crate::auth::PartnerKeys;
use crate::clock::{Clock, Wall};
use crate::cpu::{self, Stage};
use crate::metrics::Metrics;
use crate::peer::{Arrival, Finding, Inspected};
use crate::planted::{self, Bug};
use crate::set::{Digest, Fault, Jti, KeySet, Policy, Refusal, VerifiedSet, verify};
use crate::wire::{self, Object};

/// Checks what one partner sends: our policy for it, and its published keys.
pub struct Inspector {
    policy: Arc<Policy>,
    keys: Arc<PartnerKeys<KeySet>>,
    pool: Pool,
    clock: Arc<dyn Clock>,
    /// Pays for SETs that do not verify, by their number.
    garbage: Bucket,
    /// The same by the time that they take.
    garbage_time: Arc<Bucket>,
    metrics: Option<Metrics>,
    doubts: Doubts,
}

/// How many SETs that do not verify are looked at. More than the core writes refusals for, so an honest partner with a
/// wrong setting meets that limit first; little enough that garbage takes a small part of one core.
const GARBAGE: Rate = Rate { per_second: 200, burst: Duration::from_secs(5) };

/// How long, in microseconds, SETs may fail to verify: a tenth of a core. A partner chooses what its keys cost, and could keep every
/// core busy with objects of ten thousand.
const GARBAGE_TIME: Rate = Rate { per_second: 100_000, burst: Duration::from_secs(5) };

/// The longest time for which nothing of a partner is verified because of its garbage. Short, since SETs also fail while
/// we do not have its new keys yet.
const GARBAGE_PAUSE: Duration = Duration::from_secs(2);

/// Objects up to this size, in bytes, are read where they arrive: a thread of their own would cost more.
const READ_AT_ONCE_MAX: usize = 256 << 10;

/// A SET on its way through the checks.
struct Examined {
    jti: Jti,
    compact: Arc<str>,
    digest: Digest,
    opinion: Opinion,
    issued_at: Wall,
    label: &'static str,
}

enum Opinion {
    Final(Finding),
    /// The keys at hand do not verify it. Final only if they are newer than the SET.
    UnlessNewerKeys(Refusal),
    /// It was not looked at: too much before it was garbage.
    Unseen,
}

impl Opinion {
    fn is_failure(&self) -> bool {
        matches!(self, Self::Final(Finding::Refuse(_)) | Self::UnlessNewerKeys(_))
    }
}

impl Inspector {
    /// An inspector for one partner.
    pub fn new(policy: Policy, keys: Arc<PartnerKeys<KeySet>>, pool: Pool, clock: Arc<dyn Clock>) -> Self {
        // With others in turns, whatever this partner sends.
        let (pool, metrics, garbage, doubts) = (pool.party(), None, Bucket::default(), Doubts::default());
        Self { policy: Arc::new(policy), keys, pool, clock, garbage, garbage_time: Arc::default(), metrics, doubts }
    }

    /// Measures there how long the checks take.
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// The partner's keys.
    pub fn keys(&self) -> &Arc<PartnerKeys<KeySet>> {
        &self.keys
    }

    /// Reads an object. A large one may take a tenth of a second, for which no other connection shall have to wait, and
    /// many times its size in memory, so that only some are read at a time.
    pub async fn read(&self, bytes: Bytes, limits: wire::Limits) -> Result<Object, wire::Malformed> {
        self.read_as(bytes, move |bytes| wire::parse(bytes, &limits)).await
    }

    /// The same for what `parse` makes of the bytes.
    pub async fn read_as<T: Send + 'static>(
        &self,
        bytes: Bytes,
        parse: impl FnOnce(&[u8]) -> Result<T, wire::Malformed> + Send + 'static,
    ) -> Result<T, wire::Malformed> {
        if bytes.len() <= READ_AT_ONCE_MAX {
            return parse(&bytes);
        }
        self.pool.run(Queue::Reading, move || parse(&bytes)).await
    }

    /// Verifies every SET of an object on all cores. When the keys at hand do not do, waits up to `patience` for others:
    /// any may verify a SET, but only ones newer than its first arrival refuse it (R7: without them there is no
    /// verdict). After too much that does not verify there is none for a moment, whatever comes.
    pub async fn inspect(&self, object: Object, patience: Duration) -> Inspected {
        let arrived_at = self.clock.now();
        let deadline = tokio::time::Instant::now() + patience;
        let snapshot = self.keys.current();
        let mut tried = snapshot.as_ref().map(|snapshot| snapshot.started_at);
        let keys = snapshot.map(|snapshot| snapshot.keys).unwrap_or_default();
        let fresh = object.sets.into_iter().map(Examined::fresh).collect();
        if !self.garbage.has_any(GARBAGE, arrived_at.mono) {
            // Unverified, not unknown: by their digests those that have a verdict already still get it again.
            let digest = |set: Examined| set.digested().conclude(false);
            let sets = self.pool.map(Queue::Reading, fresh, digest).await;
            return Inspected { sets, acks: object.acks, errors: object.errors, ..Inspected::default() };
        }
        let mut examined = self.examine(fresh, keys).await;
        let in_doubt = |set: &Examined| matches!(set.opinion, Opinion::UnlessNewerKeys(_));
        let since = |set: &Examined| self.doubts.since(&set.digest, arrived_at.mono);
        let is_newer = |tried: Option<Duration>, since: Duration| tried.is_some_and(|started_at| started_at >= since);
        // Keys as new as this copy are asked for first: its key may have been published since the first copy came.
        while examined.iter().any(in_doubt)
            && !is_newer(tried, arrived_at.mono)
            && let Some(snapshot) = self.keys.after(tried, arrived_at.mono, deadline).await
        {
            tried = Some(snapshot.started_at);
            let is_open = |set: &Examined| in_doubt(set) || matches!(set.opinion, Opinion::Unseen);
            let (doubtful, settled): (Vec<_>, Vec<_>) = examined.into_iter().partition(is_open);
            examined = settled;
            examined.extend(self.examine(doubtful, snapshot.keys).await);
        }
        let conclude = |set: Examined| {
            let since = since(&set);
            let decided = is_newer(tried, since);
            if in_doubt(&set) && !decided {
                self.doubts.note(set.digest, since);
            }
            set.conclude(decided)
        };
        Inspected {
            sets: examined.into_iter().map(conclude).collect(),
            acks: object.acks,
            errors: object.errors,
            ..Inspected::default()
        }
    }

    async fn examine(&self, sets: Vec<Examined>, keys: Arc<KeySet>) -> Vec<Examined> {
        let (policy, now, metrics) = (Arc::clone(&self.policy), self.clock.now(), self.metrics.clone());
        let (garbage_time, began) = (Arc::clone(&self.garbage_time), tokio::time::Instant::now());
        let examined = self
            .pool
            .map(Queue::Verifying, sets, move |set| {
                let started = tokio::time::Instant::now();
                let at = now.mono + (started - began);
                if !garbage_time.has_any(GARBAGE_TIME, at) {
                    return Examined { opinion: Opinion::Unseen, ..set }.digested();
                }
                let verified = cpu::within(Stage::Verify, || verify(&set.compact, Some(&set.jti), &policy, &keys, now));
                let took = started.elapsed();
                if let Some(metrics) = &metrics {
                    metrics.verified(took);
                }
                if verified.is_err() {
                    let micros = usize::try_from(took.as_micros()).unwrap_or(usize::MAX);
                    garbage_time.charge(micros, GARBAGE_TIME, GARBAGE_PAUSE, at + took);
                }
                let digest = verified.as_ref().ok().map(VerifiedSet::digest);
                let label = verified.as_ref().map_or("other", VerifiedSet::label);
                let issued_at = verified.as_ref().map_or(Wall(0), VerifiedSet::issued_at);
                let opinion = match verified {
                    Ok(verified) if verified.is_verification() => Opinion::Final(Finding::Acknowledge),
                    Ok(verified) => Opinion::Final(Finding::Deliver(Arc::clone(verified.compact()))),
                    Err(Fault::Refused(refusal)) => Opinion::Final(Finding::Refuse(refusal)),
                    Err(Fault::Key(refusal)) => Opinion::UnlessNewerKeys(refusal),
                    Err(Fault::NotNow(_)) => Opinion::Final(Finding::Undecidable),
                };
                match digest {
                    Some(digest) => Examined { opinion, issued_at, label, digest, ..set },
                    None => Examined { opinion, issued_at, label, ..set }.digested(),
                }
            })
            .await;
        let failed = examined.iter().filter(|set| set.opinion.is_failure()).count();
        self.garbage.charge(failed, GARBAGE, GARBAGE_PAUSE, self.clock.now().mono);
        examined
    }
}

impl Examined {
    fn fresh((jti, compact): (Jti, Arc<str>)) -> Self {
        let opinion = Opinion::Final(Finding::Undecidable);
        Self { jti, compact, digest: Digest::default(), opinion, issued_at: Wall(0), label: "other" }
    }

    fn digested(self) -> Self {
        let digest = cpu::within(Stage::Verify, || Digest::of(self.compact.as_bytes()));
        Self { digest, ..self }
    }

    fn conclude(self, newest_keys: bool) -> Arrival {
        let finding = match self.opinion {
            Opinion::Final(finding) => finding,
            Opinion::UnlessNewerKeys(refusal) if newest_keys || planted::is(Bug::RefuseOnKeyOutage) => {
                Finding::Refuse(refusal)
            }
            Opinion::UnlessNewerKeys(_) | Opinion::Unseen => Finding::Undecidable,
        };
        let Self { jti, digest, issued_at, label, .. } = self;
        Arrival { jti, digest, finding, known: None, issued_at, label }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use jsonwebtoken::crypto::JwtVerifier;
    use jsonwebtoken::signature::Verifier;

    use super::*;
    use crate::auth::Parsed;
    use crate::clock::SystemClock;
    use crate::set::{Algorithm, Profile, SigningKey, events::Filter};

    fn inspector() -> Inspector {
        let file = tempfile::NamedTempFile::new().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let parse = |_: &[u8]| Ok(Parsed { keys: KeySet::default(), count: 0, skipped: Vec::new() });
        let keys = PartnerKeys::from_file("partner", file.path(), parse, Arc::clone(&clock)).unwrap();
        let policy = Policy {
            issuer: "https://a.example".to_owned(),
            audience: "https://b.example".to_owned(),
            accept: Filter::all(),
            jti_bytes_max: 512,
            set_bytes_max: 1 << 20,
            profile: Profile::Ssf,
        };
        Inspector::new(policy, keys, Pool::new(), clock)
    }

    /// Keys that take their time.
    struct Slow(Box<dyn JwtVerifier + Send + Sync>);

    impl Verifier<Vec<u8>> for Slow {
        fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), jsonwebtoken::signature::Error> {
            std::thread::sleep(Duration::from_millis(4));
            self.0.verify(message, signature)
        }
    }

    impl JwtVerifier for Slow {
        fn algorithm(&self) -> jsonwebtoken::Algorithm {
            self.0.algorithm()
        }
    }

    #[tokio::test]
    async fn an_object_of_garbage_by_costly_keys_is_not_looked_at_to_its_end() {
        let (published, _) = SigningKey::generate(Algorithm::Es256, "k").unwrap();
        let (other, _) = SigningKey::generate(Algorithm::Es256, "k").unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), KeySet::of([published.public_jwk()]).to_json().to_string()).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let parse = |bytes: &[u8]| {
            let mut keys = KeySet::parse(bytes).map_err(|error| error.to_string())?;
            keys.wrap(|_, verifier| Box::new(Slow(verifier)));
            Ok(Parsed { keys, count: 1, skipped: Vec::new() })
        };
        let keys = PartnerKeys::from_file("partner", file.path(), parse, Arc::clone(&clock)).unwrap();
        let inspector = Inspector { keys, ..inspector() };
        let object = |key: &SigningKey, count: usize| {
            let set = |_| {
                let jti = Jti::new();
                let claims = serde_json::json!({
                    "iss": "https://a.example", "aud": "https://b.example", "jti": jti.as_str(),
                    "iat": clock.now().wall.0 / 1000, "sub_id": {"format": "opaque", "id": "1"}, "events": {"https://a.example/event": {}},
                });
                let compact = key.sign(claims.as_object().unwrap()).unwrap();
                (jti, compact)
            };
            Object { sets: (0..count).map(set).collect(), ..Object::default() }
        };
        let good = inspector.inspect(object(&published, 40), Duration::from_secs(30)).await;
        assert!(good.sets.iter().all(|set| matches!(set.finding, Finding::Deliver(_))), "costly, but no garbage");
        let verified = |inspected: &Inspected| {
            inspected.sets.iter().filter(|set| !matches!(set.finding, Finding::Undecidable)).count()
        };
        let keys = inspector.keys.current().unwrap().keys;
        let objects = [0, 1].map(|_| object(&other, 400));
        let mut looked_at = Vec::new();
        for garbage in objects {
            let garbage = garbage.sets.into_iter().map(Examined::fresh).collect();
            let bad = inspector.examine(garbage, Arc::clone(&keys)).await;
            looked_at.push(bad.iter().filter(|set| set.opinion.is_failure()).count());
            assert!(bad.iter().all(|set| set.digest == Digest::of(set.compact.as_bytes())), "known again all the same");
        }
        // Half a second at once, by 4 ms each and more; then a tenth of the time.
        assert!((1..=150).contains(&looked_at[0]) && looked_at[1] <= 20, "{looked_at:?} of 400");
        tokio::time::sleep(GARBAGE_PAUSE).await;
        assert_eq!(
            verified(&inspector.inspect(object(&published, 10), Duration::ZERO).await),
            10,
            "good ones are seen"
        );
    }

    #[tokio::test]
    async fn garbage_buys_no_more_than_its_share_of_verification_and_verdicts_go_on_after_a_pause() {
        let inspector = inspector();
        let object = |count: usize| Object {
            sets: (0..count).map(|_| (Jti::new(), "no.se.t".into())).collect(),
            ..Object::default()
        };
        let refused = |inspected: &Inspected| {
            inspected.sets.iter().filter(|set| matches!(set.finding, Finding::Refuse(_))).count()
        };
        let mut looked_at = 0;
        for _ in 0..20 {
            looked_at += refused(&inspector.inspect(object(500), Duration::ZERO).await);
        }
        assert!((1500..=2500).contains(&looked_at), "{looked_at} of 10000");
        let unseen = inspector.inspect(object(3), Duration::ZERO).await;
        assert_eq!(refused(&unseen), 0);
        assert_eq!(unseen.sets[0].digest, Digest::of(b"no.se.t"), "what has a verdict already is still known again");
        tokio::time::sleep(GARBAGE_PAUSE).await;
        assert_eq!(refused(&inspector.inspect(object(3), Duration::ZERO).await), 3);
    }

    #[tokio::test]
    async fn a_large_object_keeps_nobody_waiting_while_it_is_read() {
        let (inspector, limits) = (inspector(), wire::Limits::default());
        let members: Vec<String> = (0..50_000).map(|n| format!("\"{n}\":1")).collect();
        let large = Bytes::from(format!("{{{}}}", members.join(",")));
        let mut reading = std::pin::pin!(inspector.read(large, limits));
        assert!(reading.as_mut().now_or_never().is_none(), "others get their turn meanwhile");
        assert_eq!(reading.await, Ok(Object::default()));
        assert!(inspector.read(Bytes::from_static(b"{}"), limits).now_or_never().is_some());
    }
}
