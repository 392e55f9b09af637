//! What each SET costs beside its signature: signed, verified, carried in a Communication Object, and taken through the
//! core. `cargo bench --bench protocol -- verify/ES256` runs one group; `overhead` is what a call takes beyond the bare
//! operation of AWS-LC on the same bytes, both measured in turns. All times are the thread's own on a CPU.

#[path = "protocol/carry.rs"]
mod carry;
#[path = "protocol/core.rs"]
mod core;
#[path = "protocol/cpu.rs"]
mod cpu;
#[path = "protocol/sample.rs"]
mod sample;

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::Measurement as _;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use pushpull::set::{Digest, Draft, KeySet, SignedSet, SigningKey, Written, complete, report, verify};
use serde_json::{Map, Value};

use cpu::Cpu;
use sample::{ALGORITHMS, SETS};

fn signing(criterion: &mut Criterion<Cpu>) {
    for algorithm in ALGORITHMS {
        let (key, bare) = sample::key(algorithm);
        let drafts: Vec<Draft> = (0..SETS).map(sample::draft).collect();
        let messages: Vec<String> = drafts.iter().map(|draft| sample::message(&signed(&key, draft))).collect();
        let claims: Vec<_> = drafts.iter().map(sample::claims).collect();
        let mut group = criterion.benchmark_group(format!("sign/{algorithm}"));
        let sign = |n: usize| bare.sign(messages[n].as_bytes());
        each(&mut group, "bare", sign);
        each(&mut group, "claims", |n| key.sign(&claims[n]));
        each(&mut group, "draft", |n| signed(&key, &drafts[n]));
        overhead(&mut group, "claims", |n| key.sign(&claims[n]), sign);
        overhead(&mut group, "draft", |n| signed(&key, &drafts[n]), sign);
        // With a draft of its own for either, as only the long way needs it.
        let by_claims = |n: usize| by_claims(&key, drafts[n].clone());
        overhead(&mut group, "draft by way of claims", by_claims, |n| (black_box(drafts[n].clone()), sign(n)));
        group.finish();
    }
}

/// From a draft to what is queued, as [`pushpull::transceiver::Transceiver::send`] has it.
fn signed(key: &SigningKey, draft: &Draft) -> SignedSet {
    let (written, _) = Written::new(draft, sample::DEFAULTS).expect("a complete draft");
    written.sign(key).expect("a signature")
}

/// The same by way of a tree of values, as it has claims.
fn by_claims(key: &SigningKey, draft: Draft) -> SignedSet {
    let asked = Value::Object(draft.into_claims().expect("a known type"));
    let digest = Digest::of(asked.to_string().as_bytes());
    let claims = if let Value::Object(claims) = asked { claims } else { Map::new() };
    let (jti, claims) = complete(claims, sample::DEFAULTS).expect("complete claims");
    let compact = key.sign(&claims).expect("a signature");
    SignedSet { jti, compact, digest, label: "other", reissue_of: None }
}

fn verifying(criterion: &mut Criterion<Cpu>) {
    let policy = sample::policy();
    let now = sample::NOW;
    for algorithm in ALGORITHMS {
        let (key, bare) = sample::key(algorithm);
        let keys = KeySet::of([key.public_jwk()]);
        let sets: Vec<SignedSet> = (0..SETS).map(|n| signed(&key, &sample::draft(n))).collect();
        let parts: Vec<(String, Vec<u8>)> = sets.iter().map(sample::parts).collect();
        let ours = |n: usize| {
            let set: &SignedSet = &sets[n];
            verify(&set.compact, Some(&set.jti), &policy, &keys, now).expect("a valid SET")
        };
        let theirs = |n: usize| assert!(bare.verify(parts[n].0.as_bytes(), &parts[n].1));
        let mut group = criterion.benchmark_group(format!("verify/{algorithm}"));
        each(&mut group, "bare", theirs);
        each(&mut group, "set", ours);
        each(&mut group, "report", |n| {
            let set = &sets[n];
            report(&set.compact, Some(&set.jti), &policy, &keys, now)
        });
        overhead(&mut group, "set", ours, theirs);
        group.finish();
    }
}

/// One operation on each of [`SETS`] SETs in turn: a single one would be learnt by the branch predictor.
pub(crate) fn each<T>(group: &mut BenchmarkGroup<'_, Cpu>, name: &str, mut work: impl FnMut(usize) -> T) {
    let mut n = 0;
    group.throughput(Throughput::Elements(1)).bench_function(name, |bencher| {
        bencher.iter(|| {
            let done = work(n);
            n = (n + 1) % SETS;
            done
        });
    });
}

/// What `work` takes beyond `bare`: the median of turns of some operations each, so that neither a turn in which the machine
/// did something else counts, nor that it is slower now than before.
fn overhead<T, B>(
    group: &mut BenchmarkGroup<'_, Cpu>,
    name: &str,
    mut work: impl FnMut(usize) -> T,
    mut bare: impl FnMut(usize) -> B,
) {
    const TURN: usize = 8;
    let mut first = 0;
    group.bench_function(format!("overhead of {name}"), |bencher| {
        bencher.iter_custom(|iterations| {
            let turns = usize::try_from(iterations).unwrap_or(usize::MAX).div_ceil(TURN);
            let mut more: Vec<f64> = Vec::with_capacity(turns);
            for _ in 0..turns {
                let turn = (first..first + TURN).map(|n| n % SETS);
                let with = time(|| turn.clone().for_each(|n| drop(black_box(work(n)))));
                let without = time(|| turn.for_each(|n| drop(black_box(bare(n)))));
                more.push(with.as_secs_f64() - without.as_secs_f64());
                first = (first + TURN) % SETS;
            }
            more.sort_unstable_by(f64::total_cmp);
            let median = more.get(turns / 2).copied().unwrap_or_default().max(1e-9) / TURN as f64;
            Duration::from_secs_f64(median * iterations as f64)
        });
    });
}

fn time(work: impl FnOnce()) -> Duration {
    let started = Cpu.start();
    work();
    Cpu.end(started)
}

criterion_group! {
    name = protocol;
    config = Criterion::default().with_measurement(Cpu).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = signing, verifying, carry::objects, core::steps
}
criterion_main!(protocol);
