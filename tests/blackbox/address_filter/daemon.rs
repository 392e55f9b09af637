//! The daemon: peers whose endpoint or keys lie inside, and servers that redirect there.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::canary::Canary;
use super::urls::{HOSTS, Host};
use crate::common::daemon::{Daemon, Plan};
use crate::common::until;

/// Adds a peer at run time; the status of the answer.
async fn add(daemon: &Daemon, name: &str, endpoint: &str, jwks_uri: &str, transport: &str) -> u16 {
    let definition = json!({
        "issuer": format!("https://{name}.example"), "endpoint": endpoint, "jwks_uri": jwks_uri, "transport": transport,
    });
    let body = json!({ "name": name, "definition": definition });
    daemon.admin("POST", "/api/v1/peers", Some(&body)).await.status()
}

/// Waits until the daemon knows why it cannot reach this peer.
async fn trouble(daemon: &Daemon, name: &str) -> String {
    until(&format!("trouble with {name}"), async || {
        let peer = daemon.get(&format!("/api/v1/peers/{name}")).await;
        peer.get("trouble").and_then(Value::as_str).map(str::to_owned)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_peer_leads_the_daemon_to_a_blocked_address() {
    let canary = Canary::new();
    // It may reach one address of this machine, and nothing else that is not public.
    let daemon = Plan::new(false).with("[delivery]\nspeak_interval = \"200ms\"").start_allowing("127.0.0.2/32").await;
    let port = canary.port();
    let mut added = Vec::new();
    let mut names = vec!["localhost".to_owned(), "localhost.".to_owned(), "LOCALHOST".to_owned()];
    names.extend(HOSTS.iter().map(|host| match host {
        Host::Blocked(text) | Host::Unreadable(text) => (*text).to_owned(),
    }));
    for (number, host) in names.iter().enumerate() {
        let name = format!("p{number}");
        let transport = if number % 2 == 0 { "websocket" } else { "http" };
        let (endpoint, jwks) = (format!("https://{host}:{port}/pushpull"), format!("https://{host}:{port}/jwks.json"));
        match add(&daemon, &name, &endpoint, &jwks, transport).await {
            201 => added.push(name),
            400 => {}
            status => panic!("{host}: {status}"),
        }
        canary.is_untouched(host);
    }
    assert!(added.len() >= 60, "only {} of {} URLs were dialled", added.len(), names.len());
    for name in &added {
        let why = trouble(&daemon, name).await;
        assert!(why.contains("not a public address") || why.contains("cannot be resolved"), "{name}: {why}");
    }
    canary.is_untouched("the daemon");
}

/// A server at 127.0.0.2 that answers everything with a redirect to there.
async fn redirecting(to: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for status in (0..).map(|number| [301, 302, 303, 307, 308][number % 5]) {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 8192];
            let _ = stream.read(&mut request).await;
            let answer =
                format!("HTTP/1.1 {status} X\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn no_redirect_is_followed_by_any_transport() {
    let canary = Canary::new();
    let daemon = Plan::new(false).with("[delivery]\nspeak_interval = \"200ms\"").start_allowing("127.0.0.2/32").await;
    let server = redirecting(format!("http://127.0.0.1:{}/", canary.port())).await;
    let (plain, jwks) = (format!("http://{server}/pushpull"), format!("http://{server}/jwks.json"));
    assert_eq!(add(&daemon, "by-http", &plain, &jwks, "http").await, 201);
    let socket = format!("ws://{server}/pushpull");
    assert_eq!(add(&daemon, "by-socket", &socket, &jwks, "websocket").await, 201);
    for name in ["by-http", "by-socket"] {
        let why = trouble(&daemon, name).await;
        assert!(why.contains("redirect") || why.contains("30"), "{name}: {why}");
    }
    // Its keys were asked for as well.
    until("the fetch of the keys", async || {
        daemon.log().iter().any(|line| line.contains("redirects are never followed")).then_some(())
    })
    .await;
    canary.is_untouched("a redirect");
}
