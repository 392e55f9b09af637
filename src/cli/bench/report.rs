//! What a run came to: for people, as JSON, and the medians of several.

use serde_json::{Value, json};

use super::accounts::Accounts;
use super::bound::Bound;
use super::environment;
use super::flights;
use super::floor::Floor;
use super::plan::Measured;
use crate::cli::args::{Bench, Direction, Flood, Rate, Transport};

/// Everything that was found out.
pub(super) struct Report {
    pub(super) environment: Value,
    pub(super) bound: Bound,
    pub(super) floor: Floor,
    /// From the first side to the second, and back.
    pub(super) accounts: [Accounts; 2],
    pub(super) queued_before: [u64; 2],
    pub(super) queued_after: [u64; 2],
    pub(super) reached: Reached,
    /// What was reached at full load, where the rate is a part of that.
    pub(super) peak: Option<Reached>,
    pub(super) resident: Resident,
    pub(super) restarted: Option<Restarted>,
    /// SETs that a partner which floods had sent.
    pub(super) flooded: Option<u64>,
    /// There was a backlog, of which some may still be queued.
    pub(super) leaves_a_backlog: bool,
    /// Nothing was to be sent.
    pub(super) is_idle: bool,
    pub(super) sides: [Measured; 2],
}

/// Resident memory of each side, in bytes.
pub(super) struct Resident {
    pub(super) empty: [u64; 2],
    pub(super) linked: [u64; 2],
    pub(super) running: [u64; 2],
    pub(super) rested: [u64; 2],
}

/// The first side, started again.
pub(super) struct Restarted {
    pub(super) seconds: f64,
    pub(super) queued: u64,
    pub(super) rss: u64,
}

/// Speed, latency and cost of one measurement.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    /// SETs settled a second, from each side.
    pub(super) rates: [f64; 2],
    /// Quantiles in milliseconds: 50, 90, 99, 99.9, the longest.
    pub(super) latency: [f64; 5],
    pub(super) each_latency: [[f64; 5]; 2],
    pub(super) bytes_per_s: [f64; 2],
    /// CPU microseconds a SET, both processes together.
    pub(super) cpu: f64,
    /// The same by stage, where it was taken.
    pub(super) stages: Vec<(String, f64)>,
}

const QUANTILES: [(f64, &str); 5] =
    [(0.5, "p50_ms"), (0.9, "p90_ms"), (0.99, "p99_ms"), (0.999, "p99_9_ms"), (1.0, "max_ms")];

impl Reached {
    pub(super) fn of(sides: &[Measured; 2]) -> Self {
        let settled: u64 = sides.iter().map(|side| side.settled).sum();
        let per_set = |seconds: f64, sets: u64| seconds * 1e6 / (sets.max(1) as f64);
        // A SET is counted where it is settled and where it is received: twice.
        let stage_sets = sides.iter().map(|side| side.stage_sets).sum::<u64>() / 2;
        let stages = sides[0].stages.iter().zip(&sides[1].stages);
        Self {
            rates: [0, 1].map(|side: usize| sides[side].settled as f64 / sides[side].seconds.max(1e-9)),
            latency: quantiles(&[&sides[0].latency, &sides[1].latency]),
            each_latency: [quantiles(&[&sides[0].latency]), quantiles(&[&sides[1].latency])],
            bytes_per_s: [0, 1].map(|side: usize| sides[side].bytes as f64 / sides[side].seconds.max(1e-9)),
            cpu: per_set(sides.iter().map(|side| side.cpu).sum(), settled),
            stages: stages.map(|((name, one), (_, other))| (name.clone(), per_set(one + other, stage_sets))).collect(),
        }
    }

    pub(super) fn rate(&self) -> f64 {
        self.rates.iter().sum()
    }
}

/// Quantiles by their names.
pub(super) fn latency_json(latency: &[f64; 5]) -> Value {
    QUANTILES.iter().zip(latency).map(|((_, name), value)| ((*name).to_owned(), json!(round(*value)))).collect()
}

fn quantiles(parts: &[&Vec<(u64, u64)>]) -> [f64; 5] {
    let mut all = flights::histogram();
    for (value, count) in parts.iter().flat_map(|part| part.iter()) {
        all.saturating_record_n(*value, *count);
    }
    QUANTILES.map(|(quantile, _)| all.value_at_quantile(quantile) as f64 / 1e3)
}

pub(super) fn round(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

fn tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

impl Report {
    /// Nothing was lost, doubled or refused, and something was sent unless nothing was to be.
    pub(super) fn ok(&self) -> bool {
        let arrived = self.leaves_a_backlog || self.queued_after == [0, 0];
        let is_restarted_as_it_was =
            self.restarted.as_ref().is_none_or(|restarted| restarted.queued == self.queued_after[0]);
        self.accounts.iter().all(Accounts::ok)
            && self.sides.iter().all(|side| side.unacked == 0)
            && arrived
            && is_restarted_as_it_was
            && (self.is_idle || self.accounts.iter().any(|accounts| accounts.acked > 0))
    }

    /// What was reached of what cryptography alone can do.
    fn ratio(&self) -> f64 {
        self.reached.rate() / self.bound.sets.max(1e-9)
    }

    /// CPU time a SET that is not spent on bare signatures.
    fn outside(&self) -> f64 {
        self.reached.cpu - self.bound.sign - self.bound.verify
    }

    /// The least time for one SET on an idle link, in milliseconds.
    fn floor_ms(&self) -> f64 {
        let crypto = (self.bound.sign + self.bound.verify) / 1e3;
        crypto + 2.0 * self.floor.commit.as_secs_f64() * 1e3 + self.floor.round_trip.as_secs_f64() * 1e3
    }

    pub(super) fn to_json(&self, args: &Bench) -> Value {
        let reached = &self.reached;
        let directions: Vec<Value> = [("alpha", "beta"), ("beta", "alpha")]
            .into_iter()
            .enumerate()
            .filter(|(side, _)| self.accounts[*side].sent > 0 || (*side == 0))
            .map(|(side, (from, to))| {
                let (accounts, latency) = (&self.accounts[side], &reached.each_latency[side]);
                json!({
                    "from": from, "to": to, "sets_per_s": tenth(reached.rates[side]), "sent": accounts.sent,
                    "acked": accounts.acked, "received": accounts.received, "lost": accounts.lost,
                    "doubled": accounts.doubled, "strange": accounts.strange, "queued_before": self.queued_before[side],
                    "queued_after": self.queued_after[side], "unacked": self.sides[side].unacked,
                    "bytes_per_s": reached.bytes_per_s[side].round(), "p50_ms": round(latency[0]),
                    "p99_ms": round(latency[2]), "used_up": self.sides[side].used_up,
                    "under_way": self.sides[side].under_way,
                })
            })
            .collect();
        let mut cpu = stages_json(reached);
        cpu["outside_cryptography"] = json!(tenth(self.outside()));
        let resident = &self.resident;
        let per_partner = [0, 1].map(|side: usize| self.per_partner(side, args));
        let mut report = json!({
            "ok": self.ok(),
            "seconds": round(self.sides[0].seconds),
            "environment": self.environment,
            "settings": settings(args),
            "flooded_sets": self.flooded,
            "bound": self.bound.to_json(),
            "sets_per_s": tenth(reached.rate()),
            "ratio": round(self.ratio()),
            "directions": directions,
            "latency": latency_json(&reached.latency),
            "floor": {
                "commit_ms": round(self.floor.commit.as_secs_f64() * 1e3),
                "round_trip_ms": round(self.floor.round_trip.as_secs_f64() * 1e3),
                "one_set_ms": round(self.floor_ms()),
                "p50_over_floor": round(reached.latency[0] / self.floor_ms().max(1e-9)),
            },
            "cpu_us_per_set": cpu,
            "rss_bytes": {
                "empty": resident.empty, "linked": resident.linked, "running": resident.running,
                "rested": resident.rested, "per_partner": per_partner,
            },
        });
        if let Some(peak) = &self.peak {
            report["peak"] = json!({
                "sets_per_s": tenth(peak.rate()),
                "ratio": round(peak.rate() / self.bound.sets.max(1e-9)),
                "latency": latency_json(&peak.latency),
            });
        }
        if let Some(restarted) = &self.restarted {
            report["restart"] =
                json!({ "ready_s": round(restarted.seconds), "queued": restarted.queued, "rss_bytes": restarted.rss });
        }
        report
    }

    /// Memory of one side for each of its partners, in bytes.
    fn per_partner(&self, side: usize, args: &Bench) -> u64 {
        self.resident.linked[side].saturating_sub(self.resident.empty[side]) / u64::from(args.partners)
    }

    pub(super) fn to_text(&self, args: &Bench) -> String {
        let reached = &self.reached;
        let mut lines = vec![environment::line(&self.environment), describe(args), String::new()];
        for (side, (from, to)) in [("alpha", "beta"), ("beta", "alpha")].into_iter().enumerate() {
            let accounts = &self.accounts[side];
            if accounts.sent == 0 {
                continue;
            }
            let mut line = format!(
                "  {from} -> {to}  {:>9.0} SETs/s  {:>6.1} MB/s   sent {}, acked {}, received {}, lost {}, doubled {}",
                reached.rates[side],
                reached.bytes_per_s[side] / 1e6,
                accounts.sent,
                accounts.acked,
                accounts.received,
                accounts.lost,
                accounts.doubled,
            );
            if accounts.strange > 0 {
                line.push_str(&format!(", strange {}", accounts.strange));
            }
            if self.sides[side].unacked > 0 {
                line.push_str(&format!(", NOT ACKED {}", self.sides[side].unacked));
            }
            if self.queued_before[side] + self.queued_after[side] > 0 {
                line.push_str(&format!(
                    ", queued {} before, {} after",
                    self.queued_before[side], self.queued_after[side]
                ));
            }
            if matches!(args.rate, Rate::Fixed(_) | Rate::OfPeak(_)) {
                line.push_str(&format!(", {} under way at the end", self.sides[side].under_way));
            }
            if self.sides[side].used_up {
                line.push_str(" (all SETs signed beforehand were used up)");
            }
            lines.push(line);
        }
        if let Some(peak) = &self.peak {
            lines.push(format!(
                "  peak           {:>9.0} SETs/s, {:.2} of the bound",
                peak.rate(),
                peak.rate() / self.bound.sets.max(1e-9)
            ));
        }
        lines.push(format!(
            "  in all         {:>9.0} SETs/s: {:.2} of the {:.0} SETs/s that bare cryptography comes to on all cores",
            reached.rate(),
            self.ratio(),
            self.bound.sets
        ));
        lines.push(format!("  accept to ack  {}", latency_text(&reached.latency)));
        lines.push(format!(
            "  one SET alone  {:.2} ms at least: sign {:.0} us, verify {:.0} us, two commits of {:.0} us, a round trip of {:.0} us",
            self.floor_ms(), self.bound.sign, self.bound.verify, self.floor.commit.as_secs_f64() * 1e6,
            self.floor.round_trip.as_secs_f64() * 1e6,
        ));
        lines.push(format!(
            "  CPU a SET      {:.1} us, {:.1} of them outside cryptography{}",
            reached.cpu,
            self.outside(),
            stages_text(reached)
        ));
        let mib = |bytes: &[u64; 2]| format!("{:.1} + {:.1}", bytes[0] as f64 / 1048576.0, bytes[1] as f64 / 1048576.0);
        let resident = &self.resident;
        lines.push(format!(
            "  memory, MiB    empty {}, linked {}, running {}, rested {}",
            mib(&resident.empty),
            mib(&resident.linked),
            mib(&resident.running),
            mib(&resident.rested)
        ));
        if args.partners > 1 {
            let kib = [0, 1].map(|side: usize| self.per_partner(side, args) as f64 / 1024.0);
            lines.push(format!("  a partner      {:.1} + {:.1} KiB", kib[0], kib[1]));
        }
        if let Some(restarted) = &self.restarted {
            lines.push(format!(
                "  started again  ready after {:.2} s with {} queued, {:.1} MiB",
                restarted.seconds,
                restarted.queued,
                restarted.rss as f64 / 1048576.0
            ));
        }
        lines.push(format!(
            "  {}",
            if self.ok() { "ok: 0 lost, 0 doubled" } else { "NOT OK: SETs were lost, doubled or refused" }
        ));
        lines.join("\n")
    }
}

/// Quantiles in a line.
pub(super) fn latency_text(latency: &[f64; 5]) -> String {
    let quantiles = QUANTILES.iter().zip(latency).map(|((_, name), value)| format!("{} {value:.2}", label(name)));
    format!("{} ms", quantiles.collect::<Vec<_>>().join(", "))
}

/// CPU time a SET, in all and by stage.
pub(super) fn stages_json(reached: &Reached) -> Value {
    let stages = reached.stages.iter().map(|(name, micros)| (name.clone(), json!(tenth(*micros))));
    std::iter::once(("total".to_owned(), json!(tenth(reached.cpu)))).chain(stages).collect()
}

/// CPU time a SET by stage, in brackets; nothing where it was not taken.
pub(super) fn stages_text(reached: &Reached) -> String {
    if reached.stages.is_empty() {
        return String::new();
    }
    let stages: Vec<String> = reached.stages.iter().map(|(name, micros)| format!("{name} {micros:.1}")).collect();
    format!(" ({})", stages.join(", "))
}

fn label(name: &str) -> String {
    name.trim_end_matches("_ms").replace('_', ".")
}

fn settings(args: &Bench) -> Value {
    json!({
        "alg": args.alg.as_str(), "rate": rate(args.rate), "direction": direction(args.direction),
        "transport": transport(args.transport()), "partners": args.partners, "payload_bytes": args.payload,
        "tls": args.tls || !args.no_tls, "presigned": args.presigned, "backlog": args.backlog,
        "tombstones": args.tombstones, "commit_delay_ms": args.commit_delay.as_secs_f64() * 1e3, "mute": args.mute,
        "flood": args.flood.map(flood),
        "callers": args.callers, "unsettled": args.unsettled,
        "warmup_s": args.warmup.as_secs_f64(), "duration_s": args.duration.as_secs_f64(),
    })
}

/// What was asked for, in a line.
pub(super) fn describe(args: &Bench) -> String {
    let mut line = format!(
        "{} {}, {}, {}, {} partner{}, claims of {} bytes, rate {}",
        args.alg,
        if args.presigned.is_some() { "relayed" } else { "signed and verified" },
        match args.direction {
            Direction::Both => "both ways",
            Direction::One => "one way",
        },
        match (args.transport(), args.tls || !args.no_tls) {
            (Transport::Websocket, true) => "WebSocket with TLS",
            (Transport::Websocket, false) => "WebSocket in plaintext",
            (Transport::Http, true) => "HTTP with TLS",
            (Transport::Http, false) => "HTTP in plaintext",
            (Transport::Push, true) => "push (RFC 8935) with TLS",
            (Transport::Push, false) => "push (RFC 8935) in plaintext",
            (Transport::MultiPush, true) => "multi-set push with TLS",
            (Transport::MultiPush, false) => "multi-set push in plaintext",
            (Transport::Poll, true) => "poll (RFC 8936) with TLS",
            (Transport::Poll, false) => "poll (RFC 8936) in plaintext",
        },
        args.partners,
        if args.partners == 1 { "" } else { "s" },
        args.payload,
        match args.rate {
            Rate::Fixed(_) => format!("{} each way", rate(args.rate)),
            of_all => rate(of_all),
        },
    );
    let mut more = |what: &str, amount: u64| {
        if amount > 0 {
            line.push_str(&format!(", {what} {amount}"));
        }
    };
    more("backlog", args.backlog);
    more("jtis remembered", args.tombstones);
    more("queued for a partner that never answers", args.mute);
    if let Some(kind) = args.flood {
        line.push_str(&format!(", flooded ({})", flood(kind)));
    }
    if !args.commit_delay.is_zero() {
        line.push_str(&format!(", commits {} ms slower", args.commit_delay.as_millis()));
    }
    line
}

pub(super) fn rate(rate: Rate) -> String {
    match rate {
        Rate::Max => "max".to_owned(),
        Rate::One => "one at a time".to_owned(),
        Rate::Fixed(rate) => format!("{rate}/s"),
        Rate::OfPeak(part) => format!("{}% of the peak", part * 100.0),
    }
}

fn flood(kind: Flood) -> &'static str {
    match kind {
        Flood::Replayed => "replayed",
        Flood::Costly => "costly",
    }
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Both => "both",
        Direction::One => "one",
    }
}

/// As the command line has it.
pub(super) fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Websocket => "websocket",
        Transport::Http => "http",
        Transport::Push => "push",
        Transport::MultiPush => "multi-push",
        Transport::Poll => "poll",
    }
}

/// The figures of which medians are taken, by name.
fn figures(report: &Report) -> [(&'static str, f64); 7] {
    [
        ("sets_per_s", report.reached.rate()),
        ("ratio", report.ratio()),
        ("bound_sets_per_s", report.bound.sets),
        ("outside_cryptography_us", report.outside()),
        ("p50_ms", report.reached.latency[0]),
        ("p99_ms", report.reached.latency[2]),
        ("p50_over_floor", report.reached.latency[0] / report.floor_ms().max(1e-9)),
    ]
}

fn medians(reports: &[Report]) -> Vec<(&'static str, f64, f64, f64)> {
    let all: Vec<[(&str, f64); 7]> = reports.iter().map(figures).collect();
    (0..7)
        .map(|figure| {
            let mut values: Vec<f64> = all.iter().map(|figures| figures[figure].1).collect();
            values.sort_by(f64::total_cmp);
            (figures(&reports[0])[figure].0, values[values.len() / 2], values[0], values[values.len() - 1])
        })
        .collect()
}

pub(super) fn medians_json(reports: &[Report], args: &Bench) -> Value {
    let medians: serde_json::Map<String, Value> =
        medians(reports).into_iter().map(|(name, median, ..)| (name.to_owned(), json!(round(median)))).collect();
    json!({
        "ok": reports.iter().all(Report::ok),
        "runs": reports.iter().map(|report| report.to_json(args)).collect::<Vec<_>>(),
        "median": medians,
    })
}

pub(super) fn medians_text(reports: &[Report]) -> String {
    let lines = medians(reports)
        .into_iter()
        .map(|(name, median, least, most)| format!("  {name:<24} {median:>10.3}   ({least:.3} to {most:.3})"));
    std::iter::once(format!("medians of {} runs (least to most)", reports.len()))
        .chain(lines)
        .collect::<Vec<_>>()
        .join("\n")
}
