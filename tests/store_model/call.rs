//! A call of a store as a value, and its answer as one: so that any store can be asked the same, and answers compared.

use std::sync::Arc;

use pushpull::clock::Wall;
use pushpull::peer::{DeadPage, Direction, OutboxRow, Page, PeerId, Place, Remembered, Saved, Select, Stretch, Write};
use pushpull::set::Jti;
use pushpull::store::{Epoch, Error, Handed, Journal, Registry};

/// A whole store.
pub(crate) trait Both: Journal + Registry {}

impl<S: Journal + Registry> Both for S {}

/// Everything that can be asked of a store.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Commit(PeerId, Vec<Write>),
    Recover(PeerId),
    Known(PeerId, Direction, Vec<Jti>),
    ReadOutbox(PeerId, Select),
    ReadDead(Stretch),
    DeadAt(PeerId, Vec<u64>),
    ReadInbox(String, Option<u64>, usize),
    Peek(Option<u64>, usize),
    Confirm(String, u64),
    Forget(String),
    History(Jti),
    Purge(Wall),
    Probe,
    PeerId(String),
    Names,
    Added,
    AddPeer(String, String),
    RemovePeer(String),
    /// What a store tells without being waited for: tail, length, health.
    Look,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Done,
    /// [`Error::Invalid`]; how it is worded is a store's own.
    Invalid,
    Full,
    Fatal(String),
    Saved(Saved),
    Known(Vec<Option<Remembered>>),
    Page(Page),
    Dead(DeadPage),
    Handed(Vec<Handed>),
    History(Vec<(PeerId, Direction, Remembered)>),
    Flag(bool),
    Id(PeerId),
    Names(Vec<(PeerId, String)>),
    Added(Vec<(String, String)>),
    Look(u64, u64, bool),
}

/// Purging is asked again until nothing is left; more often than this it cannot be.
const PURGES_MAX: usize = 1_000;

pub(crate) async fn ask(store: &dyn Both, call: Call) -> Answer {
    let answer = match call {
        Call::Commit(peer, writes) => store.commit(peer, Epoch(1), Arc::new(writes)).await.map(|()| Answer::Done),
        Call::Recover(peer) => store.recover(peer).await.map(Answer::Saved),
        Call::Known(peer, direction, jtis) => store.known(peer, direction, jtis).await.map(Answer::Known),
        Call::ReadOutbox(peer, select) => store.read_outbox(peer, select).await.map(Answer::Page),
        Call::ReadDead(stretch) => store.read_dead_letters(stretch).await.map(Answer::Dead),
        Call::DeadAt(peer, seqs) => store.dead_letters_at(peer, seqs).await.map(Answer::Dead),
        Call::ReadInbox(name, after, rows_max) => store.read_inbox(name, after, rows_max).await.map(Answer::Handed),
        Call::Peek(after, rows_max) => store.peek_inbox(after, rows_max).await.map(Answer::Handed),
        Call::Confirm(name, up_to) => store.confirm(name, up_to).await.map(|()| Answer::Done),
        Call::Forget(name) => store.forget_consumer(name).await.map(Answer::Flag),
        Call::History(jti) => store.history(jti).await.map(Answer::History),
        Call::Purge(Wall(0)) => store.purge(Wall(0)).await.map(Answer::Flag),
        Call::Purge(before) => purge(store, before).await.map(Answer::Flag),
        Call::Probe => store.probe().await.map(|()| Answer::Done),
        Call::PeerId(name) => store.peer_id(name).await.map(Answer::Id),
        Call::Names => store.names().await.map(Answer::Names),
        Call::Added => store.added_peers().await.map(Answer::Added),
        Call::AddPeer(name, definition) => store.add_peer(name, definition).await.map(Answer::Flag),
        Call::RemovePeer(name) => store.remove_peer(name).await.map(Answer::Flag),
        Call::Look => Ok(Answer::Look(*store.inbox_tail().borrow(), store.inbox_len(), store.healthy())),
    };
    answer.unwrap_or_else(|error| match error {
        Error::Invalid(_) => Answer::Invalid,
        Error::Full => Answer::Full,
        other => Answer::Fatal(other.to_string()),
    })
}

/// How much memory goes at a time is a store's own, so all of it has to go.
async fn purge(store: &dyn Both, before: Wall) -> Result<bool, Error> {
    for _ in 0..PURGES_MAX {
        if !store.purge(before).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The whole outbox.
pub(crate) fn everything() -> Select {
    Select::After { after: 0, rows_max: 100_000, bytes_max: usize::MAX }
}

/// All dead letters.
pub(crate) fn all_dead() -> Stretch {
    Stretch { after: Place::default(), up_to: Place::LAST, rows_max: 100_000, bytes_max: usize::MAX }
}

/// All that can be known of a store with these peers, jtis and consumers. It hands out the whole inbox, and so makes the
/// consumers.
pub(crate) fn inventory(peers: &[PeerId], jtis: &[Jti], consumers: &[&str]) -> Vec<Call> {
    let mut calls = vec![Call::Names, Call::Added, Call::ReadDead(all_dead()), Call::Peek(None, 100_000), Call::Look];
    for peer in peers {
        calls.push(Call::Recover(*peer));
        calls.push(Call::ReadOutbox(*peer, everything()));
        for direction in [Direction::Out, Direction::In] {
            calls.push(Call::Known(*peer, direction, jtis.to_vec()));
        }
    }
    calls.extend(consumers.iter().map(|name| Call::ReadInbox((*name).to_owned(), None, 100_000)));
    calls
}

/// A row that is the same whenever it is made of the same.
pub(crate) fn row(seq: u64, jti: Jti, compact: Arc<str>, digest: pushpull::set::Digest, at: u64) -> OutboxRow {
    let story = pushpull::peer::Story::default();
    OutboxRow { seq, jti, compact, digest, accepted_at: Wall(at), attempts: 0, story }
}
