//! One suite for every store: each promise of the traits, before and after a restart. A new store is one more fixture.

mod archive;
mod dead;
mod inbox;
mod jtis;
mod model;
mod outbox;
mod registry;

use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;

use super::{Epoch, Error, Journal, Memory, Options, Registry, Sqlite};
use crate::clock::Wall;
use crate::peer::{InboxRow, OutboxRow, Outcome, PeerId, Select, Story, Verdict, Write};
use crate::set::{Digest, ErrorCode, Refusal, base64url};

/// Runs these tests against each store.
macro_rules! against_every_store {
    ($($part:ident { $($name:ident)* })*) => {
        mod memory {
            $($(#[tokio::test] async fn $name() { super::$part::$name(super::Ram::default()).await })*)*
        }
        mod sqlite {
            $($(#[tokio::test] async fn $name() { super::$part::$name(super::File::new()).await })*)*
        }
    };
}

against_every_store! {
    outbox {
        a_new_peer_starts_at_the_first_seq
        rows_are_read_in_order_until_a_limit_is_reached
        exactly_the_rows_that_were_asked_for_are_read
        peers_do_not_see_each_others_rows
        attempts_never_fall
        a_settled_set_leaves_the_outbox_and_is_counted
        a_repeated_commit_changes_nothing
        a_low_seq_that_was_never_stored_is_stored
        a_dead_letter_can_be_queued_again
        a_commit_for_an_unknown_peer_is_refused
        a_commit_is_not_begun_before_it_is_awaited
        everything_survives_a_restart
    }
    dead {
        a_dead_letter_is_kept_with_its_token_and_its_end
        dead_letters_are_read_over_all_peers_page_by_page
        a_resent_set_is_in_the_outbox_alone_with_its_story
        a_reissue_is_linked_both_ways_in_one_commit
        a_discarded_one_is_gone_and_a_lost_answer_harmless
        dead_letters_outlive_the_memory_of_their_jtis
    }
    archive {
        a_job_is_what_it_was_begun_as_until_it_is_forgotten
        what_was_acked_is_read_again_as_it_was_sent
        reading_begins_at_a_time_and_goes_on_leaf_by_leaf
        one_that_others_of_its_row_wait_beside_is_read_too
        what_is_too_old_or_too_much_is_forgotten
    }
    jtis {
        every_fate_is_remembered_by_peer_and_direction
        the_first_answer_stands_for_ever
        other_content_under_a_known_jti_shows_by_its_digest
        the_newest_of_many_memories_survives_sealing_and_restarts
        the_history_of_a_jti_spans_peers_and_directions
        purging_forgets_what_is_old_but_never_a_waiting_set
        a_waiting_set_is_remembered_although_the_clock_went_back_before_it_was_accepted
    }
    inbox {
        a_consumer_reads_on_behind_what_it_confirmed
        what_was_handed_out_comes_again_marked
        a_page_of_large_sets_is_short
        a_restart_never_forgets_what_was_handed_out
        a_consumer_can_skip_ahead_but_not_back_behind_its_confirmation
        confirming_makes_sense_or_is_an_error
        rows_are_purged_when_every_consumer_has_confirmed_them
        purging_goes_step_by_step
        a_seq_is_never_used_again
        a_forgotten_consumer_does_not_hold_rows
        peeking_changes_nothing
        the_tail_moves_with_every_commit_that_adds_rows
    }
    registry {
        a_name_has_one_number_for_ever
        definitions_are_added_once_and_removed_once
        the_time_that_was_noted_last_is_kept
    }
}

/// A store that can be opened again.
trait Fixture {
    type Store: Journal + Registry;

    fn store(&self) -> &Self::Store;

    /// Closes and opens the store.
    async fn reopen(&mut self);
}

struct Ram(Memory);

impl Default for Ram {
    fn default() -> Self {
        Self(Memory::new().keeping_settled())
    }
}

impl Fixture for Ram {
    type Store = Memory;

    fn store(&self) -> &Memory {
        &self.0
    }

    async fn reopen(&mut self) {}
}

/// A SQLite file whose memory is sealed after very few entries.
struct File {
    folder: TempDir,
    store: Sqlite,
    copies: usize,
}

impl File {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(folder.path().join("0.db"), Self::options()).unwrap();
        Self { folder, store, copies: 0 }
    }

    fn options() -> Options {
        Options { memory_tail: 4, hand_ahead: 3, ..Options::default() }
    }

    fn path(&self, copy: usize, end: &str) -> PathBuf {
        self.folder.path().join(format!("{copy}.db{end}"))
    }

    /// Goes on with a copy of the file and its log, as after a crash.
    async fn crash(&mut self) {
        let (old, new) = (self.copies, self.copies + 1);
        let copies = ["", "-wal"].map(|end| (self.path(old, end), self.path(new, end)));
        // Permissions too: a file that others can read is refused.
        let copy = |(from, to): (PathBuf, PathBuf)| std::fs::copy(from, to).map(drop).unwrap();
        self.store.at_rest(move || copies.into_iter().for_each(copy)).await;
        self.store = Sqlite::open(self.path(new, ""), Self::options()).unwrap();
        self.copies = new;
    }
}

impl Fixture for File {
    type Store = Sqlite;

    fn store(&self) -> &Sqlite {
        &self.store
    }

    async fn reopen(&mut self) {
        self.store.close().await;
        self.store = Sqlite::open(self.path(self.copies, ""), Self::options()).unwrap();
    }
}

async fn peer(fixture: &impl Fixture, name: &str) -> PeerId {
    fixture.store().peer_id(name.to_owned()).await.unwrap()
}

async fn commit(fixture: &impl Fixture, peer: PeerId, writes: impl IntoIterator<Item = Write>) {
    try_commit(fixture, peer, writes).await.unwrap();
}

async fn try_commit(
    fixture: &impl Fixture,
    peer: PeerId,
    writes: impl IntoIterator<Item = Write>,
) -> Result<(), Error> {
    fixture.store().commit(peer, Epoch(1), Arc::new(writes.into_iter().collect())).await
}

/// The whole outbox.
fn all() -> Select {
    Select::After { after: 0, rows_max: 100_000, bytes_max: usize::MAX }
}

fn queued(seq: u64) -> OutboxRow {
    let jti = format!("out-{seq}");
    OutboxRow {
        seq,
        digest: Digest::of(jti.as_bytes()),
        compact: token("out", seq).into(),
        jti: jti.into(),
        accepted_at: Wall(1_000 + seq),
        attempts: 0,
        story: Story::default(),
    }
}

/// A token, as long as all of its kind. Every third has another spelling than base64url has, and is no more than a text to a
/// store.
fn token(kind: &str, number: u64) -> String {
    let signature = if number.is_multiple_of(3) { "AAA=" } else { "AAAA" };
    format!("e30.{}.{signature}", base64url::encode(format!("{kind}-{number}").as_bytes()))
}

fn enqueue(seq: u64) -> Write {
    Write::Enqueue(queued(seq))
}

fn settle(seq: u64, outcome: Outcome) -> Write {
    let OutboxRow { jti, digest, accepted_at, .. } = queued(seq);
    let story = Story::default();
    Write::Settle { seq, jti, digest, accepted_at, outcome, at: Wall(2_000 + seq), attempts: 2, story }
}

fn received(number: u64) -> InboxRow {
    let compact = token("in", number);
    InboxRow {
        jti: format!("in-{number}").into(),
        digest: Digest::of(compact.as_bytes()),
        compact: compact.into(),
        received_at: Wall(1_000 + number),
    }
}

fn receive(number: u64) -> Write {
    Write::Receive(received(number))
}

fn refuse(number: u64) -> Write {
    let InboxRow { jti, digest, received_at, .. } = received(number);
    let refusal = Refusal::new(ErrorCode::InvalidAudience, format!("number {number} is not for us"));
    Write::Answer { jti, digest, verdict: Verdict::Refused(refusal), at: received_at }
}
