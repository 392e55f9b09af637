//! Who may call: from a request's credentials to the partner.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::body::Body;
use http::{HeaderMap, Response};

use super::reply;
use crate::auth::{Bearers, Secret, TokenTaken, Unauthorised};
use crate::engine::Partner;
use crate::peer::PeerId;

/// The partners that can identify themselves to us. Changes at run time.
#[derive(Default)]
pub struct Directory(RwLock<Entries>);

#[derive(Default)]
struct Entries {
    bearers: Bearers<PeerId>,
    partners: HashMap<PeerId, Arc<Partner>>,
}

impl Directory {
    /// From now on, who presents this token is this partner.
    pub fn admit(&self, token: &Secret, partner: Arc<Partner>) -> Result<(), TokenTaken> {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        entries.bearers.insert(token, partner.id)?;
        entries.partners.insert(partner.id, partner);
        Ok(())
    }

    /// From now on this partner's tokens mean nothing.
    pub fn expel(&self, partner: PeerId) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        entries.bearers.remove(&partner);
        entries.partners.remove(&partner);
    }

    /// The caller, or the 401 to give it. Looks at headers only, so it comes before any body is read.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Result<Arc<Partner>, Response<Body>> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let id = entries.bearers.identify(headers).map_err(reply::unauthorised)?;
        entries.partners.get(&id).cloned().ok_or_else(|| reply::unauthorised(Unauthorised::Unknown))
    }
}
