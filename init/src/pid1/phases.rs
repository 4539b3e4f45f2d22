//! Phases that need PID 1 itself, in the order of the table.

use berth_containers::supervise::Event;
use berth_provision::OnFailure;

use super::Pid1;
use crate::containers::Containers;
use crate::failure::Failure;
use crate::kernel_log::{Urgency, now_us};
use crate::own_disk::OwnDisk;
use crate::power_button::PowerButton;
use crate::watchdog::{self, FEED_EVERY_US};
use crate::{clock, hostname, last_resort, machine, sysctls};

/// How long the first containers have the processors to themselves once they run: enough for a
/// program's first instructions, which on one processor would otherwise wait for all that PID 1
/// does next.
const HEAD_START_US: u64 = 2_000;

impl Pid1 {
    pub(crate) fn open_kernel_log(&mut self) -> Result<(), Failure> {
        self.log.open_unlimited()
    }

    pub(crate) fn read_machine(&mut self) -> Result<(), Failure> {
        let machine = machine::read()?;
        last_resort::follow(machine.on_failure);
        self.machine = machine;
        Ok(())
    }

    pub(crate) fn raise_clock(&mut self) -> Result<(), Failure> {
        clock::raise_to_build_time(self.machine.built)
    }

    pub(crate) fn arm_watchdog(&mut self) -> Result<(), Failure> {
        let none = if self.machine.on_failure == OnFailure::Halt {
            // It would end the halt.
            Some("watchdog=unused : this machine halts when it cannot go on")
        } else if watchdog::arm()? {
            None
        } else {
            Some("watchdog=none : this machine has no watchdog")
        };
        if let Some(line) = none {
            self.log.line(Urgency::Notice, line);
        }
        self.next_feed_us = now_us().saturating_add(FEED_EVERY_US);
        Ok(())
    }

    pub(crate) fn set_hostname(&mut self) -> Result<(), Failure> {
        let name = hostname::set(&self.machine.hostname)?;
        self.book.hostname(name);
        Ok(())
    }

    pub(crate) fn set_sysctls(&mut self) -> Result<(), Failure> {
        sysctls::apply(&self.machine.containers)
    }

    /// Starts the containers that need nothing but the root. What was logged until now is let go
    /// after that, so that no slow console stands before the first container.
    pub(crate) fn start_containers(&mut self) -> Result<(), Failure> {
        let mut containers = Containers::new(&self.machine.containers)?;
        containers.handle(Event::Begin, &mut self.log);
        self.containers = Some(containers);
        Ok(())
    }

    /// The first containers are past their set-up, or failed in it, and those that run have had a
    /// moment: only then does anything else compete with them for the processors.
    pub(crate) fn first_containers_are_set_up(&mut self) -> bool {
        self.serve_containers();
        let Some(containers) = self.containers.as_ref().filter(|all| all.have_processes()) else {
            return true;
        };
        if containers.is_setting_up() {
            self.head_start_until_us = None; // one more: it has its moment too
            return false;
        }
        let now = now_us();
        let until_us = self
            .head_start_until_us
            .get_or_insert(now.saturating_add(HEAD_START_US));
        now >= *until_us
    }

    /// Starts what keeps the containers' output; their pipes have kept it until now.
    pub(crate) fn start_logs(&mut self) -> Result<(), Failure> {
        self.log.let_go();
        let role = self
            .containers
            .as_ref()
            .and_then(Containers::start_log_role);
        role.map_or(Ok(()), |role| self.logs.started(role, now_us()))
    }

    pub(crate) fn start_network(&mut self) -> Result<(), Failure> {
        self.network.start()
    }

    /// Bounds the trial, if this boot is one, before anything works on the disk: what fails or
    /// hangs there cannot keep a version for ever.
    ///
    /// When sysfs does not say whether it is one, nothing is bounded: a version that was kept must
    /// not restart every few minutes for what it is not, and one on trial is left by its next
    /// restart, whatever that comes from.
    pub(crate) fn bound_trial(&mut self) -> Result<(), Failure> {
        let Some(disk) = OwnDisk::find()? else {
            return Ok(()); // a root in memory
        };
        if disk.runs_from_other_slot()? {
            self.updater.bound_trial(&self.machine);
        }
        Ok(())
    }

    /// The state is there: starts the containers that keep something on it.
    pub(crate) fn start_stateful_containers(&mut self) -> Result<(), Failure> {
        if !self.state_is_open {
            return Err(Failure::new(
                "the state is not mounted, so containers that keep something on it do not start",
            ));
        }
        self.tell_containers(Event::StateMounted);
        Ok(())
    }

    /// Starts the updater of a machine that has one: it finishes a trial and looks for newer
    /// versions.
    pub(crate) fn start_updates(&mut self) -> Result<(), Failure> {
        if self.machine.update.is_none() {
            return Ok(());
        }
        if !self.state_is_open {
            return Err(Failure::new(
                "the state is not mounted, so there is no place to remember an update: none is \
                 looked for",
            ));
        }
        self.updater.start()
    }

    pub(crate) fn open_power_buttons(&mut self) -> Result<(), Failure> {
        self.buttons = PowerButton::open_all();
        Ok(())
    }
}
