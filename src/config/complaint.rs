//! What the TOML reader and the schema complain of, said for the person who has to mend it: what was expected and
//! found, and the remedy. What may be a secret is not repeated.

use crate::codes::Code;
use crate::quantity;
use crate::set::nearest::nearest;

use super::problem::Problem;
use super::sections;

/// What a value that the schema cannot take is, and what it should be. `key` is the innermost one.
pub(super) fn of_value(message: &str, key: &str, base: Problem) -> Problem {
    let base = base.code(Code::ConfigBadValue);
    if key == "token" {
        // Somebody may have written the secret itself here, and errors end up in logs.
        return Problem { what: "a token does not stand in the file".to_owned(), ..base }
            .expected("{ env = \"NAME\" }")
            .fix("put the token into a file and name it in token_file");
    }
    let (found, expected) = message.trim_end().split_once(", expected ").unwrap_or((message, ""));
    let (what, found) = found.split_once(": ").unwrap_or((found, ""));
    let found = found.trim_end_matches(" as i128").trim_end_matches(" as u128");
    if let Some(variant) = found_variant(message) {
        let problem = Problem { what: "unknown value".to_owned(), ..base }
            .expected(expected.trim_start_matches("one of "))
            .found(format!("`{}`", variant.escape_debug()));
        return match nearest(variant, names_in(expected)) {
            Some(near) => problem.fix(format!("write \"{near}\"")),
            None => problem.fix("write one of these"),
        };
    }
    let text = found.strip_prefix("string \"").and_then(|text| text.strip_suffix('"'));
    let (expected, fix) = match expected {
        "usize" | "u64" | "u32" | "i64" => whole_number(expected, found, text),
        "a string" => ("a text in quotation marks", "write it in quotation marks".to_owned()),
        "a sequence" if key == "peer" => {
            ("[[peer]] with two brackets, since there may be several", "write [[peer]]".to_owned())
        }
        "a sequence" => (
            "a list of texts",
            text.map_or_else(|| "write it as a list: [\"…\"]".to_owned(), |text| format!("write [\"{text}\"]")),
        ),
        _ if expected.starts_with("struct ") => (
            "a section, and its keys below it",
            match base.field.as_str() {
                _ if key == "peer" => "write [[peer]]".to_owned(),
                // Within a peer, whose heading does not name it.
                field if field.is_empty() || field.contains('[') => format!("write [{key}], and its keys below it"),
                field => format!("write [{field}], and its keys below it"),
            },
        ),
        quantity::DURATION => (expected, amount(found, text, &DURATIONS)),
        quantity::SIZE => (expected, amount(found, text, &SIZES)),
        quantity::ADDRESS => (expected, address(text.unwrap_or_default())),
        _ => (expected, String::new()),
    };
    let found = match found {
        "map" => "a table",
        "sequence" => "a list",
        other => other,
    };
    let problem = Problem { what: what.to_owned(), ..base }.fix(fix);
    let problem = if expected.is_empty() { problem } else { problem.expected(expected) };
    if found.is_empty() { problem } else { problem.found(found) }
}

fn whole_number(kind: &str, found: &str, text: Option<&str>) -> (&'static str, String) {
    let expected = if kind == "u32" { "a whole number up to 4294967295" } else { "a whole number" };
    let fix = match text {
        Some(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("write it without quotation marks: {text}")
        }
        _ if found.contains("`-") => "write a number that is not negative".to_owned(),
        _ if found.starts_with("integer") => "write a smaller number".to_owned(),
        _ => "write digits alone, such as 1000".to_owned(),
    };
    (expected, fix)
}

/// How one kind of amount is written.
struct Amounts {
    example: &'static str,
    units: &'static [&'static str],
    /// What a number without a unit may have meant.
    bare: &'static [&'static str],
    /// What others call a unit: a factor, and which of ours it is so many of.
    others: &'static [(&'static [&'static str], u64, &'static str)],
    reads: fn(&str) -> bool,
}

const DURATIONS: Amounts = Amounts {
    example: "5s",
    units: &["ms", "s", "m", "h", "d"],
    bare: &["s", "m", "h"],
    others: &[
        (&["msec", "millis", "milliseconds"], 1, "ms"),
        (&["sec", "secs", "second", "seconds"], 1, "s"),
        (&["min", "mins", "minute", "minutes"], 1, "m"),
        (&["hr", "hrs", "hour", "hours"], 1, "h"),
        (&["day", "days"], 1, "d"),
        (&["w", "week", "weeks"], 7, "d"),
        (&["y", "year", "years"], 365, "d"),
    ],
    reads: |text| quantity::parse_duration(text).is_some(),
};

const SIZES: Amounts = Amounts {
    example: "4MiB",
    units: &["B", "kB", "MB", "GB", "KiB", "MiB", "GiB"],
    bare: &["B", "KiB", "MiB"],
    others: &[
        (&["byte", "bytes"], 1, "B"),
        (&["k", "ki"], 1, "KiB"),
        (&["m", "mi"], 1, "MiB"),
        (&["g", "gi"], 1, "GiB"),
        (&["t", "ti", "tib"], 1024, "GiB"),
        (&["tb"], 1000, "GB"),
    ],
    reads: |text| quantity::parse_size(text).is_some(),
};

/// The remedy for a duration or a size that is none. It never proposes another magnitude than what was written: whoever follows it
/// gets what was meant.
fn amount(found: &str, text: Option<&str>, kind: &Amounts) -> String {
    let number = found.strip_prefix("integer `").and_then(|number| number.strip_suffix('`'));
    let text = text.or(number).unwrap_or_default().trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit, example) = (&text[..digits], text[digits..].trim(), kind.example);
    let is_unit = |name: &str| name.eq_ignore_ascii_case(unit);
    match (count, unit) {
        ("", unit) if unit.starts_with('-') => format!("write it without the minus, such as \"{example}\""),
        ("", _) => format!("write a number and a unit, such as \"{example}\""),
        (count, "") => {
            let each: Vec<String> = kind.bare.iter().map(|unit| format!("\"{count}{unit}\"")).collect();
            format!("say the unit, such as {}", each.join(" or "))
        }
        (_, unit) if kind.units.contains(&unit) => "write a smaller amount".to_owned(),
        (_, unit) if unit.starts_with('.') => format!("write whole numbers and a smaller unit, such as \"{example}\""),
        (count, _) => {
            if let Some(unit) = kind.units.iter().find(|name| is_unit(name)) {
                return format!("write \"{count}{unit}\"");
            }
            let meant = kind.others.iter().find(|(names, ..)| names.iter().any(|name| is_unit(name)));
            let meant =
                meant.and_then(|(_, factor, unit)| Some((count.parse::<u64>().ok()?.checked_mul(*factor)?, unit)));
            match meant {
                Some((count, unit)) if (kind.reads)(&format!("{count}{unit}")) => format!("write \"{count}{unit}\""),
                Some(_) => "write a smaller amount".to_owned(),
                None => format!("use one of the units {}, such as \"{example}\"", kind.units.join(", ")),
            }
        }
    }
}

/// The remedy for an address to listen on that is none.
fn address(text: &str) -> String {
    let port = text.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok());
    if text.parse::<std::net::IpAddr>().is_ok() {
        let host = if text.contains(':') { format!("[{text}]") } else { text.to_owned() };
        return format!("add the port, such as \"{host}:8443\"");
    }
    match (text.rsplit_once(':').map(|(host, _)| host), port) {
        (Some("localhost"), Some(port)) => format!("write \"127.0.0.1:{port}\": names are not looked up here"),
        (None | Some("" | "*"), Some(port)) => format!("write \"0.0.0.0:{port}\" for every address of this machine"),
        (Some(_), Some(_)) => {
            "write an IP address of this machine in front of the port, not a name or a URL".to_owned()
        }
        _ => "write an IP address, a colon and a port up to 65535".to_owned(),
    }
}

/// A key that is not known where it stands; the reader's message lists those that are.
pub(super) fn of_key(message: &str, key: &str, base: Problem) -> Problem {
    let known = message.split_once(", expected ").map_or("", |(_, known)| known).trim_end();
    let fix = sections::remedy(key, names_in(known));
    let problem = Problem { what: "unknown key".to_owned(), ..base }.code(Code::ConfigUnknownKey).fix(fix);
    match known.strip_prefix("one of ").unwrap_or(known) {
        "" => problem,
        known => problem.expected(known),
    }
}

/// A fault of syntax.
pub(super) fn of_syntax(message: &str, line: &str, base: Problem) -> Problem {
    let (what, expected) = match message.split_once(", expected ") {
        Some((what, expected)) => (what, expected),
        None => (message, ""),
    };
    let section = line.trim_start().starts_with('[');
    let (what, expected, fix) = match what {
        "duplicate key" if section => ("this section stands there twice", "", "join the two into one section"),
        "duplicate key" => ("this key stands there twice", "", "remove one of the two lines"),
        "string values must be quoted" => {
            ("this text has no quotation marks", "a text in quotation marks", "write \"…\" around it")
        }
        "invalid basic string" | "invalid literal string" => {
            ("the quotation marks do not close", expected, "close them at the end of the line")
        }
        "unclosed array" => ("this list is not closed", "`]`", "close it with ]"),
        "unclosed table" | "unclosed array table" => ("this heading is not closed", "`]`", "close it with ]"),
        what if section => (what, expected, "correct this line: a section is [name], a peer is [[peer]]"),
        what => (what, expected, "correct this line: key = \"text\", key = 5, or key = [\"text\", \"text\"]"),
    };
    let problem = Problem { what: format!("not TOML: {what}"), ..base }.code(Code::ConfigNotToml).fix(fix);
    if expected.is_empty() { problem } else { problem.expected(expected) }
}

/// The names between back-ticks in serde's list of what it would have taken.
pub(super) fn names_in(expected: &str) -> impl Iterator<Item = &str> {
    expected.split('`').skip(1).step_by(2)
}

/// The word that serde calls an unknown variant.
fn found_variant(message: &str) -> Option<&str> {
    message.strip_prefix("unknown variant `")?.split('`').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_get_the_remedy_that_fits() {
        let of_text = |kind, cases: &[(&str, &str)]| {
            for (text, fix) in cases {
                assert_eq!(amount("", Some(text), kind), *fix, "{text}");
            }
        };
        let in_hours = "say the unit, such as \"72s\" or \"72m\" or \"72h\"";
        assert_eq!(amount("integer `72`", None, &DURATIONS), in_hours);
        of_text(
            &DURATIONS,
            &[
                ("72", in_hours),
                ("-5s", "write it without the minus, such as \"5s\""),
                ("soon", "write a number and a unit, such as \"5s\""),
                ("99999999999999999d", "write a smaller amount"),
                ("1.5s", "write whole numbers and a smaller unit, such as \"5s\""),
                ("5S", "write \"5s\""),
                ("5 weeks", "write \"35d\""),
                ("1y", "write \"365d\""),
                ("3 minutes", "write \"3m\""),
                ("100us", "use one of the units ms, s, m, h, d, such as \"5s\""),
            ],
        );
        of_text(
            &SIZES,
            &[
                ("1024", "say the unit, such as \"1024B\" or \"1024KiB\" or \"1024MiB\""),
                ("4M", "write \"4MiB\""),
                ("8k", "write \"8KiB\""),
                ("4mb", "write \"4MB\""),
                ("1TiB", "write \"1024GiB\""),
                ("9000000TiB", "write \"9216000000GiB\""),
                ("99999999999TiB", "write a smaller amount"),
                ("16EiB", "use one of the units B, kB, MB, GB, KiB, MiB, GiB, such as \"4MiB\""),
            ],
        );
    }

    #[test]
    fn addresses_get_the_remedy_that_fits() {
        for (text, holds) in [
            ("0.0.0.0", "\"0.0.0.0:8443\""),
            ("::1", "\"[::1]:8443\""),
            ("localhost:8443", "\"127.0.0.1:8443\""),
            (":8443", "\"0.0.0.0:8443\""),
            ("8443", "\"0.0.0.0:8443\""),
            ("signals.acme.example:8443", "not a name"),
            ("127.0.0.1:99999", "up to 65535"),
        ] {
            assert!(address(text).contains(holds), "{text}: {}", address(text));
        }
    }
}
