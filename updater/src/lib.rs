//! The updater's role: it looks for a newer version, puts it into the other slot, has it tried
//! once, and keeps it or goes back.
//!
//! `bundle` and `server` are where versions come from, `metadata` finds out which one is offered
//! and that it is genuine, `decide` what to do about it, `staging` and `transfer` fill the slot, `trial` judges a version that is being tried,
//! `telling` says all that to PID 1, and [`run`] puts them together. What is written to slots,
//! table and boot variables is `berth_slots`' alone. PID 1 hears of all this by
//! [`report::Record`]s only, and never sees a byte of what came from the network.

mod bundle;
mod decide;
mod here;
mod looking;
mod metadata;
mod plugs;
pub mod report;
mod reuse;
mod role;
mod server;
mod staging;
mod telling;
#[cfg(test)]
mod tests;
mod transfer;
mod trial;

pub use metadata::{Identity, Offer};
pub use role::{Places, Setup, run};
pub use server::{Server, Web};
