//! Modules import downwards only. The table stands here and in ARCHITECTURE.md §2, and both must say the same.

use std::collections::BTreeMap;

use crate::files::{self, File, code};
use crate::{Fault, none};

/// Who lives on which floor. Neighbours on one floor do not import each other.
const FLOORS: [(u32, &[&str]); 13] = [
    (0, &["clock", "codes", "cpu", "metrics", "random", "quantity", "private", "planted"]),
    (1, &["set"]),
    (2, &["wire"]),
    (3, &["peer"]),
    (4, &["store"]),
    (5, &["auth"]),
    (6, &["engine"]),
    (7, &["transport"]),
    (8, &["transceiver"]),
    (9, &["admin"]),
    (10, &["config"]),
    (11, &["cli"]),
    (12, &["lib", "main"]),
];

#[test]
fn modules_import_downwards_only() {
    none(files::under(&["src"], ".rs").iter().flat_map(breaches));
}

#[test]
fn the_architecture_page_shows_the_same_floors() {
    let page = files::one("ARCHITECTURE.md");
    let shown = table(&page.text);
    let meant: BTreeMap<String, u32> = FLOORS
        .iter()
        .flat_map(|(floor, modules)| modules.iter().map(|module| ((*module).to_owned(), *floor)))
        .collect();
    none((shown != meant).then(|| {
        Fault::new(
            "ARCHITECTURE.md, section 2",
            format!("its table has {shown:?}, and tests/tidy/floors.rs has {meant:?}"),
            "make both tables say what the code is",
        )
    }));
}

#[test]
fn every_module_has_a_floor_and_every_floor_its_modules() {
    let mut there: Vec<String> =
        files::under(&["src"], ".rs").iter().map(|file| module(&file.path).to_owned()).collect();
    there.sort();
    there.dedup();
    let mut meant: Vec<&str> = FLOORS.iter().flat_map(|(_, modules)| modules.iter().copied()).collect();
    meant.sort_unstable();
    assert_eq!(there, meant, "give a new module its floor in tests/tidy/floors.rs and ARCHITECTURE.md §2");
}

/// The floor of each module as the table of section 2 shows it: rows of `| number | names in backquotes | … |`.
fn table(page: &str) -> BTreeMap<String, u32> {
    let section = page.lines().skip_while(|line| !line.starts_with("## 2.")).skip(1);
    let mut floors = BTreeMap::new();
    for row in section.take_while(|line| !line.starts_with("## ")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (Some(Ok(floor)), Some(names)) = (cells.get(1).map(|cell| cell.parse()), cells.get(2)) else { continue };
        floors.extend(names.split('`').skip(1).step_by(2).map(|name| (name.to_owned(), floor)));
    }
    floors
}

/// The top-level module that a source file belongs to.
fn module(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    let first = inside.split('/').next().unwrap_or(inside);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn floor(module: &str) -> Option<u32> {
    FLOORS.iter().find(|(_, modules)| modules.contains(&module)).map(|(floor, _)| *floor)
}

fn breaches(file: &File) -> Vec<Fault> {
    let own = module(&file.path);
    let Some(own_floor) = floor(own) else {
        let rule = format!("the module `{own}` has no floor");
        return vec![Fault::new(&file.path, rule, "give it one in tests/tidy/floors.rs and ARCHITECTURE.md §2")];
    };
    let allowed = |name: &str| name == own || floor(name).is_some_and(|floor| floor < own_floor);
    imports(&file.text, depth(&file.path))
        .into_iter()
        .filter(|import| !allowed(&import.module))
        .map(|import| {
            Fault::new(
                format!("{}:{}", file.path, import.line),
                format!("`{own}` (floor {own_floor}) imports `{}`, which is not on a lower floor", import.module),
                "move what both need to a lower floor, or hand it in from above; see ARCHITECTURE.md §2",
            )
        })
        .collect()
}

/// How many `super` lead from a file's own module to the crate's root.
fn depth(path: &str) -> usize {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    let parts = inside.split('/').count();
    match inside.rsplit('/').next() {
        Some("mod.rs") => parts - 1,
        Some("lib.rs" | "main.rs") if parts == 1 => 0,
        _ => parts,
    }
}

struct Import {
    line: usize,
    /// The top-level module, or what stands in its place.
    module: String,
}

/// The top-level modules that a text names: by `crate::`, by the crate's own name, or by enough `super`s.
fn imports(text: &str, depth: usize) -> Vec<Import> {
    let tokens = tokens(&code(text));
    let mut found = Vec::new();
    let mut braces = 0_usize;
    // The depths of braces at which modules within the file begin.
    let mut inline = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let word = |ahead: usize| tokens.get(at + ahead).map_or("", |token| token.text.as_str());
        match token.text.as_str() {
            "{" => braces += 1,
            "}" => {
                braces = braces.saturating_sub(1);
                if inline.last() == Some(&braces) {
                    inline.pop();
                }
            }
            "mod" if word(2) == "{" => inline.push(braces),
            "crate" if word(1) == "::" => found.extend(named(&tokens, at + 2)),
            // The program is a crate of its own; within the library this is the name of a module of transports.
            "pushpull" if depth == 0 && word(1) == "::" => found.extend(named(&tokens, at + 2)),
            "crate" if word(1) == "as" => found.push(Import { line: token.line, module: "crate as …".to_owned() }),
            "super" => {
                let steps = (0..).take_while(|step| word(2 * step) == "super" && word(2 * step + 1) == "::").count();
                if steps > 0 && steps >= depth + inline.len() {
                    found.extend(named(&tokens, at + 2 * steps));
                }
                // Past the whole chain, so that its later links are not taken for chains of their own.
                at += (2 * steps).saturating_sub(1);
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// The first names of what follows `crate::`: one, or those of a group in braces.
fn named(tokens: &[Token], at: usize) -> Vec<Import> {
    let Some(first) = tokens.get(at) else { return Vec::new() };
    if first.text != "{" {
        return vec![Import { line: first.line, module: first.text.clone() }];
    }
    let (mut depth, mut expected, mut found) = (0, false, Vec::new());
    for token in &tokens[at..] {
        match token.text.as_str() {
            "{" => (depth, expected) = (depth + 1, depth == 0),
            "}" if depth == 1 => break,
            "}" => depth -= 1,
            "," => expected = depth == 1,
            name if expected => {
                found.push(Import { line: token.line, module: name.to_owned() });
                expected = false;
            }
            _ => {}
        }
    }
    found
}

struct Token {
    line: usize,
    text: String,
}

/// Names, `::`, and every other sign by itself.
fn tokens(code: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let is_name = |c: char| c.is_alphanumeric() || c == '_';
            let length = match first {
                ':' if rest.starts_with("::") => 2,
                c if is_name(c) => rest.find(|c| !is_name(c)).unwrap_or(rest.len()),
                c => c.len_utf8(),
            };
            let (text, behind) = rest.split_at(length);
            tokens.push(Token { line: index + 1, text: text.to_owned() });
            rest = behind.trim_start();
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches_of(path: &str, text: &str) -> Vec<String> {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        breaches(&file).iter().map(|fault| format!("{} {}", fault.place, fault.rule)).collect()
    }

    #[test]
    fn an_import_from_above_or_beside_is_a_breach_however_it_is_written() {
        for (path, text, named) in [
            ("src/peer/mod.rs", "use crate::store::Error;", "`store`"),
            ("src/peer/outbox/flight.rs", "use crate::{set::Jti, clock, engine::{Handle, Slot}};", "`engine`"),
            ("src/clock.rs", "fn f() { crate::random::Random::new(1); }", "`random`"),
            ("src/set/mod.rs", "use super::wire;", "`wire`"),
            ("src/set/token.rs", "use super::super::store;", "`store`"),
            ("src/config/peer.rs", "use crate::cli::Exit;", "`cli`"),
            ("src/engine/slot.rs", "use crate::*;", "`*`"),
            ("src/engine/slot.rs", "use crate as all;", "`crate as …`"),
            ("src/wire/mod.rs", "mod tests { use super::super::peer; }", "`peer`"),
            ("src/main.rs", "use pushpull::nothing;", "`nothing`"),
            ("src/unheard_of.rs", "", "`unheard_of`"),
        ] {
            let breaches = breaches_of(path, text);
            assert!(breaches.len() == 1 && breaches[0].contains(named), "{path}, {text}: {breaches:?}");
        }
    }

    #[test]
    fn imports_from_below_and_from_within_are_none() {
        for (path, text) in [
            ("src/peer/mod.rs", "use crate::clock::Timestamp; use crate::peer::Config; use crate::{set, wire};"),
            ("src/clock.rs", "mod tests { use super::*; use super::Wall; }"),
            (
                "src/store/sqlite/seen/mod.rs",
                "use super::rows; use super::super::Error; mod t { use super::super::super::Epoch; }",
            ),
            ("src/main.rs", "fn main() { pushpull::cli::run() }"),
            ("src/transport/app.rs", "use super::pushpull; fn f() { pushpull::exchange() }"),
            (
                "src/peer/mod.rs",
                "// crate::store\n/// [`crate::engine::Handle`]\nlet s = \"crate::admin::x\"; pub(crate) fn f() {}",
            ),
        ] {
            assert_eq!(breaches_of(path, text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_breach_names_its_line() {
        assert!(
            breaches_of("src/peer/mod.rs", "//! x\n\nuse crate::{\n    set::Jti,\n    admin,\n};")[0]
                .starts_with("src/peer/mod.rs:5 ")
        );
    }

    #[test]
    fn the_table_is_read_from_section_two_alone() {
        let page = "## 1. A\n| 7 | `x` |\n## 2. Floors\n| floor | who |\n|--|--|\n| 1 | `set`, `jti` | tokens |\n| 0 | `clock` | |\n## 3.\n| 9 | `y` |";
        let expected = [("clock", 0), ("jti", 1), ("set", 1)].map(|(name, floor)| (name.to_owned(), floor));
        assert_eq!(table(page), BTreeMap::from(expected));
    }
}
