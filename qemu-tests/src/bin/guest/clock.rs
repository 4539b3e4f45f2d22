//! The two clocks of a measurement: the time stamp counter, which counts instructions when QEMU
//! runs with `-icount shift=0`, and CLOCK_MONOTONIC, which the kernel starts at its own start.

use std::fmt;

use crate::sys;

/// One look at both clocks.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    /// The time stamp counter.
    pub(crate) ticks: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub(crate) monotonic_ns: u64,
}

impl Reading {
    /// From this reading to a later one.
    pub(crate) fn until(self, later: Self) -> Self {
        Self {
            ticks: later.ticks.wrapping_sub(self.ticks),
            monotonic_ns: later.monotonic_ns.wrapping_sub(self.monotonic_ns),
        }
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ticks={} ns={}", self.ticks, self.monotonic_ns)
    }
}

/// Looks at both, the counter first.
pub(crate) fn now() -> Reading {
    Reading {
        ticks: sys::ticks(),
        monotonic_ns: sys::monotonic_ns(),
    }
}
