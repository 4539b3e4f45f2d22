//! The kernel's arguments: which root, verified how, and where the console is.
//!
//! They stand in the UKI and so, later, under its signature: nothing here may depend on the
//! computer that the machine runs on.

use berth_kernel_config::KERNEL_ARGUMENTS;
use berth_provision::OnFailure;
use berth_slots::verity::{self, Geometry, RootHash};

/// The last console is where PID 1 talks; the first is a screen, if there is one. Level 6 shows
/// what PID 1 says (notices) and the kernel's warnings, without its chatter, which a serial line
/// makes slow.
const CONSOLES: &str = "console=tty0 console=ttyS0,115200 loglevel=6";

/// The program that becomes PID 1. Without an initrd the kernel looks elsewhere by itself.
const INIT: &str = "init=/init";

/// A kernel that panics, as it does when a block of the root is not what it was, stays there.
const HALT: &str = "panic=0";

/// The whole command line.
pub(crate) fn of(geometry: &Geometry, root: &RootHash, on_failure: OnFailure) -> String {
    let mut line = String::new();
    for argument in KERNEL_ARGUMENTS {
        line.push_str(argument.text);
        line.push(' ');
    }
    line.push_str(&verity::kernel_parameters(geometry, root));
    if on_failure == OnFailure::Halt {
        line.push(' ');
        line.push_str(HALT);
    }
    format!("{line} {INIT} {CONSOLES}")
}
