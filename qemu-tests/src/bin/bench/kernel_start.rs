//! Kernel start → PID 1: instructions from the kernel image's first to the first of a program in
//! an initial RAM file system. Decompression counts; the firmware before it does not.

use std::path::Path;

use berth_qemu_tests::{Error, Files, Machine, accelerator, guest, within};
use tempfile::TempDir;

use crate::report::{Target, Verdict, millions};
use crate::stage::Stage;
use crate::{debian, guest_lines};

/// Kernel → PID 1, of Debian's cloud kernel's.
const RATIO: Target = Target::AtMost(0.4);
/// The command line of every kernel that is measured.
pub(crate) const COMMAND_LINE: &str = "console=ttyS0 quiet panic=1";
/// What is added where time is real: an emulated timer of a busy computer comes too late for the
/// kernel's check of it, which would end the boot. On a hypervisor it is not checked either.
pub(crate) const LATE_TIMERS: &str = "no_timer_check";
/// Memory of the measured machines, MiB.
pub(crate) const MEMORY_MIB: u32 = 512;

/// Measures and reports every profile.
pub(crate) fn part(stage: &mut Stage) -> Result<(), Error> {
    let debian = debian::kernel()?;
    let theirs = instructions("debian", &debian.image)?;
    let title = "Kernel start -> PID 1, instructions";
    stage.report.heading(title, &["", "of Debian's"]);
    stage
        .report
        .row(&debian.name, &[&millions(theirs), "1.00"], None);
    for profile in ["cloud", "micro"] {
        let ours = instructions(profile, &stage.berth(profile)?.image().kernel())?;
        let ratio = format!("{:.2}", ours as f64 / theirs as f64);
        stage.report.row(
            &format!("Berth, {profile}"),
            &[&millions(ours), &ratio],
            Some(verdict(ours, theirs)),
        );
    }
    Ok(())
}

/// Our instructions against those of Debian's kernel.
pub(crate) fn verdict(ours: u64, debian: u64) -> Verdict {
    Verdict {
        value: ours as f64 / debian as f64,
        what: "of Debian's",
        target: RATIO,
    }
}

/// Instructions from the kernel's first to PID 1's first.
pub(crate) fn instructions(name: &str, kernel: &Path) -> Result<u64, Error> {
    let scratch = TempDir::new().map_err(Error::file("creating", "a scratch directory"))?;
    let ramdisk = scratch.path().join("ramdisk");
    Files::default()
        .device("dev/console", 5, 1)
        .program_from("init", &guest::program()?)?
        .write_initramfs(&ramdisk)?;
    let firmware = firmware(scratch.path(), &ramdisk)?;
    let machine = Machine::named(&format!("bench-kernel-{name}"))
        .counted()
        .headless()
        .without_network()
        .memory(MEMORY_MIB)
        .direct(kernel, COMMAND_LINE)
        .initrd(&ramdisk);
    let text = guest_lines::run(machine, within(60))?;
    let arrived = guest_lines::first(&text, "pid1")?.ticks;
    arrived.checked_sub(firmware).ok_or_else(|| {
        Error::broken(format!(
            "{name} reached PID 1 after {arrived} instructions, the firmware took {firmware}"
        ))
    })
}

/// Instructions until the firmware enters a kernel: read by one that does nothing else.
fn firmware(scratch: &Path, ramdisk: &Path) -> Result<u64, Error> {
    let kernel = scratch.join("probe");
    std::fs::write(&kernel, accelerator::probe_kernel())
        .map_err(Error::file("writing", &kernel))?;
    let machine = Machine::named("bench-firmware")
        .counted()
        .headless()
        .without_network()
        .memory(MEMORY_MIB)
        .direct(kernel, "")
        .initrd(ramdisk)
        .with(["-device", accelerator::PROBE_EXIT_DEVICE]);
    let text = guest_lines::run(machine, within(10))?;
    u64::from_str_radix(text.trim(), 16).map_err(|_| {
        Error::broken(format!(
            "the probe kernel did not say when it was entered: {text:?}"
        ))
    })
}
