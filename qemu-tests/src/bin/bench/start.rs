//! One more container on a machine that runs: start and exit of a static program, on the host's
//! network, with all default restrictions.

use berth_qemu_tests::{Error, within};

use crate::bare_init::{self, TIMES, Work};
use crate::guest_lines;
use crate::report::{Target, Verdict, millions};
use crate::stage::Stage;

/// One more container, millions of instructions.
const ONE_MORE: Target = Target::AtMost(5.0);

/// Measures and reports.
pub(crate) fn part(stage: &mut Stage) -> Result<(), Error> {
    let berth = stage.berth("cloud")?;
    let kernel = berth.image().kernel();
    let machine = bare_init::in_memory(&kernel, &Work::StartMany, &berth, stage.scratch())?;
    let text = guest_lines::run(machine, within(60))?;
    let ours = guest_lines::median(&text, "launch")?;
    let crun = guest_lines::median(&text, "crun")?;
    let bare = guest_lines::median(&text, "bare")?;
    stage.report.heading(
        "One more container: start and exit of a static program",
        &["Berth", "crun", "bare calls"],
    );
    stage.report.row(
        "start -> exit, instructions",
        &[&millions(ours), &millions(crun), &millions(bare)],
        Some(Verdict {
            value: ours as f64 / 1e6,
            what: "million",
            target: ONE_MORE,
        }),
    );
    let plan = guest_lines::median(&text, "plan")?;
    stage.report.row(
        "before it, once: reading what the container is",
        &[&millions(plan), "in it", "none"],
        None,
    );
    stage.report.note(&format!(
        "Medians of {TIMES}. Berth starts it from one process as PID 1 does, its description \
         read; crun is a process of its own each time."
    ));
    Ok(())
}
