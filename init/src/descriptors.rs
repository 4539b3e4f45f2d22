//! How many descriptors PID 1 and its roles may hold.
//!
//! For each container PID 1 keeps both ends of two pipes, and while it hands them to the log role
//! there are copies; the kernel's first process starts with a limit of 1024. Containers have
//! limits of their own.

use nix::sys::resource::{Resource, setrlimit};

use crate::failure::{Doing, Failure};

/// Eight for each of the most containers that a machine may have, and room to spare.
const MOST: u64 = 4096;

/// Raises the limit for this process and what it starts.
pub(crate) fn raise_limit() -> Result<(), Failure> {
    setrlimit(Resource::RLIMIT_NOFILE, MOST, MOST)
        .doing(|| format!("raise the limit of descriptors to {MOST}"))
}
