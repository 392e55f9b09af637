//! Counts connections, in total and by address, and turns away those over the limits.

use crate::codes::Code;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Limits;

/// The shortest time between two lines about connections that are turned away.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Lets connections in.
#[derive(Clone, Debug)]
pub(super) struct Doors(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: &'static str,
    limits: Arc<Limits>,
    by_network: Mutex<HashMap<IpAddr, usize>>,
    open: watch::Sender<Count>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    connections: usize,
    /// When it was last told that somebody was turned away.
    told_at: Option<Instant>,
}

/// The right to be connected; dropped with the connection's socket.
#[derive(Debug)]
pub(super) struct Ticket {
    doors: Doors,
    network: IpAddr,
}

impl Doors {
    pub(super) fn new(name: &'static str, limits: Arc<Limits>) -> Self {
        let (open, _) = watch::channel(Count::default());
        Self(Arc::new(Inner { name, limits, by_network: Mutex::default(), open }))
    }

    /// A ticket, or none if the limits are reached.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Ticket> {
        let inner = &self.0;
        let network = network(address);
        let mut by_network = inner.by_network.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.open.borrow().connections >= inner.limits.connections_max {
            inner.turned_away("connections are turned away: as many are open as connections_max allows");
            return None;
        }
        let same = by_network.entry(network).or_default();
        if *same >= inner.limits.connections_per_address_max && !address.is_loopback() {
            inner.turned_away("connections of one address are turned away: too many of it are open");
            return None;
        }
        *same += 1;
        inner.open.send_modify(|count| count.connections += 1);
        Some(Ticket { doors: self.clone(), network })
    }

    /// Waits until every ticket has been dropped.
    pub(super) async fn all_closed(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.0.open.subscribe().wait_for(|count| count.connections == 0).await;
    }
}

impl Inner {
    /// One line when it begins and one a minute while it lasts, however often whoever floods us lets go and comes again.
    fn turned_away(&self, message: &'static str) {
        self.open.send_if_modified(|count| {
            let now = Instant::now();
            if count.told_at.is_none_or(|told_at| now >= told_at + TOLD_EVERY) {
                count.told_at = Some(now);
                tracing::warn!(code = %Code::ConnectionsFull, listener = self.name, open = count.connections, "{message}");
            }
            false
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let inner = &self.doors.0;
        let mut by_network = inner.by_network.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = by_network.get_mut(&self.network) {
            *same = same.saturating_sub(1);
            if *same == 0 {
                by_network.remove(&self.network);
            }
        }
        inner.open.send_modify(|count| count.connections = count.connections.saturating_sub(1));
    }
}

/// Whoever has one IPv6 address commonly has the whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doors(connections_max: usize, connections_per_address_max: usize) -> Doors {
        let limits = Limits { connections_max, connections_per_address_max, ..Limits::default() };
        Doors::new("test", Arc::new(limits))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_cannot_take_all_places() {
        let doors = doors(10, 2);
        let first = doors.admit(ip("192.0.2.1")).unwrap();
        let _second = doors.admit(ip("192.0.2.1")).unwrap();
        assert!(doors.admit(ip("192.0.2.1")).is_none());
        let _other = doors.admit(ip("192.0.2.2")).unwrap();
        drop(first);
        assert!(doors.admit(ip("192.0.2.1")).is_some());
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address_and_loopback_as_none() {
        let doors = doors(10, 1);
        let _one = doors.admit(ip("2001:db8::1")).unwrap();
        assert!(doors.admit(ip("2001:db8::2:1")).is_none());
        assert!(doors.admit(ip("2001:db8:0:1::1")).is_some());
        let _local = [doors.admit(ip("127.0.0.1")).unwrap(), doors.admit(ip("127.0.0.1")).unwrap()];
    }

    #[test]
    fn the_total_is_limited_and_places_come_back() {
        let doors = doors(2, 2);
        let places = [doors.admit(ip("127.0.0.1")).unwrap(), doors.admit(ip("192.0.2.1")).unwrap()];
        assert!(doors.admit(ip("192.0.2.2")).is_none());
        drop(places);
        assert!(doors.admit(ip("192.0.2.2")).is_some());
        assert!(doors.0.by_network.lock().unwrap().is_empty(), "nothing is kept of those who left");
    }
}
