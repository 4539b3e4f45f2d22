//! Short waits for grace periods while the machine starts.
//!
//! Moving a process between cgroups, undoing a mount or leaving a namespace waits until every
//! CPU has passed a quiet point (RCU): milliseconds each, and most of the time between PID 1 and
//! the first container. Expedited waits interrupt the CPUs instead, which is right while there is
//! nothing to interrupt.

use crate::failure::Failure;
use crate::mounts::write_kernel_file;

/// Missing on a kernel for one CPU, which never waits.
const EXPEDITED: &str = "/sys/kernel/rcu_expedited";

/// From now on waits are short.
pub(crate) fn expedite() -> Result<(), Failure> {
    write_if_there("1\n")
}

/// Waits are as the kernel likes them again: programs are no longer interrupted.
pub(crate) fn relax() -> Result<(), Failure> {
    write_if_there("0\n")
}

fn write_if_there(text: &str) -> Result<(), Failure> {
    if !std::path::Path::new(EXPEDITED).exists() {
        return Ok(());
    }
    write_kernel_file(EXPEDITED, text)
}
