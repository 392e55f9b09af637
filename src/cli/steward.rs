//! Whoever looks after the running daemon's peers: adds and removes them for the admin API. `reload.rs` is its other half.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;
use tracing::info;

use crate::admin::{self, AddFault, Reloaded, Removal, RemoveFault, Terms};
use crate::config::diff::{self, Contents, Seen};
use crate::config::{Config, Environment};
use crate::transceiver::{Backlog, ChangeError, Changes, SubmitFault, Transceiver};

use super::site::Site;
use super::systemd::Manager;
use super::{Error, Exit, assemble, log};

/// How often a queue that is being emptied is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a busy conversation may take until it tells what waits for it.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(super) struct Steward(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) transceiver: Transceiver,
    pub(super) site: Site,
    pub(super) level: log::Level,
    pub(super) manager: Manager,
    /// What the daemon runs with. Whoever changes that holds it: one at a time.
    pub(super) running: Mutex<Seen>,
    pub(super) hangups: Notify,
}

impl Steward {
    /// Brings in all peers, those of the file and those that were added at run time.
    pub(super) async fn begin(
        transceiver: Transceiver,
        site: Site,
        config: Config,
        level: log::Level,
        manager: Manager,
    ) -> Result<Self, Error> {
        let kept = transceiver.kept_peers().await?;
        let mut contents = Contents::new();
        let peers = assemble::peers(&config, kept, &site.environment, site.directory(), &mut contents)
            .map_err(|problems| Error::new(Exit::ConfigInvalid, problems.join("\n")))?;
        assemble::note_others(&config, &mut contents)?;
        let changes = Changes { set: peers, ..Changes::default() };
        transceiver.change_peers(changes).await?;
        let running = Mutex::new(Seen { config, contents });
        Ok(Self(Arc::new(Inner { transceiver, site, level, manager, running, hangups: Notify::new() })))
    }
}

impl Inner {
    async fn add_peer(&self, name: String, definition: Value) -> Result<(), AddFault> {
        let mut running = self.running.lock().await;
        if let Some(place) = self.place_in_file(&name, &running.config) {
            return Err(AddFault::Conflict(format!("peer {name:?} stands in {place}")));
        }
        if definition.get("name").is_some_and(|own| *own != name.as_str()) {
            return Err(AddFault::Invalid(format!("name: the definition has another one than {name:?}: leave it out")));
        }
        let directory = self.site.directory();
        let peer = assemble::read_peer(&name, definition.clone(), &running.config, directory);
        let peer = peer.map_err(AddFault::Invalid)?;
        let ready = assemble::peer_config(&peer, &Environment::of_process()).map_err(AddFault::Invalid)?;
        // Kept before it is used: what works now must still be there after a restart.
        match self.transceiver.keep_peer(&name, &definition).await {
            Ok(true) => {}
            Ok(false) => return Err(AddFault::Conflict(format!("there is a peer {name:?} already"))),
            Err(error) => return Err(AddFault::Unavailable(error.to_string())),
        }
        if let Err(error) = self.transceiver.add_peer(ready.clone()).await {
            self.transceiver.unkeep_peer(&name).await.map_err(|error| AddFault::Unavailable(error.to_string()))?;
            return Err(match error {
                ChangeError::NameTaken(_) | ChangeError::TokenTaken(_) => AddFault::Conflict(error.to_string()),
                ChangeError::Keys { .. } => AddFault::Invalid(error.to_string()),
                _ => AddFault::Unavailable(error.to_string()),
            });
        }
        assemble::note(&ready, &mut running.contents);
        info!(peer = name, "peer added");
        Ok(())
    }

    /// Waits until nothing is queued for a peer, whose queue is closed.
    async fn empty_queue(&self, name: &str, within: Duration, terms: Terms) -> Result<(), RemoveFault> {
        let deadline = Instant::now() + within;
        loop {
            let Backlog { queued, paused } = self.backlog(name).await?;
            let over = Instant::now() >= deadline;
            match queued {
                0 => return Ok(()),
                _ if terms.keep_queue && over => return Ok(()),
                queued if paused && !terms.keep_queue => return Err(RemoveFault::Paused(queued)),
                queued if over => return Err(RemoveFault::NotDrained(queued)),
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// What waits for a peer. What cannot be told is no empty queue.
    async fn backlog(&self, name: &str) -> Result<Backlog, RemoveFault> {
        let told = tokio::time::timeout(TOLD_WITHIN, self.transceiver.backlog(name)).await;
        match told {
            Ok(Ok(backlog)) => Ok(backlog),
            Ok(Err(SubmitFault::NoSuchPeer(_))) => Err(RemoveFault::NoSuchPeer),
            Ok(Err(fault)) => Err(RemoveFault::Unavailable(fault.to_string())),
            Err(_) => Err(RemoveFault::Unavailable(format!(
                "the conversation with the peer is too busy to tell what waits for it (asked for {} s); nothing was removed",
                TOLD_WITHIN.as_secs()
            ))),
        }
    }

    async fn remove_peer(&self, name: &str, terms: Terms) -> Result<Removal, RemoveFault> {
        let mut running = self.running.lock().await;
        let definition = self.kept(name, &running.config).await?;
        // Closed by the caller too, unless one of its name has come meanwhile.
        let closed = self.transceiver.close_queue(name).map_err(|_| RemoveFault::NoSuchPeer)?;
        let queued = self.backlog(name).await?.queued;
        if queued > 0 && !terms.keep_queue {
            return Err(RemoveFault::HasQueue(queued));
        }
        // Forgotten first: should the process end in between, it is gone as it was meant to be.
        let unavailable = |error: &dyn std::fmt::Display| RemoveFault::Unavailable(error.to_string());
        match self.transceiver.unkeep_peer(name).await {
            Ok(true) => {}
            Ok(false) => return Err(RemoveFault::NoSuchPeer),
            Err(error) => return Err(unavailable(&error)),
        }
        let removed = self.transceiver.remove_peer(name).await.map_err(|error| unavailable(&error))?;
        drop(closed);
        let whose = diff::of_peer(name);
        running.contents.retain(|(owner, _), _| *owner != whose);
        info!(peer = name, queued = removed.queued, "peer removed; what is queued stays for one of its name");
        Ok(Removal { removed, definition })
    }

    async fn definition(&self, name: &str) -> Result<Value, RemoveFault> {
        let running = self.running.lock().await;
        self.kept(name, &running.config).await
    }

    /// The definition of a peer that was added at run time.
    async fn kept(&self, name: &str, config: &Config) -> Result<Value, RemoveFault> {
        if let Some(place) = self.place_in_file(name, config) {
            return Err(RemoveFault::InFile(place));
        }
        let kept = self.transceiver.kept_peers().await;
        let kept = kept.map_err(|error| RemoveFault::Unavailable(error.to_string()))?;
        let (_, definition) = kept.into_iter().find(|(other, _)| other == name).ok_or(RemoveFault::NoSuchPeer)?;
        Ok(serde_json::from_str(&definition).unwrap_or(Value::Null))
    }

    /// Where in the configuration file a peer stands, if it does.
    fn place_in_file(&self, name: &str, config: &Config) -> Option<String> {
        let peer = config.peers.iter().find(|peer| peer.name == name)?;
        let line = peer.line.map(|line| format!(", line {line}")).unwrap_or_default();
        let file: &PathBuf = &self.site.file;
        Some(format!("{}{line}", file.display()))
    }
}

impl admin::Steward for Steward {
    fn add_peer(&self, name: String, definition: Value) -> BoxFuture<'static, Result<(), AddFault>> {
        let inner = Arc::clone(&self.0);
        let stopped = || AddFault::Unavailable("the daemon is stopping".to_owned());
        carried_through(async move { inner.add_peer(name, definition).await }, move || Err(stopped()))
    }

    fn remove_peer(&self, name: String, terms: Terms) -> BoxFuture<'static, Result<Removal, RemoveFault>> {
        let inner = Arc::clone(&self.0);
        async move {
            inner.definition(&name).await?;
            // Closed until it has gone: in between nothing may come that would have been sent first.
            let closed = inner.transceiver.close_queue(&name).map_err(|_| RemoveFault::NoSuchPeer)?;
            if let Some(within) = terms.drain {
                inner.empty_queue(&name, within, terms).await?;
            }
            let stopped = || RemoveFault::Unavailable("the daemon is stopping".to_owned());
            let removing = async move {
                let removed = inner.remove_peer(&name, terms).await;
                drop(closed);
                removed
            };
            carried_through(removing, move || Err(stopped())).await
        }
        .boxed()
    }

    fn reload(&self) -> BoxFuture<'static, Result<Reloaded, Vec<String>>> {
        let inner = Arc::clone(&self.0);
        let stopped = || Err(vec!["the daemon is stopping".to_owned()]);
        carried_through(async move { inner.reload().await }, stopped)
    }
}

/// Runs in a task of its own: whoever waits for it may go away in the middle.
fn carried_through<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
    stopped: impl FnOnce() -> T + Send + 'static,
) -> BoxFuture<'static, T> {
    let working = tokio::spawn(work);
    async move { working.await.unwrap_or_else(|_| stopped()) }.boxed()
}
