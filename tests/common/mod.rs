//! What the black-box tests share: the real daemon, scripted partners, and a hand-written HTTP that can also misbehave.

pub(crate) mod daemon;
pub(crate) mod doors;
pub(crate) mod faults;
pub(crate) mod http;
pub(crate) mod link;
pub(crate) mod partner;
pub(crate) mod responder;
pub(crate) mod socket;

use std::future::Future;
use std::time::Duration;

/// How long anything may take on a slow, shared machine before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer.
#[track_caller]
pub(crate) fn until<T, F: Future<Output = Option<T>>>(what: &str, ask: impl FnMut() -> F) -> impl Future<Output = T> {
    let (what, caller) = (what.to_owned(), std::panic::Location::caller());
    let mut ask = ask;
    async move {
        let asking = async {
            loop {
                if let Some(answer) = ask().await {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(answer) => answer,
            Err(_) => panic!("{what}: not within {} s ({caller})", PATIENCE.as_secs()),
        }
    }
}

/// Waits for something that has to come.
#[track_caller]
pub(crate) fn soon<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let (what, caller) = (what.to_owned(), std::panic::Location::caller());
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(value) => value,
            Err(_) => panic!("{what}: not within {} s ({caller})", PATIENCE.as_secs()),
        }
    }
}
