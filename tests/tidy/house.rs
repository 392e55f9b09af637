//! What every file keeps to: its size, its opening words, its name, and words that stand nowhere.

use crate::files::{self, File, code};
use crate::{Fault, none};

/// Lines of a file of code.
const LINES_MAX: usize = 500;

/// Lines of a leaf file's opening words; the page of a `mod.rs` may be longer.
const OPENING_MAX: usize = 3;

/// What unfinished or silenced code looks like.
const BANNED: [(&str, &str); 6] = [
    ("todo!", "finish it, or leave the feature out"),
    ("unimplemented!", "finish it, or leave the feature out"),
    ("dbg!", "remove it; `tracing` is for what operators need"),
    ("#[ignore", "make the test quick and sure, or remove it"),
    ("#[allow(", "mend the cause, or write #[expect(…, reason = \"…\")]"),
    ("#![allow(", "mend the cause, or write #[expect(…, reason = \"…\")] where it is needed"),
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 9] = ["utils", "util", "common", "helpers", "helper", "types", "manager", "managers", "misc"];

/// Places of one machine, and hosts of package registries: clients know their registries by themselves. In two parts
/// each, so that this file does not hold them.
const FOREIGN: [(&str, &str); 10] = [
    ("/wo", "rk/"),
    ("/ro", "ot/"),
    ("/tm", "p/"),
    ("/ho", "me/"),
    ("static.crates", ".io"),
    ("index.crates", ".io"),
    ("crates.io", "/api"),
    ("py", "pi.org"),
    ("files.python", "hosted.org"),
    ("registry.npm", "js.org"),
];

#[test]
fn files_are_short() {
    none(files::under(&["src", "tests", "benches", "examples"], ".rs").iter().filter_map(too_long));
}

#[test]
fn source_files_open_with_what_they_are_for() {
    none(files::under(&["src"], ".rs").iter().filter_map(wrong_opening));
}

#[test]
fn nothing_is_unfinished_or_silenced() {
    none(files::under(&["src"], ".rs").iter().flat_map(banned));
}

#[test]
fn names_say_what_is_inside() {
    none(files::all().iter().filter_map(|file| empty_name(&file.path)));
}

#[test]
fn nothing_depends_on_one_machine_or_names_a_registry() {
    none(files::all().iter().flat_map(foreign));
}

fn too_long(file: &File) -> Option<Fault> {
    let lines = file.text.lines().count();
    (lines > LINES_MAX).then(|| {
        let rule = format!("{lines} lines, at most {LINES_MAX} are allowed");
        Fault::new(&file.path, rule, "split it by job, one job a file")
    })
}

fn wrong_opening(file: &File) -> Option<Fault> {
    let lines = file.text.lines().take_while(|line| line.starts_with("//!")).count();
    let page = file.path.ends_with("/mod.rs") || file.path == "src/lib.rs";
    match lines {
        0 => Some(Fault::new(
            &file.path,
            "it does not open with `//!`",
            "say in up to three lines what the file is for and what it never does",
        )),
        lines if lines > OPENING_MAX && !page => Some(Fault::new(
            &file.path,
            format!("it opens with {lines} lines of `//!`, at most {OPENING_MAX} are allowed"),
            "shorten it, or move the page to the module's mod.rs",
        )),
        _ => None,
    }
}

fn banned(file: &File) -> Vec<Fault> {
    let code = code(&file.text);
    let mut faults = Vec::new();
    for (index, line) in code.lines().enumerate() {
        for (word, remedy) in BANNED {
            let starts = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if line.match_indices(word).any(|(at, _)| starts(at)) {
                faults.push(Fault::new(
                    format!("{}:{}", file.path, index + 1),
                    format!("`{word}` stands here"),
                    remedy,
                ));
            }
        }
    }
    faults
}

/// The folder `tests/common` is where Cargo's own book puts what tests share.
fn empty_name(path: &str) -> Option<Fault> {
    let mut parts = path.split('/').map(|part| part.split('.').next().unwrap_or(part));
    let name = parts.find(|part| EMPTY_NAMES.contains(part) && !(*part == "common" && path.starts_with("tests/")))?;
    Some(Fault::new(path, format!("`{name}` says nothing about what is inside"), "name it by the noun it is about"))
}

fn foreign(file: &File) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for (first, second) in FOREIGN {
            let word = format!("{first}{second}");
            // A path is absolute when nothing leads to it: `https://host/…` and `../…` are no paths of a machine.
            let leads = |c: char| c.is_alphanumeric() || "._-~}*".contains(c);
            let stands = |at: usize| !word.starts_with('/') || !line[..at].ends_with(leads);
            if line.match_indices(&word).any(|(at, _)| stands(at)) {
                let rule = format!("`{word}` stands here, which ties it to one machine or one registry");
                let remedy = "use a relative path, a temporary directory made at run time, or the client's own setting";
                faults.push(Fault::new(format!("{}:{}", file.path, index + 1), rule, remedy));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_file_of_501_lines_is_too_long() {
        assert_eq!(too_long(&file("src/a.rs", &"x\n".repeat(500))), None);
        assert!(too_long(&file("src/a.rs", &"x\n".repeat(501))).is_some());
    }

    #[test]
    fn opening_words_are_missed_and_too_many_are_noticed() {
        assert!(wrong_opening(&file("src/a.rs", "use std::fmt;")).is_some());
        assert!(wrong_opening(&file("src/a.rs", &"//! x\n".repeat(4))).is_some());
        assert_eq!(wrong_opening(&file("src/a.rs", &"//! x\n".repeat(3))), None);
        assert_eq!(wrong_opening(&file("src/a/mod.rs", &"//! x\n".repeat(9))), None);
    }

    #[test]
    fn banned_words_are_found_in_code_and_not_in_prose() {
        for text in [
            "todo!()",
            "  unimplemented!(\"x\")",
            "dbg!(1)",
            "#[ignore = \"slow\"]",
            "#[allow(dead_code)]",
            "#![allow(x)]",
        ] {
            assert_eq!(banned(&file("src/a.rs", text)).len(), 1, "{text}");
        }
        let fine = "// todo!\nlet s = \"#[ignore]\"; my_dbg!(1); #[expect(x, reason = \"y\")]";
        assert_eq!(banned(&file("src/a.rs", fine)), []);
    }

    #[test]
    fn empty_names_are_found_in_files_and_folders() {
        for path in ["src/utils.rs", "src/peer/helpers/mod.rs", "src/common/a.rs", "tests/types.rs", "src/a/manager.rs"]
        {
            assert!(empty_name(path).is_some(), "{path}");
        }
        for path in ["tests/common/daemon.rs", "src/peer/slots.rs", "docs/commons.md"] {
            assert_eq!(empty_name(path), None, "{path}");
        }
    }

    #[test]
    fn places_of_a_machine_are_found_and_urls_are_not_taken_for_them() {
        for (first, second) in FOREIGN {
            let text = format!("fine\nsee \"{first}{second}x\"");
            assert_eq!(foreign(&file("a.md", &text))[0].place, "a.md:2", "{text}");
        }
        let fine = ["https://a.example/work", "/x", "https://a.example/home", "/x and target", "/tmp", "/y"].concat();
        assert_eq!(foreign(&file("a.md", &fine)), []);
    }
}
