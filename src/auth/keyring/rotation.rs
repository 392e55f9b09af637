//! The life of each of our keys, `next → active → retiring → retired`: a value that decides and does no I/O. It is
//! what `rotation.json` holds.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Wall;
use crate::planted::{self, Bug};

/// Every key that is published or ever was, by its `kid`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Rotation {
    pub(super) keys: BTreeMap<String, Key>,
}

/// One key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Key {
    /// Where it stands.
    #[serde(flatten)]
    pub state: State,
    /// Since when, in milliseconds of the Unix epoch: for people. Nothing is decided by it.
    since_ms: u64,
    /// Its public half: what is published must not depend on a private file that somebody removes too early.
    pub jwk: Value,
}

/// Where a key stands.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Published, does not sign yet.
    Next {
        /// It signs as soon as it has been published for long enough; else only when somebody says so.
        takes_over: bool,
        /// For how long it has been served. Counted by the monotonic clock while the process runs, since only then a
        /// partner can fetch it: a wall clock that jumps cannot shorten it, nor can a night in which nothing ran.
        served_ms: u64,
        /// It was there before anybody kept count, so that SETs may be under way which it has signed.
        may_have_signed: bool,
    },
    /// Published, and the one that signs.
    Active,
    /// Published, does not sign any more.
    Retiring {
        /// For each peer that may still have unsettled SETs of this key: they are among those before this `seq`. None
        /// while that is being found out.
        marks: Option<BTreeMap<String, u64>>,
        /// For how long nothing has needed it.
        settled_ms: u64,
    },
    /// Not published. The name is not used again: partners may remember what it stood for.
    Retired,
}

/// Which key signs, by the files, the configuration and what has been so far.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    /// It signs now.
    pub signs: String,
    /// It is to sign once it has been published for long enough.
    pub then: Option<String>,
}

/// Nothing says which key signs.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Undecided {
    /// No key can sign.
    #[error("there is no signing key")]
    NoKey,
    /// There are several.
    #[error("there are several keys, and neither keys.active nor an earlier rotation says which one signs")]
    Several,
    /// `keys.active` names none of them.
    #[error("there is no key {0:?}, which keys.active names")]
    NoSuchKey(String),
}

impl Rotation {
    /// The key that signs according to what has been so far.
    pub fn active(&self) -> Option<&str> {
        self.keys.iter().find(|(_, key)| key.state == State::Active).map(|(kid, _)| kid.as_str())
    }

    /// The key that is to sign next.
    pub fn heir(&self) -> Option<&str> {
        let is_heir = |key: &Key| matches!(key.state, State::Next { takes_over: true, .. });
        self.keys.iter().find(|(_, key)| is_heir(key)).map(|(kid, _)| kid.as_str())
    }

    /// One key.
    pub fn get(&self, kid: &str) -> Option<&Key> {
        self.keys.get(kid)
    }

    /// All keys, by kid.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &Key)> {
        self.keys.iter().map(|(kid, key)| (kid.as_str(), key))
    }

    /// Those that `/jwks.json` shows.
    pub fn published(&self) -> impl Iterator<Item = (&str, &Key)> {
        self.keys().filter(|(_, key)| key.state != State::Retired)
    }

    /// Whether this key signs no more.
    pub fn is_rotated_away(&self, kid: &str) -> bool {
        self.get(kid).is_some_and(|key| matches!(key.state, State::Retiring { .. } | State::Retired))
    }

    /// Whether this public half takes the place of another one that partners still need: nobody could verify then what
    /// the earlier key has signed.
    pub(super) fn is_replaced(&self, kid: &str, jwk: &Value) -> bool {
        self.get(kid).is_some_and(|key| match key.state {
            State::Next { may_have_signed, .. } => may_have_signed && !key.is_same(jwk),
            State::Active | State::Retiring { .. } => !key.is_same(jwk),
            State::Retired => false,
        })
    }

    /// Which of these key files signs. `configured` is `keys.active`: it wins, unless the key that it names has been
    /// rotated away since. Naming another key there is a rotation too, which waits like any.
    pub fn decide<'a>(
        &self,
        files: impl IntoIterator<Item = &'a str>,
        configured: Option<&str>,
        publish_wait: Duration,
    ) -> Result<Decision, Undecided> {
        let usable: Vec<&str> = files.into_iter().filter(|kid| !self.is_rotated_away(kid)).collect();
        let current = self.active().filter(|kid| usable.contains(kid));
        let signs = |kid: &str| Ok(Decision { signs: kid.to_owned(), then: None });
        match (configured.filter(|kid| !self.is_rotated_away(kid)), current) {
            (Some(kid), _) if !usable.contains(&kid) => Err(Undecided::NoSuchKey(kid.to_owned())),
            (Some(kid), Some(current))
                if kid != current && !publish_wait.is_zero() && !self.is_known_to_partners(kid, publish_wait) =>
            {
                Ok(Decision { signs: current.to_owned(), then: Some(kid.to_owned()) })
            }
            (Some(kid), _) | (None, Some(kid)) => signs(kid),
            (None, None) => match usable.as_slice() {
                [] => Err(Undecided::NoKey),
                [only] => signs(only),
                _ => Err(Undecided::Several),
            },
        }
    }

    /// Takes over what the key directory holds: new files are published, files that are gone are dropped, and the
    /// decision is carried out. `files` has the public halves.
    pub fn reconcile(
        &mut self,
        files: &BTreeMap<String, Value>,
        configured: Option<&str>,
        publish_wait: Duration,
        now: Wall,
    ) -> Result<(), Undecided> {
        for (kid, jwk) in files {
            if let Some(key) = self.keys.get_mut(kid) {
                key.replace(jwk);
            }
        }
        let decision = self.decide(files.keys().map(String::as_str), configured, publish_wait)?;
        let may_have_signed = self.keys.is_empty();
        for (kid, jwk) in files {
            if self.get(kid).is_none() {
                self.publish(kid, jwk.clone(), now);
                if let Some(State::Next { may_have_signed: before, .. }) = self.state_mut(kid) {
                    *before = may_have_signed;
                }
            }
        }
        let gone: Vec<(String, bool)> = self.without_file(files).collect();
        for (kid, may_have_signed) in gone {
            if may_have_signed {
                self.set(&kid, State::retiring(), now);
            } else {
                self.keys.remove(&kid);
            }
        }
        if self.active() != Some(&decision.signs) {
            self.switch(&decision.signs, now);
        }
        if let Some(heir) = decision.then {
            self.schedule(&heir);
        }
        Ok(())
    }

    /// Keys that were to sign and cannot any more, and whether they may have signed before.
    fn without_file(&self, files: &BTreeMap<String, Value>) -> impl Iterator<Item = (String, bool)> {
        self.keys.iter().filter(|(kid, _)| !files.contains_key(*kid)).filter_map(|(kid, key)| match key.state {
            State::Next { may_have_signed, .. } => Some((kid.clone(), may_have_signed)),
            _ => None,
        })
    }

    /// Publishes a key that does not sign yet.
    pub(super) fn publish(&mut self, kid: &str, jwk: Value, now: Wall) {
        let state = State::Next { takes_over: false, served_ms: 0, may_have_signed: false };
        self.keys.insert(kid.to_owned(), Key { state, since_ms: now.0, jwk });
    }

    /// From now on this one is to sign next, and no other.
    pub(super) fn schedule(&mut self, heir: &str) {
        for (kid, key) in &mut self.keys {
            if let State::Next { takes_over, .. } = &mut key.state {
                *takes_over = kid == heir;
            }
        }
    }

    /// From now on this one signs. The one that did stays published.
    pub(super) fn switch(&mut self, kid: &str, now: Wall) {
        if let Some(old) = self.active().map(str::to_owned) {
            let state = if planted::is(Bug::OldKeyDropped) { State::Retired } else { State::retiring() };
            self.set(&old, state, now);
        }
        self.set(kid, State::Active, now);
    }

    pub(super) fn set(&mut self, kid: &str, state: State, now: Wall) {
        if let Some(key) = self.keys.get_mut(kid) {
            (key.state, key.since_ms) = (state, now.0);
        }
    }

    pub(super) fn state_mut(&mut self, kid: &str) -> Option<&mut State> {
        self.keys.get_mut(kid).map(|key| &mut key.state)
    }

    /// Lets time pass in which these keys were served.
    pub(super) fn advance(&mut self, elapsed: Duration, served: impl Fn(&str) -> bool) {
        let elapsed = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        for (_, key) in self.keys.iter_mut().filter(|(kid, _)| served(kid)) {
            match &mut key.state {
                State::Next { served_ms, .. } => *served_ms = served_ms.saturating_add(elapsed),
                State::Retiring { marks: Some(marks), settled_ms } if marks.is_empty() => {
                    *settled_ms = settled_ms.saturating_add(elapsed);
                }
                _ => {}
            }
        }
    }

    /// The key whose time to sign has come.
    pub(super) fn due_to_sign(&self, publish_wait: Duration) -> Option<&str> {
        self.heir().filter(|kid| self.is_known_to_partners(kid, publish_wait))
    }

    /// A key that nothing needs any more, and that no partner need have in its cache.
    pub(super) fn due_to_retire(&self, publish_wait: Duration) -> Option<&str> {
        let due = |key: &Key| key.left(publish_wait) == Some(Duration::ZERO) && key.is_settled();
        self.keys.iter().find(|(_, key)| due(key)).map(|(kid, _)| kid.as_str())
    }

    /// Whether time matters to any key.
    pub(super) fn is_waiting(&self, publish_wait: Duration) -> bool {
        self.keys.values().any(|key| match key.state {
            State::Next { .. } => key.left(publish_wait) != Some(Duration::ZERO) || key.is_heir(),
            State::Retiring { .. } => true,
            State::Active | State::Retired => false,
        })
    }

    /// Whether a wait is running whose length so far should survive.
    pub(super) fn is_counting(&self, publish_wait: Duration) -> bool {
        self.keys.values().any(|key| key.left(publish_wait).is_some_and(|left| !left.is_zero()))
    }

    fn is_known_to_partners(&self, kid: &str, publish_wait: Duration) -> bool {
        let key = self.get(kid).filter(|key| matches!(key.state, State::Next { .. }));
        key.is_some_and(|key| key.left(publish_wait) == Some(Duration::ZERO))
    }
}

impl Key {
    /// Since when it is in its state.
    pub fn since(&self) -> Wall {
        Wall(self.since_ms)
    }

    /// What it signs with.
    pub fn algorithm(&self) -> &str {
        self.jwk.get("alg").and_then(Value::as_str).unwrap_or_default()
    }

    /// How much of the time is left in which partners fetch a change of the published keys; none where no such time
    /// runs.
    pub fn left(&self, publish_wait: Duration) -> Option<Duration> {
        match &self.state {
            State::Next { served_ms: ms, .. } => Some(publish_wait.saturating_sub(Duration::from_millis(*ms))),
            State::Retiring { settled_ms, .. } if self.is_settled() => {
                Some(publish_wait.saturating_sub(Duration::from_millis(*settled_ms)))
            }
            _ => None,
        }
    }

    /// A retiring key that no unsettled SET needs.
    pub fn is_settled(&self) -> bool {
        matches!(&self.state, State::Retiring { marks: Some(marks), .. } if marks.is_empty())
    }

    /// Whether this is its public half; what else a JWK says may change.
    fn is_same(&self, jwk: &Value) -> bool {
        ["kty", "crv", "x", "y", "n", "e"].iter().all(|member| self.jwk.get(member) == jwk.get(member))
    }

    /// Another public half for a key that never signed. No partner has this one yet, so that its wait begins anew.
    fn replace(&mut self, jwk: &Value) {
        let is_same = self.is_same(jwk);
        if let State::Next { served_ms, may_have_signed: false, .. } = &mut self.state
            && !is_same
        {
            *served_ms = 0;
            self.jwk = jwk.clone();
        }
    }

    fn is_heir(&self) -> bool {
        matches!(self.state, State::Next { takes_over: true, .. })
    }
}

impl State {
    /// It signs no more, and it is not known yet who needs it.
    pub(super) fn retiring() -> Self {
        Self::Retiring { marks: None, settled_ms: 0 }
    }

    /// As commands and API show it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Next { .. } => "next",
            Self::Active => "active",
            Self::Retiring { .. } => "retiring",
            Self::Retired => "retired",
        }
    }
}
