//! The system call filter of a container: compiled once per container when its plan is made,
//! attached by the child just before exec.

mod compile;
mod profile;

use crate::capabilities::Set;
use crate::sys::Errno;
use crate::sys::process::{Instruction, filter_system_calls};

/// A compiled filter.
pub(crate) struct Filter(Vec<Instruction>);

impl Filter {
    /// Berth's default profile for a container that is bounded by these capabilities.
    pub(crate) fn default_profile(capabilities: Set) -> Self {
        let rules = profile::rules(capabilities);
        Self(compile::compile(&rules, profile::LAST_KNOWN))
    }

    /// Attaches it to this process, for good.
    pub(crate) fn attach(&self) -> Result<(), Errno> {
        filter_system_calls(&self.0)
    }
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter({} instructions)", self.0.len())
    }
}
