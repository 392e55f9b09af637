//! The flags of `replay`.

use clap::Args;

pub(super) const HELP: &str = "Examples:
  pushpull replay globex --since 2h --dry-run
  pushpull replay globex --since 2026-11-30T06:00Z --until 2026-11-30T08:00Z --type 'caep:session-*'
  pushpull replay globex --job r-5f0c3a9be217

For a partner that has lost what it had. What it acked or refused is reissued: the same events in new SETs, under new jtis. What
it never answered is resent as it is. What waits in the queue goes on by itself. It counts first, and then goes slowly enough not
to hold up new events. What is done under one --job is done once: after an interruption the command that it printed goes on.
What was acked is kept for store.keep_settled. Exit code 10: done with some of them, 7: with none, or the job is another.";

/// `replay`
#[derive(Args, Debug)]
pub struct Replay {
    /// The partner
    pub peer: String,
    /// What was accepted, or ended, from then on: a time in UTC, or how long ago, such as 2h
    #[arg(long, value_name = "T", required_unless_present = "job")]
    pub since: Option<String>,
    /// And accepted before this [default: now]
    #[arg(long, value_name = "T")]
    pub until: Option<String>,
    /// Only events of these types: a short name, a URI, or either with `*`
    #[arg(long = "type", value_name = "GLOB")]
    pub types: Option<String>,
    /// Only count
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// SETs a second
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// What the work is called [default: a new name]; alone it goes on with a job
    #[arg(long, value_name = "ID")]
    pub job: Option<String>,
}
