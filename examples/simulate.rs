//! Random federations of the real engine in pretend time, as many as wanted:
//! `cargo run --release --example simulate -- --seeds N [--seed S] [--trace | --twice | --isolated] [--threads T]`.

#[path = "../tests/simulation/sim/mod.rs"]
#[expect(dead_code, unreachable_pub, unused_imports, reason = "the tests use the rest")]
mod sim;

use std::process::ExitCode;
use std::time::Duration;

use sim::campaign::{Besides, Plan};
use tokio::time::Instant;

fn main() -> ExitCode {
    let plan = match plan(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(fault) => {
            eprintln!("{fault}\nusage: simulate [--seeds N] [--seed S] [--threads T] [--trace | --twice | --isolated]");
            return ExitCode::from(2);
        }
    };
    println!("{} seeds from --seed {} on {} threads", plan.seeds, plan.base, plan.threads);
    let began = Instant::now();
    let told = std::sync::Mutex::new(began);
    let sum = plan.run(|done, failure| {
        if let Some(failure) = failure {
            println!("{failure}");
        }
        let mut told = told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if told.elapsed() >= Duration::from_secs(10) {
            *told = Instant::now();
            println!("{done} seeds, {:.0} a minute", per_minute(done, began.elapsed()));
        }
    });
    println!("{sum}");
    println!("{:.0} seeds a minute", per_minute(sum.seeds, began.elapsed()));
    println!("{} of them broke something", sum.failures.len());
    // A handful of seeds need not meet everything.
    let (unmet, too_small) =
        if plan.seeds >= ENOUGH { (sum.unmet(plan.besides), sum.too_small()) } else { (Vec::new(), None) };
    if plan.besides == Besides::Isolated && sum.isolated == 0 {
        println!("nobody is hostile in any of them: there was nothing to compare");
    }
    for name in &unmet {
        println!("never met: {name}");
    }
    if let Some(average) = &too_small {
        println!("the federations are too small: {average}");
    }
    let is_well = sum.failures.is_empty() && unmet.is_empty() && too_small.is_none();
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// From so many seeds on everything has to have been met.
const ENOUGH: u64 = 2_000;

fn per_minute(seeds: u64, took: Duration) -> f64 {
    seeds as f64 / took.as_secs_f64().max(0.001) * 60.0
}

fn plan(mut arguments: impl Iterator<Item = String>) -> Result<Plan, String> {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let base = pushpull::random::Random::from_system().next_u64() >> 16;
    let mut plan = Plan { base, seeds: 100, trace: false, threads, besides: Besides::Sometimes };
    while let Some(flag) = arguments.next() {
        let mut number = || {
            let value = arguments.next().ok_or_else(|| format!("{flag} wants a number"))?;
            value.parse::<u64>().map_err(|_| format!("{flag} wants a number, not {value:?}"))
        };
        match flag.as_str() {
            "--seeds" => plan.seeds = number()?,
            "--seed" => plan.base = number()?,
            "--threads" => plan.threads = number()?.clamp(1, 256) as usize,
            "--trace" => plan.trace = true,
            "--twice" => plan.besides = Besides::Twice,
            "--isolated" => plan.besides = Besides::Isolated,
            other => return Err(format!("{other:?} is no option")),
        }
    }
    Ok(plan)
}
