//! The one program on a Berth machine. The kernel starts it as PID 1; PID 1 starts it again for
//! every other role, named by its first argument.

#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod agent;
mod boot;
mod cgroups;
mod clock;
mod console;
mod container_logs;
mod containers;
mod descriptors;
mod durable;
mod entropy;
mod failure;
mod first_boot;
mod grace_periods;
mod health;
mod hostname;
mod kernel_log;
mod last_resort;
mod loopback;
mod machine;
mod machine_id;
mod mounts;
mod network;
mod own_disk;
mod phase;
mod pid1;
mod power_button;
mod ram_root;
mod roles;
mod shutdown;
mod signals;
mod state;
mod status;
#[allow(unsafe_code)] // the one module that may
mod sys;
mod sysctls;
mod updates;
mod volumes;
mod watchdog;

use std::process::ExitCode;

use failure::Failure;
use phase::Run;

/// One boot phase in a process of its own: `/init phase NAME`.
const PHASE_ROLE: &str = "phase";
/// The network agent.
const NETWORK_ROLE: &str = "network";
/// The updater.
const UPDATE_ROLE: &str = "update";
/// What keeps the containers' output: `/init log NAME:BYTES…`.
const LOG_ROLE: &str = "log";
/// What asks a container for its health: `/init probe …`.
const PROBE_ROLE: &str = "probe";
/// The closing of the state on the way down.
const CLOSE_ROLE: &str = "close-state";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [PHASE_ROLE, name] => role(|| phase_apart(name)),
        [NETWORK_ROLE] => role(network::run_agent),
        [UPDATE_ROLE] => role(updates::run_updater),
        [LOG_ROLE, logs @ ..] => role(|| container_logs::run(logs)),
        [PROBE_ROLE, asked @ ..] => role(|| health::run_prober(asked)),
        [CLOSE_ROLE] => role(shutdown::close_state),
        _ if std::process::id() == 1 => pid1::run(),
        _ => {
            eprintln!("This is the init of a Berth machine; it does nothing on any other.");
            ExitCode::FAILURE
        }
    }
}

/// Runs a role whose last words, if it fails, go to PID 1 by its standard output.
fn role(work: impl FnOnce() -> Result<(), Failure>) -> ExitCode {
    last_resort::log_panics();
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn phase_apart(name: &str) -> Result<(), Failure> {
    match boot::PHASES.iter().find(|phase| phase.name == name) {
        Some(phase) => match phase.run {
            Run::Apart(work) => work(),
            Run::Here(_) | Run::Until(_) => {
                Err(Failure::new(format!("the phase {name} belongs into PID 1")))
            }
        },
        None => Err(Failure::new(format!("there is no boot phase {name}"))),
    }
}
