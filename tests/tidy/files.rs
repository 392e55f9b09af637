//! The repository's own files, and Rust text without its comments and literals.

use std::fs;
use std::path::{Path, PathBuf};

/// One file of the repository.
pub(crate) struct File {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file that belongs to the repository, in the order of their paths. What `.gitignore` names at the root, and
/// hidden folders other than `.ci`, are left out.
pub(crate) fn all() -> Vec<File> {
    let ignored = fs::read_to_string(root().join(".gitignore")).unwrap_or_default();
    let ignored: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('/')).collect();
    let mut found = Vec::new();
    walk(
        root(),
        &|path| {
            let name = path.rsplit('/').next().unwrap_or(path);
            let hidden = name.starts_with('.') && ![".ci", ".github", ".clippy.toml", ".gitignore"].contains(&name);
            hidden || ignored.contains(&path) || ["target", "node_modules", "__pycache__"].contains(&name)
        },
        &mut found,
    );
    found.sort();
    let read = |path: String| fs::read_to_string(root().join(&path)).ok().map(|text| File { path, text });
    found.into_iter().filter_map(read).collect()
}

/// Those under one of these folders with this ending.
pub(crate) fn under(folders: &[&str], ending: &str) -> Vec<File> {
    let mut files = all();
    files.retain(|file| {
        file.path.ends_with(ending)
            && folders.iter().any(|folder| file.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
    });
    assert!(!files.is_empty(), "no {ending} file was found under {folders:?}: the check looks at nothing");
    files
}

/// One file, which must be there.
pub(crate) fn one(path: &str) -> File {
    let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    File { path: path.to_owned(), text }
}

fn walk(folder: &Path, leave_out: &dyn Fn(&str) -> bool, found: &mut Vec<String>) {
    let entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    for path in entries {
        let from_root = path.strip_prefix(root()).expect("inside").to_string_lossy().replace('\\', "/");
        if leave_out(&from_root) || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            walk(&path, leave_out, found);
        } else {
            found.push(from_root);
        }
    }
}

/// The same text with comments and the insides of string and character literals blanked, line by line in place.
pub(crate) fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1).copied();
        let end = match (c, next) {
            ('/', Some('/')) => line_end(&chars, at),
            ('/', Some('*')) => comment_end(&chars, at),
            ('r', Some('"' | '#')) if !continues_a_name(&chars, at) => raw_end(&chars, at).unwrap_or(at),
            ('"', _) => quoted_end(&chars, at, '"'),
            ('\'', Some('\\')) => quoted_end(&chars, at, '\''),
            ('\'', Some(_)) if chars.get(at + 2) == Some(&'\'') => at + 3,
            _ => at,
        };
        if end == at {
            out.push(c);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// A `b` before it belongs to the literal, any other letter makes it a name that ends in `r`.
fn continues_a_name(chars: &[char], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).and_then(|at| chars.get(at)).copied().unwrap_or(' ');
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    in_name(before(1)) && (before(1) != 'b' || in_name(before(2)))
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |length| at + length)
}

fn comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

/// `None` when it is no raw string but a raw name such as `r#type`.
fn raw_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let start = at + 1 + hashes;
    if chars.get(start) != Some(&'"') {
        return None;
    }
    let closes =
        |from: usize| chars[from] == '"' && chars[from + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
    Some((start + 1..chars.len()).find(|from| closes(*from)).map_or(chars.len(), |end| end + 1 + hashes))
}

fn quoted_end(chars: &[char], at: usize, quote: char) -> usize {
    let mut end = at + 1;
    while end < chars.len() {
        match chars[end] {
            '\\' => end += 2,
            c if c == quote => return end + 1,
            _ => end += 1,
        }
    }
    chars.len()
}

#[test]
fn comments_and_literals_are_blanked_and_code_is_kept() {
    for (text, kept) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        ("f(\"dbg!(\\\" x\") + g", "f(           ) + g"),
        ("r#\"a\"b\"# + r#type", "         + r#type"),
        ("let c = '\"'; x('\\''); fn f<'a>(s: &'a str)", "let c =    ; x(    ); fn f<'a>(s: &'a str)"),
    ] {
        assert_eq!(code(text), kept, "{text}");
    }
}

#[test]
fn the_walk_finds_the_sources_and_leaves_out_what_was_built() {
    let paths: Vec<String> = all().into_iter().map(|file| file.path).collect();
    for there in ["src/lib.rs", "Cargo.toml", "tests/tidy/files.rs", ".clippy.toml"] {
        assert!(paths.iter().any(|path| path == there), "{there} is missing");
    }
    assert!(!paths.iter().any(|path| path.starts_with("target/") || path.starts_with(".git/")));
}
