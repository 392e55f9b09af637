//! Sizes, counts and durations that fit each other: each for itself within reason, and none in the way of another.

use std::time::Duration;

use crate::codes::Code;
use crate::quantity::{duration_text, size_text};

use super::problem::Problem;
use super::schema::{Delivery, Limits, Store};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// How long partners remember jtis at least (30 days); what is older is refused by its `iat`.
const MEMORY: Duration = Duration::from_secs(30 * 86_400);

/// Every fault of `[limits]`.
pub(super) fn limits(limits: &Limits, problems: &mut Vec<Problem>) {
    sizes(
        &[
            ("limits.object_bytes_max", limits.object_bytes_max, 1 << 10, 1 << 30),
            ("limits.set_bytes_max", limits.set_bytes_max, 512, 1 << 30),
        ],
        problems,
    );
    counts(
        &[
            ("limits.sets_per_object_max", limits.sets_per_object_max as u64, 1, 1_000_000),
            ("limits.jti_bytes_max", limits.jti_bytes_max as u64, 36, 1 << 20),
            ("limits.inbox_max", limits.inbox_max, 1, u64::MAX),
            ("limits.requests_per_second_max", u64::from(limits.requests_per_second_max), 1, 1_000_000),
            ("limits.messages_per_second_max", u64::from(limits.messages_per_second_max), 1, 1_000_000),
        ],
        problems,
    );
    if limits.set_bytes_max > limits.object_bytes_max {
        problems.push(
            Problem::at("limits.set_bytes_max", "a SET of this size would fit into no Communication Object")
                .code(Code::ConfigConflict)
                .rests_on("limits.object_bytes_max")
                .expected(format!("at most object_bytes_max, {}", size_text(limits.object_bytes_max)))
                .found(size_text(limits.set_bytes_max))
                .fix("lower set_bytes_max or raise object_bytes_max"),
        );
    }
    if limits.jti_bytes_max > limits.set_bytes_max {
        problems.push(
            Problem::at("limits.jti_bytes_max", "a jti of this size would fit into no SET")
                .code(Code::ConfigConflict)
                .rests_on("limits.set_bytes_max")
                .expected(format!("at most set_bytes_max, {} bytes", limits.set_bytes_max))
                .found(limits.jti_bytes_max.to_string())
                .fix("lower jti_bytes_max or raise set_bytes_max"),
        );
    }
}

/// Every fault of `[delivery]`.
pub(super) fn delivery(delivery: &Delivery, limits: &Limits, problems: &mut Vec<Problem>) {
    counts(
        &[
            ("delivery.window", delivery.window as u64, 1, 10_000_000),
            ("delivery.attempts_max", delivery.attempts_max.into(), 1, u64::MAX),
            ("delivery.outbox_max", delivery.outbox_max, 1, u64::MAX),
        ],
        problems,
    );
    sizes(&[("delivery.window_bytes", delivery.window_bytes, 1 << 10, 1 << 40)], problems);
    if delivery.window_bytes < limits.set_bytes_max {
        problems.push(
            Problem::at("delivery.window_bytes", "one SET of limits.set_bytes_max would fill more than the window")
                .code(Code::ConfigConflict)
                .rests_on("limits.set_bytes_max")
                .expected(format!("at least limits.set_bytes_max, {}", size_text(limits.set_bytes_max)))
                .found(size_text(delivery.window_bytes))
                .fix("raise window_bytes or lower limits.set_bytes_max"),
        );
    }
    let busy = "too short: it would keep a core busy";
    let deaf = "too long: a link that is dead would not be noticed";
    let least = Duration::from_millis(10);
    durations(
        &[
            ("delivery.retry_first", delivery.retry_first, least, busy, MEMORY, "too long"),
            ("delivery.retry_max", delivery.retry_max, least, busy, MEMORY, "too long"),
            (
                "delivery.age_max",
                delivery.age_max,
                SECOND,
                "too short: every SET would be dead at once",
                MEMORY,
                "longer than partners remember SETs: they would refuse older ones",
            ),
            ("delivery.speak_interval", delivery.speak_interval, least, busy, DAY, deaf),
            ("delivery.ping_interval", delivery.ping_interval, least, busy, DAY, deaf),
        ],
        problems,
    );
    let ordered = [
        ("delivery.retry_max", "delivery.retry_first", delivery.retry_first, delivery.retry_max),
        ("delivery.age_max", "delivery.give_up_after", delivery.give_up_after, delivery.age_max),
        ("delivery.age_max", "delivery.retry_max", delivery.retry_max, delivery.age_max),
    ];
    for (key, other, low, high) in ordered {
        if low > high {
            problems.push(
                Problem::at(key, format!("shorter than {other}"))
                    .code(Code::ConfigConflict)
                    .rests_on(other)
                    .expected(format!("at least {}", duration_text(low)))
                    .found(duration_text(high))
                    .fix(format!("raise it, or lower {other}")),
            );
        }
    }
}

/// Every fault of the amounts in `[store]`.
pub(super) fn store(store: &Store, problems: &mut Vec<Problem>) {
    let forgotten = "too long: what became of a SET is not remembered for longer than that";
    durations(&[("store.keep_settled", store.keep_settled, Duration::ZERO, "", MEMORY, forgotten)], problems);
    sizes(&[("store.keep_settled_bytes_max", store.keep_settled_bytes_max, 0, 1 << 50)], problems);
}

/// What is wrong with `jwks_refresh` of a peer.
pub(super) fn refresh(refresh: Duration, problems: &mut Vec<Problem>) {
    let asking = "too short: it would ask the partner without pause";
    let believed = "too long: a key that the partner withdrew would be believed until then";
    durations(&[("jwks_refresh", refresh, SECOND, asking, MEMORY, believed)], problems);
}

/// The key, its value, the least and why not less, the most and why not more.
type Bounds<'a> = (&'a str, Duration, Duration, &'a str, Duration, &'a str);

fn durations(values: &[Bounds<'_>], problems: &mut Vec<Problem>) {
    for &(key, value, least, short, most, long) in values {
        let (what, bound) = match value {
            value if value < least => (short, format!("at least {}", duration_text(least))),
            value if value > most => (long, format!("at most {}", duration_text(most))),
            _ => continue,
        };
        problems.push(Problem::at(key, what).expected(bound).found(duration_text(value)));
    }
}

fn sizes(values: &[(&str, usize, usize, usize)], problems: &mut Vec<Problem>) {
    for &(key, value, least, most) in values {
        outside(key, value as u64, least as u64, most as u64, &|bytes| size_text(bytes as usize), problems);
    }
}

fn counts(values: &[(&str, u64, u64, u64)], problems: &mut Vec<Problem>) {
    for &(key, value, least, most) in values {
        outside(key, value, least, most, &|count| count.to_string(), problems);
    }
}

fn outside(key: &str, value: u64, least: u64, most: u64, text: &dyn Fn(u64) -> String, problems: &mut Vec<Problem>) {
    let (what, bound) = match value {
        value if value < least => ("too small", format!("at least {}", text(least))),
        value if value > most => ("too large", format!("at most {}", text(most))),
        _ => return,
    };
    problems.push(Problem::at(key, what).expected(bound).found(text(value)));
}
