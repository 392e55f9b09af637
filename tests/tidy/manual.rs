//! The manual keeps up with the code: configuration keys and their defaults, admin API, exit codes.

use pushpull::codes::Code;
use pushpull::config;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::files;
use crate::{Fault, none};

const CONFIGURATION: &str = "docs/configuration.md";
const ADMIN_API: &str = "docs/admin-api.md";

#[test]
fn every_configuration_key_is_in_the_manual_with_its_default() {
    let page = files::one(CONFIGURATION).text;
    let default = serde_json::to_value(config::Config::default()).expect("it serialises");
    let of = |section: &str| default.get(section).cloned().unwrap_or_default();
    let peer = serde_json::to_value(config::Peer::default()).expect("it serialises");
    let sections = [
        ("[server]", keys::<config::Server>(), of("server")),
        ("[server.tls]", keys::<config::Tls>(), of("server")["tls"].clone()),
        ("[admin]", keys::<config::Admin>(), of("admin")),
        ("[store]", keys::<config::Store>(), of("store")),
        ("[keys]", keys::<config::Keys>(), of("keys")),
        ("[network]", keys::<config::Network>(), of("network")),
        ("[limits]", keys::<config::Limits>(), of("limits")),
        ("[delivery]", keys::<config::Delivery>(), of("delivery")),
        ("[log]", keys::<config::Log>(), of("log")),
        ("[[peer]]", keys::<config::Peer>(), peer),
    ];
    let named: Vec<String> = sections.iter().map(|(name, ..)| name.trim_matches(['[', ']']).to_owned()).collect();
    for section in keys::<config::Config>() {
        assert!(named.contains(&section), "a new section [{section}]: add it to this test and to {CONFIGURATION}");
    }
    none(sections.iter().flat_map(|(section, keys, defaults)| undocumented(&page, section, keys, defaults)));
}

#[test]
fn every_path_and_problem_code_of_the_admin_api_is_in_the_manual() {
    let page = files::one(ADMIN_API).text;
    let sources = files::under(&["src/admin"], ".rs");
    let words: Vec<String> =
        sources.iter().flat_map(|file| routes(&file.text).into_iter().chain(codes(&file.text))).collect();
    assert!(words.len() > 20, "the routes and codes were not found: {words:?}");
    none(words.iter().filter(|word| !page.contains(&format!("`{word}`")) && !page.contains(&format!(" {word}`"))).map(
        |word| Fault::new(ADMIN_API, format!("it does not have `{word}`, which src/admin has"), "describe it there"),
    ));
}

#[test]
fn every_exit_code_is_in_the_readme() {
    let readme = files::one("README.md").text;
    let source = files::one("src/cli/error.rs").text;
    let exits: Vec<u8> =
        source.lines().filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = ")?.1.parse().ok()).collect();
    assert!(exits.len() > 10, "the exit codes were not found: {exits:?}");
    none(
        exits
            .iter()
            .filter(|exit| !readme.contains(&format!("\n| {exit} |")))
            .map(|exit| Fault::new("README.md", format!("exit code {exit} is not in its table"), "add a row for it")),
    );
}

/// The keys that a section knows, as it tells whoever gives it an unknown one.
fn keys<T: DeserializeOwned>() -> Vec<String> {
    let error = serde_json::from_value::<T>(json!({ "?": 0 })).err().expect("unknown keys are refused").to_string();
    error.split('`').skip(1).step_by(2).filter(|key| *key != "?").map(str::to_owned).collect()
}

/// Keys of a section that have no row in it, or a row with another default. A row is `| key | default | meaning |`, key
/// and default in code quotes.
fn undocumented(page: &str, section: &str, keys: &[String], defaults: &Value) -> Vec<Fault> {
    let heading = format!("## `{section}`");
    let lines: Vec<&str> =
        page.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.starts_with("## ")).collect();
    let mut faults = Vec::new();
    for key in keys {
        let row = lines.iter().find(|line| line.starts_with(&format!("| `{key}` |")));
        let default = defaults.get(key).unwrap_or(&Value::Null);
        let expected = match default {
            Value::Null | Value::Object(_) => None,
            Value::String(text) if text.is_empty() => None,
            default => Some(format!("`{default}`")),
        };
        let shown = row.and_then(|row| row.split('|').nth(2)).unwrap_or_default().trim();
        let place = format!("{CONFIGURATION}, {section}");
        match (row, expected) {
            (None, _) if default.is_object() => {}
            (None, _) => faults.push(Fault::new(place, format!("`{key}` is missing"), "add a row for it")),
            (Some(_), Some(expected)) if !shown.starts_with(&expected) => {
                let rule = format!("`{key}`: the default is {expected}, the page says {shown}");
                faults.push(Fault::new(place, rule, "write the default of src/config"));
            }
            (Some(_), _) => {}
        }
    }
    faults
}

/// What stands in `.route("…"`.
fn routes(source: &str) -> Vec<String> {
    source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

/// What stands behind each ` Code::`, as it is shown: the code of a problem.
fn codes(source: &str) -> Vec<String> {
    let shown = |rest: &str| {
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
        Code::ALL.iter().find(|code| format!("{code:?}") == name).map(|code| code.as_str().to_owned())
    };
    source.split(" Code::").skip(1).filter_map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_key_and_a_wrong_default_are_found() {
        let page = "## `[log]`\n| `level` | `\"info\"` | x |\n| `format` | `\"text\"` | x |\n## `[keys]`\n| `dir` | `\"keys\"` | x |";
        let found = |section: &str, keys: &[&str], defaults: Value| {
            let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            undocumented(page, section, &keys, &defaults).into_iter().map(|fault| fault.rule).collect::<Vec<_>>()
        };
        let wrong = found("[log]", &["level", "format"], json!({"level": "info", "format": "auto"}));
        assert!(wrong.len() == 1 && wrong[0].contains("`format`"), "{wrong:?}");
        let missing = found("[keys]", &["dir", "active"], json!({"dir": "keys", "active": null}));
        assert!(missing.len() == 1 && missing[0].contains("`active` is missing"), "{missing:?}");
    }

    #[test]
    fn keys_routes_and_codes_are_read_from_the_code() {
        assert_eq!(keys::<config::Log>(), ["level", "format"]);
        assert_eq!(keys::<config::Store>(), ["url", "keep_settled", "keep_settled_bytes_max"]);
        assert_eq!(routes(".route(\"/a\", get(x)).route(\"/b/{c}\", post(y))"), ["/a", "/b/{c}"]);
        assert_eq!(
            codes("new(StatusCode::NOT_FOUND, Code::NoSuchPeer, x); f(StatusCode::OK, Code::find)"),
            ["no_such_peer"]
        );
    }
}
