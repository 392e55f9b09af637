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
    target: Option<&str>,
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
    let command = |verb: &str| target.map(|target| format!("pushpull dlq {verb} {target}"));
    let elsewhere = || "pushpull dlq ls --json".to_owned();
    let mut fix = remedy.replace("`pushpull status PEER`", &format!("`pushpull status {peer}`"));
    fix = fix.replace("peer verify PEER", &format!("peer verify {peer}"));
    for asked in ["resend", "reissue", "discard"] {
        let done = if asked == "discard" { asked } else { verb };
        let done = command(done).unwrap_or_else(elsewhere);
        fix = fix.replace(&format!("`pushpull dlq {asked} JTI`"), &format!("`{done}`"));
    }
    // Only of one of them can the text be shown.
    if target.is_none_or(|target| !target.starts_with("--peer")) {
        let show = command("show").unwrap_or_else(elsewhere);
        fix = fix.replace("`pushpull dlq show JTI`", &format!("`{show}`"));
    }
    if let Some(instead) = instead {
        fix = format!("{fix} {instead}");
    }
    if target.is_none() {
        fix = format!(
            "{fix} Its name holds characters that act on a display, so no command can show it: take it from there."
        );
    }
    Advice { who, fix, command: Some(command(verb).unwrap_or_else(elsewhere)) }
}

/// What helps when its peer is not configured any more.
pub(super) fn advice_for_gone(peer: &str, target: Option<&str>) -> Advice {
    let command = match target {
        Some(target) => format!("pushpull dlq discard {target}"),
        None => "pushpull dlq ls --json".to_owned(),
    };
    let fix =
        format!("The peer {peer} is not configured any more: add it again (`pushpull peer add`), or `{command}`.");
    Advice { who: Who::You, fix, command: Some(command) }
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

/// A jti as a command for pasting names it: one word for the shell, and no flag for us; `None` if it cannot be shown whole.
pub fn named(jti: &str) -> Option<String> {
    Some(if jti.starts_with('-') { format!("-- {}", quoted(jti)?) } else { quoted(jti)? })
}

/// All dead letters of a peer, or those with one reason, as a command for pasting names them. The partner chooses the
/// reason, so it stands behind `=`, where it is no flag.
pub fn named_by_reason(peer: &str, reason: Option<&str>) -> Option<String> {
    Some(match reason {
        Some(reason) => format!("--peer {peer} --reason={}", quoted(reason)?),
        None => format!("--peer {peer}"),
    })
}

/// A text as a shell takes it for one word; `None` if it holds what acts on a display, for without that it is another.
fn quoted(text: &str) -> Option<String> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-._~:/@%+=,".contains(c);
    if text.chars().any(acts_on_display) {
        return None;
    }
    if !text.is_empty() && !text.starts_with(['~', '=']) && text.chars().all(harmless) {
        return Some(text.to_owned());
    }
    Some(format!("'{}'", text.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_follows_from_how_it_ended() {
        let command = |reason, refused, resend, reissue| {
            advice(reason, refused, "globex", resend, reissue, Some("j1")).command.expect("a command")
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
                let fix = advice(reason, refused, "globex", resend, reissue, Some("j1")).fix;
                assert!(!fix.contains("JTI") && !fix.contains("PEER"), "{reason}: {fix}");
                assert!(reissue || !fix.contains("dlq reissue"), "{reason}: {fix}");
            }
        }
        let group = advice("too_old", false, "globex", true, true, Some("--peer globex --reason=too_old"));
        assert!(group.fix.contains("`pushpull dlq resend --peer globex --reason=too_old`"), "{}", group.fix);
    }

    #[test]
    fn a_strange_jti_is_one_word_to_a_shell() {
        assert_eq!(named("01939f2e-7c1a").as_deref(), Some("01939f2e-7c1a"));
        assert_eq!(named("$(reboot) it's").as_deref(), Some("'$(reboot) it'\\''s'"));
        assert_eq!(named("--all").as_deref(), Some("-- --all"));
        assert_eq!(named("").as_deref(), Some("''"));
    }
    #[test]
    fn a_name_that_cannot_be_shown_whole_stands_in_no_command() {
        for hidden in ["a\u{1b}[2J", "a\u{202e}b", "a\nb"] {
            assert_eq!((named(hidden), named_by_reason("globex", Some(hidden))), (None, None));
        }
        let told = advice("invalid_key", true, "globex", false, true, None);
        assert_eq!(told.command.as_deref(), Some("pushpull dlq ls --json"));
        assert!(!told.fix.contains("reissue") && !told.fix.contains("JTI"), "{}", told.fix);
    }
}
