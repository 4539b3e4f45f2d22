//! From the kernel's start to the container's first instruction: Berth, a bare init with crun on
//! the same kernel, and Debian with systemd and containerd.

use std::path::Path;

use berth_qemu_tests::{Builder, Error, within};

use crate::bare_init::{self, Work};
use crate::berth::Berth;
use crate::guest_lines::{self, Reading};
use crate::report::{Target, Verdict, millions, seconds};
use crate::stage::Stage;
use crate::{debian, kernel_start};

/// Boots from disk whose medians count.
const BOOTS: usize = 5;
/// PID 1 → container in instructions, of the bare init's with crun.
const CONTAINER_RATIO: Target = Target::AtMost(0.25);
/// PID 1 → container in wall time: systemd's with containerd, in ours.
const SYSTEMD_RATIO: Target = Target::AtLeast(50.0);

/// Measures and reports.
pub(crate) fn part(stage: &mut Stage) -> Result<(), Error> {
    let berth = stage.berth("cloud")?;
    stage.report.heading(
        "From the kernel's start to the container's first instruction",
        &["Berth", "init and crun", "Debian"],
    );
    kernel_instructions(stage, &berth)?;
    container_instructions(stage, &berth)?;
    wall_time(stage, &berth)
}

fn kernel_instructions(stage: &mut Stage, berth: &Berth) -> Result<(), Error> {
    let debian = kernel_start::instructions("debian", &debian::kernel()?.image)?;
    let ours = kernel_start::instructions("cloud", &berth.image().kernel())?;
    stage.report.row(
        "kernel start -> PID 1, instructions",
        &[&millions(ours), "the same", &millions(debian)],
        Some(kernel_start::verdict(ours, debian)),
    );
    Ok(())
}

fn container_instructions(stage: &mut Stage, berth: &Berth) -> Result<(), Error> {
    let kernel = berth.image().kernel();
    let bare = bare_init::in_memory(&kernel, &Work::StartOne, berth, stage.scratch())?;
    let text = guest_lines::run(bare, within(60))?;
    let from = guest_lines::gave_way(&text)?.ticks;
    let bare = guest_lines::first(&text, "container")?.ticks - from;
    let ours = berth.instructions(stage.scratch())?;
    stage.report.row(
        "PID 1 -> container, instructions",
        &[&millions(ours), &millions(bare), ""],
        Some(Verdict {
            value: ours as f64 / bare as f64,
            what: "of init and crun",
            target: CONTAINER_RATIO,
        }),
    );
    Ok(())
}

/// A boot from disk, both spans in nanoseconds.
struct Wall {
    kernel_ns: u64,
    container_ns: u64,
}

/// Boots of the contestants take turns, so that what else the computer does falls on all alike.
fn wall_time(stage: &mut Stage, berth: &Berth) -> Result<(), Error> {
    let debian = wall(debian::systemd_to_container()?);
    let bare = bare_on_disk(berth, stage.scratch())?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..BOOTS {
        ours.push(wall(berth.wall()?));
        theirs.push(wall(bare_wall(bare.clone())?));
    }
    let kernel = |all: &[Wall]| median(all.iter().map(|wall| wall.kernel_ns));
    let container = |all: &[Wall]| median(all.iter().map(|wall| wall.container_ns));
    stage.report.row(
        "kernel start -> PID 1, wall time",
        &[
            &seconds(kernel(&ours)),
            &seconds(kernel(&theirs)),
            &seconds(debian.kernel_ns),
        ],
        None,
    );
    let ours = container(&ours);
    stage.report.row(
        "PID 1 -> container, wall time",
        &[
            &seconds(ours),
            &seconds(container(&theirs)),
            &seconds(debian.container_ns),
        ],
        Some(Verdict {
            value: debian.container_ns as f64 / ours as f64,
            what: "times less than Debian",
            target: SYSTEMD_RATIO,
        }),
    );
    stage.report.note(&format!(
        "Instructions: in memory. Wall time: from disk, medians of {BOOTS} boots, Debian's one. \
         Debian's initrd counts as kernel."
    ));
    Ok(())
}

fn wall((pid1_ns, container_ns): (u64, u64)) -> Wall {
    Wall {
        kernel_ns: pid1_ns,
        container_ns: container_ns.saturating_sub(pid1_ns),
    }
}

fn bare_on_disk(berth: &Berth, scratch: &Path) -> Result<Builder, Error> {
    let kernel = berth.image().kernel();
    bare_init::on_disk(&kernel, &Work::StartOne, berth, scratch)
}

fn bare_wall(machine: Builder) -> Result<(u64, u64), Error> {
    let text = guest_lines::run(machine, within(60))?;
    let Reading { ns: from, .. } = guest_lines::gave_way(&text)?;
    Ok((from, guest_lines::first(&text, "container")?.ns))
}

/// The median.
fn median(all: impl Iterator<Item = u64>) -> u64 {
    let mut all: Vec<u64> = all.collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}
