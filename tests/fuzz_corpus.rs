//! Replays the fuzzers' corpora, and the seeds that they began with, through the very functions that the fuzzers run; and
//! shows that these functions notice a wrong parser, so that their silence means something.

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "the fuzzers reach it")]
mod fuzz;
#[path = "fuzz_corpus/wrong.rs"]
mod wrong;

use std::collections::BTreeMap;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use fuzz::{TARGETS, seeds};

/// Files of one corpus at least, lest a replay passes because it has nothing to replay.
const FILES_MIN: usize = 5;

/// Files of all corpora, and their bytes, at most: they are for every clone of the repository.
const FILES_MAX: usize = 400;
const BYTES_MAX: u64 = 1 << 20;

#[test]
fn what_the_fuzzers_have_found_still_holds() {
    let failures: Vec<String> = std::thread::scope(|scope| {
        let replays: Vec<_> =
            TARGETS.iter().map(|target| scope.spawn(|| replay(target.name, target.check, 20))).collect();
        replays.into_iter().flat_map(|replay| replay.join().expect("it catches panics")).collect()
    });
    assert!(failures.is_empty(), "{} inputs:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_wrong_parser_is_caught_by_every_target() {
    let mut unnoticed = Vec::new();
    for target in TARGETS {
        let wrong = wrong::of(target.name);
        assert!(!wrong.is_empty(), "{}", target.name);
        let passes = wrong.iter().filter(|(_, check)| replay(target.name, *check, 1).is_empty());
        unnoticed.extend(passes.map(|(what, _)| format!("{}: {what}", target.name)));
    }
    assert!(unnoticed.is_empty(), "nobody notices\n{}", unnoticed.join("\n"));
}

#[test]
fn every_target_has_its_binary_its_dictionary_and_its_line_in_the_manifest() {
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).expect("a manifest");
    for target in TARGETS {
        let name = target.name;
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")), "{name}");
        let binary = fs::read_to_string(folder().join("fuzz_targets").join(name).with_extension("rs"));
        assert!(binary.expect(name).contains(&format!("{name}::check(data)")), "{name}");
        let dictionary = fs::read_to_string(folder().join("dictionaries").join(name).with_extension("dict"));
        assert!(dictionary.expect(name).lines().filter(|line| line.starts_with('"')).count() >= 10, "{name}");
    }
    let binaries = fs::read_dir(folder().join("fuzz_targets")).expect("a folder").count();
    assert_eq!(binaries, TARGETS.len(), "a binary without a target is never replayed");
}

#[test]
fn the_corpora_are_small() {
    let files: Vec<PathBuf> = TARGETS.iter().flat_map(|target| corpus(target.name)).collect();
    let bytes: u64 = files.iter().map(|file| fs::metadata(file).expect("a file").len()).sum();
    assert!(files.len() <= FILES_MAX && bytes <= BYTES_MAX, "{} files of {bytes} bytes", files.len());
}

/// What is fuzzed has to be what is shipped.
#[test]
fn the_fuzzers_are_built_with_the_versions_that_the_program_is_built_with() {
    let versions = |file: &Path| -> BTreeMap<String, Vec<String>> {
        let lock: toml::Table = fs::read_to_string(file).expect("a lock file").parse().expect("TOML");
        let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for package in lock["package"].as_array().expect("packages") {
            let text = |key: &str| package[key].as_str().expect("a text").to_owned();
            versions.entry(text("name")).or_default().push(text("version"));
        }
        versions
    };
    let ours = versions(&Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock"));
    for (name, fuzzed) in versions(&folder().join("Cargo.lock")) {
        if let Some(ours) = ours.get(&name) {
            assert!(fuzzed.iter().all(|version| ours.contains(version)), "{name}: {fuzzed:?} fuzzed, {ours:?} shipped");
        }
    }
}

/// Writes the seeds out for a run that begins anew: PUSHPULL_FUZZ_SEEDS names an empty folder.
#[test]
fn the_seeds_can_be_had_as_files() {
    let wanted = std::env::var_os("PUSHPULL_FUZZ_SEEDS").map(PathBuf::from);
    let temporary = tempfile::tempdir().expect("a folder");
    let place = wanted.as_deref().unwrap_or(temporary.path());
    for target in TARGETS {
        let folder = place.join(target.name);
        fs::create_dir_all(&folder).expect("it can be made");
        let seeds = seeds::of(target.name, Path::new(env!("CARGO_MANIFEST_DIR")));
        for (name, bytes) in &seeds {
            fs::write(folder.join(name), bytes).expect("it can be written");
        }
        let written = fs::read_dir(&folder).expect("a folder").count();
        assert!(written == seeds.len() && written >= 5, "{}: {written} of {} seeds", target.name, seeds.len());
    }
}

/// Up to so many inputs of one target with which this check panics.
fn replay(target: &str, check: fn(&[u8]), most: usize) -> Vec<String> {
    let files = corpus(target);
    assert!(files.len() >= FILES_MIN, "{target}: a corpus of {} files", files.len());
    let seeds = seeds::of(target, Path::new(env!("CARGO_MANIFEST_DIR")));
    let found = files.into_iter().map(|file| {
        (file.strip_prefix(folder()).expect("below").display().to_string(), fs::read(&file).expect("it can be read"))
    });
    let inputs = found.chain(seeds.into_iter().map(|(name, bytes)| (format!("seed {name}"), bytes)));
    let panics = |bytes: &[u8]| {
        let panic = catch_unwind(|| check(bytes)).err()?;
        let text = panic.downcast_ref::<String>().cloned();
        Some(text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
    };
    inputs.filter_map(|(name, bytes)| Some(format!("{target}: {name}: {}", panics(&bytes)?))).take(most).collect()
}

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = folder().join("corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}
