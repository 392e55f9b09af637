//! What is there before the measurement begins: SETs signed, SETs queued, jtis remembered.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::load::Load;
use super::side::issuer;
use crate::cli::Error;
use crate::clock::{Clock as _, SystemClock};
use crate::peer::{Verdict, Write};
use crate::random::Random;
use crate::set::{Defaults, Digest, Draft, Jti, SigningKey, complete};
use crate::store::{Epoch, Journal, Registry};
use crate::transceiver::{Event, Submission, Transceiver};

/// SETs queued, and jtis remembered, with one call.
const BATCH: u64 = 1000;

/// Calls under way at the same time.
const CALLS: usize = 4;

/// So many SETs, signed on all cores.
pub(super) fn stock(
    key: &SigningKey,
    draft: &Arc<Draft>,
    from: &str,
    count: usize,
) -> Result<Mutex<VecDeque<String>>, Error> {
    let to = if from == "alpha" { "beta" } else { "alpha" };
    let (issuer, audience, now) = (issuer(from), issuer(to), SystemClock::new().now().wall);
    let defaults = Defaults { issuer: &issuer, audience: &audience, now, jti_bytes_max: 64 };
    let sign = |_| {
        let claims = (**draft).clone().into_claims().map_err(|error| error.to_string())?;
        let (_, claims) = complete(claims, defaults).map_err(|error| error.to_string())?;
        key.sign(&claims).map(|set| set.to_string()).map_err(|error| error.to_string())
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let parts: Vec<Result<Vec<String>, String>> = std::thread::scope(|scope| {
        let part = |number: usize| (count * number / cores)..(count * (number + 1) / cores);
        let threads: Vec<_> = (0..cores).map(|number| scope.spawn(move || part(number).map(sign).collect())).collect();
        let gone = || Err("a thread has ended".to_owned());
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| gone())).collect()
    });
    let mut stock = VecDeque::with_capacity(count);
    for part in parts {
        stock.extend(part.map_err(Error::failed)?);
    }
    Ok(Mutex::new(stock))
}

/// Queues so many SETs, for all peers in turn, and enters them in the accounts.
pub(super) async fn backlog(
    transceiver: &Transceiver,
    peers: &[String],
    load: &Arc<Load>,
    count: u64,
) -> Result<(), Error> {
    queue(transceiver, peers, &load.draft, count, |jtis| Ok(load.flights.queued(jtis)?)).await
}

/// Queues so many SETs for the partner that never answers: they are in nobody's accounts.
pub(super) async fn mute(transceiver: &Transceiver, name: &str, draft: &Arc<Draft>, count: u64) -> Result<(), Error> {
    queue(transceiver, &[name.to_owned()], draft, count, |_| Ok(())).await
}

async fn queue(
    transceiver: &Transceiver,
    peers: &[String],
    draft: &Arc<Draft>,
    count: u64,
    note: impl Fn(&[Jti]) -> Result<(), Error>,
) -> Result<(), Error> {
    use futures_util::stream::{self, StreamExt as _};
    let batches = (0..count.div_ceil(BATCH)).map(|number| {
        let size = BATCH.min(count - number * BATCH);
        let peer = &peers[usize::try_from(number).unwrap_or(0) % peers.len()];
        let one = || Submission { peer: peer.clone(), event: Event::Shared(Arc::clone(draft)) };
        let submissions = (0..size).map(|_| one()).collect();
        async move { transceiver.submit(submissions).await }
    });
    let mut calls = stream::iter(batches).buffer_unordered(CALLS);
    while let Some(jtis) = calls.next().await {
        note(&jtis.map_err(|error| Error::failed(error.to_string()))?)?;
    }
    Ok(())
}

/// Has the store remember so many jtis as received from these peers in turn. Their form is random, as partners' may be.
pub(super) async fn tombstones<S: Journal + Registry>(store: &S, peers: &[String], count: u64) -> Result<(), Error> {
    let mut ids = Vec::new();
    for peer in peers {
        ids.push(store.peer_id(peer.clone()).await.map_err(Error::from)?);
    }
    let (mut random, at) = (Random::from_system(), SystemClock::new().now().wall);
    for number in 0..count.div_ceil(BATCH) {
        let one = |_| {
            let jti = format!("{:016x}{:016x}", random.next_u64(), random.next_u64());
            let digest = Digest::of(jti.as_bytes());
            Write::Answer { jti: jti.into(), digest, verdict: Verdict::Acked, at }
        };
        let writes = (0..BATCH.min(count - number * BATCH)).map(one).collect();
        let id = ids[usize::try_from(number).unwrap_or(0) % ids.len()];
        store.commit(id, Epoch(1), Arc::new(writes)).await.map_err(Error::from)?;
    }
    Ok(())
}
