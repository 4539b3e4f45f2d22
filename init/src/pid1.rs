//! PID 1's one loop: reap, move the boot or the shutdown on, feed the watchdog, publish, sleep.
//!
//! One thread; nothing here may block. A pass over the children comes before every sleep, so no
//! ended process is missed whatever became of its signal.

mod boot;
mod phases;
mod way_down;

use std::os::fd::{AsFd, BorrowedFd};

use berth_containers::supervise::Event;
use berth_network::report::State as LinkState;
use berth_provision::Machine;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::agent::Agent;
use crate::containers::Containers;
use crate::failure::Failure;
use crate::kernel_log::{KernelLog, Urgency, now_us};
use crate::network::NetworkAgent;
use crate::phase::Sequence;
use crate::power_button::PowerButton;
use crate::roles::Role;
use crate::shutdown::{Ending, Shutdown, Step};
use crate::signals::{Request, Signals};
use crate::status::Book;
use crate::sys::{self, Ended, How};
use crate::updates::{self, Updater};
use crate::watchdog::{self, FEED_EVERY_US};
use crate::{descriptors, last_resort, ram_root};

/// PID 1 and all that it holds.
pub(crate) struct Pid1 {
    pub(crate) log: KernelLog,
    pub(crate) book: Book,
    machine: Machine,
    /// None before the machine's configuration is read.
    containers: Option<Containers>,
    signals: Signals,
    boot: Sequence,
    /// When the phase that only waits started.
    waiting_since_us: Option<u64>,
    /// Until when PID 1 leaves the processors to the first containers.
    head_start_until_us: Option<u64>,
    /// The phase that runs in a process of its own, and when it started.
    apart: Option<(Role, u64)>,
    network: NetworkAgent,
    /// The log role.
    logs: Agent,
    updater: Updater,
    state_is_open: bool,
    /// The machine has had an address.
    addressed: bool,
    buttons: Vec<PowerButton>,
    shutdown: Option<Shutdown>,
    /// The process that closes the state on the way down.
    closing: Option<Role>,
    next_feed_us: u64,
}

/// Runs PID 1 for ever.
pub(crate) fn run() -> ! {
    last_resort::catch_panics();
    let mut pid1 = match Pid1::begin() {
        Ok(pid1) => pid1,
        Err(why) => last_resort::give_up(&why.to_string()),
    };
    loop {
        pid1.turn();
    }
}

impl Pid1 {
    fn begin() -> Result<Self, Failure> {
        let signals = Signals::block_all()?;
        ram_root::enter()?;
        descriptors::raise_limit()?;
        Ok(Self::new(signals))
    }

    fn new(signals: Signals) -> Self {
        Self {
            log: KernelLog::held_back(),
            book: Book::default(),
            machine: Machine::default(),
            containers: None,
            signals,
            boot: Sequence::new(),
            waiting_since_us: None,
            head_start_until_us: None,
            apart: None,
            network: NetworkAgent::default(),
            logs: Agent::default(),
            updater: Updater::default(),
            state_is_open: false,
            addressed: false,
            buttons: Vec::new(),
            shutdown: None,
            closing: None,
            next_feed_us: 0,
        }
    }

    fn turn(&mut self) {
        while let Some(ended) = sys::wait_any() {
            self.reaped(ended);
        }
        let mut wake_us = self.feed_watchdog();
        wake_us = wake_us.min(match self.shutdown {
            None => self.move_boot_on(),
            Some(_) => self.move_shutdown_on(),
        });
        wake_us = wake_us.min(self.serve_containers());
        wake_us = wake_us.min(self.restart_agents());
        wake_us = wake_us.min(self.watch_trial());
        wake_us = wake_us.min(self.book.publish(&self.machine, now_us()));
        self.sleep_until(wake_us);
        self.serve_descriptors();
    }

    fn reaped(&mut self, ended: Ended) {
        let is_it = |role: &Role| role.pid == ended.pid;
        if let Some((role, start_us)) = self.apart.take_if(|(role, _)| is_it(role)) {
            if self.shutdown.is_none() {
                self.phase_ended(start_us, apart_result(role, ended.how));
            }
        } else if let Some(role) = self.closing.take_if(|role| is_it(role))
            && let Err(why) = apart_result(role, ended.how)
        {
            self.log.line(Urgency::Error, &format!("shutdown : {why}"));
        }
        if self.network.agent.is(ended.pid) {
            self.network.agent.ended(now_us());
            if self.shutdown.is_none() {
                self.trouble("network : the network agent ended and is started again");
            }
        }
        if self.logs.is(ended.pid) {
            self.logs.ended(now_us());
            if self.shutdown.is_none() {
                self.trouble("log : the log role ended and is started again");
            }
        }
        if self.updater.agent.is(ended.pid) {
            self.read_updater_records();
            self.updater.agent.ended(now_us());
            if self.shutdown.is_none() {
                self.trouble("update : the updater ended and is started again");
            }
        }
        if let Some(containers) = &mut self.containers {
            containers.reaped(ended.pid, ended.how, &mut self.log);
        }
        // Anything else is an orphan that PID 1 inherited: reaped, and nobody asks how it ended.
    }

    /// Feeds the watchdog when it is time, except at the very end of a shutdown; gives the next
    /// time.
    fn feed_watchdog(&mut self) -> u64 {
        let now = now_us();
        let bounded = |shutdown: &Shutdown| matches!(shutdown.step, Step::State | Step::Off);
        if self.shutdown.as_ref().is_some_and(bounded) {
            return u64::MAX;
        }
        if now >= self.next_feed_us {
            self.next_feed_us = now.saturating_add(FEED_EVERY_US);
            if let Err(why) = watchdog::feed() {
                self.trouble(&format!("watchdog : {why}"));
            }
        }
        self.next_feed_us
    }

    /// Starts agents again when their pause is over; gives the time when that is.
    fn restart_agents(&mut self) -> u64 {
        if self.shutdown.is_some() {
            return u64::MAX;
        }
        let now = now_us();
        let due = |agent: &Agent| agent.restart_us().is_some_and(|time_us| time_us <= now);
        if due(&self.network.agent)
            && let Err(why) = self.network.start()
        {
            self.trouble(&format!("network : {why}"));
        }
        if due(&self.logs)
            && let Err(why) = self.start_logs()
        {
            self.trouble(&format!("log : {why}"));
        }
        if due(&self.updater.agent)
            && let Err(why) = self.updater.start()
        {
            self.trouble(&format!("update : {why}"));
        }
        let agents = [&self.network.agent, &self.logs, &self.updater.agent];
        let times = agents.map(Agent::restart_us);
        times.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    fn tell_containers(&mut self, event: Event) {
        if let Some(containers) = &mut self.containers {
            containers.handle(event, &mut self.log);
        }
    }

    /// Lets the containers do what is due; gives the time when something is again.
    fn serve_containers(&mut self) -> u64 {
        let Some(containers) = &mut self.containers else {
            return u64::MAX;
        };
        containers.read_reports(&mut self.log);
        if containers.deadline_us() <= now_us() {
            containers.handle(Event::Tick, &mut self.log);
        }
        if std::mem::take(&mut containers.changed) {
            self.book
                .containers(containers.status(), containers.ready_us);
        }
        if let Some(trouble) = containers.trouble.take() {
            self.book.trouble(trouble);
        }
        containers.deadline_us()
    }

    fn read_network_records(&mut self) {
        let mut changed = false;
        while let Some((record, news)) = self.network.next_record() {
            let urgency = match record.state {
                LinkState::Failed => Urgency::Error,
                _ => Urgency::Notice,
            };
            if news {
                self.log.line(urgency, &record.to_string());
            }
            changed = true;
        }
        if changed {
            self.book.networks(self.network.status());
            if !self.addressed && self.network.has_address() {
                self.addressed = true;
                self.log
                    .line(Urgency::Notice, &format!("addressed t={}", now_us()));
                self.tell_containers(Event::NetworkUp);
            }
        }
    }

    fn read_updater_records(&mut self) {
        while let Some(news) = self.updater.next_record() {
            let (record, restart) = match news {
                updates::News::Show(record) => (record, false),
                updates::News::Restart(record) => (record, true),
            };
            let line = format!("{record}");
            self.log.line(updates::urgency(&record), &line);
            if restart {
                self.begin_shutdown(Ending::Restart);
            }
        }
        if self.machine.update.is_some() {
            self.book.updates(self.updater.status());
        }
    }

    /// Restarts the machine when a version on trial was not kept in its time; gives the time of
    /// the next look.
    fn watch_trial(&mut self) -> u64 {
        if self.shutdown.is_some() {
            return u64::MAX; // the way down ends the trial too
        }
        if self.updater.trial_is_over(now_us()) {
            self.trouble(
                "update : the version on trial was not kept in its time; the machine restarts \
                 into the one before",
            );
            self.begin_shutdown(Ending::Restart);
            return 0; // the way down has not been looked at in this turn
        }
        self.updater.trial_ends_us()
    }

    fn trouble(&mut self, line: &str) {
        self.log.line(Urgency::Error, line);
        self.book.trouble(line.to_owned());
    }

    fn sleep_until(&mut self, wake_us: u64) {
        let mut polled = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let buttons = self.buttons.iter().map(|button| button.as_fd());
        polled.extend(buttons.map(|fd: BorrowedFd<'_>| PollFd::new(fd, PollFlags::POLLIN)));
        polled.extend(
            self.network
                .agent
                .output()
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
        );
        let updater = self.updater.agent.output();
        polled.extend(updater.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let reports = self.containers.iter().flat_map(Containers::reports);
        polled.extend(reports.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        // Rounded up: waking a little late is waking once.
        let pause_ms = wake_us.saturating_sub(now_us()).div_ceil(1000);
        let timeout = i32::try_from(pause_ms).unwrap_or(i32::MAX);
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        // An interrupted or failed poll is an early wake-up, no more: everything is looked at
        // in each turn.
        let _ = poll(&mut polled, timeout);
    }

    fn serve_descriptors(&mut self) {
        self.read_network_records();
        self.read_updater_records();
        while let Some(request) = self.signals.next() {
            if let Request::End(ending) = request {
                self.begin_shutdown(ending);
            }
        }
        let mut pressed = false;
        self.buttons.retain_mut(|button| {
            // Every button is emptied, or poll would report it for ever.
            pressed |= button.was_pressed();
            button.is_there()
        });
        if pressed {
            self.begin_shutdown(Ending::PowerOff);
        }
    }
}

/// What the end of a role that runs apart means.
fn apart_result(role: Role, how: How) -> Result<(), Failure> {
    match how {
        How::Exited(0) => Ok(()),
        How::Exited(status) => {
            let words = role.last_words();
            Err(Failure::new(if words.is_empty() {
                format!("its process ended with status {status} and said nothing")
            } else {
                words
            }))
        }
        How::Signaled(libc::SIGKILL) => Err(Failure::new("it took too long and was killed")),
        How::Signaled(signal) => Err(Failure::new(format!(
            "its process was ended by signal {signal}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_that_ends_on_the_way_down_wakes_nobody() {
        let mut pid1 = Pid1::new(Signals::none());
        pid1.updater.bound_trial(&Machine::default());
        assert_ne!(pid1.updater.trial_ends_us(), u64::MAX);
        pid1.shutdown = Some(Shutdown::begin(Ending::PowerOff, 0, 0));
        assert_eq!(pid1.watch_trial(), u64::MAX);
    }
}
