//! Where events go: into the hash and the trace, and to the judge.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pushpull::peer::Write;
use pushpull::set::{Digest, Jti};

use super::event::{Contents, Event, Org, Watch};

/// Whom the world tells.
pub trait Witness: Send + Sync {
    /// How many events there have been, and whether one of them broke something.
    fn note(&self, at: Duration, event: &Event) -> (u64, bool);
}

/// Keeps the hash of all events, prints them if wanted, and has a judge look at them.
pub struct Recorder<J> {
    inner: Mutex<Inner<J>>,
}

struct Inner<J> {
    judge: Option<J>,
    hash: Hash,
    count: u64,
    /// Print every event.
    trace: bool,
}

impl<J: Watch> Recorder<J> {
    pub fn new(judge: J, trace: bool) -> Arc<Self> {
        let inner = Inner { judge: Some(judge), hash: Hash(0xcbf2_9ce4_8422_2325), count: 0, trace };
        Arc::new(Self { inner: Mutex::new(inner) })
    }

    /// The hash of all events so far, and how many they were.
    pub fn hash(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.hash.0, inner.count)
    }

    /// Gives the judge back. Nothing is judged any more.
    pub fn take_judge(&self) -> J {
        self.lock().judge.take().expect("the judge is taken once")
    }

    fn lock(&self) -> MutexGuard<'_, Inner<J>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J: Watch> Witness for Recorder<J> {
    fn note(&self, at: Duration, event: &Event) -> (u64, bool) {
        let mut inner = self.lock();
        inner.hash.number(at.as_micros() as u64);
        inner.hash.event(event);
        inner.count += 1;
        if inner.trace {
            println!("{:>12.6} {}", at.as_secs_f64(), line(event));
        }
        if let Some(judge) = &mut inner.judge {
            judge.note(at, event);
        }
        (inner.count, inner.judge.as_ref().is_some_and(Watch::is_broken))
    }
}

/// FNV-1a over words. Formatting every event for it would take longer than the run.
struct Hash(u64);

impl Hash {
    fn number(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }

    fn org(&mut self, org: Org) {
        self.number(u64::from(org.0));
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.number(u64::from_le_bytes(word));
        }
    }

    fn digest(&mut self, digest: &Digest) {
        for half in digest.0.chunks(8) {
            let mut word = [0; 8];
            word.copy_from_slice(half);
            self.number(u64::from_le_bytes(word));
        }
    }

    fn jtis<'a>(&mut self, jtis: impl IntoIterator<Item = &'a Jti>) {
        jtis.into_iter().for_each(|jti| self.text(jti.as_str()));
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Member { org, role } => {
                self.number(1);
                self.org(*org);
                self.number(*role as u64);
            }
            Event::Submitted { from, to, jti, digest } | Event::Accepted { from, to, jti, digest } => {
                self.number(2 + u64::from(matches!(event, Event::Accepted { .. })));
                self.org(*from);
                self.org(*to);
                self.text(jti.as_str());
                self.digest(digest);
            }
            Event::Declined { from, to, jti, digest, why } => {
                self.number(4);
                self.org(*from);
                self.org(*to);
                self.text(jti.as_str());
                self.digest(digest);
                self.text(why);
            }
            Event::Left { from, to, link, sets, acks, errors, sets_max, bytes, bytes_max, tells: _ } => {
                self.number(5);
                self.org(*from);
                self.org(*to);
                self.number(*link);
                for size in [sets_max, bytes, bytes_max] {
                    self.number(*size as u64);
                }
                sets.iter().for_each(|(jti, digest)| {
                    self.text(jti.as_str());
                    self.digest(digest);
                });
                self.verdicts(acks, errors);
            }
            Event::Came { to, from, link, sets, acks, errors } => {
                self.number(6);
                self.org(*to);
                self.org(*from);
                self.number(*link);
                sets.iter().for_each(|(jti, digest, truth)| {
                    self.text(jti.as_str());
                    self.digest(digest);
                    self.number(*truth as u64);
                });
                self.verdicts(acks, errors);
            }
            Event::Durable { org, partner, writes } => {
                self.number(8);
                self.org(*org);
                self.org(*partner);
                writes.iter().for_each(|write| self.write(write));
            }
            Event::Died { org, why, contents } => {
                self.number(9);
                self.number(*why as u64);
                self.org(*org);
                self.contents(contents);
            }
            Event::Started { org, contents } | Event::Ends { org, contents } => {
                self.number(10 + u64::from(matches!(event, Event::Ends { .. })));
                self.org(*org);
                self.contents(contents);
            }
            other => self.text(&format!("{other:?}")),
        }
    }

    fn verdicts(&mut self, acks: &[Jti], errors: &[(Jti, String)]) {
        self.number(acks.len() as u64);
        self.jtis(acks);
        for (jti, error) in errors {
            self.text(jti.as_str());
            self.text(error);
        }
    }

    fn write(&mut self, write: &Write) {
        match write {
            Write::Enqueue(row) => {
                self.number(1);
                self.number(row.seq);
                self.number(u64::from(row.attempts));
                self.text(row.jti.as_str());
                self.digest(&row.digest);
                if !row.story.chapters().is_empty() {
                    self.text(&format!("{:?}", row.story));
                }
            }
            Write::Attempts { seq, attempts } => {
                self.number(2);
                self.number(*seq);
                self.number(u64::from(*attempts));
            }
            Write::Receive(row) => {
                self.number(3);
                self.text(row.jti.as_str());
                self.digest(&row.digest);
            }
            Write::Settle { seq, jti, outcome, attempts, .. } => {
                self.number(4);
                self.number(*seq);
                self.text(jti.as_str());
                self.number(u64::from(*attempts));
                self.text(&format!("{outcome:?}"));
            }
            Write::Lift { seq, jti, memory } => {
                self.number(5);
                self.number(*seq);
                self.text(jti.as_str());
                self.text(&format!("{memory:?}"));
            }
            Write::Answer { jti, digest, verdict, .. } => {
                self.number(6);
                self.text(jti.as_str());
                self.digest(digest);
                self.text(&format!("{verdict:?}"));
            }
            Write::Paused(paused) => {
                self.number(7);
                self.number(u64::from(*paused));
            }
        }
    }

    fn contents(&mut self, contents: &Contents) {
        for rows in [&contents.outbox, &contents.dead, &contents.inbox] {
            self.number(rows.len() as u64);
            for (org, rows) in rows {
                self.org(*org);
                self.number(rows.len() as u64);
                rows.iter().for_each(|(jti, digest)| {
                    self.text(jti.as_str());
                    self.digest(digest);
                });
            }
        }
        for (org, jtis) in &contents.answered {
            self.org(*org);
            for (jti, is_ack) in jtis {
                self.text(jti.as_str());
                self.number(u64::from(*is_ack));
            }
        }
        for (org, jtis) in &contents.settled {
            self.org(*org);
            for (jti, how) in jtis {
                self.text(jti.as_str());
                self.text(how);
            }
        }
        for (org, jtis) in &contents.damaged {
            self.org(*org);
            self.jtis(jtis);
        }
        self.text(&format!("{:?}", contents.counts));
    }
}

/// One event as people read it.
fn line(event: &Event) -> String {
    let mut text = format!("{event:?}");
    // Tokens and digests are of no use to a reader, and most of the text.
    for (opening, closing) in [("Digest([", "])"), ("compact: \"", "\"")] {
        while let Some(start) = text.find(opening) {
            let Some(length) = text[start + opening.len()..].find(closing) else { break };
            let end = start + opening.len() + length + closing.len();
            let mut short = String::new();
            if opening.starts_with("Digest") {
                let first: Vec<&str> = text[start + opening.len()..end - 2].split(", ").take(2).collect();
                for byte in first {
                    let _ = write!(short, "{:02x}", byte.parse::<u8>().unwrap_or_default());
                }
                short = format!("#{short}");
            } else {
                short.push_str("token");
            }
            text.replace_range(start..end, &short);
        }
    }
    text
}
