//! Every store, under the same random calls, answers like a plain model of the contract, whatever crashes between.

#[expect(dead_code, unreachable_pub, reason = "it belongs to the simulation")]
#[path = "simulation/sim/disk/mod.rs"]
mod disk;
#[expect(dead_code, unreachable_pub, reason = "it belongs to the simulation")]
#[path = "simulation/sim/event.rs"]
mod event;
#[path = "store_model/faults.rs"]
mod faults;
