//! A WebSocket that was busy takes no more memory afterwards than one that never was.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
// What is measured is read from where Linux tells it.
#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use pushpull::clock::{Clock, SystemClock};
use pushpull::transport::pushpull::{Config, echo};
use pushpull::transport::server::Server;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Connections, and the bytes of the message that goes both ways on each: one after the other they could share one buffer
/// of this size, kept for each it is as much as `KEPT`.
const COUNT: usize = 48;
const MESSAGE: usize = 1 << 20;

/// Far more than all connections need when they idle, and far less than their messages took.
const KEPT: usize = 16 << 20;

/// Resident memory in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// A partner's end, byte for byte: buffers of its own would be measured too.
async fn connect(address: std::net::SocketAddr) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "GET /pushpull HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut stream = BufReader::with_capacity(512, stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert!(stream.read_line(&mut line).await.unwrap() > 0, "no WebSocket");
    }
    stream
}

/// Says something of this length, in one frame, and hears it come back.
async fn say(stream: &mut BufReader<TcpStream>, payload: &[u8]) {
    let length = u64::try_from(payload.len()).unwrap();
    let head = [&[0x81, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
    stream.write_all(&head).await.unwrap();
    stream.write_all(payload).await.unwrap();
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head).await.unwrap();
        match head {
            // A ping, or a pong.
            [0x89 | 0x8a, 0] => continue,
            [0x81, 127] => {}
            other => panic!("a frame that begins with {other:?}"),
        }
        let length = usize::try_from(stream.read_u64().await.unwrap()).unwrap();
        assert_eq!(length, payload.len());
        let (mut left, mut part) = (length, [0; 4096]);
        while left > 0 {
            let here = left.min(part.len());
            stream.read_exact(&mut part[..here]).await.unwrap();
            assert!(part[..here].iter().all(|byte| *byte == b'x'));
            left -= here;
        }
        return;
    }
}

async fn ping(streams: &mut [BufReader<TcpStream>]) {
    for stream in streams {
        stream.write_all(&[0x89, 0x80, 0, 0, 0, 0]).await.unwrap();
        let mut pong = [0; 2];
        while pong != [0x8a, 0] {
            stream.read_exact(&mut pong).await.unwrap();
        }
    }
}

#[tokio::test]
async fn buffers_that_grew_in_a_burst_are_small_again_when_it_is_over() {
    let config = Arc::new(Config::default());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let handler = move |request: Request<Body>| {
        std::future::ready(echo::answer(request, Arc::clone(&config), Arc::clone(&clock)))
    };
    let router = Router::new().fallback(handler);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(Server::new("echo", router).run(listener, std::future::pending(), Duration::ZERO));
    let mut streams = Vec::new();
    for _ in 0..COUNT {
        streams.push(connect(address).await);
    }
    let payload = vec![b'x'; MESSAGE];
    // What everybody shares is there from the first message on.
    say(&mut streams[0], &payload).await;
    let before = resident();
    for stream in &mut streams {
        say(stream, &payload).await;
    }
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    ping(&mut streams).await;
    let after = resident();
    let kept = after.saturating_sub(before);
    assert!(kept < KEPT, "{COUNT} connections keep {} KiB", kept >> 10);
    // And they go on as before.
    for stream in &mut streams {
        say(stream, &payload).await;
    }
    ping(&mut streams).await;
}
