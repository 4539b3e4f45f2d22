//! THE boot: every phase in its order, with its deadline and what its failure means.
//! Nothing else is in this file.

use crate::phase::OnFailure::{Degrade, GiveUp, Retry};
use crate::phase::Run::{Apart, Here, Until};
use crate::phase::{OnFailure, Phase, Run};
use crate::pid1::Pid1;
use crate::{clock, first_boot, grace_periods, loopback, machine_id, mounts, state, volumes};

/// In order. `GiveUp` follows the machine's own `on_failure`: restart or halt.
#[rustfmt::skip]
pub(crate) const PHASES: &[Phase] = &[
    phase("mounts",     Here(|_| mounts::mount_all()),                100, GiveUp),
    phase("kernel-log", Here(Pid1::open_kernel_log),                  100, Degrade),
    phase("expedite",   Here(|_| grace_periods::expedite()),           100, Degrade),
    phase("machine",    Here(Pid1::read_machine),                     100, GiveUp),
    phase("clock",      Here(Pid1::raise_clock),                      100, Degrade),
    phase("watchdog",   Here(Pid1::arm_watchdog),                   1_000, Degrade),
    phase("cgroups",    Here(|_| crate::cgroups::make_tree()),        500, GiveUp),
    phase("hostname",   Here(Pid1::set_hostname),                     500, Degrade),
    phase("sysctls",    Here(Pid1::set_sysctls),                      500, Degrade),
    phase("loopback",   Here(|_| loopback::raise()),                  500, Degrade),
    phase("containers", Here(Pid1::start_containers),               2_000, Degrade),
    phase("handover",   Until(Pid1::first_containers_are_set_up),   1_000, Degrade),
    phase("logs",       Here(Pid1::start_logs),                     1_000, Degrade),
    phase("network",    Here(Pid1::start_network),                  1_000, Degrade),
    phase("buttons",    Here(Pid1::open_power_buttons),             1_000, Degrade),
    phase("trial",      Here(Pid1::bound_trial),                      500, Degrade),
    phase("first-boot", Apart(first_boot::run),                    60_000, Degrade),
    phase("state",      Apart(state::open),                       120_000, Retry(1)),
    phase("volumes",    Apart(volumes::make_all),                  30_000, Degrade),
    phase("identity",   Apart(machine_id::settle),                 30_000, Degrade),
    phase("entropy",    Apart(crate::entropy::restore),            30_000, Degrade),
    phase("saved-time", Apart(clock::raise_to_saved_time),         10_000, Degrade),
    phase("names",      Here(Pid1::set_hostname),                     500, Degrade),
    phase("stateful",   Here(Pid1::start_stateful_containers),      2_000, Degrade),
    phase("updates",    Here(Pid1::start_updates),                   1_000, Degrade),
    phase("relax",      Here(|_| grace_periods::relax()),              100, Degrade),
];

const fn phase(name: &'static str, run: Run, deadline_ms: u64, on_failure: OnFailure) -> Phase {
    Phase {
        name,
        run,
        deadline_ms,
        on_failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(name: &str) -> usize {
        let at = PHASES.iter().position(|phase| phase.name == name);
        at.unwrap_or_else(|| panic!("there is no phase {name}"))
    }

    #[test]
    fn the_order_of_the_boot_is_fixed() {
        let order: Vec<_> = PHASES.iter().map(|phase| phase.name).collect();
        let expected = "mounts kernel-log expedite machine clock watchdog cgroups hostname \
            sysctls loopback containers handover logs network buttons trial first-boot state volumes identity \
            entropy saved-time names stateful updates relax";
        assert_eq!(order, expected.split_whitespace().collect::<Vec<_>>());
    }

    #[test]
    fn only_what_nothing_works_without_stops_the_boot() {
        let fatal: Vec<_> = PHASES
            .iter()
            .filter(|phase| phase.on_failure == GiveUp)
            .map(|phase| phase.name)
            .collect();
        assert_eq!(fatal, ["mounts", "machine", "cgroups"]);
    }

    #[test]
    fn a_disk_is_touched_only_in_processes_that_can_be_killed() {
        for name in [
            "first-boot",
            "state",
            "volumes",
            "identity",
            "entropy",
            "saved-time",
        ] {
            let phase = &PHASES[position(name)];
            assert!(matches!(phase.run, Apart(_)), "{name}");
        }
    }

    #[test]
    fn a_trial_is_bounded_before_anything_can_fail_on_the_disk() {
        let first_apart = PHASES
            .iter()
            .position(|phase| matches!(phase.run, Apart(_)));
        assert!(matches!(PHASES[position("trial")].run, Here(_)));
        assert!(Some(position("trial")) < first_apart);
    }

    #[test]
    fn no_name_is_used_twice_and_every_phase_has_a_deadline() {
        for (index, phase) in PHASES.iter().enumerate() {
            assert_eq!(position(phase.name), index);
            assert!(phase.deadline_ms > 0);
        }
    }
}
