//! Boots machines in QEMU and checks what Berth promises.
//!
//! A test describes a machine, starts it, waits for events with a deadline and asks it things
//! over its console, its monitor and its forwarded ports. Nothing outlives the test: a machine's
//! QEMU ends with the process that started it, and what it wrote is kept only after a failure.

pub mod accelerator;
mod artifacts;
pub mod clients;
pub mod console;
mod error;
pub mod files;
pub mod guest;
pub mod http;
pub mod image;
pub mod judges;
pub mod machine;
pub mod monitor;
pub mod nginx;
pub mod observer;
pub mod power;
pub mod process;
pub mod published;
pub mod real;
mod sys;
mod turn;

pub use artifacts::{Artifacts, target_directory};
pub use berth_power::Line;
pub use console::Console;
pub use error::Error;
pub use files::Files;
pub use machine::{Builder, Disk, Machine};
pub use turn::Turn;

use std::time::Duration;

/// What a test returns: the first sentence that went wrong is what the reader sees.
pub type TestResult = Result<(), Error>;

/// A deadline of `seconds` on a machine with hardware virtualisation, stretched for emulation.
///
/// `BERTH_TEST_PATIENCE` multiplies every deadline, for machines that are busy with other work.
pub fn within(seconds: u64) -> Duration {
    let patience = std::env::var("BERTH_TEST_PATIENCE")
        .ok()
        .and_then(|text| text.parse::<u64>().ok())
        .unwrap_or(1);
    let stretch = match accelerator::probed() {
        accelerator::Accelerator::Kvm => 1,
        accelerator::Accelerator::Tcg => 8,
    };
    Duration::from_secs(seconds.saturating_mul(stretch).saturating_mul(patience))
}

/// Whether the long tests were asked for; says loudly on the terminal that one is skipped.
pub fn long_tests_wanted(test: &str) -> bool {
    let wanted = std::env::var_os("BERTH_TEST_LONG").is_some_and(|value| value == "1");
    if !wanted {
        eprintln!("SKIPPED {test}: a long test; BERTH_TEST_LONG=1 (make test-long) runs it");
    }
    wanted
}
