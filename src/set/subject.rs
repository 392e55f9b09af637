//! placeholder, replaced at merge

/// How much is asked of a Subject Identifier.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Strictness {
    /// On receipt.
    Lenient,
    /// On sending.
    Strict,
}

/// Whether this is a Subject Identifier.
pub fn check(value: &serde_json::Value, _strictness: Strictness) -> Result<(), String> {
    match value.get("format").and_then(serde_json::Value::as_str) {
        Some(format) if !format.is_empty() => Ok(()),
        _ => Err("`format` is missing".into()),
    }
}
