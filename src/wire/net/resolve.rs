//! From a name to addresses. A trait, so that tests can tell lies as a hostile name server does; what is done with the
//! answers is the same code for both.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

/// Finds the addresses of a name. It is asked once for each connection, and nothing is remembered between two of them.
pub trait Resolve: Send + Sync + std::fmt::Debug + 'static {
    /// The addresses of this name, with this port, best first. Cancelled by dropping the future.
    fn resolve(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;
}

/// Names that the system looks up at a time. Each takes a thread of those that block, of which the runtime has 512: the store's
/// readers and the signatures need some too, however long a name server that is dead lets everybody wait.
const LOOKUPS_MAX: usize = 64;

/// The resolver of the system.
#[derive(Clone, Debug)]
pub struct SystemResolver {
    places: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }
}

impl SystemResolver {
    /// Does this where it may block, when there is a place. The system cannot be told to stop: a look-up that nobody waits for
    /// any more keeps its place until it ends.
    async fn within<T, F>(places: Arc<Semaphore>, look_up: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        let place = places.acquire_owned().await.map_err(io::Error::other)?;
        let looking = tokio::task::spawn_blocking(move || {
            let _place = place;
            look_up()
        });
        looking.await.map_err(io::Error::other)?
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let look_up = move || Ok((host.as_str(), port).to_socket_addrs()?.take(ADDRESSES_MAX).collect());
        Self::within(Arc::clone(&self.places), look_up).boxed()
    }
}

/// More addresses than this for one name are no help.
pub(super) const ADDRESSES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[tokio::test]
    async fn a_look_up_that_was_given_up_keeps_its_place_until_it_ends_and_no_other_begins() {
        let resolver = SystemResolver { places: Arc::new(Semaphore::new(1)) };
        let (release, hangs) = mpsc::channel::<()>();
        let hanging = SystemResolver::within(Arc::clone(&resolver.places), move || {
            let _ = hangs.recv();
            Ok(())
        });
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, hanging).await.is_err(), "it was given up");
        let next = || resolver.resolve("localhost".to_owned(), 443);
        assert!(tokio::time::timeout(soon, next()).await.is_err(), "there is no place for another");
        assert_eq!(resolver.places.available_permits(), 0);
        drop(release);
        let found = tokio::time::timeout(Duration::from_secs(10), next()).await.unwrap().unwrap();
        assert!(!found.is_empty() && found.iter().all(|address| address.ip().is_loopback()), "{found:?}");
    }
}
