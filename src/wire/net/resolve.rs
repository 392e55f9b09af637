//! From a name to addresses. A trait, so that tests can tell lies as a hostile name server does; what is done with the
//! answers is the same code for both.

use std::io;
use std::net::SocketAddr;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

/// Finds the addresses of a name. It is asked once for each connection, and nothing is remembered between two of them.
pub trait Resolve: Send + Sync + std::fmt::Debug + 'static {
    /// The addresses of this name, with this port, best first. Cancelled by dropping the future.
    fn resolve(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;
}

/// The resolver of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        async move { Ok(tokio::net::lookup_host((host, port)).await?.take(ADDRESSES_MAX).collect()) }.boxed()
    }
}

/// More addresses than this for one name are no help.
pub(super) const ADDRESSES_MAX: usize = 8;
