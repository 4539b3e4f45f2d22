//! Every disk that a power cut during an update can leave, and what firmware starts from it.
//!
//! [`Recorder`] wraps the three things that an update changes and writes down what happens to
//! them; [`states`] turns that log into crash states: at each point, what was flushed is there,
//! and of what was not any part may be, down to single sectors. [`firmware`] is a model of what
//! UEFI firmware starts from such a disk, [`life`] a machine that is updated start by start.
//! Nothing here runs on the machine.

pub mod firmware;
pub mod life;
mod log;
mod memory;
mod state;

pub use log::{Log, Operation, RecordedDisk, RecordedRecords, RecordedVariables, Recorder};
pub use memory::{Memory, MemoryRecords, MemoryVariables};
pub use state::{CrashState, Options, riskiest, states};
