//! Mistakes planted on purpose (`src/planted.rs`): each stands somewhere, and none in anything that is delivered.

use crate::files::{self, code};
use crate::{Fault, none};

/// What may not be built into anything but the hunt and tests.
const FEATURE: &str = "planted-bugs";

/// What alone lets it into optimised code.
const CONFIG: &str = "examples/hunt/release.toml";

#[test]
fn the_compiler_refuses_planted_bugs_in_a_release_but_for_the_hunt() {
    let list = files::one("src/planted.rs").text;
    let guard = "#[cfg(all(feature = \"planted-bugs\", not(debug_assertions)))]\nconst _: () = assert!(\n    \
                 option_env!(\"PUSHPULL_HUNT\").is_some(),";
    assert!(list.contains(guard), "src/planted.rs has lost its guard");
    let said = files::under(&["src", "tests", "examples", ".ci", ".cargo", "packaging"], "");
    let said = said.iter().filter(|file| file.text.contains("PUSHPULL_HUNT"));
    let allowed = ["src/planted.rs", "tests/tidy/planted.rs", CONFIG];
    none(said.filter(|file| !allowed.contains(&file.path.as_str())).map(|file| {
        Fault::new(&file.path, "names what opens a release to planted bugs", "leave it to the hunt's configuration")
    }));
}

#[test]
fn no_default_feature_and_no_other_feature_plants_bugs() {
    let manifest: toml::Table = files::one("Cargo.toml").text.parse().expect("Cargo.toml");
    let features = manifest["features"].as_table().expect("[features]");
    assert_eq!(
        features.get(FEATURE),
        Some(&toml::Value::Array(Vec::new())),
        "the feature is there, and brings nothing"
    );
    none(features.iter().filter(|(_, brings)| brings.to_string().contains(FEATURE)).map(|(name, _)| {
        Fault::new("Cargo.toml", format!("the feature `{name}` brings `{FEATURE}`"), "nothing may bring it by the way")
    }));
    let profiles = manifest["profile"].as_table().expect("[profile]");
    none(
        profiles.iter().filter(|(name, profile)| *name == "release" && profile.get("debug-assertions").is_some()).map(
            |_| {
                Fault::new(
                    "Cargo.toml",
                    "releases have debug assertions set",
                    "with them the feature compiles without a word",
                )
            },
        ),
    );
}

#[test]
fn releases_and_continuous_integration_build_the_program_without_it() {
    let gate = files::one(".ci/run").text;
    let lines = gate.lines().filter(|line| line.contains("-F") || line.contains("features") && line.contains(FEATURE));
    none(lines.filter(|line| !line.contains(CONFIG) || !line.contains("--example hunt")).map(|line| {
        Fault::new(".ci/run", format!("`{}` is not the hunt", line.trim()), "build nothing else with planted bugs")
    }));
    let other = gate.lines().filter(|line| line.contains(CONFIG) && !line.contains("--example hunt"));
    none(other.map(|line| {
        Fault::new(".ci/run", format!("`{}` is not the hunt", line.trim()), "build nothing else by its configuration")
    }));
    assert!(!gate.contains("--all-features"), ".ci/run builds with all features, the planted bugs among them");
}

#[test]
fn every_bug_is_planted_somewhere() {
    let names = names(&files::one("src/planted.rs").text);
    assert!(names.len() > 40, "the bugs were not found: {names:?}");
    let everywhere: String = files::under(&["src", "tests", "examples"], ".rs")
        .iter()
        .filter(|file| file.path != "src/planted.rs")
        .map(|file| code(&file.text))
        .collect();
    let is_planted = |name: &String| {
        everywhere.match_indices(&format!("Bug::{name}")).any(|(at, found)| {
            everywhere[at + found.len()..].chars().next().is_some_and(|next| !next.is_alphanumeric())
        })
    };
    none(names.iter().filter(|name| !is_planted(name)).map(|name| {
        Fault::new("src/planted.rs", format!("`{name}` is planted nowhere"), "plant it, or take it out of the list")
    }));
}

/// The variants of the list, `Name = 7,`.
fn names(list: &str) -> Vec<String> {
    let variant = |line: &str| {
        let (name, number) = line.trim().strip_suffix(',')?.split_once(" = ")?;
        number.parse::<u8>().ok().map(|_| name.to_owned())
    };
    list.lines().filter_map(variant).collect()
}
