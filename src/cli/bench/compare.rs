//! Several transports in turns: what each came to, and how the first compares to the others.

use serde_json::{Value, json};

use super::report::{self, Report};
use crate::cli::args::Bench;

/// What the runs came to, by transport: the reports as they are where there is but one of them.
pub(super) fn to_json(each: &[Bench], reports: &[Vec<Report>]) -> Value {
    let came_to = |(args, reports): (&Bench, &Vec<Report>)| match &reports[..] {
        [report] => report.to_json(args),
        reports => report::medians_json(reports, args),
    };
    let mut parts: Vec<Value> = each.iter().zip(reports).map(came_to).collect();
    if let [part] = &mut parts[..] {
        return part.take();
    }
    for (args, part) in each.iter().zip(&mut parts) {
        part["transport"] = json!(report::transport(args.transport()));
    }
    let compared = compared(each, reports).into_iter().map(|(first, other, ratios)| {
        json!({
            "transport": first, "over": other, "sets_per_s_ratio": report::round(ratios.median),
            "least": report::round(ratios.least), "most": report::round(ratios.most),
        })
    });
    json!({
        "ok": reports.iter().flatten().all(Report::ok), "compared": compared.collect::<Vec<_>>(), "transports": parts,
    })
}

/// The medians and the comparison; `None` where there was one run alone.
pub(super) fn to_text(each: &[Bench], reports: &[Vec<Report>]) -> Option<String> {
    let mut parts = Vec::new();
    for (args, reports) in each.iter().zip(reports).filter(|(_, reports)| reports.len() > 1) {
        let title = if each.len() > 1 { format!("{}: ", report::transport(args.transport())) } else { String::new() };
        parts.push(format!("{title}{}", report::medians_text(reports)));
    }
    for (first, other, ratios) in compared(each, reports) {
        let mut line = format!("{first} over {other}: {:.2} times as many SETs/s", ratios.median);
        if ratios.least < ratios.most {
            line.push_str(&format!(" (median; {:.2} to {:.2})", ratios.least, ratios.most));
        }
        parts.push(line);
    }
    (!parts.is_empty()).then(|| parts.join("\n"))
}

struct Ratios {
    median: f64,
    least: f64,
    most: f64,
}

/// The rate of the first transport over that of each other one, each round with itself.
fn compared(each: &[Bench], reports: &[Vec<Report>]) -> Vec<(&'static str, &'static str, Ratios)> {
    let name = |args: &Bench| report::transport(args.transport());
    let (Some((args, others)), Some((first, other_reports))) = (each.split_first(), reports.split_first()) else {
        return Vec::new();
    };
    let rate = |report: &Report| report.reached.rate().max(1e-9);
    let of =
        |reports: &Vec<Report>| ratios(first.iter().zip(reports).map(|(one, other)| rate(one) / rate(other)).collect());
    let all = others.iter().zip(other_reports);
    all.map(|(other, reports)| (name(args), name(other), of(reports))).collect()
}

fn ratios(mut all: Vec<f64>) -> Ratios {
    all.sort_by(f64::total_cmp);
    let at = |place: usize| all.get(place).copied().unwrap_or(f64::NAN);
    Ratios { median: at(all.len() / 2), least: at(0), most: at(all.len().saturating_sub(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_told_by_their_middle_and_their_ends() {
        let told = ratios(vec![9.0, 8.0, 11.0]);
        assert_eq!((told.median, told.least, told.most), (9.0, 8.0, 11.0));
    }
}
