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
        Self(compile::compile(&profile::rules(capabilities)))
    }

    /// Nothing but these calls.
    pub(crate) fn only(calls: &[libc::c_long]) -> Self {
        Self(compile::compile(&profile::only(calls)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_filter_is_short_and_shallow() {
        let Filter(program) = Filter::default_profile(Set::default());
        assert!(program.len() < 150, "{} instructions", program.len());
        let steps: usize = (0..500)
            .map(|number| compile::tests::run(&program, number, 0).1)
            .sum();
        assert!(steps < 500 * 11, "{steps} steps for 500 calls");
    }

    #[test]
    fn a_filter_of_a_few_calls_allows_those_and_no_other() {
        let Filter(program) = Filter::only(&[libc::SYS_read, libc::SYS_write]);
        for number in 0..500 {
            let (code, _) = compile::tests::run(&program, number, 0);
            let listed = [libc::SYS_read, libc::SYS_write].contains(&number.into());
            assert_eq!(code == libc::SECCOMP_RET_ALLOW, listed, "{number}");
        }
    }
}
