//! The stable codes of what can be wrong with a configuration.

/// What kind of fault it is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Code {
    /// The text is no TOML.
    ConfigNotToml,
    /// There is no such key, or not there.
    ConfigUnknownKey,
    /// A key has a value that it cannot have.
    #[default]
    ConfigBadValue,
    /// A key is needed and missing.
    ConfigMissingKey,
    /// Two values do not go together.
    ConfigConflict,
    /// A file that is named is not there, or not what it should be.
    ConfigBadFile,
    /// A file or directory is open to others.
    ConfigPermissions,
}

impl Code {
    /// The code as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigNotToml => "config_not_toml",
            Self::ConfigUnknownKey => "config_unknown_key",
            Self::ConfigBadValue => "config_bad_value",
            Self::ConfigMissingKey => "config_missing_key",
            Self::ConfigConflict => "config_conflict",
            Self::ConfigBadFile => "config_bad_file",
            Self::ConfigPermissions => "config_permissions",
        }
    }
}
