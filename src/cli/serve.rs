//! `pushpull serve`.

use crate::config::Config;

use super::args::{Global, Serve};
use super::site::Site;
use super::{Error, Exit, output};

pub(super) fn run(args: &Serve, global: &Global) -> Result<Exit, Error> {
    let site = Site::of(global);
    let config = check(&site)?;
    if args.check {
        return report(&site, &config, global.json);
    }
    Err(Error::failed("the daemon is not part of this build"))
}

/// The configuration, once it and the files it names are known to be sound.
pub(super) fn check(site: &Site) -> Result<Config, Error> {
    let config = site.load()?;
    config.check_files(&site.file, &site.environment)?;
    Ok(config)
}

fn report(site: &Site, config: &Config, as_json: bool) -> Result<Exit, Error> {
    if as_json {
        output::json(&serde_json::json!({ "ok": true, "config": site.file, "peers": config.peers.len() }))?;
    } else {
        output::line(&format!("{}: sound, {} in it", site.file.display(), count(config.peers.len(), "peer")))?;
    }
    Ok(Exit::Done)
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
