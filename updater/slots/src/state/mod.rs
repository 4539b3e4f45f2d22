//! The states of an update, and what leads from one to the next. Pure: facts and events go in,
//! a state and the actions that make it true come out, in the order in which they are safe.
//!
//! ```text
//!            Stage           Whole            Activate            Confirm
//!   empty ──────────► staging ──────► staged ──────────► trying ──────────► committed
//!     ▲                  │              ▲  │                │ Reject, or the trial is over
//!     └──────────────────┴── Abandon ───┼──┘                ▼
//!                                       └── Forgive ──── rejected
//! ```
//!
//! [`found`] derives the state at each start. Which version runs is the root hash on the kernel's
//! command line, which slot that is and which slot is committed is the partition table, and a
//! slot's content is whole exactly when its root entry carries the root's GUID. The record adds
//! what neither can say. `step` is the rest: what may be done next.

mod found;
mod step;

use std::fmt;

pub use found::{Facts, Found, News, found};
pub(crate) use step::security_floor;
pub use step::{Event, Refusal, Step};

use crate::gpt::Guid;
use crate::record::{Record, Rejection};
use crate::slot::Pair;
use crate::target::{Target, Version};
use crate::verity::RootHash;

/// What the other slot is to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It holds nothing of use.
    Empty,
    /// It is being filled.
    Staging(Target),
    /// It holds a version, whole and verified, that has not been tried.
    Staged(Target),
    /// The next boot is its trial.
    Armed(Target),
    /// Its trial runs; `None` when the record was lost, or the firmware chose it by itself.
    Trying(Option<Target>),
    /// Nothing is pending; it holds an older version.
    Committed,
    /// The version in it failed.
    Rejected(Rejection),
}

/// Which slot the machine runs from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// The one that firmware starts.
    Committed,
    /// The other one.
    Other,
}

impl Running {
    /// By the GUID of the root that runs; `None` when no slot, or each of them, has it.
    #[must_use]
    pub fn of(pair: &Pair, root: Guid) -> Option<Self> {
        match (
            pair.committed.root_guid == root,
            pair.other.root_guid == root,
        ) {
            (true, false) => Some(Self::Committed),
            (false, true) => Some(Self::Other),
            _ => None,
        }
    }
}

/// The version that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booted {
    /// Its root, from the kernel's command line.
    pub root: RootHash,
    /// The kernel's `boot_id`.
    pub boot_id: [u8; 16],
    /// Its name.
    pub version: Version,
    /// Its security version.
    pub security_version: u64,
}

impl Booted {
    /// The root hash in a kernel command line with [`crate::verity::kernel_parameters`]; `None`
    /// when the machine runs from another root.
    #[must_use]
    pub fn root_of_command_line(line: &str) -> Option<RootHash> {
        let (_, table) = line.split_once("dm-mod.create=")?;
        let (_, after) = table.split_once(" sha256 ")?;
        let digits = after.split(' ').next()?.as_bytes();
        let mut hash = [0; 32];
        let (pairs, rest) = digits.as_chunks::<2>();
        if pairs.len() != hash.len() || !rest.is_empty() {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(pairs) {
            let pair = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(RootHash(hash))
    }
}

/// What is done, in order, each only when the one before is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Replace the record.
    Save(Box<Record>),
    /// Take the root's GUID from the other slot, and make room for this target.
    Clear(Option<Box<Target>>),
    /// Give the other slot's root entry this root's GUID.
    Name(RootHash),
    /// Exchange the places of entries 1 and 2.
    Commit,
    /// Ask the firmware for one boot of the other slot, with this root.
    Arm(RootHash),
    /// Take back what the firmware was asked for.
    Disarm,
}

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => out.write_str("no other version is on the machine"),
            Self::Staging(target) => write!(out, "version {} is being fetched", target.version),
            Self::Staged(target) => {
                write!(out, "version {} is ready to be tried", target.version)
            }
            Self::Armed(target) => {
                write!(
                    out,
                    "version {} is tried at the next restart",
                    target.version
                )
            }
            Self::Trying(Some(target)) => write!(
                out,
                "version {} is being tried: a restart returns to the version before",
                target.version
            ),
            Self::Trying(None) => {
                out.write_str("the machine runs from the other slot: a restart leaves it")
            }
            Self::Committed => out.write_str("the running version is the one to stay"),
            Self::Rejected(one) => {
                write!(out, "version {} was given up: {}", one.version, one.reason)
            }
        }
    }
}
