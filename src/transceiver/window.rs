//! What a replay is about: which time, which types. A job keeps it, so that whoever goes on with the job means the same.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Inner;
use super::redrive_fault::RedriveFault;
use crate::clock::Wall;
use crate::peer::{Fate, Outcome, PeerId, Remembered};
use crate::set::events;

/// What is asked for. With a job that was begun it may be left out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wanted {
    /// What was accepted, or ended, from then on.
    pub since: Option<Wall>,
    /// And accepted before this; now, if nothing is said.
    pub until: Option<Wall>,
    /// Only events of these types: a short name, a URI or a pattern.
    pub types: Option<String>,
}

/// What is meant.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Window {
    /// What was accepted, or ended, from then on (milliseconds since the Unix epoch, as all of them).
    since: u64,
    /// And accepted before this.
    until: u64,
    /// What had ended by then: what was still under way came to the partner by itself.
    as_of: u64,
    /// Only events of these types.
    types: Option<String>,
}

impl Window {
    /// From when on a SET has to have been accepted, or to have ended.
    pub fn since(&self) -> Wall {
        Wall(self.since)
    }

    /// Before when it has to have been accepted.
    pub fn until(&self) -> Wall {
        Wall(self.until)
    }

    /// By when it has to have ended.
    pub fn as_of(&self) -> Wall {
        Wall(self.as_of)
    }

    /// Of which types it has to be; of any, if none.
    pub fn types(&self) -> Option<&str> {
        self.types.as_deref()
    }

    /// Whether what was asked for is this, as far as it was said.
    fn answers(&self, wanted: &Wanted) -> bool {
        let Wanted { since, until, types } = wanted;
        since.is_none_or(|since| since == self.since())
            && until.is_none_or(|until| until == self.until())
            && types.as_ref().is_none_or(|types| self.types.as_ref() == Some(types))
    }

    pub(super) fn filter(&self) -> Result<events::Filter, RedriveFault> {
        let Some(types) = &self.types else { return Ok(events::Filter::all()) };
        let filter = events::Filter::new(std::slice::from_ref(types));
        let filter = filter.map_err(|why| RedriveFault::Invalid(format!("type: {why}")))?;
        // A short name that nobody knows matches nothing, and is told rather than counted as nothing.
        let is_short = !types.contains('*') && !types.contains("://") && !types.starts_with("urn:");
        match events::suggest(types).filter(|_| is_short) {
            Some(meant) => {
                let text = format!("type: {types:?} is no known event type; did you mean {meant:?}?");
                Err(RedriveFault::Invalid(text))
            }
            None => Ok(filter),
        }
    }

    pub(super) fn spans(&self, accepted: Wall, ended: Wall) -> bool {
        (accepted >= self.since() || ended >= self.since()) && accepted < self.until()
    }

    /// The partner has acked it in time, and it lies in this window; when.
    pub(super) fn acked(&self, memory: &Remembered) -> Option<Wall> {
        let Fate::Settled { outcome: Outcome::Acked, at, .. } = memory.fate else { return None };
        (at <= self.as_of() && self.spans(memory.since, at)).then_some(at)
    }
}

/// It is of these types. What only tests or tells of the stream is never said again.
pub(super) fn is_meant(filter: &events::Filter, claims: &Map<String, Value>) -> bool {
    let of_stream = |uri: &String| matches!(uri.as_str(), events::VERIFICATION | events::STREAM_UPDATED);
    let types = claims.get("events").and_then(Value::as_object);
    types.is_some_and(|types| types.keys().any(|uri| !of_stream(uri) && filter.allows(uri)))
}

impl Inner {
    /// What is meant: what the job was begun with, or what is asked for, with which it is begun then unless it is only counted.
    pub(super) async fn window(
        &self,
        peer: PeerId,
        wanted: &Wanted,
        job: Option<&str>,
        dry_run: bool,
    ) -> Result<Window, RedriveFault> {
        let read = |text: String| {
            let newer = |_| RedriveFault::Invalid("the job was begun by a newer version of this program".to_owned());
            serde_json::from_str::<Window>(&text).map_err(newer)
        };
        let kept = match job {
            Some(job) => self.journal.job(peer, job.to_owned()).await.map_err(|error| self.failed(error))?,
            None => None,
        };
        let window = match (kept, wanted.since) {
            (Some(kept), _) => read(kept)?,
            (None, None) => {
                let missing = || RedriveFault::Invalid("since: missing".to_owned());
                return Err(job.map_or_else(missing, |job| RedriveFault::NoSuchJob(job.to_owned())));
            }
            (None, Some(since)) => {
                let now = self.clock.now().wall;
                let until = wanted.until.unwrap_or(now).min(now);
                if since >= until {
                    let text = "since: expected a time before `until`, which is now at the latest";
                    return Err(RedriveFault::Invalid(text.to_owned()));
                }
                let types = wanted.types.clone();
                let window = Window { since: since.0, until: until.0, as_of: now.0, types };
                window.filter()?;
                match job.filter(|_| !dry_run) {
                    None => return Ok(window),
                    Some(job) => {
                        let text = serde_json::to_string(&window).unwrap_or_default();
                        let begun = self.journal.begin_job(peer, job.to_owned(), text, now).await;
                        read(begun.map_err(|error| self.failed(error))?)?
                    }
                }
            }
        };
        match window.answers(wanted) {
            true => Ok(window),
            false => {
                let (since, until) = (window.since().to_rfc3339(), window.until().to_rfc3339());
                Err(RedriveFault::OtherJob { job: job.unwrap_or_default().to_owned(), since, until })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn window(types: Option<&str>) -> Window {
        Window { since: 100, until: 200, as_of: 250, types: types.map(str::to_owned) }
    }

    #[test]
    fn what_was_accepted_or_ended_since_then_is_meant() {
        for (accepted, ended, expected) in
            [(100, 100, true), (199, 300, true), (200, 200, false), (99, 99, false), (50, 100, true), (50, 400, true)]
        {
            let spans = window(None).spans(Wall(accepted), Wall(ended));
            assert_eq!(spans, expected, "accepted at {accepted}, ended at {ended}");
        }
        let memory = |outcome, at| Remembered {
            digest: Default::default(),
            seq: 1,
            since: Wall(150),
            fate: Fate::Settled { outcome, at: Wall(at), attempts: 0 },
            story: Default::default(),
        };
        let age = Outcome::Dead(crate::peer::DeathCause::Age);
        for (outcome, at, expected) in [(Outcome::Acked, 250, true), (Outcome::Acked, 251, false), (age, 160, false)] {
            assert_eq!(window(None).acked(&memory(outcome, at)), expected.then_some(Wall(at)));
        }
    }

    #[test]
    fn a_job_answers_to_what_is_left_out_and_to_the_same_alone() {
        let kept = window(Some("caep:*"));
        let wanted = |since: Option<u64>, until: Option<u64>, types: Option<&str>| Wanted {
            since: since.map(Wall),
            until: until.map(Wall),
            types: types.map(str::to_owned),
        };
        for same in
            [wanted(None, None, None), wanted(Some(100), Some(200), Some("caep:*")), wanted(Some(100), None, None)]
        {
            assert!(kept.answers(&same), "{same:?}");
        }
        for other in [wanted(Some(101), None, None), wanted(None, Some(201), None), wanted(None, None, Some("risc:*"))]
        {
            assert!(!kept.answers(&other), "{other:?}");
        }
    }

    #[test]
    fn types_are_chosen_and_events_of_the_stream_left_out() {
        let claims = |uri: &str| json!({"events": {uri: {}}}).as_object().unwrap().clone();
        let uri = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
        for (types, expected) in [(None, true), (Some("caep:session-revoked"), true), (Some("risc:*"), false)] {
            assert_eq!(is_meant(&window(types).filter().unwrap(), &claims(uri)), expected, "{types:?}");
        }
        assert!(!is_meant(&events::Filter::all(), &claims(events::VERIFICATION)));
        assert!(!is_meant(&events::Filter::all(), &json!({}).as_object().unwrap().clone()));
        for wrong in ["caep:session-revokd", "a b"] {
            assert!(matches!(window(Some(wrong)).filter(), Err(RedriveFault::Invalid(_))), "{wrong}");
        }
    }
}
