//! The way down: one step after another, each within its time.

use berth_containers::supervise::Event;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Pid1;
use crate::kernel_log::{Urgency, now_us};
use crate::roles::Role;
use crate::shutdown::{self, Ending, Shutdown, Step};
use crate::{last_resort, sys, watchdog};

impl Pid1 {
    pub(super) fn begin_shutdown(&mut self, ending: Ending) {
        if self.shutdown.is_some() {
            return;
        }
        let now = now_us();
        self.log.line(
            Urgency::Notice,
            &format!("shutdown={} start t={now}", ending.name()),
        );
        if let Some((role, _)) = &self.apart {
            role.kill();
        }
        let containers_ms = self
            .containers
            .as_ref()
            .map_or(0, |all| all.longest_stop_ms().saturating_add(1000));
        let shutdown = Shutdown::begin(ending, containers_ms, now);
        self.begin_step(shutdown.step);
        self.shutdown = Some(shutdown);
    }

    /// Moves on when a step is done or has had its time; gives the time of the next look.
    pub(super) fn move_shutdown_on(&mut self) -> u64 {
        let Some(shutdown) = &mut self.shutdown else {
            return u64::MAX;
        };
        let done = match shutdown.step {
            Step::Containers => self.containers.as_ref().is_none_or(|all| all.stopped),
            Step::Roles => {
                let agents = [&self.network.agent, &self.logs, &self.updater.agent];
                self.apart.is_none() && !agents.iter().any(|agent| agent.runs())
            }
            Step::Rest => !sys::has_children(),
            Step::State => self.closing.is_none(),
            Step::Off => false,
        };
        let before = shutdown.step;
        if let Some((step, cut_short)) = shutdown.advance(done, now_us()) {
            if cut_short {
                let line = format!("shutdown step={} cut short at its deadline", before.name());
                self.log.line(Urgency::Error, &line);
            }
            self.begin_step(step);
            return 0;
        }
        shutdown.deadline_us()
    }

    fn begin_step(&mut self, step: Step) {
        let line = format!("shutdown step={} t={}", step.name(), now_us());
        self.log.line(Urgency::Notice, &line);
        match step {
            Step::Containers => self.tell_containers(Event::StopAll),
            Step::Roles => {
                if let Some((role, _)) = &self.apart {
                    role.kill();
                }
                self.network.agent.stop();
                self.logs.stop();
                self.updater.agent.stop();
            }
            Step::Rest => {
                // Every process but PID 1; ESRCH when there is none.
                let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
            }
            Step::State => {
                if let Err(why) = watchdog::bound_shutdown() {
                    self.log.line(Urgency::Error, &format!("shutdown : {why}"));
                }
                match Role::start("boot", &[crate::CLOSE_ROLE], &[]) {
                    Ok(role) => self.closing = Some(role),
                    Err(why) => self.log.line(Urgency::Error, &format!("shutdown : {why}")),
                }
            }
            Step::Off => {
                let ending = self.shutdown.as_ref().map(|shutdown| shutdown.ending);
                let why = shutdown::end(ending.unwrap_or(Ending::Restart));
                last_resort::give_up(&why.to_string());
            }
        }
    }
}
