//! Whether a token is a SET that we take: one procedure, which stops at the first fault or reports them all.

use std::sync::{Arc, OnceLock};

use serde::Serialize;
use serde_json::{Map, Value};

use super::crypto::Covered;
use super::familiar::{Header, Named};
use super::look::{Look, Object};
use super::outline::{Outline, Part};
use super::rules::{CLAIMS, Context, HEADER, Rule};
use super::token::{ClaimsOctets, HeaderOctets, Segments, SignatureOctets, decode};
use super::{Algorithm, Digest, ErrorCode, Jti, KeySet, Policy, Profile, Refusal, events};
use crate::clock::{Timestamp, Wall};

/// A SET whose form, issuer, audience, event types, age and signature have been checked. Only [`verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedSet {
    compact: Arc<str>,
    digest: Digest,
    gist: Gist,
    /// Read when they are asked for: whoever takes SETs in by the thousand never does.
    claims: OnceLock<Map<String, Value>>,
}

/// What everybody wants to know of a SET's claims.
#[derive(Clone, Debug)]
struct Gist {
    jti: Jti,
    issued_at: Wall,
    label: &'static str,
    is_verification: bool,
}

/// Why a token is not taken. The variant says whether that may change.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// For ever: no other keys and no later time make it valid.
    #[error("{0}")]
    Refused(Refusal),
    /// These keys do not verify it: final only when they were fetched after the token arrived.
    #[error("{0}")]
    Key(Refusal),
    /// No verdict for now (rule R7), and why.
    #[error("no verdict for now: {0}")]
    NotNow(&'static str),
}

/// Verifies a token against a partner's policy and keys.
///
/// `name` is the key in `sets` under which it came, if it came so. Whatever needs no key is checked before the
/// signature, so that garbage costs little. Pure computation, 25 to 100 µs by algorithm.
pub fn verify(
    compact: &Arc<str>,
    name: Option<&Jti>,
    policy: &Policy,
    keys: &KeySet,
    now: Timestamp,
) -> Result<VerifiedSet, Fault> {
    let context = Context { policy, name, now };
    match examine(compact, &context, keys, &mut |_, outcome| outcome)? {
        Some((gist, digest)) => Ok(VerifiedSet { compact: Arc::clone(compact), digest, gist, claims: OnceLock::new() }),
        // The judge above lets nothing pass that failed, so `examine` has returned early.
        None => Err(Fault::NotNow("the SET could not be examined")),
    }
}

/// What every rule says of a token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Whether [`verify`] takes it.
    pub valid: bool,
    /// The refusal that [`verify`] returns, whether or not other keys might change it.
    pub err: Option<Refusal>,
    /// Why there is no verdict for now, if there is none.
    pub undecided: Option<&'static str>,
    /// Every rule that could be asked, in order. Where a part cannot be read, the rules about it are missing.
    pub checks: Vec<Check>,
}

/// What one rule says of a token.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// The rule's name.
    pub rule: &'static str,
    /// Whether the token keeps it.
    pub ok: bool,
    /// Where it is written.
    pub clause: &'static str,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Asks every rule of [`verify`], in the same order and by the same code, and goes on after a fault.
pub fn report(compact: &str, name: Option<&Jti>, policy: &Policy, keys: &KeySet, now: Timestamp) -> Report {
    let mut checks = Vec::new();
    let mut first = None;
    let outcome = examine(compact, &Context { policy, name, now }, keys, &mut |rule, outcome| {
        let fault = outcome.err();
        let detail = fault.as_ref().map(Fault::to_string);
        checks.push(Check { rule: rule.name, ok: fault.is_none(), clause: rule.clause, detail });
        first = first.take().or(fault);
        Ok(())
    });
    let (err, undecided) = match first.or(outcome.err()) {
        None => (None, None),
        Some(Fault::Refused(refusal) | Fault::Key(refusal)) => (Some(refusal), None),
        Some(Fault::NotNow(why)) => (None, Some(why)),
    };
    Report { valid: err.is_none() && undecided.is_none(), err, undecided, checks }
}

impl VerifiedSet {
    /// Its identity in the partner's feed.
    pub fn jti(&self) -> &Jti {
        &self.gist.jti
    }

    /// The token, as it was verified.
    pub fn compact(&self) -> &Arc<str> {
        &self.compact
    }

    /// The digest of the token.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// When it was issued, by its `iat`; at the epoch if it does not say.
    pub fn issued_at(&self) -> Wall {
        self.gist.issued_at
    }

    /// By what it is counted ([`events::label`]).
    pub fn label(&self) -> &'static str {
        self.gist.label
    }

    /// Its claims. The first call reads them, which takes some microseconds.
    pub fn claims(&self) -> &Map<String, Value> {
        // It was verified as it stands there, so it decodes.
        self.claims.get_or_init(|| decode(&self.compact).map(|(_, claims)| claims).unwrap_or_default())
    }

    /// The URIs of its event types, at least one.
    pub fn event_types(&self) -> impl Iterator<Item = &str> {
        self.claims().get("events").and_then(Value::as_object).into_iter().flat_map(Map::keys).map(String::as_str)
    }

    /// Whether it is nothing but a verification event (SSF 1.0 §8.1.4), which is the transport's own business.
    pub fn is_verification(&self) -> bool {
        self.gist.is_verification
    }
}

impl Gist {
    /// `None` if there is no `jti`, which a rule has told of then.
    fn of(claims: Part<'_>, name: Option<&Jti>) -> Option<Self> {
        let jti = claims.find("jti")?.text()?;
        // Most often it is the name under which the SET came: then it need not be copied.
        let named = name.filter(|name| name.as_str() == jti).cloned();
        let types = || claims.find("events").and_then(Part::object).into_iter().flat_map(Part::sorted);
        Some(Self {
            jti: named.unwrap_or_else(|| Jti::from(jti)),
            issued_at: Wall(claims.find("iat").and_then(Part::number).map_or(0, |seconds| (seconds * 1000.0) as u64)),
            label: events::label(types().map(|(name, _)| name)),
            is_verification: types().all(|(name, _)| name == events::VERIFICATION),
        })
    }
}

const SIZE: Rule = Rule { name: "size", clause: "RFC 8935 §2.4" };
const SERIALISATION: Rule = Rule { name: "serialisation", clause: "RFC 7515 §7.1" };
const SIGNATURE_ENCODING: Rule = Rule { name: "signature.encoding", clause: "RFC 7515 §2" };
const HEADER_JSON: Rule = Rule { name: "header.json", clause: "RFC 7515 §4, RFC 8725 §3.1" };
const CLAIMS_JSON: Rule = Rule { name: "claims.json", clause: "RFC 8417 §2.2, RFC 7519 §4" };
const SIGNATURE_LENGTH: Rule = Rule { name: "signature.length", clause: "RFC 7518 §3.4, RFC 8037 §3.1" };
const KEY: Rule = Rule { name: "key", clause: "RFC 8725 §3.1, SSF 1.0 §4.1.4" };
const SIGNATURE: Rule = Rule { name: "signature", clause: "RFC 7515 §5.2" };

/// Hears the outcome of each rule and says whether to go on.
pub(super) trait Judge: FnMut(Rule, Result<(), Fault>) -> Result<(), Fault> {}
impl<F: FnMut(Rule, Result<(), Fault>) -> Result<(), Fault>> Judge for F {}

/// Asks all rules in order; returns what is wanted of the claims if they could be read, and the digest of the token. This is
/// the only place that knows the order.
fn examine(
    compact: &str,
    context: &Context<'_>,
    keys: &KeySet,
    judge: &mut impl Judge,
) -> Result<Option<(Gist, Digest)>, Fault> {
    judge(SIZE, size(compact, context.policy))?;
    let Some(segments) = read(judge, SERIALISATION, Segments::of(compact))? else { return Ok(None) };
    let (mut octets, mut claims_octets, mut claims_outline) =
        (SignatureOctets::new(), ClaimsOctets::new(), Outline::default());
    let signature = read(judge, SIGNATURE_ENCODING, segments.signature(&mut octets))?;
    let header = judge_header(&segments, context.policy.profile, keys, judge)?;
    let claims = read(judge, CLAIMS_JSON, segments.claims(&mut claims_octets, &mut claims_outline))?;
    for (rule, check) in CLAIMS {
        if let Some(claims) = claims {
            judge(*rule, check(claims, context))?;
        }
    }
    let mut covered = Covered::new(segments.signed.as_bytes());
    if let (Some(header), Some(signature)) = (header, signature)
        && let Some(named) = header.named()
        && authenticate(&mut covered, named, signature, keys, judge)?
        && let Header::Read(named, true) = &header
    {
        keys.familiar.keep(segments.header, context.policy.profile, named);
    }
    let gist = claims.and_then(|claims| Gist::of(claims, context.name));
    Ok(gist.map(|gist| (gist, covered.digest_of(compact.as_bytes()))))
}

/// Asks all rules about the header; returns what is wanted of it if it could be read.
fn judge_header(
    segments: &Segments<'_>,
    profile: Profile,
    keys: &KeySet,
    judge: &mut impl Judge,
) -> Result<Option<Header>, Fault> {
    if let Some(header) = keys.familiar.find(segments.header, profile) {
        judge(HEADER_JSON, Ok(()))?;
        HEADER.iter().try_for_each(|(rule, _)| judge(*rule, Ok(())))?;
        return Ok(Some(header));
    }
    let (mut octets, mut outline) = (HeaderOctets::new(), Outline::default());
    let Some(header) = read(judge, HEADER_JSON, segments.header(&mut octets, &mut outline))? else { return Ok(None) };
    let mut is_good = true;
    for (rule, check) in HEADER {
        let outcome = check(header, profile);
        is_good &= outcome.is_ok();
        judge(*rule, outcome)?;
    }
    Ok(Some(Header::Read(Named::of(header), is_good)))
}

/// The rules about key and signature; whether it verifies. A header without a usable `alg` has been judged already.
pub(super) fn authenticate(
    covered: &mut Covered<'_>,
    named: &Named,
    signature: &[u8],
    keys: &KeySet,
    judge: &mut impl Judge,
) -> Result<bool, Fault> {
    let Some(algorithm) = named.algorithm else { return Ok(false) };
    judge(SIGNATURE_LENGTH, length(signature, algorithm))?;
    let candidates = match keys.candidates(algorithm, named.kid.as_deref()) {
        Ok(candidates) => candidates,
        Err(refusal) => return judge(KEY, Err(Fault::Key(refusal))).map(|()| false),
    };
    judge(KEY, Ok(()))?;
    covered.prepare(algorithm);
    let verified = candidates.iter().any(|candidate| candidate.verifies(covered, signature));
    let fault = || {
        let description = format!("the signature does not verify with the published key of {algorithm}");
        Fault::Key(Refusal::new(ErrorCode::InvalidKey, description))
    };
    judge(SIGNATURE, verified.then_some(()).ok_or_else(fault)).map(|()| verified)
}

/// Judges an attempt to read a part, and keeps what was read.
fn read<T>(judge: &mut impl Judge, rule: Rule, outcome: Result<T, Refusal>) -> Result<Option<T>, Fault> {
    match outcome {
        Ok(part) => judge(rule, Ok(())).map(|()| Some(part)),
        Err(refusal) => judge(rule, Err(Fault::Refused(refusal))).map(|()| None),
    }
}

fn size(compact: &str, policy: &Policy) -> Result<(), Fault> {
    let (found, max) = (compact.len(), policy.set_bytes_max);
    if found <= max {
        return Ok(());
    }
    let description = format!("the SET has {found} bytes, expected at most {max}");
    Err(Fault::Refused(Refusal::new(ErrorCode::InvalidRequest, description)))
}

/// A signature of the wrong length verifies with no key at all, so this fault stays: none, or ECDSA in DER.
fn length(signature: &[u8], algorithm: Algorithm) -> Result<(), Fault> {
    let found = signature.len();
    let description = match algorithm.signature_len() {
        _ if found == 0 => "the SET is not signed: its signature is empty".into(),
        Some(expected) if found != expected => {
            format!("the signature has {found} bytes, expected {expected} for {algorithm} (raw, not DER)")
        }
        _ => return Ok(()),
    };
    Err(Fault::Refused(Refusal::new(ErrorCode::InvalidKey, description)))
}
