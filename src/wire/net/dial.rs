//! From a target to a connection: resolve, filter, connect to the very address that was checked, prove the partner's
//! identity by TLS. Every failure says who has to act.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use super::filter::Allow;
use super::pin::{Pin, PinMismatch};
use super::resolve::{ADDRESSES_MAX, Resolve, SystemResolver};
use super::stream::{Stream, tune};
use super::target::Target;
use super::tls::{self, pinned_config, public_config};
use crate::set::acts_on_display;

/// Opens connections. One serves the whole process; TLS sessions are resumed among the connections of one dialer.
#[derive(Debug)]
pub struct Dialer {
    allow: ArcSwap<Allow>,
    resolver: Arc<dyn Resolve>,
    connect_timeout: Duration,
    extra_roots: Vec<CertificateDer<'static>>,
    public: OnceCell<Arc<ClientConfig>>,
    pinned: Mutex<HashMap<Pin, Arc<ClientConfig>>>,
}

/// Why there is no connection, in one line for the operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name has no address.
    #[error("the name {host} cannot be resolved ({fault}): check its spelling and this machine's resolver")]
    Dns {
        /// The name.
        host: String,
        /// What the resolver said.
        fault: String,
    },
    /// The address filter forbids every address of the target.
    #[error(
        "{host} is at {address}, which is not a public address: if the partner is meant to be there, add its range to \
         network.allow"
    )]
    Blocked {
        /// The host as configured.
        host: String,
        /// One of its addresses.
        address: IpAddr,
    },
    /// Plaintext was asked for where it is never used.
    #[error(
        "{host} is at {address}, and plaintext is spoken only to loopback addresses that network.allow covers: use https \
         or wss"
    )]
    Plaintext {
        /// The host as configured.
        host: String,
        /// One of its addresses.
        address: IpAddr,
    },
    /// Nobody listens there.
    #[error("{address} refused the connection: is the partner's server running on this port?")]
    Refused {
        /// The address tried last.
        address: SocketAddr,
    },
    /// The network failed.
    #[error("{address} cannot be reached: {fault}")]
    Unreachable {
        /// The address tried last.
        address: SocketAddr,
        /// What the system said.
        fault: String,
    },
    /// It took too long.
    #[error("{host} gave no connection within {} ms (while waiting for {stage})", after.as_millis())]
    TimedOut {
        /// The host as configured.
        host: String,
        /// How long was waited.
        after: Duration,
        /// What was waited for.
        stage: &'static str,
    },
    /// The partner holds another key than the pinned one.
    #[error("{host}: {mismatch}")]
    Pin {
        /// The host as configured.
        host: String,
        /// Both keys.
        mismatch: PinMismatch,
    },
    /// The TLS handshake failed.
    #[error("TLS with {host} failed: {fault}")]
    Tls {
        /// The host as configured.
        host: String,
        /// What is wrong.
        fault: String,
    },
    /// Our own side of TLS is not usable.
    #[error("{0}")]
    Ours(#[from] tls::Error),
}

impl Dialer {
    /// A dialer that connects to public addresses and the allowed ones, and waits 10 seconds for a connection.
    pub fn new(allow: Allow) -> Self {
        Self {
            allow: ArcSwap::from_pointee(allow),
            resolver: Arc::new(SystemResolver::default()),
            connect_timeout: Duration::from_secs(10),
            extra_roots: Vec::new(),
            public: OnceCell::new(),
            pinned: Mutex::default(),
        }
    }

    /// Asks this resolver for the addresses of names. They pass the same filter.
    pub fn with_resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Waits this long for a connection: name, TCP and TLS together.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// From now on connections may be opened to these addresses and public ones. Open ones stay.
    pub fn set_allow(&self, allow: Allow) {
        self.allow.store(Arc::new(allow));
    }

    /// Trusts these authorities beside the system's, where no pin is given.
    pub fn with_extra_roots(mut self, roots: Vec<CertificateDer<'static>>) -> Self {
        self.extra_roots = roots;
        self
    }

    /// Opens a connection to the target; with `pin`, to the holder of that key only. Safe to cancel.
    pub async fn connect(&self, target: &Target, pin: Option<&Pin>) -> Result<Stream, ConnectError> {
        let attempt =
            Attempt { target, host: target.host(), deadline: Instant::now() + self.connect_timeout, dialer: self };
        let addresses = attempt.resolve().await?;
        let permitted = attempt.permitted(&addresses)?;
        let tcp = attempt.open(&permitted).await?;
        if !target.is_secure() {
            return Ok(tcp.into());
        }
        let config = self.config(pin).await?;
        attempt.secure(tcp, config).await
    }

    async fn config(&self, pin: Option<&Pin>) -> Result<Arc<ClientConfig>, tls::Error> {
        if let Some(pin) = pin {
            let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(config) = pinned.get(pin) {
                return Ok(config.clone());
            }
            let config = pinned_config(*pin)?;
            pinned.insert(*pin, config.clone());
            return Ok(config);
        }
        let load = || async {
            let roots = self.extra_roots.clone();
            let loading = tokio::task::spawn_blocking(|| public_config(roots));
            loading.await.unwrap_or_else(|failed| Err(tls::Error::Refused(failed.to_string())))
        };
        self.public.get_or_try_init(load).await.cloned()
    }
}

/// One run through the steps, under one deadline.
struct Attempt<'a> {
    dialer: &'a Dialer,
    target: &'a Target,
    host: String,
    deadline: Instant,
}

impl Attempt<'_> {
    async fn resolve(&self) -> Result<Vec<SocketAddr>, ConnectError> {
        let port = self.target.port();
        if let Some(address) = self.target.address() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let dns = |fault: String| ConnectError::Dns { host: self.host.clone(), fault };
        let lookup = timeout_at(self.deadline, self.dialer.resolver.resolve(self.host.clone(), port));
        let found = lookup.await.map_err(|_| self.timed_out("the resolver"))?;
        let mut found = found.map_err(|error| dns(one_line(&error)))?;
        found.truncate(ADDRESSES_MAX);
        if found.is_empty() { Err(dns("it has no address".into())) } else { Ok(found) }
    }

    fn permitted(&self, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>, ConnectError> {
        let secure = self.target.is_secure();
        let allow = self.dialer.allow.load();
        let fine = |ip: IpAddr| if secure { allow.permits(ip) } else { ip.is_loopback() && allow.covers(ip) };
        let permitted: Vec<_> = addresses.iter().copied().filter(|address| fine(address.ip())).collect();
        match addresses.first() {
            Some(address) if permitted.is_empty() => {
                let (host, address) = (self.host.clone(), address.ip());
                Err(if secure || address.is_loopback() {
                    ConnectError::Blocked { host, address }
                } else {
                    ConnectError::Plaintext { host, address }
                })
            }
            _ => Ok(permitted),
        }
    }

    /// Tries the addresses in the resolver's order (RFC 6724), each with its share of the time that is left.
    async fn open(&self, addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
        let mut failure = self.timed_out("TCP");
        for (tried, address) in addresses.iter().enumerate() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(1);
            failure = match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => match tune(&tcp) {
                    Ok(()) => return Ok(tcp),
                    Err(error) => unreachable_by(*address, &error),
                },
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    ConnectError::Refused { address: *address }
                }
                Ok(Err(error)) => unreachable_by(*address, &error),
                Err(_) => self.timed_out("TCP"),
            };
        }
        Err(failure)
    }

    async fn secure(&self, tcp: TcpStream, config: Arc<ClientConfig>) -> Result<Stream, ConnectError> {
        let name = match self.target.address() {
            Some(address) => ServerName::IpAddress(address.into()),
            None => ServerName::try_from(self.host.clone()).map_err(|_| self.tls("the host is no valid DNS name"))?,
        };
        let handshake = tokio_rustls::TlsConnector::from(config).connect(name, tcp);
        match timeout_at(self.deadline, handshake).await {
            Ok(Ok(stream)) => Ok(stream.into()),
            Ok(Err(error)) => Err(self.judge(&error)),
            Err(_) => Err(self.timed_out("the TLS handshake")),
        }
    }

    fn judge(&self, error: &io::Error) -> ConnectError {
        use rustls::{CertificateError, Error};
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::InvalidCertificate(CertificateError::Other(other))) => match other.0.downcast_ref() {
                Some(mismatch) => ConnectError::Pin { host: self.host.clone(), mismatch: *mismatch },
                None => self.tls(&one_line(error)),
            },
            // The same situation has several names, depending on which authorities happen to be called alike.
            Some(Error::InvalidCertificate(
                CertificateError::UnknownIssuer
                | CertificateError::BadSignature
                | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
                | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
            )) => self.tls(
                "no trusted authority signed its certificate: if it is self-signed, set tls_pin to the pin on the partner's \
                 card",
            ),
            Some(Error::AlertReceived(alert)) => self.tls(&format!("the partner ended the handshake ({alert:?})")),
            _ if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.tls("the partner closed the connection during the handshake: is TLS spoken on this port?")
            }
            _ => self.tls(&one_line(error)),
        }
    }

    fn tls(&self, fault: &str) -> ConnectError {
        ConnectError::Tls { host: self.host.clone(), fault: fault.to_owned() }
    }

    fn timed_out(&self, stage: &'static str) -> ConnectError {
        ConnectError::TimedOut { host: self.host.clone(), after: self.dialer.connect_timeout, stage }
    }
}

fn unreachable_by(address: SocketAddr, error: &io::Error) -> ConnectError {
    ConnectError::Unreachable { address, fault: one_line(error) }
}

/// Certificate errors may quote what the partner put into the certificate, line breaks and all.
fn one_line(error: &dyn std::error::Error) -> String {
    error.to_string().chars().map(|c| if acts_on_display(c) { ' ' } else { c }).take(300).collect()
}

#[cfg(test)]
mod tests;
