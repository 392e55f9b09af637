//! The crates of easyssf as partners: a Recipient of pushes (RFC 8935), and both roles of polling (RFC 8936). What goes over
//! the wire is theirs, method, headers and bodies alike; here are only sockets, settings, and a report on standard output.

mod receiver;
mod transmitter;

use std::{env, io, process, thread};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// `easyssf push`, `easyssf poll URL long|short` or `easyssf transmit`; README.md beside it says what each needs and tells.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["push"] => receiver::take_pushes().await?,
        ["poll", url, waits @ ("long" | "short")] => receiver::poll(url, waits == "long").await?,
        ["transmit"] => transmitter::serve().await?,
        _ => return Err("usage: easyssf push | poll URL long|short | transmit".into()),
    }
    // Not by returning: that would wait for a thread in which a poll is held that nobody wants any more.
    process::exit(0)
}

/// A socket on a port that the system chose, which is told on standard output.
async fn listen() -> Result<tokio::net::TcpListener, Error> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening {}", listener.local_addr()?);
    Ok(listener)
}

/// Hands over each line of standard input; over when that has ended, as it does when whoever started this has gone.
async fn each_line(mut take: impl FnMut(String) + Send + 'static) {
    let (over, is_over) = tokio::sync::oneshot::channel::<()>();
    thread::spawn(move || {
        io::stdin().lines().map_while(Result::ok).for_each(&mut take);
        drop(over);
    });
    let _ = is_over.await;
}
