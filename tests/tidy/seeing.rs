//! What operators look at keeps to the manual: every metric with its type and labels, every field of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pushpull::metrics::{Format, Gauges, Metrics};

use crate::files::{self, File};
use crate::{Fault, none};

const OPERATIONS: &str = "docs/operations.md";

/// Name, type and labels.
type Table = BTreeMap<String, (String, Vec<String>)>;

#[test]
fn every_metric_is_in_the_manual_with_its_type_and_labels() {
    let (page, code) = (documented(&files::one(OPERATIONS).text), exposed());
    assert!(code.len() > 40, "the metrics were not found: {code:?}");
    let names: BTreeSet<&String> = page.keys().chain(code.keys()).collect();
    none(names.into_iter().filter(|name| page.get(*name) != code.get(*name)).map(|name| {
        let rule = format!("`{name}`: the code has {:?}, the page {:?}", code.get(name), page.get(name));
        Fault::new(OPERATIONS, rule, "correct the row, or the metric")
    }));
}

#[test]
fn every_field_of_the_log_is_in_the_manual() {
    let page = files::one(OPERATIONS).text;
    let rows = page.lines().skip_while(|line| *line != "| field | meaning |").take_while(|line| line.starts_with('|'));
    let known: BTreeSet<&str> = rows.filter_map(|row| row.split('|').nth(1)).flat_map(quoted).collect();
    let used: BTreeSet<String> = files::under(&["src"], ".rs").iter().flat_map(fields).collect();
    assert!(used.contains("peer") && used.contains("why"), "no fields were found: {used:?}");
    none(used.iter().filter(|field| !known.contains(field.as_str())).map(|field| {
        let rule = format!("the log has a field `{field}`, which is not in the table");
        Fault::new(OPERATIONS, rule, "use one of those there are, or decide on a new one and add its row")
    }));
    none(known.iter().filter(|field| !used.contains(**field)).map(|field| {
        Fault::new(OPERATIONS, format!("no line of the log has the field `{field}`"), "take the row out")
    }));
}

fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Rows of four cells whose second is a type.
fn documented(page: &str) -> Table {
    let mut table = Table::new();
    for line in page.lines().filter(|line| line.starts_with("| `p")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, labels, ..] = cells.as_slice() else { continue };
        if ["counter", "gauge", "histogram"].contains(kind) {
            let labels = quoted(labels).map(str::to_owned).collect();
            table.insert(name.trim_matches('`').to_owned(), ((*kind).to_owned(), labels));
        }
    }
    table
}

/// Everything there is, with one series at least of each.
fn exposed() -> Table {
    let metrics = Metrics::new();
    let peer = metrics.peer("globex");
    peer.accepted.add("other", 1);
    peer.received.add("other", 1);
    peer.set_gauges(&Gauges {
        figures: Some(Default::default()),
        jwks_age: Some(Duration::ZERO),
        state: ["up", "up"],
        ..Gauges::default()
    });
    metrics.signed("ES256", Duration::ZERO);
    metrics.answered("/metrics", "GET", 200, Duration::ZERO);
    metrics.certificate_expires(0.0);
    let text = metrics.expose(Format::Prometheus).expect("it is written");
    let mut table = Table::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            family = name.to_owned();
            table.insert(family.clone(), (kind.to_owned(), Vec::new()));
        } else if let Some(labels) = line.split_once('{').and_then(|(_, rest)| Some(rest.split_once('}')?.0)) {
            let names = labels.split(',').filter_map(|label| label.split('=').next()).filter(|name| *name != "le");
            if let Some((_, labels)) = table.get_mut(&family) {
                *labels = names.map(str::to_owned).collect();
            }
        }
    }
    table
}

/// The names of fields in the log macros of a file.
fn fields(file: &File) -> Vec<String> {
    let mut found = Vec::new();
    // Tests that stand in a file of their own leave all behind them to the program.
    let text = file.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    for name in ["trace!(", "debug!(", "info!(", "warn!(", "error!("] {
        for (at, _) in text.match_indices(name) {
            let before = text[..at].chars().next_back().unwrap_or(' ');
            if before.is_alphanumeric() || before == '_' || before == '`' {
                continue;
            }
            found.extend(arguments(&text[at + name.len()..]).into_iter().filter_map(|argument| field(&argument)));
        }
    }
    found
}

/// The arguments of a macro up to its closing parenthesis; literals count as nothing.
fn arguments(text: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    let mut arguments = vec![String::new()];
    for c in text.chars() {
        if quoted {
            (quoted, escaped) = (c != '"' || escaped, c == '\\' && !escaped);
            continue;
        }
        match c {
            '"' => {
                quoted = true;
                arguments.last_mut().expect("one").push('"');
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                arguments.push(String::new());
                continue;
            }
            _ => {}
        }
        arguments.last_mut().expect("one").push(c);
    }
    arguments
}

/// `name = value`, `%name`, `?name` or `name`; `None` for the message.
fn field(argument: &str) -> Option<String> {
    let name = argument.split_once('=').map_or(argument, |(name, _)| name);
    let name = name.trim().trim_start_matches(['%', '?']);
    let plain = !name.is_empty() && name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
    plain.then(|| name.to_owned())
}

#[test]
fn fields_are_found_however_they_are_written() {
    let text = "#[cfg(test)]\nmod tests;\n\nfn f() { info!(peer = %self.name, %jti, count, why = f(a, b), \"a, b = c\"); tracing::warn!(\n    code = %Code::X,\n    ?cause,\n    \"x{}\", y.z\n); }";
    let file = File { path: "src/a.rs".to_owned(), text: text.to_owned() };
    let mut found = fields(&file);
    found.sort();
    assert_eq!(found, ["cause", "code", "count", "jti", "peer", "why"]);
}
