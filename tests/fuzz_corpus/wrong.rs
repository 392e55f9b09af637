//! Parsers that are wrong in one way each, as a library's or an earlier version's may be.

use pushpull::set::subject::{Strictness, check};
use pushpull::set::{KeySet, Report, base64url};
use pushpull::wire::{self, Limits, net::is_public};
use serde_json::Value;

use super::fuzz::{
    address, base64url as base64, claims, config, header, http, jwks, object, subject, token, websocket,
};

/// What is wrong with one, and the target's check of it.
type Wrong = (&'static str, fn(&[u8]));

/// Those for this target.
pub(crate) fn of(target: &str) -> &'static [Wrong] {
    match target {
        "object" => &[
            ("that the limits are not kept", |data| object::check_with(|bytes, _| wire::parse(bytes, &WIDE), data)),
            ("that the second member of one name counts", |data| {
                object::check_with(|bytes, limits| wire::parse(&lenient(bytes), limits), data);
            }),
            ("that nothing is read", |data| object::check_with(|_, limits| wire::parse(b"{}", limits), data)),
        ],
        "header" => &[
            ("that the second member of one name counts", |data| {
                header::check_with(|compact, policy| token::judge(&leniently(compact, 0), policy), data);
            }),
            ("that a rule is not asked", |data| {
                header::check_with(|compact, policy| without("header.typ", token::judge(compact, policy)), data);
            }),
        ],
        "claims" => &[
            ("that the second member of one name counts", |data| {
                claims::check_with(|compact, policy| token::judge(&leniently(compact, 1), policy), data);
            }),
            ("that a rule is not asked", |data| {
                claims::check_with(|compact, policy| without("claims.sub_id", token::judge(compact, policy)), data);
            }),
        ],
        "jwks" => &[
            ("that the second member of one name counts", |data| {
                jwks::check_with(|bytes| KeySet::parse(&lenient(bytes)), data);
            }),
            ("that no key is ever told of", |data| {
                jwks::check_with(|bytes| KeySet::parse(bytes).map(|set| KeySet::of(set.keys().cloned())), data);
            }),
        ],
        "base64url" => &[
            ("that padding is taken", |data| {
                base64::check_with(|text| base64url::decode(text.trim_end_matches('=')), data);
            }),
            ("that trailing bits are dropped", |data| base64::check_with(careless, data)),
        ],
        "subject" => &[
            ("that nothing is strict", |data| {
                subject::check_with(|value, _| check(value, Strictness::Lenient), data);
            }),
            ("that everything is", |data| subject::check_with(|value, _| check(value, Strictness::Strict), data)),
        ],
        "address" => &[("that an address counts for the one in it", |data| {
            address::check_with(|address| is_public(address.to_canonical()), data);
        })],
        "config" => &[("that faults are passed over", |data| {
            let parse = |text: &str, file: &_, environment: &_| {
                Ok(pushpull::config::parse(text, file, environment).unwrap_or_default())
            };
            config::check_with(parse, data);
        })],
        "http" => &[
            ("that the content type does not matter", |data| {
                let serve = |portion, bytes: &[u8]| {
                    http::serve(portion, &replaced(bytes, "application/secevent+jwt", "application/json;  ;  ;  ;"))
                };
                http::check_with(serve, data);
            }),
            ("that an answer has as many SETs as there are", |data| {
                let serve = |portion, bytes: &[u8]| {
                    http::serve(portion, &replaced(bytes, "\"maxResponseEvents\":1}", "\"maxResponseEvents\":9}"))
                };
                http::check_with(serve, data);
            }),
            ("that half an answer is sent", |data| {
                let serve = |portion, bytes: &[u8]| {
                    let mut written = http::serve(portion, bytes);
                    written.pop();
                    written
                };
                http::check_with(serve, data);
            }),
        ],
        "websocket" => &[("that something is said after the end", |data| {
            let hold = |role, portion, bytes: &[u8]| {
                let mut ended = websocket::hold(role, portion, bytes);
                ended.written.extend([0x8a, 0]);
                ended
            };
            websocket::check_with(hold, data);
        })],
        _ => &[],
    }
}

const WIDE: Limits = Limits {
    object_bytes_max: 1 << 20,
    set_bytes_max: 1 << 20,
    sets_per_object_max: 1000,
    jti_bytes_max: 1000,
    verdicts_max: 1000,
};

/// As `serde_json` alone reads it, where it reads it at all.
fn lenient(bytes: &[u8]) -> Vec<u8> {
    serde_json::from_slice::<Value>(bytes).map_or_else(|_| bytes.to_vec(), |value| value.to_string().into_bytes())
}

/// A token with one part as `serde_json` alone reads it.
fn leniently(compact: &str, part: usize) -> String {
    let mut parts: Vec<String> = compact.split('.').map(str::to_owned).collect();
    parts[part] = base64url::encode(&lenient(&base64url::decode(&parts[part]).expect("it was encoded")));
    parts.join(".")
}

/// What would be said if this rule were always kept.
fn without(rule: &str, mut report: Report) -> Report {
    report.checks.iter_mut().filter(|check| check.rule == rule).for_each(|check| check.ok = true);
    report
}

/// Takes what is left of the last letter.
fn careless(text: &str) -> Option<Vec<u8>> {
    let cleared = |text: &str| {
        ["A", "Q", "g", "w"]
            .iter()
            .find_map(|last| base64url::decode(&format!("{}{last}", text.get(..text.len().checked_sub(1)?)?)))
    };
    base64url::decode(text).or_else(|| cleared(text))
}

/// The same bytes with a text in place of another one of the same length.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    while let Some(at) = bytes.windows(from.len()).position(|part| part == from.as_bytes()) {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}
