//! `make bench`: how Berth compares with what it replaces, measured in this one run on the same
//! QEMU settings, printed as tables against what was promised.
//!
//! Two measures of time: guest instructions (`-icount shift=0`, everything in memory) do not
//! depend on this computer or what else it does; wall time, from disk, is what people feel.
//! Arguments name the parts to run; none runs all. `--enforce` makes a missed target an error.

mod bare_init;
mod berth;
mod boot;
mod build_speed;
mod bundle;
mod debian;
mod delta;
mod guest_lines;
mod kernel_start;
mod memory;
mod pairs;
mod report;
mod stage;
mod start;

use std::process::ExitCode;

use berth_qemu_tests::{Error, process};

use crate::stage::Stage;

/// A part of the bench, which needs no other to have run.
struct Part {
    name: &'static str,
    about: &'static str,
    run: fn(&mut Stage) -> Result<(), Error>,
}

/// In the order in which they run.
#[rustfmt::skip]
const PARTS: &[Part] = &[
    part("kernel", "kernel start -> PID 1, every profile, beside Debian's", kernel_start::part),
    part("boot", "kernel start -> PID 1 -> container, beside crun and containerd", boot::part),
    part("start", "one more container, beside crun and the bare system calls", start::part),
    part("build", "berth build: processor time and memory", build_speed::part),
    part("memory", "what our processes have, and the least that the demo boots in", memory::part),
    part("delta", "patches beside those of bsdiff, xdelta3, zstd, hdiffz and casync", delta::part),
];

const fn part(
    name: &'static str,
    about: &'static str,
    run: fn(&mut Stage) -> Result<(), Error>,
) -> Part {
    Part { name, about, run }
}

fn main() -> ExitCode {
    if let Some(code) = process::in_between() {
        return code;
    }
    let mut enforce = false;
    let mut wanted = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--enforce" => enforce = true,
            name => match PARTS.iter().find(|part| part.name == name) {
                Some(part) => wanted.push(part.name),
                None => return unknown(name),
            },
        }
    }
    match run(&wanted) {
        Ok(kept) if kept || !enforce => ExitCode::SUCCESS,
        Ok(_) => {
            eprintln!("bench: a target was missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the wanted parts, or all; says whether every target was met.
fn run(wanted: &[&str]) -> Result<bool, Error> {
    let mut stage = Stage::new()?;
    for part in PARTS {
        if wanted.is_empty() || wanted.contains(&part.name) {
            eprintln!("bench: {}: {}", part.name, part.about);
            (part.run)(&mut stage)?;
        }
    }
    Ok(stage.report.kept())
}

fn unknown(name: &str) -> ExitCode {
    eprintln!("bench: there is no part {name:?}; the parts are:");
    for part in PARTS {
        eprintln!("  {:<8} {}", part.name, part.about);
    }
    ExitCode::FAILURE
}
