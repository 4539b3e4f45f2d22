//! Supervision: when containers start, start again and stop, as a pure state machine.
//!
//! Events go in with the time, actions come out; PID 1 carries them out and reports what came of
//! them. It never waits for anything: what has to happen later is a deadline. A container that
//! fails holds back only those that name it in `after`.

mod backoff;
mod order;

#[cfg(test)]
pub(crate) mod tests;

use crate::spec::{Container, RestartPolicy, Stop};
use backoff::Backoff;
use order::After;
pub use order::OrderError;

/// How long a killed container may take to disappear before shutdown goes on without it (its
/// processes sit in the kernel, on a disk that does not answer for instance).
pub const KILL_TIMEOUT_US: u64 = 5_000_000;

/// A container by its place in the machine's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub usize);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The machine is ready for containers that need nothing else.
    Begin,
    /// The state partition is mounted (or is known to be missing, which containers that need it
    /// will say themselves).
    StateMounted,
    /// The machine has an address.
    NetworkUp,
    /// A launch was carried out: there is a process.
    Launched(Id),
    /// A launch failed: there is no process.
    LaunchFailed(Id),
    /// The container's program has taken over.
    Executed(Id),
    /// Its probe has found it healthy.
    Healthy(Id),
    /// Its first process was reaped.
    Ended(Id, End),
    /// Every container has to stop.
    StopAll,
    /// Every container has to stop at once.
    KillAll,
    /// Time has passed.
    Tick,
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its program exited with this status.
    Exited(i32),
    /// A signal ended it.
    Signaled(i32),
    /// Its program never took over.
    NotStarted,
}

/// What PID 1 has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Launch it, and say `Launched` or `LaunchFailed`.
    Launch(Id),
    /// Send its first process a signal.
    Signal(Id, i32),
    /// Kill everything in it.
    Kill(Id),
    /// It did not go away although it was killed: say so, and forget it.
    GiveUp(Id),
    /// Every container that should run has started; said once.
    Ready,
    /// Every container has stopped; said once, and only after `StopAll` or `KillAll`.
    Stopped,
}

/// Where a container stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// For what it needs.
    Waiting,
    /// Its process is being set up, or is about to be.
    Starting,
    /// Its program runs.
    Running {
        /// Since when.
        since_us: u64,
    },
    /// It has ended and will be started again.
    Backoff {
        /// When.
        until_us: u64,
    },
    /// It was asked to stop, and will be killed.
    Stopping {
        /// When.
        kill_at_us: u64,
    },
    /// It was killed and is about to disappear.
    Killed {
        /// When it is given up.
        give_up_at_us: u64,
    },
    /// It has ended and stays so.
    Ended {
        /// Whether that is as it should be.
        good: bool,
    },
}

impl State {
    /// The word for it on the status page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Running { .. } => "running",
            Self::Backoff { .. } => "backoff",
            Self::Stopping { .. } | Self::Killed { .. } => "stopping",
            Self::Ended { good: true } => "ended",
            Self::Ended { good: false } => "failed",
        }
    }

    /// Whether there is, or may be, a process.
    #[must_use]
    pub fn is_alive(self) -> bool {
        matches!(
            self,
            Self::Starting | Self::Running { .. } | Self::Stopping { .. } | Self::Killed { .. }
        )
    }

    fn deadline_us(self) -> Option<u64> {
        match self {
            Self::Backoff { until_us } => Some(until_us),
            Self::Stopping { kill_at_us } => Some(kill_at_us),
            Self::Killed { give_up_at_us } => Some(give_up_at_us),
            _ => None,
        }
    }
}

/// One container under supervision.
#[derive(Clone, Debug)]
struct Unit {
    after: After,
    needs_network: bool,
    needs_state: bool,
    policy: RestartPolicy,
    stop: Stop,
    backoff: Backoff,
    state: State,
    /// Whether its program has ever taken over: what `after` waits for.
    has_started: bool,
    /// Whether it has ever been healthy: what `after_healthy` waits for.
    has_been_healthy: bool,
    restarts: u64,
}

/// What holds for all containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// Not begun yet.
    Nothing,
    /// They run.
    Run,
    /// They stop.
    Stop,
}

/// The containers of a machine.
#[derive(Clone, Debug)]
pub struct Supervisor {
    units: Vec<Unit>,
    goal: Goal,
    network: bool,
    state: bool,
    said_ready: bool,
    said_stopped: bool,
}

impl Supervisor {
    /// Takes the machine's containers in their order.
    ///
    /// # Errors
    /// When `after` names a container that is not there, or goes round in a circle.
    pub fn new(containers: &[Container]) -> Result<Self, OrderError> {
        let after = order::resolve(containers)?;
        let units = containers
            .iter()
            .zip(after)
            .map(|(container, after)| Unit {
                after,
                needs_network: container.after_network,
                needs_state: container.needs_state(),
                policy: container.restart.policy,
                stop: container.stop.clone(),
                backoff: Backoff::new(&container.restart),
                state: State::Waiting,
                has_started: false,
                has_been_healthy: false,
                restarts: 0,
            })
            .collect();
        Ok(Self {
            units,
            goal: Goal::Nothing,
            network: false,
            state: false,
            said_ready: false,
            said_stopped: false,
        })
    }

    /// Where a container stands, and how often it was started again.
    #[must_use]
    pub fn state(&self, id: Id) -> Option<(State, u64)> {
        let unit = self.units.get(id.0)?;
        Some((unit.state, unit.restarts))
    }

    /// When [`Event::Tick`] is due next.
    #[must_use]
    pub fn deadline_us(&self) -> Option<u64> {
        let deadlines = self
            .units
            .iter()
            .filter_map(|unit| unit.state.deadline_us());
        deadlines.min()
    }

    /// The longest that stopping everything can take: the timeouts along the longest chain.
    #[must_use]
    pub fn longest_stop_us(&self) -> u64 {
        let sum = |units: &[Unit]| {
            units.iter().fold(0_u64, |sum, unit| {
                let own = unit.stop.timeout_ms.saturating_mul(1000);
                sum.saturating_add(own).saturating_add(KILL_TIMEOUT_US)
            })
        };
        let longest = |units: &[Unit]| {
            let timeouts = units.iter().map(|unit| unit.stop.timeout_ms);
            timeouts.max().map_or(0, |longest| {
                longest.saturating_mul(1000).saturating_add(KILL_TIMEOUT_US)
            })
        };
        // Without chains all stop at the same time; with them the sum is a bound.
        if self.units.iter().all(|unit| unit.after.all.is_empty()) {
            longest(&self.units)
        } else {
            sum(&self.units)
        }
    }

    /// Takes an event; adds what has to be done to `actions`.
    ///
    /// An event about a container in whose state it cannot happen changes nothing.
    pub fn handle(&mut self, now_us: u64, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Begin if self.goal == Goal::Nothing => self.goal = Goal::Run,
            Event::StateMounted => self.state = true,
            Event::NetworkUp => self.network = true,
            Event::LaunchFailed(id) => self.ended(now_us, id, End::NotStarted),
            Event::Executed(id) => self.executed(now_us, id),
            Event::Healthy(id) => self.found_healthy(id),
            Event::Ended(id, end) => self.ended(now_us, id, end),
            Event::StopAll => self.goal = Goal::Stop,
            Event::KillAll => self.kill_all(now_us, actions),
            Event::Begin | Event::Launched(_) | Event::Tick => {}
        }
        match self.goal {
            Goal::Nothing => {}
            Goal::Run => self.run(now_us, actions),
            Goal::Stop => self.stop(now_us, actions),
        }
    }

    fn executed(&mut self, now_us: u64, id: Id) {
        let Some(unit) = self.units.get_mut(id.0) else {
            return;
        };
        if unit.state == State::Starting {
            unit.state = State::Running { since_us: now_us };
            unit.has_started = true;
        }
    }

    fn found_healthy(&mut self, id: Id) {
        let Some(unit) = self.units.get_mut(id.0) else {
            return;
        };
        if matches!(unit.state, State::Running { .. }) {
            unit.has_been_healthy = true;
        }
    }

    fn ended(&mut self, now_us: u64, id: Id, end: End) {
        let stopping = self.goal == Goal::Stop;
        let Some(unit) = self.units.get_mut(id.0) else {
            return;
        };
        if !unit.state.is_alive() {
            return;
        }
        let good = end == End::Exited(0);
        let again = match unit.policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => !good,
            RestartPolicy::No => false,
        };
        unit.state = if stopping {
            State::Ended { good: true }
        } else if again {
            let ran_us = match unit.state {
                State::Running { since_us } => now_us.saturating_sub(since_us),
                _ => 0,
            };
            let until_us = now_us.saturating_add(unit.backoff.next_us(ran_us));
            State::Backoff { until_us }
        } else {
            State::Ended { good }
        };
    }

    /// Starts what can start.
    fn run(&mut self, now_us: u64, actions: &mut Vec<Action>) {
        for index in 0..self.units.len() {
            let Some(unit) = self.units.get(index) else {
                continue;
            };
            let due = match unit.state {
                State::Waiting => self.has_what_it_needs(unit),
                State::Backoff { until_us } => until_us <= now_us,
                _ => false,
            };
            if !due {
                continue;
            }
            if let Some(unit) = self.units.get_mut(index) {
                if unit.state != State::Waiting {
                    unit.restarts = unit.restarts.saturating_add(1);
                }
                unit.state = State::Starting;
                actions.push(Action::Launch(Id(index)));
            }
        }
        if !self.said_ready && self.units.iter().all(|unit| unit.has_started) {
            self.said_ready = true;
            actions.push(Action::Ready);
        }
    }

    fn has_what_it_needs(&self, unit: &Unit) -> bool {
        let started = |id: &Id| self.units.get(id.0).is_some_and(|unit| unit.has_started);
        let healthy = |id: &Id| {
            self.units
                .get(id.0)
                .is_some_and(|unit| unit.has_been_healthy)
        };
        (self.network || !unit.needs_network)
            && (self.state || !unit.needs_state)
            && unit.after.all.iter().all(started)
            && unit.after.healthy.iter().all(healthy)
    }

    /// Stops what can stop: a container only when nothing that came after it is alive.
    fn stop(&mut self, now_us: u64, actions: &mut Vec<Action>) {
        for index in 0..self.units.len() {
            let id = Id(index);
            let needed = self
                .units
                .iter()
                .any(|other| other.state.is_alive() && other.after.all.contains(&id));
            let Some(unit) = self.units.get_mut(index) else {
                continue;
            };
            match unit.state {
                State::Waiting | State::Backoff { .. } => unit.state = State::Ended { good: true },
                State::Starting => kill(unit, id, now_us, actions),
                State::Running { .. } if !needed => {
                    let timeout_us = unit.stop.timeout_ms.saturating_mul(1000);
                    let kill_at_us = now_us.saturating_add(timeout_us);
                    unit.state = State::Stopping { kill_at_us };
                    actions.push(Action::Signal(id, unit.stop.signal));
                }
                State::Stopping { kill_at_us } if kill_at_us <= now_us => {
                    kill(unit, id, now_us, actions);
                }
                State::Killed { give_up_at_us } if give_up_at_us <= now_us => {
                    unit.state = State::Ended { good: false };
                    actions.push(Action::GiveUp(id));
                }
                State::Running { .. }
                | State::Stopping { .. }
                | State::Killed { .. }
                | State::Ended { .. } => {}
            }
        }
        // Whoever became free in this pass because others ended in it is asked now, not later.
        let again = (0..self.units.len()).any(|index| self.can_be_asked(Id(index)));
        if again {
            self.stop(now_us, actions);
        } else if !self.said_stopped && !self.units.iter().any(|unit| unit.state.is_alive()) {
            self.said_stopped = true;
            actions.push(Action::Stopped);
        }
    }

    fn can_be_asked(&self, id: Id) -> bool {
        let running = |unit: &Unit| matches!(unit.state, State::Running { .. });
        self.units.get(id.0).is_some_and(running)
            && !self
                .units
                .iter()
                .any(|other| other.state.is_alive() && other.after.all.contains(&id))
    }

    fn kill_all(&mut self, now_us: u64, actions: &mut Vec<Action>) {
        self.goal = Goal::Stop;
        for (index, unit) in self.units.iter_mut().enumerate() {
            if unit.state.is_alive() && !matches!(unit.state, State::Killed { .. }) {
                kill(unit, Id(index), now_us, actions);
            }
        }
    }
}

fn kill(unit: &mut Unit, id: Id, now_us: u64, actions: &mut Vec<Action>) {
    let give_up_at_us = now_us.saturating_add(KILL_TIMEOUT_US);
    unit.state = State::Killed { give_up_at_us };
    actions.push(Action::Kill(id));
}
