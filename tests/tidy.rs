//! The rules of the house, checked: floors, sizes, opening words, banned words, names, links, and documentation that
//! keeps up with the code. Every failure names the file, the rule and the remedy. Nothing but this repository is read.

#[path = "tidy/codes.rs"]
mod codes;
#[path = "tidy/files.rs"]
mod files;
#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/house.rs"]
mod house;
#[path = "tidy/links.rs"]
mod links;
#[path = "tidy/manual.rs"]
mod manual;
#[path = "tidy/planted.rs"]
mod planted;
#[path = "tidy/seeing.rs"]
mod seeing;

use std::fmt;

/// A rule that a file breaks.
#[derive(Debug, Eq, PartialEq)]
struct Fault {
    /// The file, from the root of the repository, and the line where there is one.
    place: String,
    rule: String,
    remedy: String,
}

impl Fault {
    fn new(place: impl Into<String>, rule: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place: place.into(), rule: rule.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n    remedy: {}", self.place, self.rule, self.remedy)
    }
}

/// Fails with everything that is wrong at once.
#[track_caller]
fn none(faults: impl IntoIterator<Item = Fault>) {
    let faults: Vec<String> = faults.into_iter().map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{} broken rules:\n\n{}\n", faults.len(), faults.join("\n"));
}
