//! Durations and sizes as people write them: a number and its unit. A naked number is an error, because nobody can
//! see from `5` whether seconds or milliseconds were meant.

use std::time::Duration;

/// What a duration looks like, for error texts.
pub(crate) const DURATION: &str = "a duration with its unit (ms, s, m, h, d), such as \"5s\" or \"72h\"";

/// What a size looks like, for error texts.
pub(crate) const SIZE: &str = "a size with its unit (B, kB, MB, GB, KiB, MiB, GiB), such as \"4MiB\"";

/// What an address to listen on looks like, for error texts.
pub(crate) const ADDRESS: &str = "an IP address and a port, such as \"0.0.0.0:8443\" or \"[::1]:8443\"";

/// Milliseconds per unit, the largest unit first.
const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Bytes per unit, the largest unit first.
const SIZE_UNITS: [(&str, u64); 8] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Reads `"5s"`, `"250ms"` or, with several units, `"1h30m"`; between numbers and units there may be spaces. `None` when the text
/// is anything else, or too large.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut millis = 0u64;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (_, unit) = DURATION_UNITS.iter().find(|(name, _)| *name == rest[..end].trim_end())?;
        millis = millis.checked_add(count.checked_mul(*unit)?)?;
        rest = &rest[end..];
        if rest.is_empty() {
            return Some(Duration::from_millis(millis));
        }
    }
}

/// Reads `"4MiB"`, `"256KiB"`, `"1GB"` or `"512B"` as bytes. `None` when the text is anything else, or too large.
pub fn parse_size(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let count: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start();
    let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    usize::try_from(count.checked_mul(*bytes)?).ok()
}

/// Writes a duration in the largest unit that keeps it whole, so that it reads back as the same one.
pub fn duration_text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    whole(millis, &DURATION_UNITS).unwrap_or_else(|| format!("{millis}ms"))
}

/// Writes a size in the largest binary or decimal unit that keeps it whole, so that it reads back as the same one.
pub fn size_text(bytes: usize) -> String {
    whole(bytes as u64, &SIZE_UNITS).unwrap_or_else(|| format!("{bytes}B"))
}

fn whole(count: u64, units: &[(&str, u64)]) -> Option<String> {
    let fitting = units.iter().find(|(_, unit)| count >= *unit && count.is_multiple_of(*unit))?;
    Some(format!("{}{}", count / fitting.1, fitting.0))
}

/// For `#[serde(with = "quantity::duration")]`.
pub(crate) mod duration {
    use super::{DURATION, Duration, Text, duration_text, parse_duration};

    pub(crate) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        from.deserialize_str(Text { expected: DURATION, parse: parse_duration })
    }

    pub(crate) fn serialize<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&duration_text(*duration))
    }
}

/// For `#[serde(with = "quantity::size")]`.
pub(crate) mod size {
    use super::{SIZE, Text, parse_size, size_text};

    pub(crate) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
        from.deserialize_str(Text { expected: SIZE, parse: parse_size })
    }

    pub(crate) fn serialize<S: serde::Serializer>(bytes: &usize, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&size_text(*bytes))
    }
}

/// For `#[serde(with = "quantity::address")]`: an address to listen on.
pub(crate) mod address {
    use std::net::SocketAddr;

    use super::{ADDRESS, Text};

    pub(crate) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
        from.deserialize_str(Text { expected: ADDRESS, parse: |text| text.parse().ok() })
    }

    pub(crate) fn serialize<S: serde::Serializer>(address: &SocketAddr, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(address)
    }
}

/// A text that stands for a `T`. Whatever else stands there is answered with what a `T` looks like.
struct Text<T> {
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
}

impl<T> serde::de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self.expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit_or_several() {
        for (text, millis) in [
            ("250ms", 250),
            ("5s", 5_000),
            ("10m", 600_000),
            ("72h", 259_200_000),
            ("14d", 1_209_600_000),
            ("0s", 0),
            ("1h30m", 5_400_000),
            ("5 s", 5_000),
            ("1 h 30m", 5_400_000),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "5", "s", "s 5", "-5s", "1.5s", "5sec", "99999999999999999999s", "18446744073709551615d", "5s 3"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_a_number_and_a_binary_or_decimal_unit() {
        for (text, bytes) in
            [("4MiB", 4 << 20), ("256KiB", 256 << 10), ("1GB", 1_000_000_000), ("512B", 512), ("2 kB", 2000)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "4", "MiB", "4mib", "4M", "-1B", "99999999999GiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back_as_the_same_value() {
        for millis in [0, 1, 1_000, 1_500, 60_000, 86_400_000, 90_000_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&duration_text(duration)), Some(duration), "{}", duration_text(duration));
        }
        for bytes in [0, 1, 1_000, 1_024, 4 << 20, 1_000_000_000, 1_234_567] {
            assert_eq!(parse_size(&size_text(bytes)), Some(bytes), "{}", size_text(bytes));
        }
        assert_eq!(duration_text(Duration::from_secs(72 * 3600)), "3d");
        assert_eq!(size_text(4 << 20), "4MiB");
    }
}
