//! Which update is genuine, current and whole: the client of The Update Framework (TUF),
//! specification 1.0, section 5, and behind the feature `write` the writer of a repository.
//!
//! The crate does no I/O. [`workflow`] holds the decisions, one type for each stage, so that no
//! stage can be entered before the one it depends on; [`Client`] walks through them and asks a
//! [`Transport`] for new files and a [`Store`] for those it trusted before. Bytes are verified
//! first and read into types afterwards, and only verification makes a [`Verified`]. Every cap is
//! in [`Limits`]. Fields and key types that this crate does not know are kept under the signature
//! and otherwise ignored, as the specification demands.

pub mod encoding;
pub mod json;
pub mod pace;
pub mod release;
pub mod workflow;
#[cfg(feature = "write")]
pub mod write;

mod client;
mod delegation;
mod error;
mod keys;
mod limits;
mod roles;
mod target;
mod time;
mod verify;

pub use client::{Client, Entry, FetchError, Store, Transport};
pub use delegation::Delegation;
pub use error::{Error, Malformed};
pub use keys::{PublicKey, Scheme};
pub use limits::Limits;
pub use roles::{FileMeta, Root, Snapshot, Targets, Timestamp};
pub use target::{Target, TargetCheck, TargetError};
pub use time::{Clock, Time};
pub use verify::{Authority, Verified};
