//! Who may call: from a request's credentials to the partner, and for how long its connection may stay.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use axum::body::Body;
use http::{HeaderMap, Response};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::info;

use super::reply;
use crate::auth::{Bearers, Secret, TokenTaken, Unauthorised};
use crate::engine::{Partner, Restraint};
use crate::peer::PeerId;

/// The partners that can identify themselves to us. Changes at run time.
pub struct Directory {
    bearers: RwLock<Bearers<Arc<Guest>>>,
    /// Of lines about tokens that are nobody's: anybody can present one.
    restraint: Mutex<Restraint>,
    since: Instant,
}

/// Whoever presents one certain token.
struct Guest {
    partner: Arc<Partner>,
    standing: watch::Sender<Standing>,
}

/// How a connection stands with us that was opened with a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    Welcome,
    /// The token means nothing any more: nothing is taken in, what is owed may still leave.
    Leaving,
    /// The connection has to close.
    Expelled,
}

/// What a connection that lasts holds: tells when its token means nothing any more.
#[derive(Clone, Debug)]
pub struct Pass(watch::Receiver<Standing>);

/// Those who have to go. When it is dropped, their connections close.
#[must_use = "dropped, it closes connections that may still have something to say"]
pub struct Departing(#[expect(dead_code, reason = "held for its drop")] Vec<Arc<Guest>>);

impl PartialEq for Guest {
    fn eq(&self, other: &Self) -> bool {
        self.partner.id == other.partner.id
    }
}

impl Default for Directory {
    fn default() -> Self {
        Self { bearers: RwLock::default(), restraint: Mutex::default(), since: Instant::now() }
    }
}

impl Directory {
    /// From now on the tokens of those who leave mean nothing, and each of those who come has exactly these. All at once,
    /// so that a token can pass from one to the other; or nothing, if a token is somebody else's.
    ///
    /// Connections that were opened with a token which means nothing any more are closed: at once, or, those of partners
    /// who leave, when the answer is dropped.
    pub fn change(&self, leaving: &[PeerId], coming: &[(Arc<Partner>, &[Secret])]) -> Result<Departing, TokenTaken> {
        let mut bearers = self.bearers.write().unwrap_or_else(PoisonError::into_inner);
        let next = after(&bearers, leaving, coming)?;
        let leaving: HashSet<PeerId> = leaving.iter().copied().collect();
        let before = std::mem::replace(&mut *bearers, next);
        let staying: HashSet<*const Guest> = bearers.owners().map(Arc::as_ptr).collect();
        let gone = before.owners().filter(|guest| !staying.contains(&Arc::as_ptr(guest))).cloned();
        let (departing, expelled): (Vec<_>, Vec<_>) = gone.partition(|guest| leaving.contains(&guest.partner.id));
        for (guests, standing) in [(&departing, Standing::Leaving), (&expelled, Standing::Expelled)] {
            for guest in guests {
                guest.standing.send_replace(standing);
            }
        }
        Ok(Departing(departing))
    }

    /// Whether such a change is possible now; changes nothing.
    pub fn may_change(&self, leaving: &[PeerId], coming: &[(Arc<Partner>, &[Secret])]) -> Result<(), TokenTaken> {
        after(&self.bearers.read().unwrap_or_else(PoisonError::into_inner), leaving, coming).map(drop)
    }

    /// The caller, or the 401 to give it. Looks at headers only, so it comes before any body is read.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Result<(Arc<Partner>, Pass), Response<Body>> {
        // Let go before anything is written: a log that stands still must not keep tokens from changing.
        let found = self.bearers.read().unwrap_or_else(PoisonError::into_inner).identify(headers);
        let guest = found.map_err(|why| {
            if why == Unauthorised::Unknown {
                self.note_unknown();
            }
            reply::unauthorised(why)
        })?;
        Ok((Arc::clone(&guest.partner), Pass(guest.standing.subscribe())))
    }
}

impl Directory {
    /// A partner that is not let in sees that for itself; whoever has to hand it another token, or to take over its new one, sees it here.
    fn note_unknown(&self) {
        let admitted = self.restraint.lock().unwrap_or_else(PoisonError::into_inner).admit(1, self.since.elapsed());
        if let Some(count) = admitted {
            info!(count, "refused a bearer token that is no partner's: none of the accept_token_file holds it");
        }
    }
}

/// What the tokens mean after such a change.
fn after(
    bearers: &Bearers<Arc<Guest>>,
    leaving: &[PeerId],
    coming: &[(Arc<Partner>, &[Secret])],
) -> Result<Bearers<Arc<Guest>>, TokenTaken> {
    let replaced: HashSet<PeerId> =
        leaving.iter().copied().chain(coming.iter().map(|(partner, _)| partner.id)).collect();
    let mut next = bearers.clone();
    next.retain(|guest| !replaced.contains(&guest.partner.id));
    for (partner, tokens) in coming {
        for token in *tokens {
            let known = bearers.owner(token).filter(|guest| Arc::ptr_eq(&guest.partner, partner));
            next.insert(token, known.cloned().unwrap_or_else(|| Guest::new(partner)))?;
        }
    }
    Ok(next)
}

impl Guest {
    fn new(partner: &Arc<Partner>) -> Arc<Self> {
        Arc::new(Self { partner: Arc::clone(partner), standing: watch::Sender::new(Standing::Welcome) })
    }
}

impl Pass {
    /// One of nobody's, and how it is revoked.
    #[cfg(test)]
    pub(super) fn that_can_be_revoked() -> (impl FnOnce(), Self) {
        let standing = watch::Sender::new(Standing::Welcome);
        let pass = Self(standing.subscribe());
        let expel = move || {
            standing.send_replace(Standing::Expelled);
        };
        (expel, pass)
    }

    /// Waits until the token means nothing any more.
    pub(super) async fn revoked(&mut self) {
        // An error says that the guest is gone, which is the same.
        let _ = self.0.wait_for(|standing| *standing != Standing::Welcome).await;
    }

    /// Waits until the connection has to close.
    pub(super) async fn expelled(&mut self) {
        let _ = self.0.wait_for(|standing| *standing == Standing::Expelled).await;
    }

    /// Whether the token means nothing any more.
    pub(super) fn is_revoked(&self) -> bool {
        *self.0.borrow() != Standing::Welcome
    }
}
