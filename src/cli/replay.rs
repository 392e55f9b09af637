//! `pushpull replay`: counts what there is to say again, and then says it, no faster than new events bear.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use super::args::{Global, Replay};
use super::client::{Call, Client, escape};
use super::dlq::text;
use super::{Error, Exit, output, site};
use crate::random::Random;
use crate::transceiver::named;

/// SETs a request at most; and requests a second, if the rate gives so many SETs.
const BATCH_MAX: u32 = 500;
const BATCHES_A_SECOND: u32 = 4;

/// More of the partner's SETs may wait than leave in so many seconds, and we wait as well: new events stand behind them.
const QUEUE_SECONDS: u64 = 5;
const QUEUE_LEAST: u64 = 1_000;

/// Between two looks whether fewer wait, and between two words about how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const TELL_EVERY: Duration = Duration::from_secs(5);

pub(super) async fn run(args: &Replay, global: &Global) -> Result<Exit, Error> {
    let mut work = Work::new(args, site::client(global)?);
    let plan = work.count().await?;
    if args.dry_run {
        match global.json {
            true => output::json(&work.json(&plan, true))?,
            false => output::line(&work.plan(&plan))?,
        }
        return Ok(plan.exit());
    }
    output::note(&work.plan(&plan));
    let done = if plan.said() > 0 {
        output::note(&format!("to go on after an interruption: {}", work.command()));
        work.say(&plan).await.map_err(|error| error.fix(work.command()))?
    } else {
        plan
    };
    match global.json {
        true => output::json(&work.json(&done, false))?,
        false => output::line(&work.told(&done))?,
    }
    Ok(done.exit())
}

/// One job.
struct Work<'a> {
    args: &'a Replay,
    daemon: Client,
    path: String,
    job: String,
    /// As the daemon has read them.
    since: Option<String>,
    until: Option<String>,
    types: Option<String>,
}

/// What the answers add up to.
#[derive(Default)]
struct Sum {
    reissued: u64,
    resent: u64,
    before: u64,
    bytes: u64,
    damaged: u64,
    queued: u64,
    room: u64,
    is_short: bool,
    oldest: Option<String>,
    /// By jti, as a part that is asked for again tells of the same ones.
    failed: BTreeMap<String, (String, String)>,
}

impl<'a> Work<'a> {
    fn new(args: &'a Replay, daemon: Client) -> Self {
        let new_job = || format!("r-{:012x}", Random::from_system().next_u64() >> 16);
        Self {
            args,
            daemon,
            path: format!("/api/v1/peers/{}/replay", escape(&args.peer)),
            job: args.job.clone().unwrap_or_else(new_job),
            since: args.since.clone(),
            until: args.until.clone(),
            types: args.types.clone(),
        }
    }

    fn body(&self, dry_run: bool, max: Option<u32>, after: Option<&str>) -> Value {
        let mut body = Map::new();
        body.insert("job".to_owned(), self.job.as_str().into());
        body.insert("dry_run".to_owned(), dry_run.into());
        let meant = [("since", &self.since), ("until", &self.until), ("type", &self.types)];
        for (name, value) in meant.map(|(name, value)| (name, value.as_deref())).into_iter().chain([("after", after)]) {
            body.extend(value.map(|value| (name.to_owned(), value.into())));
        }
        body.extend(max.map(|max| ("max".to_owned(), max.into())));
        Value::Object(body)
    }

    async fn count(&mut self) -> Result<Sum, Error> {
        let (mut sum, mut after, mut queued) = (Sum::default(), None::<String>, None);
        loop {
            let body = self.body(true, None, after.as_deref());
            let answer = self.daemon.json(Call::post_json(&self.path, &body)).await?;
            // From here on it is the same for every part.
            let said = |name: &str| answer[name].as_str().map(output::clean);
            (self.since, self.until, self.types) = (said("since"), said("until"), said("type"));
            after = sum.add(&answer);
            // When it began: what has left since then is part of that, and of nothing that is counted here.
            let queued = *queued.get_or_insert(sum.queued);
            if after.is_none() {
                return Ok(Sum { queued, ..sum });
            }
        }
    }

    async fn say(&mut self, plan: &Sum) -> Result<Sum, Error> {
        let rate = self.args.rate;
        let batch = rate.div_ceil(BATCHES_A_SECOND).clamp(1, BATCH_MAX);
        let queue_max = QUEUE_LEAST.max(u64::from(rate) * QUEUE_SECONDS);
        let (mut sum, mut after) = (Sum { queued: plan.queued, room: plan.room, ..Sum::default() }, None::<String>);
        let mut told = Instant::now();
        loop {
            // And half of all that may wait is left to new events.
            let queue_max = queue_max.min(sum.queued.saturating_add(sum.room) / 2);
            while sum.queued > queue_max {
                self.tell(&sum, plan, &mut told);
                sleep(LOOK_EVERY).await;
                let path = format!("/api/v1/peers/{}", escape(&self.args.peer));
                sum.queued = self.daemon.json(Call::get(&path)).await?["queued"].as_u64().unwrap_or_default();
            }
            let (asked_at, said) = (Instant::now(), sum.said());
            let batch = batch.min(u32::try_from(queue_max - sum.queued).unwrap_or(batch).max(1));
            let body = self.body(false, Some(batch), after.as_deref());
            let answer = self.daemon.call(&Call::post_json(&self.path, &body)).await?;
            if answer.status == http::StatusCode::SERVICE_UNAVAILABLE && answer.problem()["code"] != "stopping" {
                // Its queue or its disk is full: nothing is lost by waiting.
                self.tell(&sum, plan, &mut told);
                sleep(answer.retry_after().unwrap_or(LOOK_EVERY)).await;
                continue;
            }
            after = sum.add(&answer.into_json()?);
            if after.is_none() {
                return Ok(sum);
            }
            self.tell(&sum, plan, &mut told);
            sleep_until(asked_at + Duration::from_secs_f64((sum.said() - said) as f64 / f64::from(rate))).await;
        }
    }

    /// How far it is, from time to time.
    fn tell(&self, sum: &Sum, plan: &Sum, told: &mut Instant) {
        if told.elapsed() >= TELL_EVERY {
            *told = Instant::now();
            let (said, all, waiting, peer) = (sum.said(), plan.said(), sum.queued, &self.args.peer);
            output::note(&format!("{said} of {all} said again; {waiting} SETs wait for {peer}"));
        }
    }

    /// What goes on with this job.
    fn command(&self) -> String {
        let word = |text: &str| named(text).unwrap_or_else(|| output::clean(text));
        format!("pushpull replay {} --job {} --rate {}", word(&self.args.peer), word(&self.job), self.args.rate)
    }

    /// What there is to do.
    fn plan(&self, sum: &Sum) -> String {
        let types = self.types.as_deref().map(|types| format!(", of type {types}"));
        let mut lines = vec![format!(
            "to {}, accepted or ended from {} on, accepted before {}{}:",
            output::clean(&self.args.peer),
            self.since.as_deref().unwrap_or_default(),
            self.until.as_deref().unwrap_or("now"),
            types.unwrap_or_default()
        )];
        lines.push(format!("  {:>9}  acked or refused: to be reissued under new jtis", sum.reissued));
        lines.push(format!("  {:>9}  never answered: to be resent as they are", sum.resent));
        if sum.before > 0 {
            lines.push(format!("  {:>9}  reissued by job {} before", sum.before, output::clean(&self.job)));
        }
        lines.extend(sum.unfit());
        if let Some(oldest) = &sum.oldest {
            let size = size(sum.bytes);
            lines.push(format!("  the oldest was accepted at {oldest}; {size} in all"));
        }
        if sum.queued > 0 {
            lines.push(format!("  {} wait in the queue and go on by themselves", sum.queued));
        }
        lines.extend(sum.warning());
        lines.join("\n")
    }

    /// What was done.
    fn told(&self, sum: &Sum) -> String {
        let before = if sum.before > 0 { format!(", {} by this job before", sum.before) } else { String::new() };
        let mut lines = vec![format!(
            "{}: {} reissued, {} resent{before}",
            output::clean(&self.args.peer),
            sum.reissued,
            sum.resent
        )];
        lines.extend(sum.unfit());
        lines.extend(sum.warning());
        lines.join("\n")
    }

    fn json(&self, sum: &Sum, dry_run: bool) -> Value {
        let failed = sum.failed.iter();
        let failed = failed.map(|(jti, (code, detail))| json!({ "jti": jti, "code": code, "detail": detail }));
        json!({
            "peer": self.args.peer, "job": self.job, "since": self.since, "until": self.until, "type": self.types,
            "dry_run": dry_run, "reissued": sum.reissued, "resent": sum.resent, "before": sum.before, "bytes": sum.bytes,
            "oldest": sum.oldest, "queued": sum.queued, "short": sum.is_short, "damaged": sum.damaged,
            "failed": failed.collect::<Vec<_>>(),
        })
    }
}

/// Bytes, as far as a person wants to know.
fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let (mut size, mut unit) = (bytes as f64 / 1024.0, 0);
    while size >= 1000.0 && unit + 1 < units.len() {
        (size, unit) = (size / 1024.0, unit + 1);
    }
    if bytes < 10_000 { format!("{bytes} bytes") } else { format!("{size:.1} {}", units[unit]) }
}

impl Sum {
    /// Adds an answer; where to go on.
    fn add(&mut self, answer: &Value) -> Option<String> {
        let number = |name: &str| answer[name].as_u64().unwrap_or_default();
        self.reissued += number("reissued");
        self.resent += number("resent");
        self.before += number("before");
        self.bytes += number("bytes");
        self.damaged += number("damaged");
        (self.queued, self.room) = (number("queued"), number("room"));
        self.is_short |= answer["short"] == true;
        for failed in answer["failed"].as_array().into_iter().flatten() {
            self.failed.insert(text(failed, "jti"), (text(failed, "code"), text(failed, "detail")));
        }
        if let Some(oldest) = answer["oldest"].as_str() {
            // Of this form the earlier one is the lesser text.
            let earlier = self.oldest.take().filter(|known| known.as_str() <= oldest);
            self.oldest = Some(earlier.unwrap_or_else(|| output::clean(oldest)));
        }
        answer["next"].as_str().map(str::to_owned)
    }

    fn said(&self) -> u64 {
        self.reissued + self.resent
    }

    /// What cannot be said again, by reason.
    fn unfit(&self) -> Vec<String> {
        let mut reasons: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
        for (code, detail) in self.failed.values() {
            reasons.entry(code).or_insert((0, detail)).0 += 1;
        }
        let mut lines: Vec<String> = reasons
            .into_iter()
            .map(|(code, (count, detail))| format!("  {count:>9}  cannot be said again ({code}): {detail}"))
            .collect();
        if self.damaged > 0 {
            lines.push(format!("  {:>9}  damaged in the database, and passed over", self.damaged));
        }
        lines
    }

    fn warning(&self) -> Option<String> {
        let text = "  warning: some of what was acked in that time is not kept any more, and is not said again (store.keep_settled)";
        self.is_short.then(|| text.to_owned())
    }

    fn exit(&self) -> Exit {
        match (self.failed.is_empty() && self.damaged == 0, self.said() + self.before) {
            (true, _) => Exit::Done,
            (false, 0) => Exit::Conflict,
            (false, _) => Exit::PartlyDone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_as_people_tell_them() {
        let sizes = [0, 9_999, 10_240, 43_985_839, 5 << 30, u64::MAX].map(size);
        assert_eq!(sizes, ["0 bytes", "9999 bytes", "10.0 KiB", "41.9 MiB", "5.0 GiB", "16777216.0 TiB"]);
    }

    #[test]
    fn answers_add_up_and_what_is_told_twice_is_counted_once() {
        let mut sum = Sum::default();
        let failed = json!({"jti": "x", "code": "foreign_issuer", "detail": "not ours"});
        let part = |oldest: &str, next: Value| json!({"reissued": 2, "resent": 1, "bytes": 5, "queued": 7, "oldest": oldest, "failed": [failed], "next": next});
        assert_eq!(sum.add(&part("2026-11-30T08:00:00.000Z", "a1-2".into())).as_deref(), Some("a1-2"));
        assert_eq!(sum.add(&part("2026-11-30T07:00:00.000Z", Value::Null)), None);
        assert_eq!((sum.said(), sum.bytes, sum.queued, sum.failed.len()), (6, 10, 7, 1));
        assert_eq!(sum.oldest.as_deref(), Some("2026-11-30T07:00:00.000Z"));
        assert_eq!(sum.unfit(), ["          1  cannot be said again (foreign_issuer): not ours"]);
        assert_eq!(sum.exit(), Exit::PartlyDone);
        assert_eq!(Sum { reissued: 0, resent: 0, ..sum }.exit(), Exit::Conflict);
        assert_eq!(Sum::default().exit(), Exit::Done, "nothing to do is no fault");
    }
}
