//! The two processes of the bench, and what is said between them and us.

use std::process::Stdio;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::cli::Error;

/// One side, running.
pub(super) struct Process {
    name: &'static str,
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts this program once more, as a side.
    pub(super) fn start(name: &'static str) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::failed(format!("cannot start this program as {name}: {error}"));
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        // The caller's configuration is not the bench's.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PUSHPULL_") {
                command.env_remove(variable);
            }
        }
        let mut child = command
            .arg("bench-side")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for the bench, which then ends its sides itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::failed(format!("{name} has no pipes")));
        };
        Ok(Self { name, child, orders, answers: BufReader::new(answers).lines() })
    }

    /// Gives an order, and waits for its answer.
    pub(super) async fn ask<T: DeserializeOwned>(&mut self, order: &impl Serialize) -> Result<T, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::failed(format!("{}: {error}", self.name));
        let mut line = serde_json::to_vec(order).map_err(|error| failed(&error))?;
        line.push(b'\n');
        let told = self.orders.write_all(&line).await;
        let answer = match told {
            Ok(()) => self.answers.next_line().await.map_err(|error| failed(&error))?,
            Err(_) => None,
        };
        match answer {
            Some(answer) => serde_json::from_str(&answer).map_err(|error| failed(&error)),
            // It has said why on the standard error that we share.
            None => Err(failed(&"the process has ended")),
        }
    }

    /// Waits until the process has ended, as it does after its last order.
    pub(super) async fn ended(mut self) -> Result<(), Error> {
        drop(self.orders);
        let status = self.child.wait().await?;
        if status.success() { Ok(()) } else { Err(Error::failed(format!("{}: ended with {status}", self.name))) }
    }
}
