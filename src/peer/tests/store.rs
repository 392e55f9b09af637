//! A pretend store: it applies writes as a real one must, and is all that survives a crash of its end.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::peer::{
    Counts, DeadLetter, Fate, InboxRow, OutboxRow, Outcome, Page, Remembered, Saved, Select, Story, Write,
};
use crate::set::Jti;

#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) outbox: BTreeMap<u64, OutboxRow>,
    /// What is remembered of SETs that were sent.
    pub(super) sent: HashMap<Jti, Remembered>,
    /// What is remembered of SETs that were received.
    pub(super) seen: HashMap<Jti, Remembered>,
    pub(super) inbox: Vec<InboxRow>,
    pub(super) counts: Counts,
    pub(super) dead: BTreeMap<u64, DeadLetter>,
    pub(super) damaged: BTreeSet<u64>,
    next_seq: u64,
    paused: bool,
}

impl Store {
    /// Makes one write durable. False if it had taken effect before.
    pub(super) fn apply(&mut self, write: &Write) -> bool {
        let news = match write {
            Write::Enqueue(row) => self.enqueue(row),
            Write::Attempts { seq, attempts } => match self.outbox.get_mut(seq) {
                Some(row) => {
                    row.attempts = *attempts;
                    true
                }
                None => false,
            },
            Write::Settle { seq, jti, digest, accepted_at, outcome, at, attempts, story } => {
                let fate = Fate::Settled { outcome: outcome.clone(), at: *at, attempts: *attempts };
                let story = story.clone();
                let memory = Remembered { digest: *digest, seq: *seq, since: *accepted_at, fate, story };
                let row = self.outbox.remove(seq);
                if let Some(row) = &row {
                    if *outcome != Outcome::Acked {
                        let (jti, compact) = (jti.clone(), row.compact.clone());
                        self.dead.insert(*seq, DeadLetter { jti, compact, memory: memory.clone() });
                    }
                    self.sent.insert(jti.clone(), memory);
                }
                row.is_some()
            }
            Write::Lift { seq, jti, memory } => {
                let news = self.dead.remove(seq).is_some();
                if let Some(memory) = memory.clone().filter(|_| news) {
                    self.sent.insert(jti.clone(), memory);
                }
                news
            }
            Write::Receive(row) => {
                let news = self.remember(&row.jti, row.digest, row.received_at, crate::peer::Verdict::Acked);
                if news {
                    self.inbox.push(row.clone());
                }
                news
            }
            Write::Answer { jti, digest, verdict, at } => self.remember(jti, *digest, *at, verdict.clone()),
            Write::Paused(paused) => {
                self.paused = *paused;
                true
            }
        };
        if news {
            self.counts.apply(write);
        }
        news
    }

    fn enqueue(&mut self, row: &OutboxRow) -> bool {
        if self.sent.get(&row.jti).is_some_and(|known| known.seq >= row.seq) {
            return false;
        }
        self.next_seq = self.next_seq.max(row.seq + 1);
        let (story, fate) = (row.story.clone(), Fate::Queued);
        let memory = Remembered { digest: row.digest, seq: row.seq, since: row.accepted_at, fate, story };
        self.sent.insert(row.jti.clone(), memory);
        self.outbox.insert(row.seq, row.clone());
        true
    }

    fn remember(
        &mut self,
        jti: &Jti,
        digest: crate::set::Digest,
        since: crate::clock::Wall,
        verdict: crate::peer::Verdict,
    ) -> bool {
        if self.seen.contains_key(jti) {
            return false;
        }
        let (fate, story) = (Fate::Answered(verdict), Story::default());
        self.seen.insert(jti.clone(), Remembered { digest, seq: 0, since, fate, story });
        true
    }

    pub(super) fn saved(&self) -> Saved {
        Saved { next_seq: self.next_seq.max(1), paused: self.paused, counts: self.counts }
    }

    pub(super) fn outcome(&self, jti: &str) -> Option<Outcome> {
        match &self.sent.get(jti)?.fate {
            Fate::Settled { outcome, .. } => Some(outcome.clone()),
            _ => None,
        }
    }

    pub(super) fn attempts(&self, jti: &str) -> u32 {
        match &self.sent[jti].fate {
            Fate::Settled { attempts, .. } => *attempts,
            _ => self.outbox[&self.sent[jti].seq].attempts,
        }
    }

    pub(super) fn read(&self, select: &Select) -> Page {
        let mut page = Page::default();
        let put = |page: &mut Page, row: &OutboxRow| {
            if self.damaged.contains(&row.seq) { page.damaged.push(row.seq) } else { page.rows.push(row.clone()) }
        };
        match select {
            Select::After { after, rows_max, bytes_max } => {
                page.read_to = *after;
                let mut bytes = 0;
                for row in self.outbox.range(after + 1..).map(|(_, row)| row) {
                    let count = page.rows.len() + page.damaged.len();
                    if count > 0 && (count >= *rows_max || bytes + row.compact.len() > *bytes_max) {
                        break;
                    }
                    bytes += row.compact.len();
                    page.read_to = row.seq;
                    put(&mut page, row);
                }
            }
            Select::Seqs(seqs) => {
                let seqs: BTreeSet<u64> = seqs.iter().copied().collect();
                for row in seqs.iter().filter_map(|seq| self.outbox.get(seq)) {
                    put(&mut page, row);
                }
            }
        }
        page
    }
}
