//! The client against scripted servers: what each connection answers is written out byte by byte.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::wire::net::Allow;

const LIMITS: Limits =
    Limits { body_bytes_max: 100, timeout: Duration::from_secs(5), answer: None, head_counts: false };

/// What a server does with one connection: one entry a request, each the bytes of the answer; then it closes.
type Script = Vec<Vec<&'static str>>;

struct Server {
    client: Client,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

async fn server(script: Script) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::parse(&format!("http://{}/path?q=1", listener.local_addr().unwrap())).unwrap();
    let dialer = Arc::new(Dialer::new(Allow::parse(["127.0.0.1"]).unwrap()));
    let server =
        Server { client: Client::new(dialer, target, None), connections: Arc::default(), requests: Arc::default() };
    let (connections, requests) = (server.connections.clone(), server.requests.clone());
    tokio::spawn(async move {
        for answers in script {
            let (mut tcp, _) = listener.accept().await.unwrap();
            connections.fetch_add(1, Ordering::SeqCst);
            let requests = requests.clone();
            tokio::spawn(async move {
                for answer in answers {
                    let Some(request) = read_request(&mut tcp).await else { return };
                    requests.lock().unwrap().push(request);
                    tcp.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
        // Further connections are accepted by the system and never answered.
        std::future::pending::<()>().await;
    });
    server
}

async fn read_request(tcp: &mut TcpStream) -> Option<String> {
    let mut seen = Vec::new();
    loop {
        let mut byte = [0];
        if tcp.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        seen.push(byte[0]);
        let text = String::from_utf8_lossy(&seen).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        if body.len() == length.parse::<usize>().unwrap() {
            return Some(text);
        }
    }
}

impl Server {
    async fn post(&self) -> Result<Response, Error> {
        self.client.post(HeaderMap::new(), Bytes::from_static(b"body"), LIMITS).await
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let server = server(vec![vec![OK, OK, OK]]).await;
    for _ in 0..3 {
        let response = server.post().await.unwrap();
        assert_eq!((response.status, response.body.as_ref()), (StatusCode::OK, b"ok".as_ref()));
    }
    assert_eq!(server.connections(), 1);
    let request = server.requests.lock().unwrap()[0].clone();
    assert!(request.starts_with("POST /path?q=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("host: {}\r\n", server.client.target().authority())), "{request}");
    assert!(request.contains(&format!("user-agent: {AGENT}\r\n")), "{request}");
    assert!(request.ends_with("\r\n\r\nbody"), "{request}");
}

#[tokio::test]
async fn a_kept_connection_that_died_is_replaced_without_the_caller_noticing() {
    // The first connection reads the second request and closes without a byte; the script closes after each list.
    let server = server(vec![vec![OK, ""], vec![OK]]).await;
    assert!(server.post().await.is_ok());
    assert!(server.post().await.is_ok());
    assert_eq!(server.connections(), 2);
    assert_eq!(server.requests.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_new_connection_that_dies_is_not_tried_again() {
    let server = server(vec![vec![""], vec![OK]]).await;
    let error = server.post().await.unwrap_err();
    assert!(matches!(error, Error::Lost(_)), "{error}");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn an_answer_cut_short_is_lost_and_not_asked_for_again() {
    let server = server(vec![vec![OK, "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nok"], vec![OK]]).await;
    assert!(server.post().await.is_ok());
    let error = server.post().await.unwrap_err();
    assert!(matches!(error, Error::Lost(_)), "{error}");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn redirects_and_failures_are_answers() {
    let redirect = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let busy = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
    let server = server(vec![vec![redirect, busy]]).await;
    assert_eq!(server.post().await.unwrap().status, StatusCode::FOUND);
    let response = server.post().await.unwrap();
    let after = super::super::retry_after(&response.headers, crate::clock::Timestamp::default());
    assert_eq!((response.status, after), (StatusCode::SERVICE_UNAVAILABLE, Some(Duration::from_secs(7))));
}

#[tokio::test]
async fn answers_over_the_limit_compressed_or_malformed_are_refused() {
    let many = Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(HEADER_BYTES_MAX)).into_boxed_str());
    let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let endless = Box::leak(format!("{chunks}{}", format!("28\r\n{}\r\n", "x".repeat(40)).repeat(3)).into_boxed_str());
    let exact =
        Box::leak(format!("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}", "x".repeat(100)).into_boxed_str());
    let server = server(vec![
        vec!["HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n"],
        vec![endless],
        vec!["HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\n\x1f"],
        vec!["SSH-2.0-OpenSSH_9.9\r\n\r\n"],
        vec![many],
        vec![exact],
    ])
    .await;
    assert!(matches!(server.post().await, Err(Error::TooLarge { max: 100 })));
    assert!(matches!(server.post().await, Err(Error::TooLarge { max: 100 })));
    assert!(matches!(server.post().await, Err(Error::Encoded)));
    assert!(matches!(server.post().await, Err(Error::Malformed(_))));
    assert!(matches!(server.post().await, Err(Error::Malformed(_))));
    assert_eq!(server.post().await.unwrap().body.len(), 100);
}

#[tokio::test]
async fn where_the_head_counts_an_answer_is_one_whatever_its_body_is() {
    let chunks = "HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n";
    let endless = Box::leak(format!("{chunks}{}", format!("28\r\n{}\r\n", "x".repeat(40)).repeat(3)).into_boxed_str());
    let long = Box::leak(
        format!("HTTP/1.1 202 Accepted\r\ncontent-length: 101\r\n\r\n{}{OK}", "x".repeat(101)).into_boxed_str(),
    );
    let bodies: [&'static str; 5] = [
        long,
        endless,
        "HTTP/1.1 202 Accepted\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\n\x1f",
        "HTTP/1.1 202 Accepted\r\ncontent-length: 20\r\n\r\ncut short",
        "HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\nno chunk\r\n",
    ];
    // What follows on such a connection is not taken for the next answer.
    let server = server(bodies.map(|body| vec![body]).into_iter().chain([vec![OK, OK]]).collect()).await;
    let limits = Limits { head_counts: true, ..LIMITS };
    let post = async || server.client.post(HeaderMap::new(), Bytes::from_static(b"body"), limits).await.unwrap();
    for number in 1..=bodies.len() {
        let response = post().await;
        assert_eq!((response.status, response.body.len()), (StatusCode::ACCEPTED, 0), "{number}");
        assert_eq!(server.connections(), number);
    }
    for _ in 0..2 {
        assert_eq!(post().await.body.as_ref(), b"ok", "a body that can be had is there");
    }
    assert_eq!(server.connections(), bodies.len() + 1, "and its connection is kept");
}

#[tokio::test(start_paused = true)]
async fn where_the_head_counts_a_body_that_does_not_come_is_not_waited_for_long() {
    let head = "HTTP/1.1 202 Accepted\r\ncontent-length: 20\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let client = Client::new(Arc::new(Dialer::new(Allow::parse(["127.0.0.1"]).unwrap())), target, None);
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            read_request(&mut tcp).await;
            tcp.write_all(head.as_bytes()).await.unwrap();
            held.push(tcp);
        }
    });
    for (timeout, most) in [(60, BODY_WITHIN), (2, Duration::from_secs(2))] {
        let began = Instant::now();
        let limits = Limits { head_counts: true, timeout: Duration::from_secs(timeout), ..LIMITS };
        let response = client.post(HeaderMap::new(), Bytes::new(), limits).await.unwrap();
        assert_eq!(response.status, StatusCode::ACCEPTED);
        assert!(began.elapsed() <= most + Duration::from_millis(10), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let server = server(vec![]).await;
    let limits = Limits { timeout: Duration::from_millis(50), ..LIMITS };
    let error = server.client.get(HeaderMap::new(), limits).await.unwrap_err();
    assert_eq!(error.to_string(), "no complete answer came within 50 ms");
}

#[tokio::test]
async fn requests_at_the_same_time_do_not_wait_for_each_other() {
    let server = server(vec![vec![OK, OK], vec![OK, OK]]).await;
    let (a, b) = tokio::join!(server.post(), server.post());
    assert!(a.is_ok() && b.is_ok());
    let (a, b) = tokio::join!(server.post(), server.post());
    assert!(a.is_ok() && b.is_ok());
    assert_eq!(server.connections(), 2, "both are kept");
}
