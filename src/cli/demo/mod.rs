//! `pushpull demo`: two organisations on this machine, as two real daemons over TLS, sending each other the
//! specifications' events, and the proof at the end that none was lost or doubled.

mod organisation;
mod summary;
mod traffic;
mod view;

use std::io::IsTerminal;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use organisation::pair;
use summary::Summary;
use traffic::Traffic;
use view::View;

use super::args::{Demo, DemoTransport};
use super::place::Place;
use super::signals::Signals;
use super::{Error, Exit, output};

/// How long the demo runs when nobody is there to end it.
const UNATTENDED: Duration = Duration::from_secs(10);

/// Pause between two events of one direction.
const PACE: Duration = Duration::from_millis(100);

/// How long the last SETs may take to be settled.
const SETTLING: Duration = Duration::from_secs(20);

pub(super) async fn run(args: &Demo, as_json: bool) -> Result<Exit, Error> {
    // From the beginning: a demo that a signal ended by itself would leave its daemons behind.
    let mut signals = Signals::new()?;
    let started = Instant::now();
    let terminal = std::io::stdout().is_terminal() && !as_json;
    let place = Place::new("demo", args.dir.clone())?;
    let http = args.transport == DemoTransport::Http;
    let organisations = tokio::select! {
        organisations = pair(&place.path, http) => organisations?,
        signal = signals.next() => return Ok(signal.exit()),
    };
    let view = View::new(terminal, as_json);
    view.opening(&organisations, http, started.elapsed());

    let (stop, stopping) = watch::channel(false);
    let traffic = Traffic::new(&organisations, PACE, started);
    let limit = args.run_for.or((!terminal).then_some(UNATTENDED));
    let ending = async {
        let time = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = time => {}
            _ = signals.next() => {}
            died = organisation::first_death(&organisations) => return Err(died),
        }
        Ok(stop.send_replace(true))
    };
    let (ended, flown) = tokio::join!(ending, traffic.run(&view, stopping));
    ended?;
    let accounts = async {
        let summary = Summary::of(&organisations, flown?, started, SETTLING).await?;
        view.closing(&summary);
        Ok::<_, Error>(summary)
    };
    let summary = tokio::select! {
        summary = accounts => summary?,
        // A second one: whoever sends it does not want the accounts.
        signal = signals.next() => return Ok(signal.exit()),
    };
    for organisation in organisations {
        organisation.stop().await;
    }
    if as_json {
        output::json(&summary.to_json())?;
    }
    Ok(if summary.ok() { Exit::Done } else { Exit::Failed })
}
