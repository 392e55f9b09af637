//! No connection to an address that is not public or allowed: not by any spelling, by no name, by no redirect.
//!
//! Canaries listen where nobody may connect; a test fails when one of them is touched.

mod canary;
mod daemon;
mod dialler;
mod urls;
