//! Which of some known words a mistyped one was probably meant to be.

/// Words longer than this are not misspelt, they are something else; it also bounds the work.
const CHARS_MAX: usize = 200;

/// The candidate with the fewest edits from `word`, if these are few enough for it to be a slip.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    if length == 0 || length > CHARS_MAX {
        return None;
    }
    let edits_max = length.div_ceil(3).clamp(1, 4);
    candidates
        .into_iter()
        // Each character more or less is an edit, and most candidates need no table to be told apart.
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= edits_max)
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(edits, _)| edits <= edits_max)
        .min_by_key(|&(edits, _)| edits)
        .map(|(_, candidate)| candidate)
}

/// The Levenshtein distance in characters, with one row of the table kept at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (to, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = *above;
            left = replaced.min(left + 1).min(diagonal + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_single_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("phone", "phone_number", 7),
            ("é", "e", 1),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }

    #[test]
    fn only_a_slip_has_a_nearest_word() {
        let words = ["email", "opaque", "iss_sub"];
        assert_eq!(nearest("emial", words), Some("email"));
        assert_eq!(nearest("emai", words), Some("email"));
        assert_eq!(nearest("iss-sub", words), Some("iss_sub"));
        assert_eq!(nearest("opake", words), Some("opaque"));
        assert_eq!(nearest("banana", words), None);
        assert_eq!(nearest("", words), None);
    }
}
