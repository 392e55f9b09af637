//! Reads an exposition strictly, as OpenMetrics 1.0 and the text format 0.0.4 of Prometheus have it.

use std::collections::{BTreeMap, BTreeSet};

/// What one exposition holds: every series by its name and labels.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    pub(crate) series: BTreeMap<String, f64>,
    types: BTreeMap<String, String>,
}

impl Exposition {
    /// Panics with what is wrong with it.
    pub(crate) fn read(text: &str, open: bool) -> Self {
        assert!(text.ends_with('\n') && !text.contains('\r'), "it does not end with a line feed");
        let mut lines: Vec<&str> = text.lines().collect();
        if open {
            assert_eq!(lines.pop(), Some("# EOF"), "OpenMetrics ends with # EOF");
        }
        let mut this = Self::default();
        let mut told = BTreeSet::new();
        let (mut family, mut kind, mut step) = (String::new(), String::new(), "");
        for line in lines {
            if let Some(rest) = line.strip_prefix("# ") {
                let mut words = rest.splitn(3, ' ');
                let (keyword, name, text) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or(""));
                match keyword {
                    "HELP" => {
                        assert!(told.insert(name.to_owned()), "{name} stands in two places");
                        assert!(!text.is_empty(), "{name} has no help");
                        (family, step) = (name.to_owned(), "HELP");
                    }
                    "TYPE" => {
                        assert_eq!((family.as_str(), step), (name, "HELP"), "TYPE follows HELP: {line}");
                        assert!(["counter", "gauge", "histogram"].contains(&text), "{line}");
                        kind = text.to_owned();
                        this.types.insert(name.to_owned(), kind.clone());
                        step = "TYPE";
                    }
                    "UNIT" => {
                        assert_eq!((family.as_str(), step), (name, "TYPE"), "UNIT follows TYPE: {line}");
                        assert!(open && name.ends_with(&format!("_{text}")), "{line}");
                    }
                    other => panic!("a comment {other}: {line}"),
                }
                continue;
            }
            assert_eq!(step, "TYPE", "a sample without a family: {line}");
            let (name, labels, value) = sample(line);
            let suffix = name.strip_prefix(&family).unwrap_or_else(|| panic!("{line} is not of {family}"));
            let allowed: &[&str] = match (kind.as_str(), open) {
                ("counter", true) => &["_total"],
                ("histogram", _) => &["_bucket", "_count", "_sum"],
                _ => &[""],
            };
            assert!(allowed.contains(&suffix), "{line}: not of a {kind}");
            assert!(kind != "counter" || (name.ends_with("_total") && value >= 0.0), "{line}");
            assert!(kind == "counter" || !name.ends_with("_total"), "{line}");
            let key = format!("{name}{{{}}}", labels.join(","));
            assert!(this.series.insert(key, value).is_none(), "twice: {line}");
        }
        this.check_histograms();
        this
    }

    /// Buckets only rise, and the last one is the count.
    fn check_histograms(&self) {
        let mut last: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for (key, value) in self.series.iter().filter(|(key, _)| key.contains("_bucket{")) {
            let (before, rest) = key.split_once("le=\"").unwrap();
            let (bound, after) = rest.split_once('"').unwrap();
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
            last.entry(format!("{before}{after}")).or_default().push((bound, *value));
        }
        assert!(!last.is_empty(), "there are no histograms");
        for (key, mut buckets) in last {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.windows(2).all(|two| two[0].1 <= two[1].1), "{key}: {buckets:?}");
            let count = key.replace("_bucket{", "_count{").replace(",}", "}").replace("{,", "{");
            let (bound, value) = buckets[buckets.len() - 1];
            assert!(bound.is_infinite(), "{key} has no +Inf");
            assert_eq!(self.series.get(&count), Some(&value), "{key} and {count}");
        }
    }

    #[track_caller]
    pub(crate) fn value(&self, key: &str) -> f64 {
        *self.series.get(key).unwrap_or_else(|| panic!("there is no {key}"))
    }

    /// Every series of a counter.
    pub(crate) fn counters(&self) -> impl Iterator<Item = (&String, &f64)> {
        self.series.iter().filter(|(key, _)| key.split('{').next().is_some_and(|name| name.ends_with("_total")))
    }

    /// The names of all series but those of requests, whose routes and statuses are counted apart, and but buckets, whose
    /// bounds the two formats write differently.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let counted = |key: &&String| !key.starts_with("pushpull_http_") && !key.contains("_bucket{");
        self.series.keys().filter(counted).cloned().collect()
    }
}

/// `name{a="b",…} value`, without a timestamp. Labels come back as they stand.
fn sample(line: &str) -> (&str, Vec<String>, f64) {
    let is_name = |name: &str| {
        name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_') && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name) && !name.is_empty(), "{line}");
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, behind) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(is_name(label) && !label.is_empty(), "{line}");
            let mut escaped = false;
            let close = behind.find(|c| {
                let ends = c == '"' && !escaped;
                assert!(!escaped || matches!(c, '\\' | '"' | 'n'), "a wrong escape: {line}");
                escaped = c == '\\' && !escaped;
                ends
            });
            let (value, after) = behind.split_at(close.unwrap_or_else(|| panic!("{line}")));
            labels.push(format!("{label}=\"{value}\""));
            rest = after[1..].strip_prefix(',').unwrap_or(&after[1..]);
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("{line}"));
    (name, labels, value.parse().unwrap_or_else(|_| panic!("a timestamp, or no number: {line}")))
}

#[test]
fn what_breaks_the_format_is_noticed() {
    let good = "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"1\\\"\"} 1\n# HELP h H.\n# TYPE h histogram\n\
        h_sum 1\nh_count 1\nh_bucket{le=\"+Inf\"} 1\n";
    let count = |text: &str| text.replace("h_count 1", "h_count{} 1");
    let _ = Exposition::read(&count(good), false);
    for bad in [
        good.replace("a_total{x=\"1\\\"\"} 1\n", "a_total{x=\"1\"} 1\na_total{x=\"1\"} 2\n"),
        good.replace("# TYPE a_total counter\n", ""),
        good.replace("a_total{", "b_total{"),
        good.replace("\\\"", "\\x"),
        good.replace("# TYPE a_total counter", "# TYPE a_total gauge"),
        format!("{good}# EOF\n"),
    ] {
        let bad = count(&bad);
        assert!(std::panic::catch_unwind(|| Exposition::read(&bad, false)).is_err(), "{bad}");
    }
}
