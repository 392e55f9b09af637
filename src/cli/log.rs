//! The daemon's log: to stderr, one line per change of state, dependencies held at info.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{Log, LogFormat};

use super::Error;

/// Changes the level of the log that runs.
pub(super) struct Level(Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>);

impl Level {
    /// From now on this filter decides.
    pub(super) fn set(&self, filter: EnvFilter) -> Result<(), String> {
        (self.0)(filter)
    }
}

/// Starts logging. Called once, by the daemon alone.
pub(super) fn start(config: &Log) -> Result<Level, Error> {
    let filter = filter(&config.level).map_err(|error| {
        Error::new(super::Exit::ConfigInvalid, format!("log.level: {error}"))
            .expected("a level, and named dependencies behind it: info,hyper=debug")
    })?;
    let terminal = std::io::stderr().is_terminal();
    let text = match config.format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let (started, level) = if text {
        let builder = builder.with_ansi(terminal).with_target(false).with_filter_reloading();
        let handle = builder.reload_handle();
        (builder.try_init(), Level(Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))))
    } else {
        let builder = builder.json().flatten_event(true).with_target(false).with_filter_reloading();
        let handle = builder.reload_handle();
        (builder.try_init(), Level(Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))))
    };
    started.map_err(|error| Error::failed(format!("cannot start the log: {error}")))?;
    Ok(level)
}

/// What `log.level` means.
pub(super) fn filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(directives(level)).map_err(|error| error.to_string())
}

/// What the user wrote, with dependencies held at info at most: some print whole messages below it.
fn directives(level: &str) -> String {
    let mut parts = level.split(',').map(str::trim).filter(|part| !part.is_empty());
    let (own, named): (Vec<&str>, Vec<&str>) = parts.by_ref().partition(|part| !part.contains('='));
    let own = own.last().copied().unwrap_or("info");
    let others = if matches!(own.to_ascii_lowercase().as_str(), "debug" | "trace") { "info" } else { own };
    std::iter::once(format!("{others},pushpull={own}"))
        .chain(named.into_iter().map(str::to_owned))
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_stay_at_info_unless_they_are_named() {
        assert_eq!(directives("info"), "info,pushpull=info");
        assert_eq!(directives("trace"), "info,pushpull=trace");
        assert_eq!(directives("warn"), "warn,pushpull=warn");
        assert_eq!(directives("info, hyper=debug"), "info,pushpull=info,hyper=debug");
        assert_eq!(directives(""), "info,pushpull=info");
    }
}
