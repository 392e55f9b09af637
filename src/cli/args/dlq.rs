//! The flags of `event` and `dlq`.

use clap::{Args, Subcommand};

/// `event …`
#[derive(Debug, Subcommand)]
pub enum Event {
    /// Tell what happened to a SET, sent or received, and what helps if it was refused
    #[command(
        after_help = "Example:\n  pushpull event show 01939f2e-7c1a-7d20-9b53-0d6f7b1c2e11\n\nExit code 6: it is not known."
    )]
    Show {
        /// The SET
        jti: String,
    },
}

/// `dlq …`
#[derive(Debug, Subcommand)]
pub enum Dlq {
    /// List dead letters by reason, with who has to act and the command for it
    #[command(
        visible_alias = "list",
        after_help = "Example:\n  pushpull dlq ls globex --reason invalid_audience --all"
    )]
    Ls {
        /// Only this partner's
        peer: Option<String>,
        /// Only those with this reason: the partner's code, attempts_exhausted or too_old
        #[arg(long, value_name = "REASON")]
        reason: Option<String>,
        /// One by one instead of by reason
        #[arg(long)]
        all: bool,
    },
    /// Show one: how it ended, what can be done, and the SET itself
    #[command(after_help = "It prints whom the event is about; nothing of that is logged.")]
    Show {
        /// The SET
        jti: String,
        /// The partner, if it is one of several
        #[arg(long, value_name = "PEER")]
        peer: Option<String>,
    },
    /// Send again what was never answered: the same jti, the same bytes
    #[command(after_help = RESEND_HELP)]
    Resend(Which),
    /// Say the same in a new SET: another jti, signed anew; the two are linked
    #[command(after_help = REISSUE_HELP)]
    Reissue(Which),
    /// Do away with them; that they were there is remembered
    #[command(after_help = DISCARD_HELP)]
    Discard(Which),
}

const RESEND_HELP: &str = "Examples:
  pushpull dlq resend 01939f31-90aa-7d20-9b53-0d6f7b1c2e11
  pushpull dlq resend --peer globex --reason attempts_exhausted --dry-run
  pushpull dlq resend --peer globex --reason attempts_exhausted --yes

A SET that was refused is never sent again under its jti: reissue it.
Exit code 6: not known, 7: it is no dead letter or cannot be resent, 10: done with some of them.";

const REISSUE_HELP: &str = "Examples:
  pushpull dlq reissue 01939f31-90aa-7d20-9b53-0d6f7b1c2e11
  pushpull dlq reissue --peer globex --reason invalid_key --dry-run
  pushpull dlq reissue --peer globex --reason invalid_key --yes

First mend what it was refused for, or it will be refused again. A SET that another issuer signed can only be resent.
Exit code 6: not known, 7: it is no dead letter or cannot be reissued, 10: done with some of them.";

const DISCARD_HELP: &str = "Examples:
  pushpull dlq discard 01939f31-90aa-7d20-9b53-0d6f7b1c2e11
  pushpull dlq discard --peer globex --reason too_old --dry-run
  pushpull dlq discard --peer globex --reason too_old --yes

It cannot be undone: the SET itself is removed. `pushpull event show JTI` still tells what became of it, for 30 days at least.
Exit code 6: not known, 7: it is no dead letter, 10: done with some of them.";

/// Which dead letters are meant.
#[derive(Args, Debug)]
pub struct Which {
    /// The SETs
    #[arg(value_name = "JTI")]
    pub jtis: Vec<String>,
    /// All of this partner, or which one's the SETs are
    #[arg(long, value_name = "PEER")]
    pub peer: Option<String>,
    /// All with this reason
    #[arg(long, value_name = "REASON", conflicts_with = "jtis")]
    pub reason: Option<String>,
    /// All there are
    #[arg(long, conflicts_with_all = ["jtis", "peer", "reason"])]
    pub all: bool,
    /// Only tell what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Do it with many at once
    #[arg(long)]
    pub yes: bool,
}
