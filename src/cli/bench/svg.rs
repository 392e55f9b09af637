//! The picture: throughput over time, and how many SETs were acked within which time.

use std::fmt::Write as _;

use super::report::{self, Report};
use crate::cli::args::Bench;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 740.0;

/// The whole file.
pub(super) fn draw(report: &Report, args: &Bench) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    text(&mut svg, 20.0, 24.0, "start", &format!("pushpull bench: {}", report::describe(args)));
    throughput(&mut svg, report, 50.0, 230.0);
    latency(&mut svg, report, 300.0, 480.0);
    svg.push_str("</svg>\n");
    svg
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#222\">{text}</text>");
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, dash: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-dasharray=\"{dash}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn path(svg: &mut String, points: impl Iterator<Item = (f64, f64)>, colour: &str) {
    let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
        points.join(" ")
    );
}

/// SETs a second in each second, both ways together, under the line of bare cryptography.
fn throughput(svg: &mut String, report: &Report, top: f64, bottom: f64) {
    let steps = report.sides.iter().map(|side| side.series.len()).max().unwrap_or(0);
    // A tenth of a second is too short for people: half a second's mean.
    let rates: Vec<f64> = (0..steps)
        .map(|at| {
            let window = at.saturating_sub(4)..=at;
            let sum: u64 = report.sides.iter().flat_map(|side| side.series.get(window.clone())).flatten().sum();
            sum as f64 * 10.0 / (at.min(4) + 1) as f64
        })
        .collect();
    let most = rates.iter().copied().fold(report.bound.sets, f64::max).max(1.0) * 1.1;
    let y = |rate: f64| bottom - (bottom - top) * rate / most;
    let x = |at: usize| LEFT + (RIGHT - LEFT) * at as f64 / steps.max(2).saturating_sub(1) as f64;
    text(svg, LEFT, top - 8.0, "start", "SETs a second, both ways together (dashed: bare cryptography on all cores)");
    for part in 0..=4 {
        let rate = most * f64::from(part) / 4.0;
        line(svg, (LEFT, y(rate)), (RIGHT, y(rate)), "#ddd", "");
        text(svg, LEFT - 6.0, y(rate) + 4.0, "end", &format!("{rate:.0}"));
    }
    line(svg, (LEFT, y(report.bound.sets)), (RIGHT, y(report.bound.sets)), "#b00", "6 4");
    path(svg, rates.iter().enumerate().map(|(at, rate)| (x(at), y(*rate))), "#06c");
    text(svg, LEFT, bottom + 16.0, "start", "0 s");
    text(svg, RIGHT, bottom + 16.0, "end", &format!("{:.1} s", steps as f64 / 10.0));
}

/// The share of SETs acked within a time, which is drawn by its logarithm.
fn latency(svg: &mut String, report: &Report, top: f64, bottom: f64) {
    let mut all: Vec<(u64, u64)> = report.sides.iter().flat_map(|side| side.latency.iter().copied()).collect();
    all.sort_unstable();
    let total: u64 = all.iter().map(|(_, count)| count).sum();
    text(svg, LEFT, top - 8.0, "start", "Share of SETs acked within a time, from `send` to ack");
    let (Some((least, _)), Some((most, _))) = (all.first(), all.last()) else { return };
    let (from, to) = ((*least as f64).log10().floor(), ((*most).max(*least + 1) as f64).log10().ceil());
    let x = |micros: f64| LEFT + (RIGHT - LEFT) * (micros.log10() - from) / (to - from).max(1.0);
    let y = |share: f64| bottom - (bottom - top) * share;
    for part in 0..=4 {
        let share = f64::from(part) / 4.0;
        line(svg, (LEFT, y(share)), (RIGHT, y(share)), "#ddd", "");
        text(svg, LEFT - 6.0, y(share) + 4.0, "end", &format!("{:.0} %", share * 100.0));
    }
    let mut decade = from;
    while decade <= to {
        let at = x(10_f64.powf(decade));
        line(svg, (at, top), (at, bottom), "#ddd", "");
        text(svg, at, bottom + 16.0, "middle", &format!("{} ms", 10_f64.powf(decade - 3.0)));
        decade += 1.0;
    }
    let mut sum = 0;
    let points = all.iter().map(|(value, count)| {
        sum += count;
        (x(*value as f64), y(sum as f64 / total.max(1) as f64))
    });
    let points: Vec<(f64, f64)> = points.collect();
    path(svg, points.into_iter(), "#06c");
    for (number, name) in [(0, "p50"), (2, "p99")] {
        let at = report.reached.latency[number];
        line(svg, (x(at * 1e3), top), (x(at * 1e3), bottom), "#888", "3 3");
        text(svg, x(at * 1e3) + 3.0, top + 12.0 + 14.0 * number as f64, "start", &format!("{name} {at:.2} ms"));
    }
}
