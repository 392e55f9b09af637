//! What a person types, one file a command. Results go to stdout, everything else to stderr; the exit codes are fixed.

mod add;
pub mod args;
mod assemble;
mod batch;
mod bench;
mod card;
mod client;
mod consumer;
mod demo;
mod dlq;
mod error;
mod event;
mod explain;
mod init;
mod key;
mod log;
mod output;
mod peer;
mod place;
mod redrive;
mod reload;
mod replay;
mod send;
mod serve;
mod set;
mod signals;
mod site;
mod status;
mod steward;
mod systemd;
mod tail;
mod version;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Cli, Command};

pub use error::{Error, Exit};

/// Reads the command line, does what it says, and returns the exit code.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout with code 0, misuse to stderr with code 2; a closed pipe changes neither.
            if error.use_stderr() {
                output::note(misuse(&error.to_string()).trim_end());
                return Exit::Usage.into();
            }
            let _ = error.print();
            return Exit::Done.into();
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&Error::failed(format!("cannot start: {error}")).to_string());
            return Exit::Failed.into();
        }
    };
    let ended = runtime.block_on(dispatch(cli));
    // A read of stdin that is under way cannot be cancelled, and nobody waits for it.
    runtime.shutdown_background();
    match ended {
        Ok(exit) => exit.into(),
        Err(error) if error.nobody_reads() => Exit::Done.into(),
        Err(error) => {
            output::note(&error.to_string());
            error.exit.into()
        }
    }
}

/// What the parser says, with the code that every error has.
fn misuse(text: &str) -> String {
    text.replacen("error:", &format!("error[{}]:", Exit::Usage.code()), 1)
}

async fn dispatch(cli: Cli) -> Result<Exit, Error> {
    let global = &cli.global;
    if cli.version {
        return version::run(global.json);
    }
    match cli.command {
        None => {
            output::note(&Cli::command().render_help().to_string());
            Ok(Exit::Usage)
        }
        Some(Command::Demo(args)) => demo::run(&args, global.json).await,
        Some(Command::Bench(args)) => bench::run(&args, global.json).await,
        Some(Command::BenchSide) => bench::side().await,
        Some(Command::Init(init)) => init::run(&init, global.json),
        Some(Command::Serve(args)) => serve::run(&args, global).await,
        Some(Command::Peer { command }) => match command {
            args::Peer::Card(card) => card::run(&card, global),
            args::Peer::Add(add) => add::run(&add, global).await,
            args::Peer::Ls => status::run(None, global).await,
            args::Peer::Show { name } => peer::show(&name, global).await,
            args::Peer::Verify { name } => peer::verify(&name, global).await,
            args::Peer::Pause { name } => peer::pause(&name, true, global).await,
            args::Peer::Resume { name } => peer::pause(&name, false, global).await,
            args::Peer::Rm(rm) => peer::rm(&rm, global).await,
        },
        Some(Command::Reload) => reload::run(global).await,
        Some(Command::Send(send)) => match &send.file {
            Some(file) => batch::run(&send, file, global).await,
            None => send::run(&send, global).await,
        },
        Some(Command::Explain { code }) => explain::run(code.as_deref(), global.json),
        Some(Command::Tail(tail)) => tail::run(&tail, global).await,
        Some(Command::Consumer { command }) => consumer::run(&command, global).await,
        Some(Command::Status { peer }) => status::run(peer.as_deref(), global).await,
        Some(Command::Event { command: args::Event::Show { jti } }) => event::show(&jti, global).await,
        Some(Command::Dlq { command }) => dlq::run(&command, global).await,
        Some(Command::Replay(args)) => replay::run(&args, global).await,
        Some(Command::Set { command }) => match command {
            args::Set::Sign { key, kid, file } => set::sign(key.as_deref(), kid.as_deref(), &file, global),
            args::Set::Decode { file } => set::decode(&file),
            args::Set::Verify(verify) => set::verify(&verify, global).await,
        },
        Some(Command::Key { command }) => match command {
            args::Key::Ls => key::ls(global).await,
            args::Key::New { alg, kid } => key::new(alg, kid.as_deref(), global),
            args::Key::Rotate { alg, kid, now } => key::rotate(alg, kid.as_deref(), now, global).await,
            args::Key::Retire { kid, now } => key::retire(&kid, now, global).await,
        },
    }
}
