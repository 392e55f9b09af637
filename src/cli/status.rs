//! `pushpull status` and `peer ls`: one line for each partner, what leaves before what comes, and what is wrong below.

use serde_json::Value;

use super::args::Global;
use super::client::Call;
use super::{Error, Exit, output, peer, site};

/// Heads of the table, and where in the answer is what stands under them.
const COLUMNS: [(&str, &str); 14] = [
    ("PEER", "/name"),
    ("LINK", "/link"),
    ("TRANSPORT", "/transport"),
    ("QUEUED", "/queued"),
    ("IN-FLIGHT", "/in_flight"),
    ("OLDEST", "/oldest_seconds"),
    ("ACKED", "/acked"),
    ("REFUSED", "/refused"),
    ("DEAD", "/dead"),
    ("LAST ACK", "/out/last_ack_at"),
    ("RECEIVED", "/received"),
    ("REJECTED", "/rejected"),
    ("OWED", "/owed"),
    ("LAST SET", "/in/last_received_at"),
];

/// The column at which what comes from the partner begins, and the one at which what goes to it does.
const GOES: usize = 3;
const COMES: usize = 10;

pub(super) async fn run(name: Option<&str>, global: &Global) -> Result<Exit, Error> {
    if let Some(name) = name {
        return peer::show(name, global).await;
    }
    let answer = site::client(global)?.json(Call::get("/api/v1/peers")).await?;
    if global.json {
        output::json(&answer)?;
        return Ok(Exit::Done);
    }
    let peers = answer.get("peers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let ours = ours(&answer);
    if peers.is_empty() {
        if let Some(text) = ours {
            output::line(&text)?;
        }
        output::note("no peers yet; pair with a partner: pushpull peer card, pushpull peer add");
        return Ok(Exit::Done);
    }
    let now = now();
    let heads: Vec<&str> = COLUMNS.iter().map(|(head, _)| *head).collect();
    let cell = |place: &str, peer: &Value| cell(place, peer.pointer(place).unwrap_or(&Value::Null), now);
    let rows: Vec<Vec<String>> =
        peers.iter().map(|peer| COLUMNS.iter().map(|(_, place)| cell(place, peer)).collect()).collect();
    let table = output::table(&heads, &rows);
    output::line(&groups(&heads, &rows))?;
    output::line(&table)?;
    if let Some(text) = ours {
        output::line(&format!("\n{text}"))?;
    }
    for peer in peers {
        if let Some(advice) = peer.get("advice") {
            let text = |member: &str| output::clean(advice[member].as_str().unwrap_or_default());
            let name = output::clean(peer["name"].as_str().unwrap_or_default());
            output::line(&format!("\n{name}: {}\n  fix   {}", text("why"), text("fix")))?;
            output::line(&format!("  more  pushpull status {name}"))?;
        }
        if let Some(text) = dead_letters(peer) {
            output::line(&text)?;
        }
    }
    Ok(Exit::Done)
}

/// What is wrong with the daemon itself, whoever the partner is.
pub(super) fn ours(answer: &Value) -> Option<String> {
    let trouble = |place: &str| {
        let trouble = answer.get(place).filter(|trouble| trouble.is_object())?;
        let text = |member: &str| output::clean(trouble[member].as_str().unwrap_or_default());
        Some(format!("{}\n  fix   {}\n  more  pushpull explain {}", text("why"), text("fix"), text("code")))
    };
    let told: Vec<String> = [trouble("store"), trouble("inbox"), clock(answer)].into_iter().flatten().collect();
    (!told.is_empty()).then(|| told.join("\n\n"))
}

/// That the daemon does not believe its clock.
fn clock(answer: &Value) -> Option<String> {
    let clock = answer.get("clock")?;
    let text = |member: &str| output::clean(clock[member].as_str().unwrap_or_default());
    let (shows, dated) = (text("shows"), text("dated"));
    Some(format!(
        "the clock shows {shows} and is not believed for ten minutes: what happens is dated {dated} and on,\nand \
         nothing is given up, refused for its date or forgotten\n  fix   {}\n  more  pushpull explain {}",
        text("fix"),
        text("code")
    ))
}

/// What waits for the operator.
fn dead_letters(peer: &Value) -> Option<String> {
    let count = peer.get("dead_letters").and_then(Value::as_u64).filter(|count| *count > 0)?;
    let name = output::clean(peer["name"].as_str().unwrap_or_default());
    let noun = if count == 1 { "dead letter" } else { "dead letters" };
    Some(format!("\n{name}: {count} {noun}, refused or never answered\n  fix   pushpull dlq ls {name}"))
}

/// What stands over the heads: which columns are about what goes to the partner, and which about what comes.
fn groups(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heads[column].chars().count()]).max().unwrap_or(0) + 2
    };
    let span = |from: usize, to: usize| (from..to).map(width).sum::<usize>();
    let (goes, comes) = (span(0, GOES), span(GOES, COMES));
    format!("{:goes$}{:comes$}FROM THE PARTNER", "", "TO THE PARTNER")
}

fn cell(place: &str, value: &Value, now: u64) -> String {
    match value {
        Value::String(at) if place.ends_with("_at") => ago(at, now),
        Value::String(text) => output::clean(text),
        Value::Null => "–".to_owned(),
        Value::Number(seconds) if place.ends_with("_seconds") => age(seconds.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

/// How long ago a time of the API was.
pub(super) fn ago(at: &str, now: u64) -> String {
    match crate::clock::Wall::from_rfc3339(at) {
        Some(at) => format!("{} ago", age((now.saturating_sub(at.0)) as f64 / 1e3)),
        None => output::clean(at),
    }
}

/// The wall clock, in milliseconds since 1970.
pub(super) fn now() -> u64 {
    use crate::clock::Clock as _;
    crate::clock::SystemClock::new().now().wall.0
}

/// A time in the unit that is easiest to read.
pub(super) fn age(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{:.0} s", s.max(0.0)),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_shown_in_the_easiest_unit() {
        for (seconds, text) in [(0.0, "0 s"), (3.2, "3 s"), (600.0, "10 min"), (10_800.0, "3 h"), (259_200.0, "3 d")] {
            assert_eq!(age(seconds), text);
        }
        let peer = |count: u64| dead_letters(&serde_json::json!({"name": "globex", "dead_letters": count}));
        assert_eq!(peer(0), None);
        assert!(peer(1).is_some_and(|text| text.starts_with("\nglobex: 1 dead letter, ")));
        assert_eq!(clock(&serde_json::json!({"peers": []})), None);
        let suspect = serde_json::json!({"clock": {"code": "clock_suspect", "shows": "S", "dated": "D", "fix": "F"}});
        assert!(clock(&suspect).is_some_and(|text| text.starts_with("the clock shows S and is not believed")));
        assert_eq!(ours(&serde_json::json!({"peers": [], "inbox": null})), None);
        let mut troubled = suspect;
        troubled["store"] =
            serde_json::json!({"code": "storage_full", "why": "The disk is full.", "fix": "Free some."});
        let told = ours(&troubled).unwrap();
        assert!(
            told.starts_with(
                "The disk is full.\n  fix   Free some.\n  more  pushpull explain storage_full\n\nthe clock"
            )
        );
        assert_eq!(cell("/queued", &Value::Null, 0), "–");
        assert_eq!(cell("/queued", &7.into(), 0), "7");
        assert_eq!(cell("/out/last_ack_at", &"1970-01-01T00:10:00.000Z".into(), 605_000), "5 s ago");
    }
}
