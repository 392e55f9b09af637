//! SIGHUP and `pushpull reload`: the configuration is read again and taken over as a whole, or not at all.

use std::convert::Infallible;
use std::path::Path;

use serde_json::Value;
use tracing::{error, info, warn};

use crate::admin::Reloaded;
use crate::codes::Code;
use crate::config::diff::{self, Contents, Seen};
use crate::config::{self, Config, Environment, Place, Problem};
use crate::transceiver::{Changes, OwnKeys};

use super::args::Global;
use super::client::Call;
use super::steward::{Inner, Steward};
use super::{Error, Exit, assemble, log, output, site};

/// `pushpull reload`: has the daemon do it, and prints what that changed.
pub(super) async fn run(global: &Global) -> Result<Exit, Error> {
    let call = Call::post("/api/v1/reload", "application/json", "").waiting(RELOAD_WITHIN);
    let answer = site::client(global)?.call(&call).await?;
    let problem = answer.problem();
    if answer.status.as_u16() == 422 {
        let problems = texts(problem.get("problems"));
        if global.json {
            output::json(&serde_json::json!({ "ok": false, "problems": problems }))?;
            return Ok(Exit::ConfigInvalid);
        }
        let what = format!("{}\n   {}", answer.detail(), problems.join("\n   "));
        return Err(Error::new(Exit::ConfigInvalid, what).code(Code::ReloadFailed));
    }
    let answer = answer.into_json()?;
    if global.json {
        output::json(&answer)?;
        return Ok(Exit::Done);
    }
    let (changes, restart) = (texts(answer.get("changes")), texts(answer.get("restart")));
    if changes.is_empty() && restart.is_empty() {
        output::line("nothing has changed")?;
    }
    for line in changes.iter().chain(&restart) {
        output::line(line)?;
    }
    Ok(Exit::Done)
}

/// How long the daemon may take: peers that go have some seconds for their last words.
const RELOAD_WITHIN: std::time::Duration = std::time::Duration::from_secs(30);

fn texts(value: Option<&Value>) -> Vec<String> {
    let texts = value.and_then(Value::as_array).into_iter().flatten();
    texts.filter_map(Value::as_str).map(output::clean).collect()
}

impl Steward {
    /// A SIGHUP has come. However many come during a reload, one more follows.
    pub(super) fn hangup(&self) {
        self.0.hangups.notify_one();
    }

    /// Reloads whenever a SIGHUP has come, until it is dropped.
    pub(super) async fn heed_hangups(&self) -> Infallible {
        loop {
            self.0.hangups.notified().await;
            // What came of it is in the log.
            let _ = crate::admin::Steward::reload(self).await;
        }
    }
}

/// What is ready to be taken over: everything that can be wrong has been looked at.
struct Reread {
    file: Seen,
    adopted: Seen,
    changes: Changes,
    tls: Option<std::sync::Arc<rustls::ServerConfig>>,
    filter: tracing_subscriber::EnvFilter,
}

impl Inner {
    /// Rereads and takes over; tells the log and the service manager. This is the one place where a reload begins and ends.
    pub(super) async fn reload(&self) -> Result<Reloaded, Vec<String>> {
        let mut running = self.running.lock().await;
        self.manager.reloading();
        info!(config = %self.site.file.display(), "rereading the configuration");
        let outcome = match self.reread(&running).await {
            Ok(reread) => self.take_over(&mut running, reread).await,
            Err(problems) => Err(problems),
        };
        tell(&outcome);
        self.transceiver.metrics().reloaded(outcome.is_ok());
        self.manager.ready();
        outcome
    }

    /// Reads everything anew and checks it, changing nothing.
    async fn reread(&self, running: &Seen) -> Result<Reread, Vec<String>> {
        let kept = self.transceiver.kept_peers().await.map_err(|error| vec![error.to_string()])?;
        let (file, directory) = (self.site.file.clone(), self.site.directory().to_owned());
        let (running, names) = (running.clone(), self.transceiver.peer_names());
        let reading = tokio::task::spawn_blocking(move || {
            let environment = Environment::of_process();
            let config = read(&file, &environment)?;
            prepare(config, &running, kept, names, &environment, &directory)
        });
        reading.await.unwrap_or_else(|_| Err(vec!["reading the configuration panicked".to_owned()]))
    }

    async fn take_over(&self, running: &mut Seen, reread: Reread) -> Result<Reloaded, Vec<String>> {
        let Reread { file, mut adopted, changes, tls, filter } = reread;
        // First, because it can fail: then nothing has changed.
        let changed = self.transceiver.change_peers(changes).await.map_err(|error| vec![error.to_string()])?;
        let mut lines = diff::changes(running, &adopted);
        lines.extend(changed.own_keys.iter().map(|line| format!("keys: {line}")));
        for gone in changed.removed.iter().filter(|gone| gone.queued > 0) {
            let (name, queued) = (&gone.name, gone.queued);
            lines.push(format!("peer {name}: {queued} SETs stay queued, and go on when a peer of this name is added"));
        }
        if let Some(tls) = tls {
            self.transceiver.set_tls(tls);
            assemble::note_certificate(&adopted.config, self.transceiver.metrics());
        }
        if adopted.config.log.level != running.config.log.level
            && let Err(fault) = self.level.set(filter)
        {
            // Not adopted, so that the next reload tries again.
            adopted.config.log.level.clone_from(&running.config.log.level);
            lines.push(format!("log.level: could not be changed: {fault}"));
        }
        let restart = diff::restarts(&adopted, &file);
        *running = adopted;
        Ok(Reloaded { changes: lines, restart })
    }
}

/// The configuration, once it and the files it names are known to be sound; or all that is wrong, one text each.
fn read(file: &Path, environment: &Environment) -> Result<Config, Vec<String>> {
    let texts = |error: config::Error| -> Vec<String> {
        error.problems.iter().map(|problem| one_line(problem, &error.file)).collect()
    };
    config::check(file, environment).map_err(texts)
}

fn prepare(
    config: Config,
    running: &Seen,
    kept: Vec<(String, String)>,
    names: Vec<String>,
    environment: &Environment,
    directory: &Path,
) -> Result<Reread, Vec<String>> {
    let one = |error: Error| vec![error.summary().to_owned()];
    let effective = Seen { config: config.clone(), contents: Contents::new() }.adopted_by(running).config;
    let mut contents = Contents::new();
    let peers = assemble::peers(&effective, kept, environment, directory, &mut contents)?;
    assemble::note_others(&effective, &mut contents).map_err(one)?;
    let file = Seen { config, contents };
    let adopted = file.adopted_by(running);
    let (allow, pushpull) = (assemble::allow(&effective).map_err(one)?, assemble::pushpull(&effective));
    let other_limits = pushpull != assemble::pushpull(&running.config);
    let stays = |name: &String| peers.iter().any(|peer| peer.name == *name);
    let changes = Changes {
        remove: names.into_iter().filter(|name| !stays(name)).collect(),
        set: peers,
        allow: Some(allow),
        pushpull: other_limits.then_some(pushpull),
        own_keys: Some(OwnKeys { active: effective.keys.active.clone(), publish_wait: effective.keys.publish_wait }),
    };
    let tls = assemble::tls(&effective).map_err(one)?.map(|(tls, _)| tls);
    let filter = log::filter(&effective.log.level).map_err(|fault| vec![format!("log.level: {fault}")])?;
    Ok(Reread { file, adopted, changes, tls, filter })
}

/// A fault on one line: where it stands, what it is, and what to do.
fn one_line(problem: &Problem, file: &Path) -> String {
    let mut text = match &problem.place {
        Place::File => format!("{}: ", file.display()),
        Place::Line { line, column } => format!("{}:{line}:{column}: ", file.display()),
        Place::Environment(name) => format!("environment variable {name}: "),
    };
    if !problem.field.is_empty() {
        text.push_str(&format!("{}: ", problem.field));
    }
    text.push_str(&problem.what);
    text.push_str(&format!(" [{}]", problem.code));
    let fix = Some(problem.fix.clone()).filter(|fix| !fix.is_empty());
    for (name, detail) in [("expected", &problem.expected), ("found", &problem.found), ("fix", &fix)] {
        if let Some(detail) = detail {
            text.push_str(&format!("; {name}: {}", detail.lines().collect::<Vec<_>>().join(" ")));
        }
    }
    text
}

fn tell(outcome: &Result<Reloaded, Vec<String>>) {
    match outcome {
        Ok(reloaded) => {
            for change in &reloaded.changes {
                info!("reload: {change}");
            }
            for restart in &reloaded.restart {
                warn!(code = %Code::NeedsRestart, "reload: {restart}");
            }
            info!(changes = reloaded.changes.len(), needing_restart = reloaded.restart.len(), "reloaded");
        }
        Err(problems) => {
            for problem in problems {
                error!(code = %Code::ConfigInvalid, "reload: {problem}");
            }
            error!(code = %Code::ReloadFailed, problems = problems.len(), "reload failed, nothing has changed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_takes_one_line_with_its_place_field_and_remedy() {
        let text = "[server]\nissuer = \"https://us.example\"\n[log]\nlevel = \"infos\"\n";
        let error = config::parse(text, Path::new("pushpull.toml"), &Environment::default()).unwrap_err();
        let line = one_line(&error.problems[0], &error.file);
        assert!(
            line.starts_with("pushpull.toml:4:1: log.level: this is no level [config_bad_value]; expected: "),
            "{line}"
        );
        assert!(line.contains("; fix: ") && line.contains("\"info\"") && !line.contains('\n'), "{line}");
    }
}
