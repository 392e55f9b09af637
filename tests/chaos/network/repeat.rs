//! Sends a request that has passed once more, as a client does that never saw the answer.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::plan::Random;

/// The second one comes at the same time as the first, or as late as this.
const LATE: Duration = Duration::from_millis(1500);
/// An answer is not waited for any longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn spawn(upstream: String, request: Vec<u8>, mut random: Random) {
    tokio::spawn(async move {
        if random.chance(0.6) {
            sleep(random.time(LATE)).await;
        }
        let Ok(mut stream) = TcpStream::connect(upstream).await else { return };
        if stream.write_all(&request).await.is_err() || random.chance(0.3) {
            // It goes without listening at all.
            return;
        }
        // Whatever the answer says is lost.
        let _ = timeout(ANSWER_WITHIN, stream.read(&mut [0; 4096])).await;
    });
}
