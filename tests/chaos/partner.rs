//! Partners that are no daemons: one that takes requests and never answers a SET, one that acks and keeps whatever comes,
//! and one that is not there at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// By jti, every token that came under it.
pub(crate) type Received = BTreeMap<String, BTreeSet<String>>;

/// A running partner, over HTTP. Dropping it ends it.
pub(crate) struct Partner {
    received: Arc<Mutex<Received>>,
    task: JoinHandle<()>,
}

impl Partner {
    /// Takes requests and answers none of the SETs in them.
    pub(crate) async fn mute(address: &str) -> Self {
        Self::start(address, false).await
    }

    /// Acks every SET.
    pub(crate) async fn collector(address: &str) -> Self {
        Self::start(address, true).await
    }

    async fn start(address: &str, acks: bool) -> Self {
        let received = Arc::<Mutex<Received>>::default();
        let app = Router::new().route("/pushpull", post(take)).with_state((Arc::clone(&received), acks));
        let listener = crate::pairing::listen(address).await;
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Self { received, task }
    }

    /// What has come so far.
    pub(crate) fn received(&self) -> Received {
        self.received.lock().expect("nobody panicked").clone()
    }

    pub(crate) fn forget(&self) {
        self.received.lock().expect("nobody panicked").clear();
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(State((received, acks)): State<(Arc<Mutex<Received>>, bool)>, Json(object): Json<Value>) -> Json<Value> {
    let sets = object["sets"].as_object().cloned().unwrap_or_default();
    let mut received = received.lock().expect("nobody panicked");
    for (jti, token) in &sets {
        received.entry(jti.clone()).or_default().insert(token.as_str().unwrap_or_default().to_owned());
    }
    Json(if acks { json!({ "ack": sets.keys().collect::<Vec<_>>() }) } else { json!({}) })
}

/// Writes a peer of this name and address into an organisation's configuration, with all that it needs.
pub(crate) fn add(directory: &Path, name: &str, address: &str) {
    let private = |file: &str, text: &str| {
        let path = directory.join(file);
        fs::write(&path, text).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
    };
    private(&format!("{name}.jwks"), include_str!("../../proto-examples/sets/jwks.json"));
    private(&format!("{name}.token"), "a-token-that-nobody-looks-at-0123456789");
    append(
        directory,
        &format!(
            "\n[[peer]]\nname = \"{name}\"\nissuer = \"https://{name}.example\"\njwks_file = \"{name}.jwks\"\n\
             transport = \"http\"\nendpoint = \"http://{address}/pushpull\"\ntoken_file = \"{name}.token\"\n"
        ),
    );
}

/// Writes more into an organisation's configuration.
pub(crate) fn append(directory: &Path, more: &str) {
    let config = directory.join("pushpull.toml");
    let text = fs::read_to_string(&config).expect("init made the configuration");
    fs::write(&config, text + more).expect("the configuration is written");
}

/// Has an organisation refuse everything that is no CAEP event from this peer.
pub(crate) fn accept_only_caep(directory: &Path, peer: &str) {
    let config = directory.join("pushpull.toml");
    let text = fs::read_to_string(&config).expect("init made the configuration");
    let line = format!("name = \"{peer}\"\n");
    assert!(text.contains(&line), "the peer stands in the configuration");
    fs::write(&config, text.replace(&line, &format!("{line}accept = [\"caep:*\"]\n"))).expect("it is written");
}
