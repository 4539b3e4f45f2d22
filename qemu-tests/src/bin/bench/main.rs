//! `make bench`: how long a Berth machine takes to start, beside Debian's kernel, a bare init
//! with crun, and Debian with systemd and containerd, all measured in this one run on the same
//! QEMU settings.
//!
//! Two measures: guest instructions (`-icount shift=0`, everything in memory) do not depend on
//! this computer or what else it does; wall time, from disk, is what people feel.
//! `--enforce` makes a broken promise an error.

mod bare_init;
mod berth;
mod bundle;
mod debian;
mod guest_lines;
mod kernel_start;
mod report;

use std::path::Path;
use std::process::ExitCode;

use berth_qemu_tests::{Builder, Error, within};
use tempfile::TempDir;

use crate::bare_init::Work;
use crate::berth::Berth;
use crate::report::{Report, Target, millions, seconds};

/// Boots from disk whose median counts.
const BOOTS: usize = 5;
/// Kernel → PID 1, of Debian's cloud kernel's.
const KERNEL_RATIO: Target = Target::AtMost(0.4);
/// PID 1 → container, of the bare init's with crun, in instructions.
const CONTAINER_RATIO: Target = Target::AtMost(0.25);
/// PID 1 → container in wall time: systemd's with containerd, in ours.
const SYSTEMD_RATIO: Target = Target::AtLeast(50.0);
/// One more container, millions of instructions.
const ONE_MORE: Target = Target::AtMost(5.0);

fn main() -> ExitCode {
    let mut report = Report::default();
    let enforce = std::env::args().any(|argument| argument == "--enforce");
    match measure(&mut report) {
        Ok(()) if enforce && !report.kept() => {
            eprintln!("bench: a target was missed");
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(report: &mut Report) -> Result<(), Error> {
    let scratch = TempDir::new().map_err(Error::file("creating", "a scratch directory"))?;
    let cloud = Berth::build("cloud", scratch.path())?;
    let micro = Berth::build("micro", scratch.path())?;
    kernels(report, &cloud, &micro)?;
    first_container(report, &cloud, scratch.path())?;
    one_more(report, &cloud, scratch.path())
}

fn kernels(report: &mut Report, cloud: &Berth, micro: &Berth) -> Result<(), Error> {
    report.heading("Kernel start -> PID 1, guest instructions");
    let debian = debian::kernel()?;
    let theirs = kernel_start::instructions("debian", &debian.image)?;
    report.figure(&debian.name, millions(theirs));
    for (profile, berth) in [("cloud", cloud), ("micro", micro)] {
        let ours = kernel_start::instructions(profile, &berth.image().kernel())?;
        let ratio = ours as f64 / theirs as f64;
        let subject = format!("Berth, {profile}");
        report.judged(&subject, millions(ours), ratio, KERNEL_RATIO);
    }
    Ok(())
}

fn first_container(report: &mut Report, berth: &Berth, scratch: &Path) -> Result<(), Error> {
    let kernel = berth.image().kernel();
    report.heading("PID 1 -> the container's first instruction, guest instructions, in memory");
    let theirs = bare_init::in_memory(&kernel, &Work::StartOne, berth, scratch)?;
    let text = guest_lines::run(theirs, within(60))?;
    let from = guest_lines::gave_way(&text)?.ticks;
    let theirs = guest_lines::first(&text, "container")?.ticks - from;
    report.figure("BusyBox init and crun", millions(theirs));
    let ours = berth.instructions(scratch)?;
    let ratio = ours as f64 / theirs as f64;
    report.judged("Berth", millions(ours), ratio, CONTAINER_RATIO);

    report.heading("PID 1 -> the container's first instruction, wall time, from disk");
    let bare = bare_init::on_disk(&kernel, &Work::StartOne, berth, scratch)?;
    let bare = median(|| bare_wall_ns(bare.clone()))?;
    report.figure("BusyBox init and crun, median of 5", seconds(bare));
    let debian = debian::systemd_to_container()?;
    report.figure("Debian, systemd and containerd, one boot", seconds(debian));
    let ours = median(|| berth.wall_ns())?;
    let ratio = debian as f64 / ours as f64;
    report.judged("Berth, median of 5", seconds(ours), ratio, SYSTEMD_RATIO);
    Ok(())
}

fn one_more(report: &mut Report, berth: &Berth, scratch: &Path) -> Result<(), Error> {
    report.heading("One more container: start and exit of a static program, guest instructions");
    let kernel = berth.image().kernel();
    let machine = bare_init::in_memory(&kernel, &Work::StartMany, berth, scratch)?;
    let text = guest_lines::run(machine, within(60))?;
    for (label, subject) in [("bare", "bare system calls"), ("crun", "crun")] {
        report.figure(subject, millions(guest_lines::median(&text, label)?));
    }
    let ours = guest_lines::median(&text, "launch")?;
    report.judged("Berth", millions(ours), ours as f64 / 1e6, ONE_MORE);
    Ok(())
}

fn bare_wall_ns(machine: Builder) -> Result<u64, Error> {
    let text = guest_lines::run(machine, within(60))?;
    let from = guest_lines::gave_way(&text)?.ns;
    Ok(guest_lines::first(&text, "container")?.ns - from)
}

/// The median of several measurements.
fn median(mut measure: impl FnMut() -> Result<u64, Error>) -> Result<u64, Error> {
    let mut all = Vec::new();
    for _ in 0..BOOTS {
        all.push(measure()?);
    }
    all.sort_unstable();
    Ok(all[BOOTS / 2])
}
