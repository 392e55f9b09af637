//! Links and paths in the documentation lead somewhere.

use std::path::{Component, Path, PathBuf};

use crate::files::{self, File};
use crate::{Fault, none};

/// Folders whose paths, when they stand in code quotes, must exist.
const ROOTS: [&str; 6] = ["src/", "tests/", "docs/", "examples/", "proto-examples/", ".ci/"];

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let pages: Vec<File> = files::all().into_iter().filter(|file| file.path.ends_with(".md")).collect();
    assert!(pages.len() > 3, "the pages were not found");
    none(pages.iter().flat_map(|page| broken(page, &|path| std::fs::read_to_string(files::root().join(path)).ok())));
}

#[test]
fn paths_that_pages_name_exist() {
    let pages = files::all().into_iter().filter(|file| file.path.ends_with(".md"));
    none(pages.flat_map(|page| missing(&page, &|path| files::root().join(path).exists())));
}

#[test]
fn pages_have_no_places_left_open() {
    none(files::all().iter().filter(|file| file.path.ends_with(".md")).flat_map(open_places));
}

/// Marks such as `@NAME@` that somebody meant to fill in.
fn open_places(page: &File) -> Vec<Fault> {
    let is_mark = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let lines = page.text.lines().enumerate();
    lines
        .filter(|(_, line)| line.split('@').skip(1).any(is_mark) && line.matches('@').count() > 1)
        .map(|(index, line)| {
            let rule = format!("a place was left open: {}", line.trim());
            Fault::new(format!("{}:{}", page.path, index + 1), rule, "fill it in, or remove it")
        })
        .collect()
}

/// Links to files that `read` does not find, or to headings that they do not have.
fn broken(page: &File, read: &dyn Fn(&str) -> Option<String>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (line, target) in links(&page.text) {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (path, heading) = target.split_once('#').unwrap_or((&target, ""));
        let place = format!("{}:{line}", page.path);
        let found = if path.is_empty() {
            Some((page.path.clone(), page.text.clone()))
        } else {
            beside(&page.path, path).and_then(|path| {
                let folder = files::root().join(&path).is_dir();
                read(&path).or_else(|| folder.then(String::new)).map(|text| (path, text))
            })
        };
        match found {
            None => faults.push(Fault::new(
                place,
                format!("the link `{target}` leads to no file of this repository"),
                "correct the path, from the page's own folder, or remove the link",
            )),
            Some((path, text))
                if !heading.is_empty() && path.ends_with(".md") && !headings(&text).contains(&heading.to_owned()) =>
            {
                faults.push(Fault::new(
                    place,
                    format!("{path} has no heading `#{heading}`"),
                    format!("use one of its headings: {}", headings(&text).join(", ")),
                ));
            }
            Some(_) => {}
        }
    }
    faults
}

/// Paths in code quotes that do not exist.
fn missing(page: &File, exists: &dyn Fn(&str) -> bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (line, text) in prose(&page.text) {
        for quoted in text.split('`').skip(1).step_by(2) {
            let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
            let is_path = ROOTS.iter().any(|root| quoted.starts_with(root)) && quoted.chars().all(plain);
            if is_path && !exists(quoted.trim_end_matches('/')) {
                let rule = format!("`{quoted}` does not exist");
                faults.push(Fault::new(format!("{}:{line}", page.path), rule, "name what is there now"));
            }
        }
    }
    faults
}

/// The lines outside of code blocks, numbered from one.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((index + 1, line))
    })
}

/// The targets of Markdown links, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in prose(text) {
        // What stands in code quotes is no link.
        let bare: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for rest in bare.split("](").skip(1) {
            if let Some((target, _)) = rest.split_once(')') {
                links.push((number, target.to_owned()));
            }
        }
        if let Some((name, target)) = bare.split_once("]: ")
            && name.starts_with('[')
        {
            links.push((number, target.trim().to_owned()));
        }
    }
    links
}

/// The anchors of a page's headings: lower case, spaces as dashes, everything else than letters and digits left out.
fn headings(text: &str) -> Vec<String> {
    let anchor = |title: &str| {
        let kept = title.trim().to_lowercase();
        kept.chars()
            .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    prose(text)
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| anchor(line.trim_start_matches('#')))
        .collect()
}

/// A path from the page's folder as one from the root; `None` when it leads out of the repository.
fn beside(page: &str, path: &str) -> Option<String> {
    let mut whole = PathBuf::new();
    for part in Path::new(page).parent()?.join(path).components() {
        match part {
            Component::Normal(part) => whole.push(part),
            Component::ParentDir => {
                if !whole.pop() {
                    return None;
                }
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(whole.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    fn read(path: &str) -> Option<String> {
        (path == "docs/a.md").then(|| "# One, two `three`\n## b".to_owned())
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        for text in ["[x](docs/none.md)", "[x](../out.md)", "[x](docs/a.md#none)", "[x](#none)", "[x]: docs/none.md"] {
            assert_eq!(broken(&page("README.md", text), &read).len(), 1, "{text}");
        }
        assert_eq!(broken(&page("docs/b.md", "\n[x](docs/a.md)"), &read)[0].place, "docs/b.md:2");
    }

    #[test]
    fn links_that_lead_somewhere_are_not() {
        let text = "# Top\n[x](docs/a.md) [y](docs/a.md#one-two-three) [z](https://e.example/none) [t](#top)\n\
                    ```\n[x](none)\n```\n`[x](none)`";
        assert_eq!(broken(&page("README.md", text), &read), []);
        assert_eq!(broken(&page("docs/b.md", "[x](a.md#b) [y](./a.md)"), &read), []);
    }

    #[test]
    fn places_left_open_are_found_and_addresses_are_none() {
        assert_eq!(open_places(&page("a.md", "x\n@RESULT@")).len(), 1);
        assert_eq!(open_places(&page("a.md", "ana@acme.example and ben@globex.example")), []);
    }

    #[test]
    fn quoted_paths_that_do_not_exist_are_found() {
        let faults = missing(&page("a.md", "`src/peer` `src/x.rs` `src/{a,b}` `x/src/`"), &|path| path == "src/peer");
        assert_eq!(faults.len(), 1);
        assert!(faults[0].rule.contains("src/x.rs"));
    }
}
