//! What happens in a sequence, before it is known at which places: small numbers, so that they meet.

use std::sync::Arc;

use pushpull::clock::Wall;
use pushpull::peer::{
    Chapter, DeadLetter, DeathCause, Direction, InboxRow, OutboxRow, Outcome, PeerId, Place, Remembered, Select, Story,
    Stretch, Verdict, Write,
};
use pushpull::random::Random;
use pushpull::set::{Digest, ErrorCode, Jti, Refusal, SetErr, base64url};

use crate::call::{Call, all_dead, everything, row};
use crate::model::Model;

/// Peers that every sequence has, by the number that they get.
pub(crate) const PEERS: [&str; 3] = ["a", "b", "c"];
pub(crate) const CONSUMERS: [&str; 2] = ["app", "audit"];
/// Jtis of one era: what was purged with an era does not come again.
const JTIS: u64 = 24;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Commit {
        who: usize,
        changes: Vec<Change>,
    },
    /// The last commit once more, as when nobody knows what became of it.
    Again,
    Read(Read),
    /// Everything that was remembered until now may go, and the next era begins.
    PurgeMemory,
    Reopen,
    Crash,
    /// A crash that leaves so many of 65,536 parts of the log.
    Cut(u64),
    /// The process dies within a commit, in this way, after so many milliseconds.
    KillWithin {
        who: usize,
        changes: Vec<Change>,
        how: u64,
        after: u64,
    },
    /// A commit is begun and given up.
    GiveUp {
        who: usize,
        changes: Vec<Change>,
    },
}

/// A call that needs nothing but numbers.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    kind: u64,
    who: usize,
    number: u64,
    numbers: Vec<u64>,
    max: usize,
    bytes: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Change {
    Enqueue(u64),
    Attempts(u64, u32),
    Settle(u64, u64),
    Receive(u64),
    Refuse(u64),
    Acknowledge(u64),
    Paused(bool),
    Resend(u64),
    Reissue(u64, u64),
    Discard(u64),
}

/// Which crashes a sequence has. Where one may lose something, a single store is compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    /// All stores, and crashes that lose nothing.
    Together,
    /// The SQLite store, whose log is cut.
    Cut,
    /// The simulated store, killed within commits.
    Kill,
}

pub(crate) fn sequence(random: &mut Random, mode: Mode) -> Vec<Op> {
    let len = 1 + random.below(60);
    (0..len).map(|_| op(random, mode)).collect()
}

fn op(random: &mut Random, mode: Mode) -> Op {
    let who = index(random, 2);
    match random.below(100) {
        0..40 => Op::Commit { who, changes: changes(random) },
        40..44 => Op::Again,
        44..90 => Op::Read(read(random)),
        90..92 => Op::PurgeMemory,
        92..94 => Op::Reopen,
        94..96 => Op::Crash,
        _ => match mode {
            Mode::Together => Op::Crash,
            _ if random.below(4) == 0 => Op::GiveUp { who, changes: changes(random) },
            Mode::Cut => Op::Cut(random.below(65_537)),
            Mode::Kill => {
                let (how, after) = (random.below(6), random.below(40));
                Op::KillWithin { who, changes: changes(random), how, after }
            }
        },
    }
}

fn index(random: &mut Random, below: u64) -> usize {
    usize::try_from(random.below(below)).unwrap()
}

fn changes(random: &mut Random) -> Vec<Change> {
    let len = random.below(6);
    (0..len).map(|_| change(random)).collect()
}

fn change(random: &mut Random) -> Change {
    let (seq, number) = (1 + random.below(12), random.below(JTIS));
    match random.below(18) {
        0..4 => Change::Enqueue(number),
        4 => Change::Attempts(seq, u32::try_from(random.below(4)).unwrap()),
        5..8 => Change::Settle(seq, random.below(4)),
        8..12 => Change::Receive(number),
        12 => Change::Refuse(number),
        13 => Change::Acknowledge(number),
        14 => Change::Paused(random.below(2) == 0),
        15 => Change::Resend(seq),
        16 => Change::Reissue(seq, number),
        _ => Change::Discard(seq),
    }
}

fn read(random: &mut Random) -> Read {
    let count = random.below(6);
    Read {
        kind: random.below(40),
        who: index(random, 2),
        number: random.below(JTIS),
        numbers: (0..count).map(|_| random.below(JTIS)).collect(),
        max: index(random, 6),
        bytes: index(random, 1_600),
    }
}

/// The jti of this number, in this era.
pub(crate) fn jti(way: &str, era: u64, number: u64) -> Jti {
    format!("{way}-{era}-{number}").into()
}

/// Every jti there may be by now. Both ways share some: a partner may use our jtis.
pub(crate) fn jtis(era: u64) -> Vec<Jti> {
    let numbers = (0..=era).flat_map(|era| (0..JTIS).map(move |number| (era, number)));
    numbers.flat_map(|(era, number)| [jti("out", era, number), jti("in", era, number)]).collect()
}

impl Read {
    /// The call in this era, for peers of these numbers.
    pub(crate) fn call(&self, era: u64) -> Call {
        let (number, max) = (self.number, self.max);
        let peer = PeerId(u32::try_from(self.who + 1).unwrap());
        let name = CONSUMERS[self.who].to_owned();
        let after = (number % 3 > 0).then_some(number);
        let jtis = |way| self.numbers.iter().map(|number| jti(way, era, *number)).collect();
        match self.kind {
            0..3 => Call::Known(peer, Direction::Out, jtis("out")),
            3..6 => Call::Known(peer, Direction::In, jtis("in")),
            6 => Call::Known(peer, Direction::In, jtis("out")),
            7 => Call::History(jti("in", era.saturating_sub(number % 2), number)),
            8 => Call::History(jti("out", era.saturating_sub(number % 2), number)),
            9..12 => {
                let (after, rows_max, bytes_max) = (number / 2, max, self.bytes);
                Call::ReadOutbox(peer, Select::After { after, rows_max, bytes_max })
            }
            12 => Call::ReadOutbox(peer, Select::Seqs(self.numbers.clone())),
            13 => Call::ReadOutbox(peer, everything()),
            14..16 => {
                let after = Place::of(peer, number / 2);
                Call::ReadDead(Stretch { after, rows_max: max, bytes_max: self.bytes, ..all_dead() })
            }
            16 => Call::DeadAt(peer, self.numbers.clone()),
            17..23 => Call::ReadInbox(name, after, max),
            23 => Call::Peek(after, max),
            24..28 => Call::Confirm(name, number),
            28 => Call::Forget(name),
            29..31 => Call::Purge(Wall(0)),
            31 => Call::Probe,
            32 => Call::PeerId(PEERS[max % PEERS.len()].to_owned()),
            33 => Call::Names,
            34 => Call::Added,
            35 => Call::AddPeer(format!("added-{}", max % 3), format!("url = \"{number}\"")),
            36 => Call::RemovePeer(format!("added-{}", max % 3)),
            37 => Call::Recover(PeerId(u32::try_from(max).unwrap())),
            38 => Call::Commit(PeerId(77), vec![Write::Paused(true)]),
            _ => {
                let row = row(0, jti("out", era, number), "a.b.c".into(), Digest::default(), 1);
                Call::Commit(peer, vec![Write::Paused(true), Write::Enqueue(row)])
            }
        }
    }
}

/// What a core would ask for, given what is there.
pub(crate) fn writes(model: &Model, peer: PeerId, changes: &[Change], era: u64) -> Vec<Write> {
    // Changes build on those before them in the same commit.
    let mut model = model.clone();
    let mut writes = Vec::new();
    for change in changes {
        let next = of_change(&model, peer, change, era);
        model.answer(&Call::Commit(peer, next.clone()));
        writes.extend(next);
    }
    writes
}

fn of_change(model: &Model, peer: PeerId, change: &Change, era: u64) -> Vec<Write> {
    let next_seq = model.saved(peer).map_or(1, |saved| saved.next_seq);
    let at = |number: u64| era * 1_000_000 + number;
    let inbound = |number: u64| {
        let compact = token("in", number);
        let digest = Digest::of(compact.as_bytes());
        InboxRow { jti: jti("in", era, number), compact: compact.into(), digest, received_at: Wall(at(number)) }
    };
    match *change {
        Change::Enqueue(number) => {
            let jti = jti("out", era, number);
            if model.queued(peer).iter().any(|row| row.jti == jti) {
                // A core does not queue what waits already.
                return Vec::new();
            }
            // Clocks go back: what is queued later may have been accepted earlier.
            vec![Write::Enqueue(outbound(next_seq, jti, number, at(next_seq * 37 % 400)))]
        }
        Change::Attempts(seq, attempts) => vec![Write::Attempts { seq, attempts }],
        Change::Settle(seq, end) => {
            let row = model.queued(peer).into_iter().find(|row| row.seq == seq);
            // One that is not there is never there: a core settles no SET under the name of another, and would if this
            // commit were repeated when the place is taken.
            let OutboxRow { seq, jti, digest, accepted_at, story, .. } =
                row.unwrap_or_else(|| outbound(900 + seq, "none".into(), seq, at(seq)));
            let outcome = match end {
                0 => Outcome::Acked,
                1 => Outcome::Refused(SetErr { err: "e".repeat(300), description: "é".repeat(900) }),
                2 => Outcome::Dead(DeathCause::Attempts),
                _ => Outcome::Dead(DeathCause::Age),
            };
            vec![Write::Settle { seq, jti, digest, accepted_at, outcome, at: Wall(at(500 + seq)), attempts: 2, story }]
        }
        Change::Receive(number) => vec![Write::Receive(inbound(number))],
        Change::Refuse(number) => {
            let InboxRow { jti, digest, received_at, .. } = inbound(number);
            let verdict = Verdict::Refused(Refusal::new(ErrorCode::InvalidAudience, format!("number {number}")));
            vec![Write::Answer { jti, digest, verdict, at: received_at }]
        }
        Change::Acknowledge(number) => {
            let InboxRow { jti, digest, received_at, .. } = inbound(number);
            vec![Write::Answer { jti, digest, verdict: Verdict::Acked, at: received_at }]
        }
        Change::Paused(paused) => vec![Write::Paused(paused)],
        Change::Resend(seq) | Change::Reissue(seq, _) | Change::Discard(seq) => {
            let letter = model.dead_letter(peer, seq);
            let waits = |jti: &Jti| model.queued(peer).iter().any(|row| row.jti == *jti);
            letter
                .filter(|letter| !waits(&letter.jti))
                .map_or_else(Vec::new, |letter| redriven(letter, change, next_seq, era, &waits))
        }
    }
}

/// Every third has another spelling than base64url has, and is no more than a text to a store.
fn token(kind: &str, number: u64) -> String {
    let signature = if number.is_multiple_of(3) { "AAA=" } else { "AAAA" };
    format!("{}.{}.{signature}", "header".repeat(30), base64url::encode(format!("{kind}-{number}").as_bytes()))
}

fn outbound(seq: u64, jti: Jti, number: u64, at: u64) -> OutboxRow {
    let compact: Arc<str> = token("out", number).into();
    row(seq, jti, compact, Digest::of(&number.to_le_bytes()), at)
}

/// An operator's act on a dead letter.
fn redriven(letter: DeadLetter, change: &Change, next_seq: u64, era: u64, waits: &dyn Fn(&Jti) -> bool) -> Vec<Write> {
    let DeadLetter { jti: old, compact, memory } = letter;
    let (seq, told, at) = (memory.seq, memory.story.clone(), era * 1_000_000 + next_seq);
    let row = |jti: Jti, story: Story| {
        Write::Enqueue(OutboxRow { story, ..row(next_seq, jti, Arc::clone(&compact), memory.digest, at) })
    };
    let closed = |chapter| Some(Remembered { story: told.and(chapter), ..memory.clone() });
    match change {
        Change::Resend(_) => {
            let series = Chapter::Series { since: memory.since, cause: DeathCause::Age, at: Wall(at), attempts: 2 };
            vec![Write::Lift { seq, jti: old.clone(), memory: None }, row(old, told.and(series))]
        }
        Change::Reissue(_, number) => {
            let new = jti("out", era, *number);
            if new == old || waits(&new) {
                return Vec::new();
            }
            let memory = closed(Chapter::ReissuedAs { jti: new.clone(), at: Wall(at) });
            let story = Story::of(vec![Chapter::ReissueOf(old.clone())]);
            vec![Write::Lift { seq, jti: old, memory }, row(new, story)]
        }
        _ => vec![Write::Lift { seq, jti: old, memory: closed(Chapter::Discarded { at: Wall(at) }) }],
    }
}
