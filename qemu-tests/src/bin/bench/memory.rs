//! Memory: what our processes have after the boot of the demo, and how little the machine needs
//! to boot and answer.

use berth_qemu_tests::image::{self, Image};
use berth_qemu_tests::{Builder, Disk, Error, Files, Machine, within};

use crate::berth::Berth;
use crate::kernel_start::LATE_TIMERS;
use crate::report::{Target, Verdict};
use crate::stage::Stage;

/// All our processes together, MiB.
const PROCESSES: Target = Target::AtMost(8.0);
/// The demo by direct kernel boot, MiB.
const DIRECT: Target = Target::AtMost(48.0);
/// The demo through OVMF, MiB.
const FIRMWARE: Target = Target::AtMost(160.0);
/// Seconds after which the machine is up and at rest.
const AT_REST: &str = "8";
/// Floors are found to this, MiB.
const STEP: u32 = 4;
/// Where the demo answers.
const PORT: u16 = 8080;

/// Measures and reports.
pub(crate) fn part(stage: &mut Stage) -> Result<(), Error> {
    let demo = image::demo()?;
    processes(stage, &demo)?;
    stage
        .report
        .heading("The demo boots and answers", &["memory"]);
    let command_line = format!("{} {LATE_TIMERS}", demo.command_line()?);
    let direct = Machine::named("bench-floor-direct").direct(demo.kernel(), command_line);
    let firmware = Machine::named("bench-floor-firmware").uefi();
    for (subject, machine, most, target) in [
        ("direct kernel boot, least memory", direct, 64, DIRECT),
        ("through OVMF, least memory", firmware, 192, FIRMWARE),
    ] {
        let disk = Disk::of(demo.disk()).grown_to(1 << 30);
        let floor = floor(&machine.headless().forward(PORT).disk(disk), most)?;
        stage.report.row(
            subject,
            &[&format!("{floor} MiB")],
            Some(Verdict {
                value: f64::from(floor),
                what: "MiB",
                target,
            }),
        );
    }
    Ok(())
}

/// A process of the machine, KiB.
struct Process {
    name: String,
    own: u64,
    file: u64,
}

fn processes(stage: &mut Stage, demo: &Image) -> Result<(), Error> {
    let root = stage.scratch().join("root-demo");
    let berth = Berth::of(demo.clone(), &root)?;
    let asked = Files::default().file("bench/memory", 0o644, AT_REST);
    let machine = berth.in_memory(stage.scratch(), asked)?.start()?;
    let said = machine.console();
    said.wait_for_line("guest: memory-end", within(60))?;
    let all: Vec<Process> = said.text().lines().filter_map(Process::parse).collect();
    let title = "Resident memory after the boot of the demo";
    stage.report.heading(title, &["own", "of files"]);
    // The pages of the one executable are there once, whoever maps them.
    let (mut own, mut file) = (0, 0);
    for process in all.iter().filter(|process| process.is_ours()) {
        stage.report.row(
            &process.name,
            &[&kib(process.own), &kib(process.file)],
            None,
        );
        own += process.own;
        file = file.max(process.file);
    }
    if own == 0 {
        return Err(machine.broken("no process of ours was seen"));
    }
    let together = Verdict {
        value: (own + file) as f64 / 1024.0,
        what: "MiB",
        target: PROCESSES,
    };
    let subject = "together, the executable's pages once";
    stage
        .report
        .row(subject, &[&kib(own), &kib(file)], Some(together));
    Ok(())
}

impl Process {
    fn parse(line: &str) -> Option<Self> {
        let (_, said) = line.split_once("guest: memory ")?;
        let value = |key: &str| {
            let mut words = said.split_whitespace();
            words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        let number = |key: &str| value(key)?.parse::<u64>().ok();
        Some(Self {
            name: value("process")?.replace('_', " "),
            own: number("anonymous")? + number("shared")?,
            file: number("file")?,
        })
    }

    /// Whether it is a role of `/init` and not a container's program.
    fn is_ours(&self) -> bool {
        self.name.starts_with("/init") || self.name.starts_with("/bench/init")
    }
}

/// The least memory, MiB, with which the machine boots and answers.
fn floor(machine: &Builder, most: u32) -> Result<u32, Error> {
    // Invariant: `fails` is too little (nothing boots in it), `works` is enough.
    let (mut fails, mut works) = (STEP, most);
    answers(machine, works)?;
    while works - fails > STEP {
        let middle = (fails + (works - fails) / 2).next_multiple_of(STEP);
        let middle = middle.min(works - STEP);
        match answers(machine, middle) {
            Ok(()) => works = middle,
            Err(_) => fails = middle,
        }
    }
    Ok(works)
}

/// A boot that ends because the emulated timer was late says nothing about memory.
const TIMER_WAS_LATE: &str = "IO-APIC + timer doesn't work";
/// How often such a boot is repeated.
const ATTEMPTS: usize = 5;

fn answers(machine: &Builder, mib: u32) -> Result<(), Error> {
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS {
        let machine = machine.clone().memory(mib).start()?;
        outcome = machine
            .console()
            .ready(within(8))
            .and_then(|_| machine.http(PORT, "/", within(4)).map(drop));
        if outcome.is_ok() || !machine.console().text().contains(TIMER_WAS_LATE) {
            break;
        }
    }
    outcome
}

fn kib(kib: u64) -> String {
    format!("{kib} KiB")
}
