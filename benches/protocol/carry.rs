//! Communication Objects of 1, 100 and 1,000 SETs: read, written, and for comparison their tokens copied.

use std::hint::black_box;
use std::iter;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use pushpull::set::Jti;
use pushpull::wire::{Limits, parse, write};

use crate::cpu::Cpu;
use crate::sample;

pub(crate) fn objects(criterion: &mut Criterion<Cpu>) {
    let limits = Limits::default();
    for count in [1, 100, 1000] {
        let sets: Vec<(Jti, Arc<str>)> =
            sample::unsigned(count).into_iter().map(|set| (set.jti, set.compact)).collect();
        let acks: Vec<Jti> = (0..count).map(|_| Jti::new()).collect();
        let object = |acks: &[Jti]| write(&sets, acks.iter(), iter::empty(), None);
        let (plain, answering) = (object(&[]), write(&[], acks.iter(), iter::empty(), None));
        let mut group = criterion.benchmark_group(format!("object/{count}"));
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function("copy", |bencher| {
            bencher.iter(|| sets.iter().map(|(_, token)| Arc::<str>::from(&**token)).collect::<Vec<_>>());
        });
        group.bench_function("parse", |bencher| bencher.iter(|| parse(black_box(&plain), &limits)));
        group.bench_function("write", |bencher| bencher.iter(|| object(black_box(&[]))));
        group.bench_function("parse acks", |bencher| bencher.iter(|| parse(black_box(&answering), &limits)));
        group.bench_function("write acks", |bencher| {
            bencher.iter(|| write(&[], black_box(&acks).iter(), iter::empty(), None));
        });
        group.finish();
    }
}
