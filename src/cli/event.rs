//! `pushpull event show`: the timeline of one SET, in both directions.

use serde_json::Value;

use super::args::Global;
use super::client::{Call, escape};
use super::dlq::{advice, text};
use super::{Error, Exit, output, site};

pub(super) async fn show(jti: &str, global: &Global) -> Result<Exit, Error> {
    let answer = site::client(global)?.json(Call::get(&format!("/api/v1/events/{}", escape(jti)))).await?;
    if global.json {
        output::json(&answer)?;
        return Ok(Exit::Done);
    }
    for record in answer["records"].as_array().into_iter().flatten() {
        output::line(&told(jti, record))?;
    }
    Ok(Exit::Done)
}

fn told(jti: &str, record: &Value) -> String {
    let (peer, state) = (text(record, "peer"), text(record, "state"));
    let out = record["direction"] == "out";
    let way = if out { format!("to {peer}") } else { format!("from {peer}") };
    let mut lines = vec![format!("{} {way}: {}", output::clean(jti), state.replace('_', " "))];
    for moment in record["timeline"].as_array().into_iter().flatten() {
        lines.push(format!("   {}  {}", text(moment, "at"), happened(moment, &peer, out)));
    }
    if matches!(record["state"].as_str(), Some("queued" | "in_flight")) {
        let attempts = record["attempts"].as_u64().unwrap_or_default();
        lines.push(match attempts {
            0 => "   no answer yet".to_owned(),
            some => format!("   no answer yet, after {some} attempts"),
        });
    }
    if let Some(description) = record["description"].as_str().filter(|text| !text.is_empty()) {
        let speaker = if out { "they said" } else { "we said" };
        lines.push(format!("   {speaker:<9} {}", output::clean(description)));
    }
    for (name, member) in [("of", "reissue_of"), ("as", "reissued_as")] {
        if record[member].is_string() {
            lines.push(format!("   reissued  {name} {}", text(record, member)));
        }
    }
    lines.extend(advice(record));
    lines.join("\n")
}

fn happened(moment: &Value, peer: &str, out: bool) -> String {
    let reason = text(moment, "reason");
    match moment["what"].as_str().unwrap_or_default() {
        "acked" => format!("acked by {peer}"),
        "refused" if out => format!("refused by {peer}: {reason}"),
        "refused" => format!("refused by us: {reason}"),
        "dead" => {
            let why = if reason == "too_old" { "too old".to_owned() } else { reason.replace('_', " ") };
            format!("given up ({why}, {} attempts)", moment["attempts"].as_u64().unwrap_or_default())
        }
        "resent" => "resent: queued again as it is".to_owned(),
        "reissued" => format!("reissued as {}", text(moment, "jti")),
        other => output::clean(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_timeline_is_told_in_words_with_what_helps() {
        let record = json!({
            "direction": "out", "peer": "globex", "state": "refused", "err": "invalid_key", "description": "no key \u{1b}b",
            "timeline": [
                {"at": "T1", "what": "accepted"}, {"at": "T2", "what": "dead", "reason": "attempts_exhausted", "attempts": 20},
                {"at": "T3", "what": "resent"}, {"at": "T4", "what": "refused", "reason": "invalid_key", "attempts": 0}
            ],
            "who_acts": "you", "fix": "Publish it.", "command": "pushpull dlq reissue j1"
        });
        let text = told("j1", &record);
        let expected = "j1 to globex: refused\n   T1  accepted\n   T2  given up (attempts exhausted, 20 attempts)\n   T3  resent: queued \
            again as it is\n   T4  refused by globex: invalid_key\n   they said no key \\u{1b}b\n   who acts  you\n   fix       \
            Publish it.\n   command   pushpull dlq reissue j1";
        assert_eq!(text, expected);
    }
}
