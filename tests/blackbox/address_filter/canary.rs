//! Listeners where nobody may connect.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

/// Listens at one port, in both families of addresses where there are two.
pub(crate) struct Canary {
    port: u16,
    listeners: Vec<TcpListener>,
}

impl Canary {
    /// On every address.
    pub(crate) fn new() -> Self {
        Self::listen([0, 0, 0, 0].into(), Ipv6Addr::UNSPECIFIED, 0)
    }

    /// At this port on 127.0.0.1 and ::1, beside somebody at 127.0.0.2 who may be connected to.
    pub(crate) fn beside(port: u16) -> Self {
        Self::listen(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST, port)
    }

    fn listen(four: Ipv4Addr, six: Ipv6Addr, port: u16) -> Self {
        let v4 = TcpListener::bind((four, port)).unwrap();
        let port = v4.local_addr().unwrap().port();
        // Without IPv6 on this machine there is nothing to be touched there.
        let v6 = Socket::new(Domain::IPV6, Type::STREAM, None).and_then(|socket| {
            socket.set_only_v6(true)?;
            socket.bind(&SocketAddr::from((six, port)).into())?;
            socket.listen(64)?;
            Ok(TcpListener::from(socket))
        });
        let listeners: Vec<TcpListener> = [Ok(v4), v6].into_iter().flatten().collect();
        listeners.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
        Self { port, listeners }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Panics if anybody has connected. A connection stands in the queue before its maker hears of it, so nothing has to
    /// be waited for.
    #[track_caller]
    pub(crate) fn is_untouched(&self, by: &str) {
        for listener in &self.listeners {
            match listener.accept() {
                Ok((_, from)) => panic!("{by}: {from} connected to {}", listener.local_addr().unwrap()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
        }
    }

    /// Panics unless somebody has connected: a canary that never sings proves nothing.
    #[track_caller]
    pub(crate) fn is_touched(&self) {
        let touched = self.listeners.iter().any(|listener| listener.accept().is_ok());
        assert!(touched, "the canary does not notice a connection");
    }
}
