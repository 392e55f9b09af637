//! The codes of errors: the manual has every one as the program tells it, and what is logged as going wrong carries one.

use pushpull::codes::{ANSWERS, Code};

use crate::files::{self, File, code};
use crate::{Fault, none};

const PAGE: &str = "docs/codes.md";

#[test]
fn the_manual_has_every_code_as_the_program_tells_it() {
    let page = files::one(PAGE).text;
    let codes = Code::ALL.iter().map(|code| {
        let entry = code.entry();
        row(code.as_str(), entry.meaning, entry.who.as_str(), entry.remedy)
    });
    let answers = ANSWERS.iter().map(|answer| row(answer.err, answer.meaning, answer.who.as_str(), answer.remedy));
    let wanted: Vec<String> = codes.chain(answers).collect();
    none(wanted.iter().filter(|row| !page.lines().any(|line| line == **row)).map(|row| {
        Fault::new(PAGE, "a row is missing, or says something else than src/codes", format!("write it so:\n{row}"))
    }));
    none(
        page.lines()
            .filter(|line| {
                line.starts_with("| `") && !line.starts_with("| `err`") && !wanted.iter().any(|row| row == line)
            })
            .map(|line| Fault::new(PAGE, format!("src/codes does not have: {line}"), "take the row out")),
    );
}

fn row(name: &str, meaning: &str, who: &str, remedy: &str) -> String {
    format!("| `{name}` | {meaning} | {who} | {remedy} |")
}

#[test]
fn every_line_that_is_logged_as_going_wrong_has_a_code() {
    none(files::under(&["src"], ".rs").iter().flat_map(codeless));
}

/// Calls of `warn!` and `error!` without a field `code`.
fn codeless(file: &File) -> Vec<Fault> {
    let text = code(&file.text);
    let mut faults = Vec::new();
    for word in ["warn!(", "error!("] {
        for (at, _) in text.match_indices(word) {
            let whole = text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let call = text[at..].split_once(';').map_or(&text[at..], |(call, _)| call);
            if !whole && !call.contains("code = ") {
                let line = text[..at].lines().count().max(1);
                faults.push(Fault::new(
                    format!("{}:{line}", file.path),
                    format!("`{word}…)` says that something goes wrong, without a code"),
                    "add `code = %Code::…`; a new one gets its line in src/codes/table.rs",
                ));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_a_code_is_found() {
        let file = |text: &str| File { path: "src/a.rs".to_owned(), text: text.to_owned() };
        assert_eq!(codeless(&file("fn f() {\n    warn!(peer, \"x\");\n}")).len(), 1);
        assert_eq!(codeless(&file("fn f() {\n    tracing::error!(\n        peer,\n        \"x\"\n    );\n}")).len(), 1);
        assert!(codeless(&file("fn f() { warn!(peer, code = %Code::LinkDown, \"x\"); info!(\"y\"); }")).is_empty());
    }
}
