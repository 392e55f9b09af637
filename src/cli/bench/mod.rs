//! `pushpull bench`: two Transceivers in two processes under load, beside what the machine's cryptography alone can do, with
//! every SET accounted for.

mod accounts;
mod bound;
mod compare;
mod environment;
mod fill;
mod flights;
mod flood;
mod floor;
mod load;
mod mute;
mod pair;
mod plan;
mod process;
mod report;
mod side;
mod svg;
mod target;

use std::path::Path;

use super::args::Bench;
use super::place::Place;
use super::signals::Signals;
use super::{Error, Exit, output};
use report::Report;

/// One of the two sides, which the bench has started.
pub(super) async fn side() -> Result<Exit, Error> {
    side::run().await
}

pub(super) async fn run(args: &Bench, as_json: bool) -> Result<Exit, Error> {
    // From the beginning, so that nothing of it is left behind.
    let mut signals = Signals::new()?;
    let target = args.target();
    if let Some(target) = &target
        && let Some(exit) = target::introduce(args, target, as_json)?
    {
        return Ok(exit);
    }
    let mut place = Place::new("bench", args.dir.clone())?;
    if cfg!(debug_assertions) {
        output::note("warning: this is a debug build, whose figures mean nothing: cargo build --release");
    }
    if let Some(target) = &target {
        let folder = place.path.join("run-1");
        let report = tokio::select! {
            report = target::run(args, target, &folder) => report?,
            signal = signals.next() => return Ok(signal.exit()),
        };
        if as_json {
            output::json(&report.to_json(args))?;
        } else {
            output::line(&report.to_text(args))?;
        }
        tidy(&mut place, &folder, report.ok());
        return Ok(if report.ok() { Exit::Done } else { Exit::Failed });
    }
    let (each, mut keys) = (args.each(), pair::Keys::default());
    // Of each transport.
    let mut reports: Vec<Vec<Report>> = each.iter().map(|_| Vec::new()).collect();
    for number in 1..=args.runs {
        // In turns, so that what else the machine does meanwhile is shared by all.
        for (turn, args) in each.iter().enumerate() {
            let folder = place.path.join(format!("run-{}", number as usize + turn * args.runs as usize));
            let report = tokio::select! {
                report = pair::run(args, &folder, &mut keys) => report?,
                signal = signals.next() => return Ok(signal.exit()),
            };
            if !as_json {
                output::line(&report.to_text(args))?;
            }
            if let Some(path) = args.svg.as_deref().filter(|_| number == args.runs && turn == 0) {
                draw(path, &report, args)?;
            }
            tidy(&mut place, &folder, report.ok());
            reports[turn].push(report);
        }
    }
    if as_json {
        output::json(&compare::to_json(&each, &reports))?;
    } else if let Some(text) = compare::to_text(&each, &reports) {
        output::line(&text)?;
    }
    Ok(if reports.iter().flatten().all(Report::ok) { Exit::Done } else { Exit::Failed })
}

/// Removes a run's files, since the disk shall not fill up with them, unless they are evidence.
fn tidy(place: &mut Place, folder: &Path, is_ok: bool) {
    if is_ok {
        let _ = std::fs::remove_dir_all(folder);
    } else {
        place.passing = false;
        output::note(&format!("the files of this run are kept in {}", folder.display()));
    }
}

fn draw(path: &Path, report: &Report, args: &Bench) -> Result<(), Error> {
    std::fs::write(path, svg::draw(report, args)).map_err(|error| Error::unwritable(path, &error))
}
