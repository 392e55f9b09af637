//! Two hundred slow connections of each kind: the daemon closes every one of them, and a healthy partner notices nothing.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on has failed its test, and says where")]
#![expect(dead_code, reason = "what the tests share serves more than this one")]

#[path = "common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, sleep, timeout};

use common::daemon::{Daemon, Plan};
use common::http::{Stream, Wire, request};
use common::partner::{Partner, verdict};
use common::socket::Socket;

const EACH: usize = 200;

/// What a connection may last.
const CLOSED_WITHIN: Duration = Duration::from_secs(30);

/// Between two bytes.
const DRIBBLE: Duration = Duration::from_millis(500);

/// WebSockets that one partner may have open: so many partners are needed for two hundred.
const SOCKETS_OF_ONE: usize = 8;

/// One slice of the scheduler on a busy machine: a median that differs by less has not been shown to differ.
const NOISE: Duration = Duration::from_millis(1);

const KINDS: [&str; 5] =
    ["a head byte by byte", "a body byte by byte", "nothing", "part of a handshake", "a message byte by byte"];

/// A slow connection, and what it goes on to say.
struct Slow {
    kind: &'static str,
    since: Instant,
    stream: Stream,
    bytes: &'static [u8],
}

/// How a slow connection ended.
struct End {
    kind: &'static str,
    /// None: it was still open.
    after: Option<Duration>,
}

/// Writes on, a byte at a time, until the daemon has closed the connection. What it says first is read and forgotten.
async fn dribble(slow: Slow) -> End {
    let Slow { kind, since, stream, bytes } = slow;
    let (mut reading, mut writing) = tokio::io::split(stream);
    let writer = async {
        let mut ticks = interval(DRIBBLE);
        for byte in bytes.iter().cycle().take(if bytes.is_empty() { 0 } else { usize::MAX }) {
            ticks.tick().await;
            if writing.write_all(&[*byte]).await.is_err() || writing.flush().await.is_err() {
                return;
            }
        }
        std::future::pending().await
    };
    let reader = async {
        let mut some = [0; 1024];
        // A reset is an end too.
        while reading.read(&mut some).await.is_ok_and(|read| read > 0) {}
    };
    let ending = async {
        tokio::select! { () = writer => {} () = reader => {} }
    };
    let after = timeout(CLOSED_WITHIN, ending).await.is_ok().then(|| since.elapsed());
    End { kind, after }
}

/// Opens a slow connection of this kind.
async fn open(kind: usize, index: usize, daemon: &Daemon, attackers: &[Partner]) -> Slow {
    let since = Instant::now();
    let attacker = &attackers[index / SOCKETS_OF_ONE];
    let secure = async || daemon.connect().await;
    let plain = async || Wire::new(TcpStream::connect(daemon.address()).await.unwrap());
    let (wire, bytes): (Wire, &'static [u8]) = match kind {
        0 => (secure().await, b"GET /pushpull HTTP/1.1\r\nHost: localhost\r\nX-Long: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
        1 => {
            let mut wire = secure().await;
            let bearer = attacker.bearer();
            let headers =
                [("Authorization", bearer.as_str()), ("Content-Type", "application/json"), ("Content-Length", "4096")];
            wire.write(&request("POST", "/pushpull", &headers, b"")).await.unwrap();
            (wire, b" ")
        }
        2 if index.is_multiple_of(2) => (secure().await, b""),
        2 => (plain().await, b""),
        // A record of TLS that announces much.
        3 => (plain().await, &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]),
        _ => {
            let mut wire = Socket::open_raw(daemon, attacker).await;
            // Half of them look alive: a fragment, and then pings. The others are in the middle of a frame.
            if index.is_multiple_of(2) {
                wire.write(&[0x01, 0x81, 0, 0, 0, 0, b'{']).await.unwrap();
                (wire, &[0x89, 0x80, 0, 0, 0, 0])
            } else {
                wire.write(&[0x81, 0xfe, 0x10, 0x00, 0, 0, 0, 0]).await.unwrap();
                (wire, b" ")
            }
        }
    };
    Slow { kind: KINDS[kind], since, stream: wire.stream, bytes }
}

/// Measures from a SET to its ack for so long, as often as that goes.
async fn latencies(
    daemon: &Daemon,
    healthy: &Partner,
    socket: &mut Socket,
    phase: &str,
    time: Duration,
) -> Vec<Duration> {
    let (began, mut taken) = (Instant::now(), Vec::new());
    while began.elapsed() < time {
        let jti = format!("{phase}-{}", taken.len());
        let object = json!({"sets": {jti.as_str(): healthy.set(&jti)}});
        let asked = Instant::now();
        socket.send(&object).await;
        let said = socket.object_with(|object| verdict(object, &jti)).await;
        taken.push(asked.elapsed());
        assert_eq!(said, "ack");
        sleep(Duration::from_millis(5)).await;
    }
    assert!(daemon.state("in", &healthy.name, &format!("{phase}-0")).await.is_some());
    taken
}

fn median(mut of: Vec<Duration>) -> Duration {
    of.sort_unstable();
    of[of.len() / 2]
}

/// The limit of open files, which also holds for the daemon that inherits it.
fn open_files_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()).map_or(0, |soft| soft.parse().unwrap_or(usize::MAX))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_connections_are_closed_and_slow_down_nobody() {
    let needed = KINDS.len() * EACH + 200;
    let files = open_files_max();
    assert!(
        files >= needed,
        "the limit of open files is {files}: raise it to {needed} (ulimit -n {needed}), else nothing is shown"
    );
    let attackers: Arc<[Partner]> =
        (0..EACH / SOCKETS_OF_ONE).map(|number| Partner::new(&format!("slow-{number}"))).collect();
    let healthy = Partner::new("healthy");
    let plan = Plan::new(true).with_peer(&healthy, "");
    let daemon = Arc::new(attackers.iter().fold(plan, |plan, attacker| plan.with_peer(attacker, "")).start().await);
    let mut socket = Socket::open(&daemon, &healthy).await;

    latencies(&daemon, &healthy, &mut socket, "warm", Duration::from_secs(1)).await;
    let before = latencies(&daemon, &healthy, &mut socket, "before", Duration::from_secs(4)).await;
    let opening =
        join_all((0..KINDS.len()).flat_map(|kind| (0..EACH).map(move |index| (kind, index))).map(|(kind, index)| {
            let (daemon, attackers) = (Arc::clone(&daemon), Arc::clone(&attackers));
            async move { open(kind, index, &daemon, &attackers).await }
        }));
    let began = Instant::now();
    let slow: Vec<_> = opening.await.into_iter().map(|slow| tokio::spawn(dribble(slow))).collect();
    let opened_in = began.elapsed();
    let during = latencies(&daemon, &healthy, &mut socket, "during", Duration::from_secs(5)).await;
    let still_open = slow.iter().filter(|task| !task.is_finished()).count();
    let ends: Vec<End> = join_all(slow).await.into_iter().map(Result::unwrap).collect();
    let after = latencies(&daemon, &healthy, &mut socket, "after", Duration::from_secs(4)).await;

    let samples = [before.len(), during.len(), after.len()];
    let quiet = median([before, after].concat());
    let during = median(during);
    println!(
        "{} connections opened in {opened_in:?}, {still_open} still open at the end of the measurement",
        ends.len()
    );
    for kind in KINDS {
        let of_kind: Vec<&End> = ends.iter().filter(|end| end.kind == kind).collect();
        let open = of_kind.iter().filter(|end| end.after.is_none_or(|after| after > CLOSED_WITHIN)).count();
        let last = of_kind.iter().filter_map(|end| end.after).max();
        println!("{kind}: {} of {} closed, the last after {last:?}", of_kind.len() - open, of_kind.len());
        assert_eq!((of_kind.len(), open), (EACH, 0), "{kind}: still open after {CLOSED_WITHIN:?}");
    }
    println!("median from SET to ack: {quiet:?} without them, {during:?} with them; samples {samples:?}");
    assert!(still_open >= ends.len() / 2, "too few were open while it was measured: {still_open}");
    assert!(samples.iter().all(|samples| *samples >= 100), "too few samples for a median: {samples:?}");
    assert!(during <= quiet * 2 + NOISE, "{during:?} with slow connections, {quiet:?} without");
}
