//! One more container on a machine that runs: start and exit of a static program, on the host's
//! network, with all default restrictions.

use berth_qemu_tests::{Error, within};

use crate::bare_init::{self, Work};
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
        "start -> exit, instructions, medians of 5",
        &[&millions(ours), &millions(crun), &millions(bare)],
        Some(Verdict {
            value: ours as f64 / 1e6,
            what: "million",
            target: ONE_MORE,
        }),
    );
    Ok(())
}
