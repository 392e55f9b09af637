//! What is typed behind `pushpull peer`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::duration;

/// `peer …`
#[derive(Debug, Subcommand)]
pub enum Peer {
    /// Print the `[[peer]]` block that a partner needs to pair with us; it holds no secret
    #[command(after_help = "Example:\n  pushpull peer card > acme.card.toml     # then hand the file to the partner")]
    Card(Card),
    /// Store a partner from its card and make the two bearer files
    #[command(after_help = ADD_HELP)]
    Add(Add),
    /// List the partners
    #[command(visible_alias = "list")]
    Ls,
    /// One partner in detail
    Show {
        /// The partner
        name: String,
    },
    /// Send a signed verification event and print the time to its ack
    #[command(
        after_help = "Example:\n  pushpull peer verify globex\n\nExit code 8: the partner refused it; 9: no answer in time."
    )]
    Verify {
        /// The partner
        name: String,
    },
    /// Send nothing to a partner until it is resumed; what it sends is answered all the same
    #[command(after_help = "Example:\n  pushpull peer pause globex\n\nA pause survives restarts and reloads.")]
    Pause {
        /// The partner
        name: String,
    },
    /// Send to a paused partner again
    Resume {
        /// The partner
        name: String,
    },
    /// Remove a partner that was added while the daemon ran
    #[command(after_help = RM_HELP)]
    Rm(Rm),
}

const RM_HELP: &str = "Examples:
  pushpull peer rm globex --drain 10m
  pushpull peer rm globex --keep-queue

Its token means nothing from then on, and its links close. While SETs wait for it, it is not removed (exit code 7) unless
--drain has sent them, or --keep-queue keeps them: they go on when a partner of this name is added. With both, what is left
when the time is over is kept. Dead letters and received SETs stay in any case. A partner of the configuration file leaves with
its block: take that out, then `pushpull reload`.

Its files NAME.token and from-NAME.token stay, and `peer add` takes them again for a partner of this name. If the tokens shall
not count any more, remove both files afterwards.";

/// `peer rm`
#[derive(Args, Debug)]
pub struct Rm {
    /// The partner
    pub name: String,
    /// Take nothing more for it, and wait so long for its queue to empty
    #[arg(long, value_name = "DUR", value_parser = duration)]
    pub drain: Option<Duration>,
    /// Remove it although SETs wait: they stay stored under its name
    #[arg(long)]
    pub keep_queue: bool,
}

const ADD_HELP: &str = "Pairing, with nothing but two files each way:
  acme$    pushpull peer card > acme.card.toml            globex$  pushpull peer card > globex.card.toml
           (exchange the cards over any channel)
  acme$    pushpull peer add --card globex.card.toml      globex$  pushpull peer add --card acme.card.toml
           (exchange the tokens over a confidential channel)
  acme     hands over from-globex.token,                  globex   hands over from-acme.token,
           which becomes globex's acme.token                       which becomes acme's globex.token

Each side makes NAME.token (what we present; replace it by what the partner hands over, or give it at once with --token) and
from-NAME.token (what the partner presents to us; hand it over, or give an agreed one with --accept-token). Files that are
there already are kept, also those of a partner of this name that was removed. A running daemon takes the partner at once; else
it is written into pushpull.toml.";

/// `peer card`
#[derive(Args, Debug)]
pub struct Card {
    /// Our name at the partner [default: from the issuer's host]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The push-pull endpoint as partners see it, instead of the one that follows from the issuer
    #[arg(long, value_name = "URL", conflicts_with = "public")]
    pub endpoint: Option<String>,
    /// Host and port as partners see them, instead of the issuer's
    #[arg(long, value_name = "ADDR")]
    pub public: Option<String>,
}

/// `peer add`
#[derive(Args, Debug)]
pub struct Add {
    /// The partner's card, `-` for stdin
    #[arg(long, value_name = "FILE")]
    pub card: PathBuf,
    /// What we call the partner, instead of the card's name
    #[arg(long)]
    pub name: Option<String>,
    /// Event types that we send (default all); may be given several times
    #[arg(long, value_name = "GLOB")]
    pub send: Vec<String>,
    /// Event types that the partner may send (default all); may be given several times
    #[arg(long, value_name = "GLOB")]
    pub accept: Vec<String>,
    /// File with the token that the partner handed over, which we present
    #[arg(long, value_name = "FILE")]
    pub token: Option<PathBuf>,
    /// File with an agreed token that the partner presents to us
    #[arg(long, value_name = "FILE")]
    pub accept_token: Option<PathBuf>,
}
