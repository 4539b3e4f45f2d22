//! `make bench`: how long a Berth machine takes to start, beside Debian's kernel, a bare init
//! with crun, and Debian with systemd and containerd, all measured in this one run on the same
//! QEMU settings.
//!
//! Two measures: guest instructions (`-icount shift=0`, everything in memory) do not depend on
//! this computer or what else it does; wall time, from disk, is what people feel.

mod bare_init;
mod bundle;
mod debian;
mod guest_lines;
mod kernel_start;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use berth_qemu_tests::{Error, within};

use crate::bare_init::Work;
use crate::report::{Report, Target, millions, seconds};

fn main() -> ExitCode {
    let mut report = Report::default();
    match measure(&mut report) {
        Ok(()) => {
            let enforce = std::env::args().any(|argument| argument == "--enforce");
            if enforce && !report.kept() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            }
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(report: &mut Report) -> Result<(), Error> {
    let x = debian::systemd_to_container()?;
    println!("{}", seconds(x));
    Ok(())
}
