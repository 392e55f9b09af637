//! `pushpull serve`: the daemon, from its configuration to its orderly end.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tracing::{error, info, warn};

use crate::admin::{Admin, router};
use crate::auth::Secret;
use crate::clock::{Clock, SystemClock};
use crate::codes::Code;
use crate::config::{self, Config};
use crate::metrics::Metrics;
use crate::store::{self, Sqlite};
use crate::transceiver::Transceiver;
use crate::transport::server::Server;

use super::args::{Global, Serve};
use super::signals::{Signal, Signals};
use super::site::Site;
use super::steward::Steward;
use super::systemd::Manager;
use super::{Error, Exit, assemble, log, output};

/// How long a stop may take before what is left is dropped; it stays queued on disk.
const GRACE: Duration = Duration::from_secs(20);

pub(super) async fn run(args: &Serve, global: &Global) -> Result<Exit, Error> {
    let clock = SystemClock::new();
    let site = Site::of(global);
    if args.check {
        return report(&site, global.json);
    }
    let config = check(&site)?;
    let level = log::start(&config.log)?;
    let mut signals = Signals::new()?;
    let metrics = Metrics::new();
    let store = open_store(&config, &metrics).await?;
    let partners = bind(config.server.listen, "server.listen").await?;
    let operators = bind(config.admin.listen, "admin.listen").await?;
    let (listen, admin_listen) = (partners.local_addr(), operators.local_addr());

    let transceiver = assemble::transceiver(&config, Arc::clone(&store), partners, metrics).await?;
    let manager = Manager::of_process();
    let steward = Steward::begin(transceiver.clone(), site, config.clone(), level, manager).await?;
    transceiver.open();
    let token = Secret::read_file(&config.admin.token_file)
        .map_err(|error| Error::new(Exit::ConfigInvalid, format!("admin.token_file: {error}")))?;
    let admin = Admin::new(transceiver.clone(), &token, &config.admin.hosts, Arc::new(steward.clone()));
    let (quit, mut quitting) = tokio::sync::watch::channel(false);
    let serving = Server::new("admin", router(admin)).run(
        operators,
        async move {
            let _ = quitting.wait_for(|quit| *quit).await;
        },
        Duration::from_secs(1),
    );
    let serving = tokio::spawn(serving);

    info!(
        version = env!("CARGO_PKG_VERSION"),
        issuer = config.server.issuer,
        listen = shown(listen),
        admin = shown(admin_listen),
        peers = transceiver.peer_names().len(),
        ready_ms = u64::try_from(clock.now().mono.as_millis()).unwrap_or(u64::MAX),
        "ready"
    );
    manager.ready();
    let exit = tokio::select! {
        exit = until_stopped(&transceiver, &mut signals, manager, &steward) => exit,
        never = steward.heed_hangups() => match never {},
        never = manager.attend(&transceiver) => match never {},
    };
    let _ = quit.send(true);
    let _ = serving.await;
    drop((transceiver, steward));
    close(store).await;
    Ok(exit)
}

/// The configuration, once it and the files it names are known to be sound.
pub(super) fn check(site: &Site) -> Result<Config, Error> {
    Ok(config::check(&site.file, &site.environment)?)
}

/// Runs until a signal or the store ends it.
async fn until_stopped(transceiver: &Transceiver, signals: &mut Signals, manager: Manager, steward: &Steward) -> Exit {
    tokio::select! {
        why = transceiver.failed() => {
            error!(code = %Code::StorageFailed, why, "storage failed: stopped to protect the data; start again once the disk is sound");
            return Exit::StorageFailed;
        }
        signal = stop(signals, steward) => {
            manager.stopping(GRACE);
            info!(signal = signal.name(), grace_seconds = GRACE.as_secs(), "stopping: answering what is owed");
        }
    }
    tokio::select! {
        drained = transceiver.shutdown(GRACE) => {
            info!(drained, "stopped; what is not settled stays queued");
            Exit::Done
        }
        why = transceiver.failed() => {
            error!(code = %Code::StorageFailed, why, "storage failed: stopped to protect the data");
            Exit::StorageFailed
        }
        signal = stop(signals, steward) => {
            warn!(code = %Code::StoppedAtOnce, signal = signal.name(), "stopped at once; what is not settled stays queued");
            signal.exit()
        }
    }
}

/// Waits for a signal to stop. Others are passed on.
async fn stop(signals: &mut Signals, steward: &Steward) -> Signal {
    loop {
        match signals.next().await {
            Signal::Hangup => steward.hangup(),
            signal => return signal,
        }
    }
}

pub(super) async fn open_store(config: &Config, metrics: &Metrics) -> Result<Arc<Sqlite>, Error> {
    let Some(path) = config.store.path().map(std::path::Path::to_owned) else {
        return Err(Error::new(Exit::ConfigInvalid, "store.url: expected sqlite: and a path"));
    };
    let name = path.display().to_string();
    let archive = !config.store.keep_settled.is_zero() && config.store.keep_settled_bytes_max > 0;
    let options = store::Options { metrics: metrics.clone(), archive, ..store::Options::default() };
    let opening = tokio::task::spawn_blocking(move || Sqlite::open(&path, options));
    match opening.await {
        Ok(Ok(store)) => Ok(Arc::new(store)),
        // The others name the file.
        Ok(Err(store::Error::Full)) => {
            let what = format!("{name}: the disk is full");
            Err(Error::new(Exit::StorageFailed, what).code(Code::StorageFull).fix("free some space, then start again"))
        }
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Error::new(Exit::StorageFailed, format!("{name}: opening it panicked"))),
    }
}

/// The last transaction is long since durable; this only leaves a tidy file behind.
pub(super) async fn close(store: Arc<Sqlite>) {
    let _ = tokio::task::spawn_blocking(move || drop(store)).await;
}

async fn bind(address: std::net::SocketAddr, key: &str) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| {
        let fix = match error.kind() {
            std::io::ErrorKind::PermissionDenied => format!(
                "a port below 1024 needs a right of its own (docs/running.md has CAP_NET_BIND_SERVICE), or choose another {key}"
            ),
            std::io::ErrorKind::AddrNotAvailable => {
                format!("that is no address of this machine: write one that is, or 0.0.0.0:{}, as {key}", address.port())
            }
            _ => format!("stop what listens there, or choose another {key}"),
        };
        Error::failed(format!("{key}: cannot listen on {address}: {error}"))
            .code(Code::CannotListen)
            .who_acts("you")
            .fix(fix)
    })
}

fn shown(address: std::io::Result<std::net::SocketAddr>) -> String {
    address.map_or_else(|_| "?".to_owned(), |address| address.to_string())
}

/// `--check`: the result is the list of faults, on stdout for programs, said as an error to people.
fn report(site: &Site, as_json: bool) -> Result<Exit, Error> {
    let config = match config::check(&site.file, &site.environment) {
        Ok(config) => config,
        Err(faults) if as_json => {
            output::json(&faults.to_json())?;
            return Ok(Exit::ConfigInvalid);
        }
        Err(faults) => return Err(faults.into()),
    };
    if as_json {
        output::json(&serde_json::json!({ "ok": true, "config": site.file, "peers": config.peers.len() }))?;
    } else {
        output::line(&format!("{}: sound, {} in it", site.file.display(), count(config.peers.len(), "peer")))?;
    }
    Ok(Exit::Done)
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
