//! Carries a sequence out on the model and on stores, and tells where they part.

use std::time::Duration;

use pushpull::clock::Wall;
use pushpull::peer::{Direction, PeerId};
use pushpull::random::Random;
use pushpull::store::Handed;

use crate::call::{Answer, Call, ask, inventory};
use crate::model::Model;
use crate::op::{CONSUMERS, Change, Mode, Op, PEERS, jtis, sequence, writes};
use crate::subject::{Extent, Subject};

/// One sequence.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) mode: Mode,
    pub(crate) ops: Vec<Op>,
}

impl Plan {
    pub(crate) fn of(seed: u64, mode: Option<Mode>) -> Self {
        let mut random = Random::new(seed);
        // In turn, so that a few sequences meet every mode.
        let drawn = match seed % 10 {
            0..6 => Mode::Together,
            6..8 => Mode::Cut,
            _ => Mode::Kill,
        };
        let mode = mode.unwrap_or(drawn);
        Self { seed, mode, ops: sequence(&mut random, mode) }
    }
}

/// What was met, so that nobody believes in a check that never ran.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) calls: u64,
    pub(crate) crashes: u64,
    pub(crate) cuts: u64,
    /// The log was not cut, as pages of it were in the database already: the files were copied whole.
    pub(crate) cuts_refused: u64,
    pub(crate) cuts_that_lost: u64,
    pub(crate) kills: u64,
    pub(crate) kills_that_lost: u64,
}

/// The place of the operation at which they part, and how.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    pub(crate) at: usize,
    pub(crate) what: String,
}

struct Run<'a> {
    model: Model,
    subjects: Vec<Subject>,
    last: Option<Call>,
    era: u64,
    restarted: bool,
    /// What a cut may fall back to: each state, and how far the log reached when it was answered.
    past: Vec<(Model, Extent)>,
    figures: &'a mut Figures,
}

/// Carries out the sequence.
pub(crate) async fn run(plan: &Plan, subjects: Vec<Subject>, figures: &mut Figures) -> Result<(), Difference> {
    let (model, past) = (Model::default(), Vec::new());
    let mut run = Run { model, subjects, last: None, era: 1, restarted: false, past, figures };
    let whole = |what| Difference { at: plan.ops.len(), what };
    run.go_on_from(vec![Model::default()]);
    run.name_peers().await.map_err(whole)?;
    for (at, op) in plan.ops.iter().enumerate() {
        run.perform(op).await.map_err(|what| Difference { at, what })?;
        run.call(Call::Look).await.map_err(|what| Difference { at, what })?;
    }
    run.take_stock().await.map_err(whole)?;
    run.perform(&Op::Crash).await.map_err(whole)?;
    run.take_stock().await.map_err(whole)
}

impl Run<'_> {
    async fn perform(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Commit { who, changes } => {
                let call = self.commit(*who, changes);
                self.last = Some(call.clone());
                self.call(call).await?;
            }
            Op::Again => {
                if let Some(call) = self.last.clone() {
                    self.call(call).await?;
                }
            }
            Op::Read(read) => self.call(read.call(self.era)).await?,
            Op::PurgeMemory => {
                self.era += 1;
                // Nobody repeats a commit a month later.
                self.last = None;
                self.call(Call::Purge(Wall(self.era * 1_000_000))).await?;
            }
            Op::Reopen => {
                self.restarted = true;
                for subject in &mut self.subjects {
                    subject.reopen().await;
                }
            }
            Op::Crash => {
                self.figures.crashes += 1;
                self.restarted = true;
                for subject in &mut self.subjects {
                    subject.crash().await;
                }
            }
            Op::Cut(keep) => self.cut(*keep).await?,
            Op::KillWithin { who, changes, how, after } => self.kill_within(*who, changes, *how, *after).await?,
            Op::GiveUp { who, changes } => self.give_up(*who, changes).await?,
        }
        Ok(())
    }

    fn commit(&self, who: usize, changes: &[Change]) -> Call {
        let peer = PeerId(u32::try_from(who + 1).unwrap());
        Call::Commit(peer, writes(&self.model, peer, changes, self.era))
    }

    /// Asks everybody the same.
    async fn call(&mut self, call: Call) -> Result<(), String> {
        self.figures.calls += 1;
        let between = half_way(&self.model, &call);
        let expected = self.model.answer(&call);
        for subject in &self.subjects {
            let found = ask(subject.store(), call.clone()).await;
            agree(&self.model, &call, &expected, &found, self.restarted)
                .map_err(|why| format!("{} was asked {}: {why}", subject.name(), brief(&call)))?;
        }
        if let Some(Subject::File(file)) = self.subjects.first() {
            let extent = file.extent();
            self.past.extend(between.map(|model| (model, extent)));
            self.past.push((self.model.clone(), extent));
        }
        Ok(())
    }

    async fn name_peers(&mut self) -> Result<(), String> {
        for name in &PEERS[..2] {
            self.call(Call::PeerId((*name).to_owned())).await?;
        }
        Ok(())
    }

    async fn take_stock(&mut self) -> Result<(), String> {
        for call in self.inventory() {
            self.call(call).await?;
        }
        Ok(())
    }

    fn inventory(&self) -> Vec<Call> {
        inventory(&[PeerId(1), PeerId(2)], &jtis(self.era), &CONSUMERS)
    }

    /// Cuts the log, and finds out which state is left: one that was, and none older than what is still in the log.
    async fn cut(&mut self, keep: u64) -> Result<(), String> {
        let Some(Subject::File(file)) = self.subjects.first_mut() else { return Ok(()) };
        self.figures.crashes += 1;
        self.restarted = true;
        let Some(cut) = file.crash(Some(keep)) else {
            self.figures.cuts_refused += 1;
            return Ok(());
        };
        self.figures.cuts += 1;
        let kept = |extent: &Extent| extent.salt != cut.salt || extent.end <= cut.end;
        let oldest = self.past.iter().rposition(|(_, extent)| kept(extent)).unwrap_or(0);
        let newest = self.past.len() - 1;
        let candidates = self.past[oldest..].iter().map(|(model, _)| model.clone()).collect();
        let (found, trail) = self.settle_on(candidates).await?;
        self.figures.cuts_that_lost += u64::from(oldest + found < newest);
        self.past.truncate(oldest + found + 1);
        for (_, extent) in &mut self.past {
            if extent.salt == cut.salt {
                extent.end = extent.end.min(cut.end);
            }
        }
        self.go_on_from(trail);
        // Even the peers may have been cut away.
        self.name_peers().await
    }

    async fn kill_within(&mut self, who: usize, changes: &[Change], how: u64, after: u64) -> Result<(), String> {
        let call = self.commit(who, changes);
        let Some(Subject::Sim(sim)) = self.subjects.first_mut() else { return Ok(()) };
        self.figures.kills += 1;
        self.restarted = true;
        let mut done = self.model.clone();
        let expected = done.answer(&call);
        let answer = sim.kill_within(call, how, after).await;
        let candidates = match answer {
            Some(Answer::Full) => vec![self.model.clone()],
            None | Some(Answer::Fatal(_)) => vec![self.model.clone(), done],
            Some(answer) if answer == expected => vec![done],
            Some(answer) => return Err(format!("answered {answer:?}, not {expected:?}")),
        };
        let sure = candidates.len() == 1;
        let (found, trail) = self.settle_on(candidates).await?;
        self.figures.kills_that_lost += u64::from(!sure && found == 0);
        self.go_on_from(trail);
        Ok(())
    }

    async fn give_up(&mut self, who: usize, changes: &[Change]) -> Result<(), String> {
        let call = self.commit(who, changes);
        let Call::Commit(peer, _) = &call else { return Ok(()) };
        let peer = *peer;
        let mut done = self.model.clone();
        done.answer(&call);
        for subject in &self.subjects {
            // It is begun, and dropped at once.
            drop(tokio::time::timeout(Duration::ZERO, ask(subject.store(), call.clone())).await);
            // From here on it has happened, or never will.
            ask(subject.store(), Call::Recover(peer)).await;
        }
        let (_, trail) = self.settle_on(vec![self.model.clone(), done]).await?;
        self.go_on_from(trail);
        Ok(())
    }

    /// Takes stock of the first store: which of these models it is like (the newest of them), and the states that taking
    /// stock led through.
    async fn settle_on(&mut self, candidates: Vec<Model>) -> Result<(usize, Vec<Model>), String> {
        let mut answers = Vec::new();
        for call in self.inventory() {
            let answer = ask(self.subjects[0].store(), call.clone()).await;
            answers.push((call, answer));
        }
        let mut why = String::new();
        for (place, mut model) in candidates.into_iter().enumerate().rev() {
            let mut trail = vec![model.clone()];
            let like = answers.iter().try_for_each(|(call, found)| {
                trail.extend(half_way(&model, call));
                let expected = model.answer(call);
                trail.push(model.clone());
                agree(&model, call, &expected, found, true).map_err(|why| format!("asked {}: {why}", brief(call)))
            });
            match like {
                Ok(()) => return Ok((place, trail)),
                Err(difference) if why.is_empty() => why = difference,
                Err(_) => {}
            }
        }
        Err(format!("{} is in no state that it may be in; {why}", self.subjects[0].name()))
    }

    fn go_on_from(&mut self, trail: Vec<Model>) {
        self.model.clone_from(trail.last().unwrap());
        // Whoever repeats a commit knows that it was not answered; here it may have been, long ago.
        self.last = None;
        if let Some(Subject::File(file)) = self.subjects.first() {
            let extent = file.extent();
            self.past.extend(trail.into_iter().map(|model| (model, extent)));
        }
    }
}

/// A first read is two transactions: between them the consumer is made, and was given nothing.
fn half_way(model: &Model, call: &Call) -> Option<Model> {
    match call {
        Call::ReadInbox(name, ..) if !model.has_consumer(name) => {
            let mut model = model.clone();
            model.answer(&Call::ReadInbox(name.clone(), None, 0));
            Some(model)
        }
        _ => None,
    }
}

/// Whether an answer is as it has to be.
fn agree(model: &Model, call: &Call, expected: &Answer, found: &Answer, restarted: bool) -> Result<(), String> {
    let agrees = match (call, expected, found) {
        (Call::Known(peer, direction, jtis), Answer::Known(expected), Answer::Known(found)) => {
            let may_differ = |jti, found: &Option<_>| found.is_none() && model.may_be_gone(*peer, *direction, jti);
            for (jti, (expected, found)) in jtis.iter().zip(expected.iter().zip(found)) {
                if expected != found && !may_differ(jti, found) {
                    return Err(format!("of {jti} expected {expected:?}, found {found:?}"));
                }
            }
            expected.len() == found.len()
        }
        (Call::History(jti), Answer::History(expected), Answer::History(found)) => {
            let mut found = found.iter().peekable();
            let told = expected.iter().all(|memory: &(PeerId, Direction, _)| {
                found.next_if(|found| *found == memory).is_some() || model.may_be_gone(memory.0, memory.1, jti)
            });
            told && found.next().is_none()
        }
        (_, Answer::Handed(expected), Answer::Handed(found)) if restarted => {
            // After a restart more may be marked than was handed out, and never less.
            let alike = |expected: &Handed, found: &Handed| {
                (expected.seq, expected.peer, &expected.row) == (found.seq, found.peer, &found.row)
                    && (found.redelivered || !expected.redelivered)
            };
            expected.len() == found.len() && expected.iter().zip(found).all(|(expected, found)| alike(expected, found))
        }
        _ => expected == found,
    };
    if agrees { Ok(()) } else { Err(format!("expected {expected:?}, found {found:?}")) }
}

/// The call for a message: without the long list of jtis that taking stock asks for.
fn brief(call: &Call) -> String {
    match call {
        Call::Known(peer, direction, jtis) if jtis.len() > 9 => format!("Known({peer:?}, {direction:?}, all jtis)"),
        call => format!("{call:?}"),
    }
}

/// Makes a failing sequence shorter, as long as it fails.
pub(crate) fn shorten(
    plan: &Plan,
    difference: Difference,
    fails: &dyn Fn(&Plan) -> Option<Difference>,
) -> (Plan, Difference) {
    let (mut shortest, mut difference) = (plan.clone(), difference);
    shortest.ops.truncate(difference.at + 1);
    let mut tries = 0;
    let mut at = shortest.ops.len();
    while at > 0 && tries < 300 {
        at -= 1;
        tries += 1;
        let mut shorter = shortest.clone();
        shorter.ops.remove(at);
        if let Some(other) = fails(&shorter) {
            shorter.ops.truncate(other.at + 1);
            at = at.min(shorter.ops.len());
            (shortest, difference) = (shorter, other);
        }
    }
    (shortest, difference)
}
