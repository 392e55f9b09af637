//! What helps a SET that was refused or given up: who has to act, what to do, and the command for it.

use crate::codes::{self, Code, Who};
use crate::peer::{DeathCause, Outcome};
use crate::set::acts_on_display;

/// Who has to act, and what helps.
#[derive(Clone, Debug)]
pub struct Advice {
    /// Who.
    pub who: Who,
    /// What, in words.
    pub fix: String,
    /// The command that deals with it, where there is one.
    pub command: Option<String>,
}

/// What helps a SET that ended so. `target` names the dead letters to the commands.
pub(super) fn advice(
    reason: &str,
    refused: bool,
    peer: &str,
    can_resend: bool,
    can_reissue: bool,
    target: &str,
) -> Advice {
    let answer = codes::answer(reason);
    let given_up = Code::GivenUp.entry();
    let (who, remedy) = if refused { (answer.who, answer.remedy) } else { (given_up.who, given_up.remedy) };
    // What the partner cannot read does not become better by another signature.
    let hopeless = refused && matches!(answer.err, "invalid_request" | "invalid_state");
    let (verb, instead) = match (can_resend, can_reissue) {
        (true, _) => ("resend", None),
        (false, true) if hopeless => ("discard", None),
        (false, true) if refused => ("reissue", None),
        (false, true) => ("reissue", Some("Its key is not published any more, so it cannot be resent as it is.")),
        (false, false) => ("discard", Some("Another issuer signed it: ask that one to send it anew.")),
    };
    let mut fix = remedy.replace("`pushpull status PEER`", &format!("`pushpull status {peer}`"));
    fix = fix.replace("peer verify PEER", &format!("peer verify {peer}"));
    for asked in ["resend", "reissue", "discard"] {
        let done = if asked == "discard" { asked } else { verb };
        fix = fix.replace(&format!("`pushpull dlq {asked} JTI`"), &format!("`pushpull dlq {done} {target}`"));
    }
    // Only of one of them can the text be shown.
    let shown = if target.starts_with("--peer") { "JTI" } else { target };
    fix = fix.replace("`pushpull dlq show JTI`", &format!("`pushpull dlq show {shown}`"));
    if let Some(instead) = instead {
        fix = format!("{fix} {instead}");
    }
    Advice { who, fix, command: Some(format!("pushpull dlq {verb} {target}")) }
}

/// Why it is a dead letter, in a word.
pub(super) fn reason(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Acked => "acked".to_owned(),
        Outcome::Refused(error) => error.err.clone(),
        Outcome::Dead(cause) => cause_of_death(*cause).to_owned(),
    }
}

/// Why it was given up, in a word.
pub(super) fn cause_of_death(cause: DeathCause) -> &'static str {
    match cause {
        DeathCause::Attempts => "attempts_exhausted",
        DeathCause::Age => "too_old",
    }
}

/// A text as a shell takes it for one word, without what would steer a terminal.
pub fn quoted(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-._~:/@%+=,".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(harmless) {
        return text.to_owned();
    }
    let shown: String = text.chars().filter(|c| !acts_on_display(*c)).collect();
    format!("'{}'", shown.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_follows_from_how_it_ended() {
        let command = |reason, refused, resend, reissue| {
            advice(reason, refused, "globex", resend, reissue, "j1").command.expect("a command")
        };
        assert_eq!(command("invalid_key", true, false, true), "pushpull dlq reissue j1");
        assert_eq!(command("invalid_key", true, false, false), "pushpull dlq discard j1");
        assert_eq!(command("invalid_request", true, false, true), "pushpull dlq discard j1");
        assert_eq!(command("their_own", true, false, true), "pushpull dlq reissue j1");
        assert_eq!(command("too_old", false, true, true), "pushpull dlq resend j1");
        assert_eq!(command("too_old", false, false, true), "pushpull dlq reissue j1");
        assert_eq!(command("too_old", false, true, false), "pushpull dlq resend j1");
    }

    #[test]
    fn every_placeholder_of_a_remedy_is_filled_in() {
        let reasons = codes::ANSWERS.iter().map(|answer| (answer.err, true));
        for (reason, refused) in reasons.chain([("their_own", true), ("too_old", false)]) {
            for (resend, reissue) in [(false, true), (false, false), (!refused, true)] {
                let fix = advice(reason, refused, "globex", resend, reissue, "j1").fix;
                assert!(!fix.contains("JTI") && !fix.contains("PEER"), "{reason}: {fix}");
                assert!(reissue || !fix.contains("dlq reissue"), "{reason}: {fix}");
            }
        }
        let group = advice("too_old", false, "globex", true, true, "--peer globex --reason too_old");
        assert!(group.fix.contains("`pushpull dlq resend --peer globex --reason too_old`"), "{}", group.fix);
    }

    #[test]
    fn a_strange_jti_is_one_word_to_a_shell() {
        assert_eq!(quoted("01939f2e-7c1a"), "01939f2e-7c1a");
        assert_eq!(quoted("$(reboot) it's\u{1b}"), "'$(reboot) it'\\''s'");
        assert_eq!(quoted("--all"), "'--all'");
        assert_eq!(quoted(""), "''");
    }
}
