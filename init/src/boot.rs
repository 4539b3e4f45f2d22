//! THE boot: every phase in its order, with its deadline and what its failure means.
//! Nothing else is in this file.

use crate::phase::OnFailure::{Degrade, GiveUp, Retry};
use crate::phase::Run::{Apart, Here};
use crate::phase::{OnFailure, Phase, Run};
use crate::pid1::Pid1;
use crate::{clock, loopback, machine_id, mounts, state, sysctls};

/// In order. `GiveUp` follows the machine's own `on_failure`: restart or halt.
#[rustfmt::skip]
pub(crate) const PHASES: &[Phase] = &[
    phase("mounts",     Here(|_| mounts::mount_all()),                100, GiveUp),
    phase("kernel-log", Here(Pid1::open_kernel_log),                  100, Degrade),
    phase("machine",    Here(Pid1::read_machine),                     100, GiveUp),
    phase("clock",      Here(Pid1::raise_clock),                      100, Degrade),
    phase("watchdog",   Here(Pid1::arm_watchdog),                   1_000, Degrade),
    phase("cgroups",    Here(|_| crate::cgroups::make_tree()),        500, GiveUp),
    phase("hostname",   Here(Pid1::set_hostname),                     500, Degrade),
    phase("sysctls",    Here(|_| sysctls::apply()),                   500, Degrade),
    phase("loopback",   Here(|_| loopback::raise()),                  500, Degrade),
    phase("buttons",    Here(Pid1::open_power_buttons),             1_000, Degrade),
    phase("state",      Apart(state::open),                       120_000, Retry(1)),
    phase("identity",   Apart(machine_id::settle),                 30_000, Degrade),
    phase("entropy",    Apart(crate::entropy::restore),            30_000, Degrade),
    phase("saved-time", Apart(clock::raise_to_saved_time),         10_000, Degrade),
    phase("names",      Here(Pid1::set_hostname),                     500, Degrade),
];

const fn phase(name: &'static str, run: Run, deadline_ms: u64, on_failure: OnFailure) -> Phase {
    Phase {
        name,
        run,
        deadline_ms,
        on_failure,
    }
}
