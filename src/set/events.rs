//! placeholder, replaced at merge

/// Type of the verification event (SSF 1.0 §8.1.4).
pub const VERIFICATION: &str = "https://schemas.openid.net/secevent/ssf/event-type/verification";

/// Event types that pass.
#[derive(Clone, Debug)]
pub struct Filter(Vec<String>);

impl Filter {
    /// A filter of these patterns.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        Ok(Self(patterns.to_vec()))
    }

    /// Whether this type passes.
    pub fn allows(&self, event_type_uri: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| pattern == event_type_uri)
    }
}

/// The URI of a short name.
pub fn expand(name: &str) -> Option<String> {
    if let Some(last) = name.strip_prefix("caep:") {
        return Some(format!("https://schemas.openid.net/secevent/caep/event-type/{last}"));
    }
    name.contains("://").then(|| name.to_owned())
}
