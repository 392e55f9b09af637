//! The judge can fail: for every invariant a sequence of events that breaks it and is caught by its name, and one that comes
//! near and is legal.

mod answers;
mod disk;
mod end;
mod incoming;
mod outgoing;
mod policy;
mod scene;
