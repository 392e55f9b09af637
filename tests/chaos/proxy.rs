//! A proxy between the two that can block WebSockets and nothing else, as some firewalls do.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A running proxy; dropping it ends every connection.
pub(crate) struct Proxy {
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    upstream: String,
    blocked: watch::Sender<bool>,
    tunnels: AtomicU64,
    refused: AtomicU64,
    tunnel_bytes: AtomicU64,
    request_bytes: AtomicU64,
}

/// What has passed so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    /// WebSocket handshakes that were let through, and that were answered with 502.
    pub(crate) tunnels: u64,
    pub(crate) refused: u64,
    /// Bytes both ways, in tunnels and in everything else.
    pub(crate) tunnel_bytes: u64,
    pub(crate) request_bytes: u64,
}

impl Passed {
    /// What has passed since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            tunnels: self.tunnels - earlier.tunnels,
            refused: self.refused - earlier.refused,
            tunnel_bytes: self.tunnel_bytes - earlier.tunnel_bytes,
            request_bytes: self.request_bytes - earlier.request_bytes,
        }
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tunnels, refused, tunnel_bytes, request_bytes } = self;
        let (in_tunnels, in_requests) = (tunnel_bytes >> 10, request_bytes >> 10);
        write!(
            f,
            "{tunnels} WebSockets begun, {refused} refused, {in_tunnels} KiB by WebSocket, {in_requests} KiB else"
        )
    }
}

const HEAD_BYTES_MAX: usize = 32 << 10;
const HEAD_WITHIN: Duration = Duration::from_secs(20);
const BAD_GATEWAY: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

impl Proxy {
    pub(crate) fn start(listener: TcpListener, upstream: String) -> Self {
        let state = Arc::new(State {
            upstream,
            blocked: watch::Sender::new(false),
            tunnels: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            tunnel_bytes: AtomicU64::new(0),
            request_bytes: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        let accepting = Arc::clone(&state);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    let state = Arc::clone(&accepting);
                    connections.spawn(async move {
                        // Whatever goes wrong with a connection ends it, as with any proxy.
                        let _ = state.serve(stream).await;
                    });
                }
                while connections.try_join_next().is_some() {}
            }
        });
        Self { state, _tasks: tasks }
    }

    /// From now on no WebSocket: open ones are cut, and handshakes get 502.
    pub(crate) fn block(&self, blocked: bool) {
        self.state.blocked.send_replace(blocked);
    }

    pub(crate) fn passed(&self) -> Passed {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let State { tunnels, refused, tunnel_bytes, request_bytes, .. } = &*self.state;
        Passed {
            tunnels: read(tunnels),
            refused: read(refused),
            tunnel_bytes: read(tunnel_bytes),
            request_bytes: read(request_bytes),
        }
    }
}

impl State {
    async fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        client.set_nodelay(true)?;
        let head = timeout(HEAD_WITHIN, head(&mut client)).await??;
        let is_websocket = String::from_utf8_lossy(&head).to_ascii_lowercase().contains("\r\nupgrade: websocket\r\n");
        let mut blocked = self.blocked.subscribe();
        if is_websocket && *blocked.borrow_and_update() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return client.write_all(BAD_GATEWAY).await;
        }
        let Ok(mut server) = TcpStream::connect(&self.upstream).await else {
            return client.write_all(BAD_GATEWAY).await;
        };
        server.set_nodelay(true)?;
        server.write_all(&head).await?;
        let counter = if is_websocket { &self.tunnel_bytes } else { &self.request_bytes };
        counter.fetch_add(head.len() as u64, Ordering::Relaxed);
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        let passing = async {
            tokio::join!(pass(from_client, to_server, counter), pass(from_server, to_client, counter));
        };
        if !is_websocket {
            passing.await;
            return Ok(());
        }
        self.tunnels.fetch_add(1, Ordering::Relaxed);
        tokio::select! {
            () = passing => {}
            _ = blocked.wait_for(|blocked| *blocked) => {}
        }
        Ok(())
    }
}

/// The request up to its empty line, and what has come behind it.
async fn head(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || client.read_buf(&mut head).await? == 0 {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
    }
    Ok(head)
}

/// Passes bytes on until either side ends.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counter: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
        counter.fetch_add(read as u64, Ordering::Relaxed);
    }
    let _ = to.shutdown().await;
}
