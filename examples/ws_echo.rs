//! An echo over the program's own WebSocket layer, for the Autobahn cases, which `tests/vectors/run` puts to it:
//! `ws_echo 127.0.0.1:0` waits for a fuzzing client, `ws_echo --connect 127.0.0.1:9001` goes to a fuzzing server.
//!
//! Listener, handshakes, limits, watch, reading, writing and closing are what partners meet. It differs in what partners
//! must not have: binary messages and messages of 16 MiB go through, and no subprotocol is spoken.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use futures_util::StreamExt as _;
use http::Request;
use pushpull::clock::{Clock, SystemClock};
use pushpull::transport::pushpull::{Config, Dial, echo};
use pushpull::transport::server::Server;
use pushpull::wire::Limits;
use pushpull::wire::net::{Allow, Dialer, Target};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

/// The longest message of the cases.
const MESSAGE_MAX: usize = 16 << 20;

/// The longest time for one case.
const CASE_MAX: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let limits = Limits { object_bytes_max: MESSAGE_MAX, ..Limits::default() };
    let config = Arc::new(Config { limits, ..Config::default() });
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [address] => serve(address, config, clock).await,
        ["--connect", address] => connect(address, config, clock).await,
        _ => Err("usage: ws_echo ADDRESS | ws_echo --connect ADDRESS".into()),
    }
}

/// Echoes until it is killed.
async fn serve(address: &str, config: Arc<Config>, clock: Arc<dyn Clock>) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let handler = move |request: Request<Body>| {
        let answer = echo::answer(request, Arc::clone(&config), Arc::clone(&clock));
        std::future::ready(answer)
    };
    let router = Router::new().fallback(handler);
    Server::new("echo", router).run(listener, std::future::pending(), Duration::ZERO).await;
    Ok(())
}

/// Goes through all cases of a fuzzing server, one connection each.
async fn connect(address: &str, config: Arc<Config>, clock: Arc<dyn Clock>) -> Result<(), Box<dyn Error>> {
    let dialer = Arc::new(Dialer::new(Allow::parse(["127.0.0.0/8"])?));
    let cases = count(address).await?;
    for path in (1..=cases)
        .map(|case| format!("runCase?case={case}&agent=pushpull"))
        .chain(["updateReports?agent=pushpull".to_owned()])
    {
        let target = Target::parse(&format!("ws://{address}/{path}"))?;
        let (dialer, clock) = (Arc::clone(&dialer), Arc::clone(&clock));
        let dial = Dial { dialer, target, pin: None, token: None, http_only: false, name: None, clock };
        timeout(CASE_MAX, echo::dial(&dial, Arc::clone(&config)))
            .await
            .map_err(|_| format!("{path} does not end"))??;
    }
    println!("{cases} cases");
    Ok(())
}

/// How many cases there are: the server tells it in a message. Nothing of ours is under test here.
async fn count(address: &str) -> Result<usize, Box<dyn Error>> {
    let stream = TcpStream::connect(address).await?;
    let (mut socket, _) = tokio_tungstenite::client_async(format!("ws://{address}/getCaseCount"), stream).await?;
    while let Some(message) = timeout(CASE_MAX, socket.next()).await? {
        if let Message::Text(text) = message? {
            return Ok(text.parse()?);
        }
    }
    Err("the fuzzing server tells no number of cases".into())
}
