//! Every store, under the same random calls, answers like a plain model of the contract, whatever crashes between.
//! `PUSHPULL_MODEL_RUNS` sequences from `PUSHPULL_MODEL_SEED` on; SQLite files lie in `PUSHPULL_MODEL_DIR`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "store_model/call.rs"]
mod call;
#[expect(dead_code, unreachable_pub, reason = "it belongs to the simulation")]
#[path = "simulation/sim/disk/mod.rs"]
mod disk;
#[expect(dead_code, unreachable_pub, reason = "it belongs to the simulation")]
#[path = "simulation/sim/event.rs"]
mod event;
#[path = "store_model/faults.rs"]
mod faults;
#[path = "store_model/faulty.rs"]
mod faulty;
#[path = "store_model/model.rs"]
mod model;
#[path = "store_model/op.rs"]
mod op;
#[path = "store_model/run.rs"]
mod run;
#[path = "store_model/subject.rs"]
mod subject;

use std::sync::{Arc, Once};

use pushpull::random::Random;
use tokio::sync::Notify;

use disk::{Bug, Bugs};
use faulty::{Faulty, Wrong};
use op::Mode;
use run::{Difference, Figures, Plan, run, shorten};
use subject::{File, Sim, Subject};

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

thread_local! {
    /// Told of a panic on this thread.
    static PANICKED: Arc<Notify> = Arc::default();
}

fn carry_out(plan: &Plan, subjects: impl AsyncFn(&Plan) -> Vec<Subject>, figures: &mut Figures) -> Option<Difference> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            usual(info);
            let _ = PANICKED.try_with(|panicked| panicked.notify_one());
        }));
    });
    let panicked = PANICKED.with(Arc::clone);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let ran = async {
            let subjects = subjects(plan).await;
            run(plan, subjects, figures).await.err()
        };
        tokio::select! {
            difference = ran => difference,
            // A store whose task is gone would be waited for without end.
            () = panicked.notified() => panic!("seed {}: a store panicked", plan.seed),
        }
    })
}

/// The stores that a sequence is carried out on.
async fn every_store(plan: &Plan) -> Vec<Subject> {
    let mut random = Random::new(plan.seed ^ 0x5707);
    let memory_tail = usize::try_from(1 + random.below(8)).unwrap();
    let file = || Subject::File(File::new(memory_tail, random.clone().below(5)));
    match plan.mode {
        Mode::Together => {
            vec![Subject::memory(), file(), Subject::Sim(Sim::new(plan.seed, Bugs::default()).await)]
        }
        Mode::Cut => vec![file()],
        Mode::Kill => vec![Subject::Sim(Sim::new(plan.seed, Bugs::default()).await)],
    }
}

#[test]
fn all_stores_answer_like_the_model() {
    let runs = setting("PUSHPULL_MODEL_RUNS").unwrap_or(60);
    let first = setting("PUSHPULL_MODEL_SEED").unwrap_or_else(|| Random::from_system().next_u64() >> 16);
    println!("{runs} sequences from seed {first} on");
    let mut figures = Figures::default();
    for seed in first..first + runs {
        let plan = Plan::of(seed, None);
        let Some(difference) = carry_out(&plan, every_store, &mut figures) else { continue };
        let fails = |plan: &Plan| carry_out(plan, every_store, &mut Figures::default());
        let (plan, difference) = shorten(&plan, difference, &fails);
        let ops: Vec<String> = plan.ops.iter().map(|op| format!("  {op:?}")).collect();
        panic!(
            "seed {seed}, {:?}, at the last of these or after it:\n{}\n{}\nPUSHPULL_MODEL_SEED={seed} \
             PUSHPULL_MODEL_RUNS=1 cargo test --test store_model -- all_stores",
            plan.mode,
            ops.join("\n"),
            difference.what
        );
    }
    println!("no difference: {figures:?}");
    let Figures { cuts, cuts_that_lost, kills, kills_that_lost, crashes, .. } = figures;
    // Sixty have each mode twelve times. Whether a crash loses something is a matter of luck.
    assert!(runs < 60 || (crashes > 0 && cuts > 0 && kills > 0), "something was never met: {figures:?}");
    assert!(runs < 300 || (cuts_that_lost > 0 && kills_that_lost > 0), "nothing was ever lost: {figures:?}");
}

/// How many sequences it takes to notice; at most so many are tried.
fn noticed(most: u64, mode: Mode, subjects: impl AsyncFn(&Plan) -> Vec<Subject> + Copy) -> Option<u64> {
    let first = Random::from_system().next_u64() >> 16;
    (0..most).find(|number| {
        let plan = Plan::of(first + number, Some(mode));
        carry_out(&plan, subjects, &mut Figures::default()).is_some()
    })
}

#[test]
fn a_store_that_does_something_wrong_is_noticed() {
    for wrong in [Wrong::SwallowedWrite, Wrong::OutOfOrder, Wrong::StaleRead] {
        let found = noticed(50, Mode::Together, async move |_: &Plan| vec![Subject::Ram(Box::new(Faulty::new(wrong)))]);
        assert!(found.is_some(), "{wrong:?} was not noticed");
        println!("{wrong:?}: noticed in sequence {}", found.unwrap() + 1);
    }
}

#[test]
fn the_mistakes_of_the_simulated_store_are_noticed() {
    // A skipped damaged row needs damage, of which `faults` has its own test.
    for bug in Bug::ALL.into_iter().filter(|bug| *bug != Bug::DamageSkipped) {
        let found = noticed(3_000, Mode::Kill, async move |plan: &Plan| {
            vec![Subject::Sim(Sim::new(plan.seed, Bugs::only(bug)).await)]
        });
        assert!(found.is_some(), "{bug:?} was not noticed");
        println!("{bug:?}: noticed in sequence {}", found.unwrap() + 1);
    }
}

#[test]
fn a_failing_sequence_is_made_shorter() {
    let subjects = async |_: &Plan| vec![Subject::Ram(Box::new(Faulty::new(Wrong::OutOfOrder)))];
    let fails = |plan: &Plan| carry_out(plan, subjects, &mut Figures::default());
    let mut failing = (1..).map(|seed| Plan::of(seed, Some(Mode::Together))).filter(|plan| plan.ops.len() > 30);
    let (plan, difference) = failing.find_map(|plan| fails(&plan).map(|difference| (plan, difference))).unwrap();
    let (shorter, difference) = shorten(&plan, difference, &fails);
    assert!(shorter.ops.len() <= 4, "{shorter:?} {difference:?}");
    assert!(fails(&shorter).is_some());
}
