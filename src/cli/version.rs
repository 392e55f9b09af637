//! `pushpull --version`.

use serde_json::json;

use super::{Error, Exit, output};

pub(super) fn run(as_json: bool) -> Result<Exit, Error> {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    if as_json {
        let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
        output::json(
            &json!({ "name": name, "version": version, "target": target, "rust_version": env!("CARGO_PKG_RUST_VERSION") }),
        )?;
    } else {
        output::line(&format!("{name} {version}"))?;
    }
    Ok(Exit::Done)
}
