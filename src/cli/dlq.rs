//! `pushpull dlq ls` and `dlq show`: SETs that were refused or never answered, who has to act, and the command for it.

use serde_json::{Value, json};

use super::args::{Dlq, Global};
use super::client::{Call, Client, escape};
use super::{Error, Exit, output, redrive, set, site};

/// Dead letters a request.
const PAGE: u32 = 1_000;

pub(super) async fn run(command: &Dlq, global: &Global) -> Result<Exit, Error> {
    match command {
        Dlq::Ls { peer, reason, all } => ls(peer.as_deref(), reason.as_deref(), *all, global).await,
        Dlq::Show { jti, peer } => show(jti, peer.as_deref(), global).await,
        Dlq::Resend(which) => redrive::run("resend", which, global).await,
        Dlq::Reissue(which) => redrive::run("reissue", which, global).await,
        Dlq::Discard(which) => redrive::run("discard", which, global).await,
    }
}

async fn ls(peer: Option<&str>, reason: Option<&str>, all: bool, global: &Global) -> Result<Exit, Error> {
    let mut path = "/api/v1/dead-letters?".to_owned();
    for (name, value) in [("peer", peer), ("reason", reason)] {
        if let Some(value) = value {
            path.push_str(&format!("{name}={}&", escape(value)));
        }
    }
    let mut daemon = site::client(global)?;
    if all {
        return each(&mut daemon, &path, global.json).await;
    }
    let answer = daemon.json(Call::get(&format!("{path}by=reason"))).await?;
    if global.json {
        output::json(&answer)?;
        return Ok(Exit::Done);
    }
    let groups = answer["groups"].as_array().map(Vec::as_slice).unwrap_or_default();
    for group in groups {
        output::line(&group_text(group))?;
    }
    complain(groups.is_empty(), answer["damaged"].as_u64().unwrap_or_default());
    Ok(Exit::Done)
}

/// One line for each.
async fn each(daemon: &mut Client, path: &str, as_json: bool) -> Result<Exit, Error> {
    let (mut after, mut none, mut damaged) = (String::new(), true, 0);
    loop {
        let page = daemon.json(Call::get(&format!("{path}max={PAGE}{after}"))).await?;
        let letters = page["dead_letters"].as_array().map(Vec::as_slice).unwrap_or_default();
        none &= letters.is_empty();
        damaged += page["damaged"].as_u64().unwrap_or_default();
        for letter in letters {
            if as_json {
                output::json(letter)?;
            } else {
                let [peer, jti, reason, since] = ["peer", "jti", "reason", "since"].map(|name| text(letter, name));
                let types: Vec<String> = letter["types"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .map(output::clean)
                    .collect();
                output::line(&format!("{jti}  {peer}  {reason}  {since}  {}", types.join(" ")))?;
            }
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", escape(next)),
            None => break,
        }
    }
    complain(none, damaged);
    Ok(Exit::Done)
}

fn complain(none: bool, damaged: u64) {
    if none && damaged == 0 {
        output::note("no dead letters");
    }
    if damaged > 0 {
        output::note(&format!(
            "warning: {damaged} dead letters are damaged in the database, and are not shown: restore a backup if they matter"
        ));
    }
}

async fn show(jti: &str, peer: Option<&str>, global: &Global) -> Result<Exit, Error> {
    let mut path = format!("/api/v1/dead-letters/{}", escape(jti));
    if let Some(peer) = peer {
        path.push_str(&format!("?peer={}", escape(peer)));
    }
    let letter = site::client(global)?.json(Call::get(&path)).await?;
    if global.json {
        output::json(&letter)?;
    } else {
        output::line(&letter_text(&letter))?;
    }
    Ok(Exit::Done)
}

fn group_text(group: &Value) -> String {
    let [reason, peer, since] = ["reason", "peer", "since"].map(|name| text(group, name));
    let mut lines = vec![format!("{} × {reason} from {peer}, since {since}", group["count"])];
    if let Some(said) = said(group) {
        lines.push(format!("   they said {said}"));
    }
    lines.extend(advice(group));
    lines.push(format!("   example   pushpull dlq show {}", text(group, "example")));
    lines.join("\n")
}

fn letter_text(letter: &Value) -> String {
    let [jti, peer, reason, since] = ["jti", "peer", "reason", "since"].map(|name| text(letter, name));
    let mut lines = vec![format!("{jti} to {peer}: {reason}, since {since}")];
    if let Some(said) = said(letter) {
        lines.push(format!("   they said {said}"));
    }
    lines.push(format!("   accepted  {}", text(letter, "accepted_at")));
    lines.push(format!("   attempts  {} without an answer", letter["attempts"]));
    if letter["reissue_of"].is_string() {
        lines.push(format!("   reissue of {}", text(letter, "reissue_of")));
    }
    for (name, can, hindrance) in
        [("resend", "can_resend", "resend_hindrance"), ("reissue", "can_reissue", "reissue_hindrance")]
    {
        let can = if letter[can] == true { "possible".to_owned() } else { format!("no: {}", text(letter, hindrance)) };
        lines.push(format!("   {name:<9} {can}"));
    }
    lines.extend(advice(letter));
    lines.push(set::pretty(&json!({ "header": letter["header"], "claims": letter["claims"] })));
    lines.join("\n")
}

/// Who has to act, and how: of a dead letter, of a group of them, or of an event's record.
pub(super) fn advice(value: &Value) -> Vec<String> {
    let rows = [("who acts", "who_acts"), ("fix", "fix"), ("command", "command")];
    let told = rows.into_iter().filter(|(_, member)| value[*member].is_string());
    told.map(|(name, member)| format!("   {name:<9} {}", text(value, member))).collect()
}

/// The partner's own words.
fn said(value: &Value) -> Option<String> {
    value["description"].as_str().filter(|said| !said.is_empty()).map(output::clean)
}

pub(super) fn text(value: &Value, name: &str) -> String {
    value[name].as_str().map(output::clean).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_told_with_who_acts_and_the_command() {
        let group = json!({
            "peer": "globex", "reason": "invalid_audience", "count": 12, "since": "2026-11-28T14:02:11.000Z",
            "description": "not for us\u{1b}[2J", "who_acts": "you", "fix": "Set `audience`.",
            "command": "pushpull dlq reissue --peer globex --reason=invalid_audience", "example": "j1"
        });
        let text = group_text(&group);
        assert!(text.starts_with("12 × invalid_audience from globex, since 2026-11-28T14:02:11.000Z\n"), "{text}");
        assert!(text.contains("\n   they said not for us\\u{1b}[2J"), "{text}");
        assert!(text.contains("\n   who acts  you\n   fix       Set `audience`.\n"), "{text}");
        assert!(
            text.contains("\n   command   pushpull dlq reissue --peer globex --reason=invalid_audience\n"),
            "{text}"
        );
    }

    /// The words of a command line as a POSIX shell splits it.
    fn split(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted, mut chars) = (Vec::new(), None::<String>, false, line.chars());
        while let Some(c) = chars.next() {
            match c {
                '\'' => {
                    quoted = !quoted;
                    word.get_or_insert_default();
                }
                '\\' if !quoted => word.get_or_insert_default().extend(chars.next()),
                ' ' if !quoted => words.extend(word.take()),
                c => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        words
    }

    #[test]
    fn commands_for_pasting_mean_what_they_say_whoever_chose_the_names() {
        use crate::cli::args::{Cli, Command, Dlq};
        use crate::transceiver::{named, named_by_reason};
        use clap::Parser as _;

        for name in ["--all", "-v", "--", "a b", "it's; reboot", "$(x)", "a\\b", "", "~", "plain", "-'-", "--reason=x"]
        {
            let commands = [named(name), named_by_reason("globex", Some(name))];
            for (index, target) in commands.into_iter().enumerate() {
                let line = format!("pushpull dlq discard {}", target.expect("it can be shown"));
                let cli = Cli::try_parse_from(split(&line)).unwrap_or_else(|error| panic!("{line}: {error}"));
                let Some(Command::Dlq { command: Dlq::Discard(which) }) = cli.command else {
                    panic!("{line}: another command")
                };
                let meant = if index == 0 { which.jtis.first().cloned() } else { which.reason.clone() };
                assert_eq!(meant.as_deref(), Some(name), "{line}");
                assert!(!which.all && !which.yes && which.jtis.len() == 1 - index, "{line}: {which:?}");
            }
        }
    }
}
