//! Communication Objects on their way out of a process and into one, told as they pass.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pushpull::engine::{ArrivalRoom, Handle, Partner};
use pushpull::peer::{SlotId, SlotSpec, Transmission, Verdict, Verdicts};
use pushpull::set::Digest;
use pushpull::transport::pushpull as transport;
use pushpull::wire;

use super::event::{Event, Org, Role};
use super::life::Life;
use super::mint;
use super::net::Parcel;

/// Writes an object that leaves by this link, and tells of it; `None` when the process died of it. What a lazy organisation
/// has to say about others' SETs never leaves.
pub fn leaves(
    life: &Arc<Life>,
    to: Org,
    link: u64,
    spec: &SlotSpec,
    object: &mut Transmission,
    max_response_events: Option<u64>,
) -> Option<Bytes> {
    if life.member.plan.role == Role::Lazy && !life.world.is_healed() && !object.verdicts.is_empty() {
        object.verdicts.clear();
        life.world.meet("verdicts kept back");
    }
    let bytes = transport::encode(object, max_response_events);
    let (mut acks, mut errors) = (Vec::new(), Vec::new());
    for (jti, verdict) in &object.verdicts {
        match verdict {
            Verdict::Acked => acks.push(jti.clone()),
            Verdict::Refused(refusal) => errors.push((jti.clone(), refusal.code.as_str().to_owned())),
        }
    }
    let sets = object.sets.iter().map(|(jti, compact)| (jti.clone(), Digest::of(compact.as_bytes()))).collect();
    let event = Event::Left {
        from: life.org,
        to,
        link,
        sets,
        acks,
        errors,
        sets_max: spec.sets_max,
        bytes: bytes.len(),
        bytes_max: spec.bytes_max,
        tells: spec.verdicts != Verdicts::None,
    };
    life.note(&event).then_some(bytes)
}

/// Tells of an object that was read. False when the process died of it.
pub fn comes(life: &Arc<Life>, from: Org, link: u64, object: &wire::Object) -> bool {
    let sets = object.sets.iter().map(|(jti, compact)| {
        let digest = Digest::of(compact.as_bytes());
        (jti.clone(), digest, mint::truth(digest, from, life.org, jti))
    });
    life.note(&Event::Came {
        to: life.org,
        from,
        link,
        sets: sets.collect(),
        acks: object.acks.clone(),
        errors: object.errors.iter().map(|(jti, error)| (jti.clone(), error.err.clone())).collect(),
    })
}

/// Tells of an object that breaks the rules, before anybody reads it.
pub fn broken(life: &Arc<Life>, from: Org, link: u64, parcel: &Parcel) {
    if let Some(jtis) = &parcel.broken {
        life.note(&Event::Broken { to: life.org, from, link, jtis: jtis.to_vec() });
    }
}

/// Judges an object and brings it to the actor.
pub async fn bring(
    life: &Arc<Life>,
    from: Org,
    partner: &Partner,
    handle: &Handle,
    slot: SlotId,
    (object, room): (wire::Object, ArrivalRoom),
    patience: Duration,
) -> bool {
    let at = partner.now();
    let inspected = partner.inspector().inspect(object, patience).await;
    if partner.now() > at {
        life.world.meet("newer keys awaited");
    }
    let arrived = handle.arrived(Some(slot), inspected, room, at).await.is_ok();
    // The core hears of its partner only now.
    arrived && life.note(&Event::Heard { org: life.org, from })
}

/// Tells of an object that was refused as a whole.
pub fn malformed(life: &Arc<Life>, from: Org, link: u64) -> bool {
    life.note(&Event::Malformed { to: life.org, from, link })
}
