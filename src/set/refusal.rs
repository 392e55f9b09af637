//! Why a SET is refused: one of the registered Security Event Token Error Codes (RFC 8935 §2.4, SSF §9).

use serde::{Deserialize, Serialize};

/// A registered error code; [`ErrorCode::as_str`] is what goes on the wire.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request or the SET cannot be parsed, or its payload does not conform.
    InvalidRequest,
    /// The key that signed the SET is unknown, expired, revoked or unacceptable, or does not verify it.
    InvalidKey,
    /// The issuer is not one that is accepted from this partner.
    InvalidIssuer,
    /// The audience is not us.
    InvalidAudience,
    /// The transmitter could not be authenticated.
    AuthenticationFailed,
    /// The transmitter may not send this SET to us.
    AccessDenied,
    /// The `state` of a verification event is not the expected one (SSF §8.1.4).
    InvalidState,
}

impl ErrorCode {
    /// Every code there is.
    pub const ALL: [Self; 7] = [
        Self::InvalidRequest,
        Self::InvalidKey,
        Self::InvalidIssuer,
        Self::InvalidAudience,
        Self::AuthenticationFailed,
        Self::AccessDenied,
        Self::InvalidState,
    ];

    /// The code of this name, if it is registered; names differ by case (RFC 8935 §2.4).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }

    /// The registered name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidKey => "invalid_key",
            Self::InvalidIssuer => "invalid_issuer",
            Self::InvalidAudience => "invalid_audience",
            Self::AuthenticationFailed => "authentication_failed",
            Self::AccessDenied => "access_denied",
            Self::InvalidState => "invalid_state",
        }
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A final "no" to one SET. It is terminal for its sender, so it is only made for faults that stay.
///
/// The description goes to the partner and into logs: it names rules and key identifiers, never a subject or content.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{code}: {description}")]
pub struct Refusal {
    /// The registered code, `err` on the wire.
    pub code: ErrorCode,
    /// What is wrong, in English, for the partner's engineer.
    pub description: String,
}

impl Refusal {
    /// Longest description, in bytes.
    pub const DESCRIPTION_BYTES_MAX: usize = 1024;

    /// A refusal with this code and description, which is cut to [`Refusal::DESCRIPTION_BYTES_MAX`]: it is kept and
    /// repeated for ever, to the letter.
    pub fn new(code: ErrorCode, description: impl Into<String>) -> Self {
        let mut description = description.into();
        let mut end = description.len().min(Self::DESCRIPTION_BYTES_MAX);
        while !description.is_char_boundary(end) {
            end -= 1;
        }
        description.truncate(end);
        Self { code, description }
    }
}

/// A setErr as a partner worded it. Its code need not be a registered one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SetErr {
    /// `err`.
    pub err: String,
    /// `description`; empty when the partner left it out.
    pub description: String,
}

/// A partner's text for a message: in quotes, cut at 200 characters, with everything escaped that could disturb a
/// terminal or forge a log line.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}
