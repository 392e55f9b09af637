//! `pushpull status` and `peer ls`: one line for each partner.

use serde_json::Value;

use super::args::Global;
use super::client::{Call, escape};
use super::{Error, Exit, output, site};

/// Heads of the table, and the members of the answer under them.
const COLUMNS: [(&str, &str); 11] = [
    ("PEER", "name"),
    ("LINK", "link"),
    ("TRANSPORT", "transport"),
    ("QUEUED", "queued"),
    ("IN-FLIGHT", "in_flight"),
    ("OLDEST", "oldest_seconds"),
    ("OWED", "owed"),
    ("ACKED", "acked"),
    ("REFUSED", "refused"),
    ("DEAD", "dead"),
    ("RECEIVED", "received"),
];

pub(super) async fn run(peer: Option<&str>, global: &Global) -> Result<Exit, Error> {
    let path = match peer {
        Some(peer) => format!("/api/v1/peers/{}", escape(peer)),
        None => "/api/v1/peers".to_owned(),
    };
    let answer = site::client(global)?.json(Call::get(&path)).await?;
    if global.json {
        output::json(&answer)?;
        return Ok(Exit::Done);
    }
    let peers = match answer.get("peers").and_then(Value::as_array) {
        Some(peers) => peers.as_slice(),
        None => std::slice::from_ref(&answer),
    };
    if peers.is_empty() {
        output::note("no peers yet; pair with a partner: pushpull peer card, pushpull peer add");
        return Ok(Exit::Done);
    }
    let heads: Vec<&str> = COLUMNS.iter().map(|(head, _)| *head).collect();
    let rows: Vec<Vec<String>> =
        peers.iter().map(|peer| COLUMNS.iter().map(|(_, member)| cell(member, &peer[*member])).collect()).collect();
    output::line(&output::table(&heads, &rows))?;
    Ok(Exit::Done)
}

fn cell(member: &str, value: &Value) -> String {
    match value {
        Value::String(text) => output::clean(text),
        Value::Null => "–".to_owned(),
        Value::Number(seconds) if member == "oldest_seconds" => age(seconds.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

/// A time in the unit that is easiest to read.
fn age(seconds: f64) -> String {
    match seconds {
        s if s <= 0.0 => "–".to_owned(),
        s if s < 120.0 => format!("{s:.0} s"),
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
        for (seconds, text) in [(0.0, "–"), (3.2, "3 s"), (600.0, "10 min"), (10_800.0, "3 h"), (259_200.0, "3 d")] {
            assert_eq!(age(seconds), text);
        }
        assert_eq!(cell("queued", &Value::Null), "–");
        assert_eq!(cell("queued", &7.into()), "7");
    }
}
