//! The server met from outside: real sockets on loopback.

use tokio::time::Instant;

use axum::extract::{Extension, Request};
use axum::routing::{any, get, post};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::wire::net::{Allow, Client, Dialer, Limits as Cost, Minted, Pin, Target, mint, server_config};

struct Fixture {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

async fn start(server: Server, grace: Duration) -> Fixture {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async {
        let _ = stopped.await;
    };
    Fixture { address, stop: Some(stop), task: tokio::spawn(server.run(listener, stopped, grace)) }
}

impl Fixture {
    async fn with(limits: Limits) -> Self {
        start(Server::new("test", router()).with_limits(limits), GRACE).await
    }

    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn client(&self, scheme: &str, pin: Option<Pin>) -> Client {
        let target = Target::parse(&format!("{scheme}://{}/echo", self.address)).unwrap();
        Client::new(Arc::new(Dialer::new(Allow::parse(["127.0.0.1"]).unwrap())), target, pin)
    }
}

fn router() -> Router {
    Router::new()
        .route("/", get(|Extension(remote): Extension<Remote>| async move { format!("you are {}!", remote.0) }))
        .route("/echo", post(|body: Bytes| async { body }))
        .route("/refuse", post(|| async { StatusCode::UNAUTHORIZED }))
        .route("/slowly", get(|| async { tokio::time::sleep(SHORT * 3).await }))
        .route("/never", get(|| async { std::future::pending::<()>().await }))
        .route("/huge", get(|| async { vec![0; 64 << 20] }))
        .route("/pace", post(pace))
        .route("/upgrade", any(upgrade))
}

async fn pace(request: Request) -> StatusCode {
    let error = request.into_body().collect().await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    if source.is::<TooSlow>() { StatusCode::REQUEST_TIMEOUT } else { StatusCode::IM_A_TEAPOT }
}

async fn upgrade(request: Request) -> (StatusCode, HeaderMap) {
    tokio::spawn(async {
        let mut stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        let mut four = [0; 4];
        while stream.read_exact(&mut four).await.is_ok() {
            stream.write_all(&four).await.unwrap();
        }
    });
    let mut headers = HeaderMap::new();
    headers.insert(http::header::CONNECTION, "upgrade".parse().unwrap());
    headers.insert(http::header::UPGRADE, "echo".parse().unwrap());
    (StatusCode::SWITCHING_PROTOCOLS, headers)
}

/// Sends these bytes and reads until the server has said this much.
async fn ask(tcp: &mut TcpStream, bytes: &str, until: &str) -> String {
    tcp.write_all(bytes.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(until) {
        assert_ne!(tcp.read_buf(&mut seen).await.unwrap(), 0, "closed after {:?}", String::from_utf8_lossy(&seen));
    }
    String::from_utf8(seen).unwrap()
}

/// What still comes until the server closes, and how long that took.
async fn closed(tcp: &mut TcpStream) -> (String, Duration) {
    let started = Instant::now();
    let mut seen = Vec::new();
    // A reset is an end too.
    let _ = timeout(Duration::from_secs(5), tcp.read_to_end(&mut seen)).await.expect("the server closes");
    (String::from_utf8_lossy(&seen).into_owned(), started.elapsed())
}

const SHORT: Duration = Duration::from_millis(150);
const GRACE: Duration = Duration::from_secs(5);
const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const COST: Cost = Cost { body_bytes_max: 1 << 20, timeout: Duration::from_secs(5), answer: None, head_counts: false };

#[tokio::test]
async fn a_request_that_two_readers_could_take_differently_is_refused_and_the_connection_closed() {
    let fixture = Fixture::with(Limits::default()).await;
    for head in [
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n",
        "GET / HTTP/1.0\r\nhost: x\r\nhost: x\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
    ] {
        let mut tcp = fixture.connect().await;
        tcp.write_all(format!("{head}\r\n{GET}").as_bytes()).await.unwrap();
        let (answer, _) = closed(&mut tcp).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 "), "{head}: {answer}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "what follows is not read as a request: {head}: {answer}");
    }
    let mut tcp = fixture.connect().await;
    ask(&mut tcp, "GET / HTTP/1.0\r\n\r\n", "you are ").await;
}

#[tokio::test]
async fn after_a_body_with_chunks_and_a_length_nothing_is_read() {
    let fixture = Fixture::with(Limits::default()).await;
    let (chunks, length) = ("transfer-encoding: chunked\r\n", "content-length: 4\r\n");
    for lines in [format!("{chunks}{length}"), format!("{length}{chunks}")] {
        let mut tcp = fixture.connect().await;
        let request = format!("POST /echo HTTP/1.1\r\nhost: x\r\n{lines}\r\n2\r\nhi\r\n0\r\n\r\n{GET}");
        tcp.write_all(request.as_bytes()).await.unwrap();
        let (answers, _) = closed(&mut tcp).await;
        // The chunks count (RFC 9112 §6.3); whoever believed the length takes the rest for another request.
        assert!(answers.starts_with("HTTP/1.1 200 ") && answers.ends_with("hi"), "{lines}: {answers}");
        assert_eq!(answers.matches("HTTP/1.").count(), 1, "{lines}: {answers}");
    }
}

#[tokio::test]
async fn a_request_is_answered_and_knows_where_it_comes_from() {
    let fixture = Fixture::with(Limits::default()).await;
    let mut tcp = fixture.connect().await;
    let own = format!("you are {}!", tcp.local_addr().unwrap());
    let answer = ask(&mut tcp, GET, &own).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains(&format!("content-length: {}\r\n", own.len())), "{answer}");
    ask(&mut tcp, GET, &own).await;
}

fn minted() -> (Minted, Arc<rustls::ServerConfig>, Pin) {
    let minted = mint(&[], SystemClock::new().now().wall).unwrap();
    let config = server_config(minted.cert_pem.as_bytes(), minted.key_pem.as_bytes()).unwrap();
    let pin = Pin::of_cert_pem(minted.cert_pem.as_bytes()).unwrap();
    (minted, config, pin)
}

#[tokio::test]
async fn tls_is_spoken_and_a_new_certificate_is_used_without_a_restart() {
    let ((_, first, first_pin), (_, second, second_pin)) = (minted(), minted());
    let config = Arc::new(ArcSwap::new(first));
    let fixture = start(Server::new("test", router()).with_tls(config.clone()), GRACE).await;
    let old = fixture.client("https", Some(first_pin));
    for size in [0, 5, 100_000] {
        let body = Bytes::from(vec![b'x'; size]);
        assert_eq!(old.post(HeaderMap::new(), body.clone(), COST).await.unwrap().body, body);
    }
    config.store(second);
    let new = fixture.client("https", Some(second_pin));
    assert!(new.post(HeaderMap::new(), Bytes::new(), COST).await.is_ok());
    assert!(old.post(HeaderMap::new(), Bytes::new(), COST).await.is_ok(), "its connection is kept");
    let late = fixture.client("https", Some(first_pin));
    assert!(late.post(HeaderMap::new(), Bytes::new(), COST).await.unwrap_err().to_string().contains("tls_pin"));
}

#[tokio::test]
async fn a_head_over_the_limit_is_answered_431() {
    let fixture = Fixture::with(Limits { header_bytes_max: 16 << 10, ..Limits::default() }).await;
    for filler in [format!("x: {}\r\n", "x".repeat(16 << 10)), "x: y\r\n".repeat(101)] {
        let mut tcp = fixture.connect().await;
        let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{filler}\r\n");
        let answer = ask(&mut tcp, &request, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        closed(&mut tcp).await;
    }
    let mut tcp = fixture.connect().await;
    ask(&mut tcp, &format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(15 << 10)), "200 OK").await;
}

#[tokio::test]
async fn whoever_is_silent_or_dribbles_a_head_is_cut_off() {
    let limits = Limits { header_timeout: SHORT, handshake_timeout: SHORT, ..Limits::default() };
    let plain = Fixture::with(limits.clone()).await;
    let tls = Arc::new(ArcSwap::new(minted().1));
    let tls = start(Server::new("test", router()).with_limits(limits).with_tls(tls), GRACE).await;
    for (fixture, sent) in [(&plain, ""), (&plain, "GET / HT"), (&tls, ""), (&tls, "\x16\x03\x01")] {
        let mut tcp = fixture.connect().await;
        tcp.write_all(sent.as_bytes()).await.unwrap();
        let (said, after) = closed(&mut tcp).await;
        assert!(said.is_empty() && after >= SHORT / 2 && after < SHORT * 20, "{sent:?}: {said:?} after {after:?}");
    }
    let mut tcp = plain.connect().await;
    ask(&mut tcp, GET, "!").await;
    tcp.write_all(b"GET /").await.unwrap();
    assert!(closed(&mut tcp).await.1 < SHORT * 20, "a second head has no more time than the first");
}

#[tokio::test]
async fn a_connection_may_idle_longer_than_a_head_may_take_but_not_for_ever() {
    let limits = Limits { header_timeout: SHORT, idle_timeout: SHORT * 5, ..Limits::default() };
    let fixture = Fixture::with(limits).await;
    let mut tcp = fixture.connect().await;
    ask(&mut tcp, GET, "!").await;
    tokio::time::sleep(SHORT * 2).await;
    ask(&mut tcp, GET, "!").await;
    // A handler may take longer than either.
    ask(&mut tcp, &GET.replace("/ ", "/slowly "), "200 OK").await;
    let (_, after) = closed(&mut tcp).await;
    assert!(after >= SHORT * 3, "{after:?}");
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_at_once_and_places_come_back() {
    let fixture = Fixture::with(Limits { connections_max: 2, ..Limits::default() }).await;
    let (mut one, mut two) = (fixture.connect().await, fixture.connect().await);
    ask(&mut one, GET, "!").await;
    ask(&mut two, GET, "!").await;
    let (said, after) = closed(&mut fixture.connect().await).await;
    assert!(said.is_empty() && after < Duration::from_secs(1));
    drop(one);
    loop {
        let mut again = fixture.connect().await;
        // The server may notice the free place a moment later.
        if again.write_all(GET.as_bytes()).await.is_ok() && matches!(again.read(&mut [0; 64]).await, Ok(1..)) {
            break;
        }
    }
}

#[tokio::test]
async fn stopping_finishes_requests_at_hand_and_closes_idle_connections() {
    let mut fixture = Fixture::with(Limits::default()).await;
    let (mut busy, mut idle, mut fresh) = (fixture.connect().await, fixture.connect().await, fixture.connect().await);
    ask(&mut idle, GET, "!").await;
    ask(&mut busy, GET, "!").await;
    busy.write_all(GET.replace("/ ", "/slowly ").as_bytes()).await.unwrap();
    tokio::time::sleep(SHORT).await;
    fixture.stop();
    assert_eq!(closed(&mut idle).await.0, "");
    drop(idle);
    closed(&mut fresh).await;
    drop(fresh);
    let (said, _) = closed(&mut busy).await;
    assert!(said.starts_with("HTTP/1.1 200 OK") && said.contains("connection: close"), "{said}");
    drop(busy);
    timeout(GRACE / 2, fixture.task).await.expect("over before the grace is").unwrap();
    assert!(TcpStream::connect(fixture.address).await.is_err());
}

#[tokio::test]
async fn what_is_not_over_by_the_grace_is_dropped() {
    let mut fixture = start(Server::new("test", router()), SHORT).await;
    let mut tcp = fixture.connect().await;
    ask(&mut tcp, GET, "!").await;
    tcp.write_all(GET.replace("/ ", "/never ").as_bytes()).await.unwrap();
    tokio::time::sleep(SHORT).await;
    fixture.stop();
    fixture.task.await.unwrap();
    assert_eq!(closed(&mut tcp).await.0, "");
}

#[tokio::test]
async fn an_upgraded_connection_passes_through_and_keeps_its_place() {
    let limits = Limits { connections_max: 1, header_timeout: SHORT, idle_timeout: SHORT, ..Limits::default() };
    // Its handler hears its end, however half-closed connections are treated.
    let server = Server::new("test", router()).with_limits(limits).answering_half_closed();
    let mut fixture = start(server, GRACE).await;
    let mut tcp = fixture.connect().await;
    let request = "GET /upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    assert!(ask(&mut tcp, request, "\r\n\r\n").await.starts_with("HTTP/1.1 101 "));
    ask(&mut tcp, "ping", "ping").await;
    tokio::time::sleep(SHORT * 2).await;
    ask(&mut tcp, "pong", "pong").await;
    assert_eq!(closed(&mut fixture.connect().await).await.0, "", "its place is taken");
    fixture.stop();
    ask(&mut tcp, "last", "last").await;
    assert!(!fixture.task.is_finished(), "the server waits for its handler");
    drop(tcp);
    timeout(GRACE / 2, fixture.task).await.expect("over before the grace is").unwrap();
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    let fixture = Fixture::with(Limits { body_patience: SHORT, ..Limits::default() }).await;
    for head in ["content-length: 9\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let mut tcp = fixture.connect().await;
        let answer = ask(&mut tcp, &format!("POST /pace HTTP/1.1\r\nhost: x\r\n{head}"), "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_given_before_the_body_was_read_arrives() {
    let fixture = Fixture::with(Limits::default()).await;
    let mut tcp = fixture.connect().await;
    let request = "POST /refuse HTTP/1.1\r\nhost: x\r\ncontent-length: 50000\r\n\r\n";
    // The client is still sending when the server has had its say; a reset would take the answer along.
    assert!(ask(&mut tcp, request, "\r\n\r\n").await.starts_with("HTTP/1.1 401 "));
    for _ in 0..5 {
        tcp.write_all(&[b'x'; 10_000]).await.unwrap();
        tokio::task::yield_now().await;
    }
    tcp.shutdown().await.unwrap();
    assert_eq!(tcp.read_to_end(&mut Vec::new()).await.unwrap(), 0, "closed without a reset");
}

#[tokio::test]
async fn an_answer_to_a_body_that_nobody_read_announces_the_close() {
    let fixture = Fixture::with(Limits::default()).await;
    let head = "host: x\r\ncontent-length: 5\r\n\r\n";
    let mut tcp = fixture.connect().await;
    let answer = ask(&mut tcp, &format!("POST /refuse HTTP/1.1\r\n{head}"), "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("\r\nconnection: close\r\n"), "{answer}");
    let mut tcp = fixture.connect().await;
    for _ in 0..2 {
        let answer = ask(&mut tcp, &format!("POST /echo HTTP/1.1\r\n{head}hello"), "hello").await;
        assert!(!answer.contains("connection: close"), "a body that was read ends nothing: {answer}");
    }
}

#[tokio::test]
async fn an_answer_arrives_at_a_client_that_first_writes_megabytes() {
    let fixture = Fixture::with(Limits::default()).await;
    let mut tcp = fixture.connect().await;
    let length = 6 << 20;
    let request = format!("POST /refuse HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    tcp.write_all(&vec![b'x'; length]).await.expect("nothing is reset while the client writes");
    let (said, _) = closed(&mut tcp).await;
    assert!(said.starts_with("HTTP/1.1 401 "), "{said}");
}

#[tokio::test]
async fn a_client_that_never_reads_its_answer_is_cut_off() {
    let mut fixture = Fixture::with(Limits { write_timeout: SHORT, ..Limits::default() }).await;
    let mut tcp = fixture.connect().await;
    ask(&mut tcp, &GET.replace("/ ", "/huge "), "200 OK").await;
    tokio::time::sleep(SHORT * 5).await;
    fixture.stop();
    timeout(GRACE / 2, &mut fixture.task).await.expect("the connection is gone").unwrap();
}

/// Shuts the client's side down behind this request; what then comes.
async fn half_closed(fixture: &Fixture, request: &str) -> String {
    let mut tcp = fixture.connect().await;
    tcp.write_all(request.as_bytes()).await.unwrap();
    tcp.shutdown().await.unwrap();
    closed(&mut tcp).await.0
}

#[tokio::test]
async fn whoever_shuts_its_side_down_after_a_request_is_answered_where_that_is_asked_for() {
    let patient = start(Server::new("test", router()).answering_half_closed(), GRACE).await;
    let slowly = "GET /slowly HTTP/1.1\r\nhost: x\r\n\r\n";
    let echo = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi";
    let chunks = "POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let single = [slowly, echo, chunks].map(|request| (request.to_owned(), 1));
    let pairs = [(format!("{echo}{slowly}"), 2), (format!("{slowly}{echo}"), 2)];
    for (request, answers) in single.into_iter().chain(pairs) {
        let answer = half_closed(&patient, &request).await;
        assert_eq!(answer.matches("HTTP/1.1 200 ").count(), answers, "{request}: {answer}");
    }
    for cut in [echo.replace("length: 2", "length: 3"), chunks.replace("0\r\n\r\n", "0\r\n")] {
        for late in [false, true] {
            let mut tcp = patient.connect().await;
            tcp.write_all(cut.as_bytes()).await.unwrap();
            if late {
                tokio::time::sleep(SHORT).await;
            }
            tcp.shutdown().await.unwrap();
            let (answer, after) = closed(&mut tcp).await;
            assert!(!answer.contains(" 200 "), "that was not the whole request: {cut}: {answer}");
            assert!(after < Duration::from_secs(5), "nobody waits for the rest of it: {cut}");
        }
    }
    // Whoever waits for longer, as for the inbox, wants to know at once that nobody is there any more.
    let strict = Fixture::with(Limits::default()).await;
    assert_eq!(half_closed(&strict, slowly).await, "");
}

#[tokio::test]
async fn a_client_that_breaks_off_while_it_waits_is_noticed_where_half_closed_ones_are_answered() {
    let (_, config, pin) = minted();
    let tls = Arc::new(ArcSwap::new(config));
    for server in [Server::new("test", router()), Server::new("test", router()).with_tls(tls)] {
        let is_tls = server.tls.is_some();
        let mut fixture = start(server.answering_half_closed(), GRACE).await;
        let tcp = fixture.connect().await;
        let request = b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n";
        if is_tls {
            let connector = tokio_rustls::TlsConnector::from(crate::wire::net::pinned_config(pin).unwrap());
            let mut stream = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
            stream.write_all(request).await.unwrap();
            stream.flush().await.unwrap();
            tokio::time::sleep(SHORT).await;
            // Without a close_notify, as by a process that was killed.
            stream.get_mut().0.shutdown().await.unwrap();
        } else {
            let mut tcp = tcp;
            tcp.write_all(request).await.unwrap();
            tokio::time::sleep(SHORT).await;
            tcp.set_zero_linger().unwrap();
        }
        tokio::time::sleep(SHORT).await;
        let since = Instant::now();
        fixture.stop();
        (&mut fixture.task).await.unwrap();
        assert!(since.elapsed() < GRACE / 2, "TLS {is_tls}: the request is still waited for");
    }
}
