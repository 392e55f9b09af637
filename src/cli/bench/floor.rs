//! What one SET on an idle link cannot do without, each measured by itself: two commits and one round trip.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::cli::Error;
use crate::clock::Wall;
use crate::peer::{OutboxRow, Story, Write};
use crate::set::{Digest, Jti};
use crate::store::{Epoch, Journal as _, Options, Registry as _, Sqlite};

/// Medians.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Floor {
    /// Of a commit of one SET.
    pub(super) commit: Duration,
    /// Of a SET's bytes there and a short answer back, over TCP on loopback, one thread at each end.
    pub(super) round_trip: Duration,
}

const TIMES: u64 = 301;

impl Floor {
    /// Measures it, with files in this folder.
    pub(super) async fn measure(folder: &Path, bytes: usize, delay: Duration) -> Result<Self, Error> {
        Ok(Self { commit: commit(folder, bytes, delay).await?, round_trip: round_trip(bytes).await? })
    }
}

async fn commit(folder: &Path, bytes: usize, delay: Duration) -> Result<Duration, Error> {
    let path = folder.join("floor.db");
    let options = Options { commit_delay: delay, ..Options::default() };
    let store = Sqlite::open(&path, options).map_err(Error::from)?;
    let peer = store.peer_id("floor".to_owned()).await.map_err(Error::from)?;
    let compact: Arc<str> = "x".repeat(bytes).into();
    let mut times = Vec::new();
    for seq in 1..=TIMES {
        let row = OutboxRow {
            seq,
            jti: Jti::new(),
            compact: Arc::clone(&compact),
            digest: Digest::default(),
            accepted_at: Wall(1),
            attempts: 0,
            story: Story::default(),
        };
        let started = Instant::now();
        store.commit(peer, Epoch(1), Arc::new(vec![Write::Enqueue(row)])).await.map_err(Error::from)?;
        times.push(started.elapsed());
    }
    store.close().await;
    drop(store);
    for end in ["", "-wal", "-shm", "-lock", ".lock"] {
        let _ = std::fs::remove_file(folder.join(format!("floor.db{end}")));
    }
    Ok(median(times))
}

async fn round_trip(bytes: usize) -> Result<Duration, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let echo = tokio::spawn(async move {
        let Ok((mut socket, _)) = listener.accept().await else { return };
        let _ = socket.set_nodelay(true);
        let mut buffer = vec![0; bytes];
        while socket.read_exact(&mut buffer).await.is_ok() && socket.write_all(&[1; 64]).await.is_ok() {}
    });
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let (there, mut back) = (vec![1; bytes], [0; 64]);
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let started = Instant::now();
        socket.write_all(&there).await?;
        socket.read_exact(&mut back).await?;
        times.push(started.elapsed());
    }
    echo.abort();
    Ok(median(times))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
