//! What keys are called: `acme-1`, `acme-2`, …

/// Whether this can be a `kid` that is the name of a file.
pub fn is_kid(kid: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=128).contains(&kid.len()) && !kid.starts_with('.') && kid.chars().all(is_plain)
}

/// The next name in the row of the active key or, if that has no number, of any; else of `stem`. No name comes twice.
pub fn next_kid<'a>(taken: impl IntoIterator<Item = &'a str>, active: Option<&str>, stem: &str) -> String {
    let taken: Vec<&str> = taken.into_iter().collect();
    let row = active.and_then(numbered).or_else(|| taken.iter().find_map(|kid| numbered(kid)));
    let stem = row.map_or(stem, |(stem, _)| stem);
    let numbers = taken.iter().filter_map(|kid| numbered(kid)).filter(|(other, _)| *other == stem);
    let last = numbers.map(|(_, number)| number).max().unwrap_or(0);
    format!("{stem}-{}", last.saturating_add(1))
}

fn numbered(kid: &str) -> Option<(&str, u32)> {
    let (stem, number) = kid.rsplit_once('-')?;
    Some((stem, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_up_and_none_comes_twice() {
        assert_eq!(next_kid([], None, "acme"), "acme-1");
        assert_eq!(next_kid(["acme-1"], Some("acme-1"), "x"), "acme-2");
        assert_eq!(next_kid(["acme-1", "acme-9", "b-30"], Some("acme-1"), "x"), "acme-10", "also behind retired ones");
        assert_eq!(next_kid(["main"], Some("main"), "acme"), "acme-1");
        assert_eq!(next_kid(["2026-1", "main"], Some("main"), "acme"), "2026-2");
    }

    #[test]
    fn a_kid_is_a_plain_file_name() {
        for kid in ["acme-1", "A_b.c", "1"] {
            assert!(is_kid(kid), "{kid}");
        }
        for kid in ["", ".hidden", "../x", "a/b", "a b", "é", &"a".repeat(129)] {
            assert!(!is_kid(kid), "{kid}");
        }
    }
}
