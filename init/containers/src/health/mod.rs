//! Health: when containers are probed, and what their answers mean, as a pure state machine.
//!
//! Events go in with the time, actions come out, as in [`crate::supervise`]. A container is
//! `Starting` until its first good probe, or until too many failed in a row after its start
//! period; one good probe makes it healthy again at any time. A probe that hangs is killed and
//! counts as failed; it holds back no other container's probes for longer than that.

#[cfg(test)]
mod tests;

use crate::spec::{self, Container};
use crate::supervise::Id;

/// The pause before the first probe after a start; doubled each time while it starts, up to the
/// time that the specification says: whoever waits for its health should not wait for long.
pub const FIRST_PAUSE_US: u64 = 100_000;

/// The shortest time from the end of a probe to the next.
const SHORTEST_PAUSE_US: u64 = 100_000;

/// How long after its own timeout a probe's process is killed from outside, should it not have
/// ended by itself.
pub const GRACE_US: u64 = 10_000_000;

/// Most probes at the same time: each is a process.
pub const MOST_AT_ONCE: usize = 8;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The container's program has taken over.
    Executed(Id),
    /// Its first process was reaped.
    Ended(Id),
    /// A probe's process has ended, whether it was killed or not.
    Probed(Id, Outcome),
    /// The machine goes down: nothing is probed any more.
    StopAll,
    /// Time has passed.
    Tick,
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The container does its work.
    Good,
    /// It does not, or the probe could not be made.
    Bad,
}

/// What PID 1 has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a probe's process, and say `Probed` when it has ended (or there is none).
    Probe(Id),
    /// Kill the probe's process and everything it started.
    Kill(Id),
    /// Its health is different now.
    Turned(Id, State),
}

/// Where a container's health stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does not run.
    Down,
    /// It runs, and no probe was good yet.
    Starting,
    /// The last probes that count were good.
    Healthy,
    /// As many probes failed in a row as its specification allows.
    Unhealthy,
}

/// A container's health as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Where it stands.
    pub state: State,
    /// Since when.
    pub since_us: u64,
    /// Failed probes in a row that count.
    pub fails: u32,
}

/// What the specification says, within bounds.
#[derive(Clone, Copy, Debug)]
struct Check {
    every_us: u64,
    timeout_us: u64,
    fails: u32,
    start_us: u64,
}

/// One container with a check.
#[derive(Clone, Debug)]
struct Unit {
    check: Check,
    health: Health,
    /// When its program took over.
    executed_us: u64,
    /// The pause before the next probe while it starts.
    pause_us: u64,
    /// When the next probe is due, while it runs.
    due_us: u64,
    probe: Option<Probe>,
}

/// A probe's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Probe {
    /// When it is killed, and killed again.
    overdue_us: u64,
    /// Whether the run of the container that it was started for still goes on.
    counts: bool,
}

/// The health of a machine's containers.
#[derive(Clone, Debug)]
pub struct Monitor {
    /// In the places of the machine's list; `None` without a check.
    units: Vec<Option<Unit>>,
    stopping: bool,
}

impl Monitor {
    /// Takes the machine's containers in their order.
    #[must_use]
    pub fn new(containers: &[Container]) -> Self {
        let unit = |container: &Container| container.health.as_ref().map(Unit::new);
        Self {
            units: containers.iter().map(unit).collect(),
            stopping: false,
        }
    }

    /// The health of a container that has a check.
    #[must_use]
    pub fn health(&self, id: Id) -> Option<Health> {
        let unit = self.units.get(id.0)?.as_ref()?;
        Some(unit.health)
    }

    /// When [`Event::Tick`] is due next.
    #[must_use]
    pub fn deadline_us(&self) -> Option<u64> {
        let may_start = !self.stopping && self.probes() < MOST_AT_ONCE;
        let deadline = |unit: &Unit| match unit.probe {
            Some(probe) => Some(probe.overdue_us),
            None => (may_start && unit.runs()).then_some(unit.due_us),
        };
        self.units.iter().flatten().filter_map(deadline).min()
    }

    /// Takes an event; adds what has to be done to `actions`.
    ///
    /// An event about a container in whose state it cannot happen changes nothing.
    pub fn handle(&mut self, now_us: u64, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Executed(id) => self.tell(id, |unit| unit.executed(id, now_us, actions)),
            Event::Ended(id) => self.tell(id, |unit| unit.ended(id, now_us, actions)),
            Event::Probed(id, outcome) => {
                self.tell(id, |unit| unit.probed(id, now_us, outcome, actions));
            }
            Event::StopAll => self.stop(now_us, actions),
            Event::Tick => {}
        }
        self.kill_overdue(now_us, actions);
        self.start_due(now_us, actions);
    }

    fn tell(&mut self, id: Id, event: impl FnOnce(&mut Unit)) {
        if let Some(Some(unit)) = self.units.get_mut(id.0) {
            event(unit);
        }
    }

    fn stop(&mut self, now_us: u64, actions: &mut Vec<Action>) {
        self.stopping = true;
        for (index, unit) in self.units.iter_mut().enumerate() {
            if let Some(unit) = unit {
                unit.give_probe_up(Id(index), now_us, actions);
            }
        }
    }

    fn kill_overdue(&mut self, now_us: u64, actions: &mut Vec<Action>) {
        for (index, unit) in self.units.iter_mut().enumerate() {
            if let Some(unit) = unit {
                unit.kill_overdue(Id(index), now_us, actions);
            }
        }
    }

    /// Starts the probes that are due, the longest waiting first, as many as there may be.
    fn start_due(&mut self, now_us: u64, actions: &mut Vec<Action>) {
        if self.stopping {
            return;
        }
        let is_due = |unit: &Unit| unit.probe.is_none() && unit.runs() && unit.due_us <= now_us;
        let mut due: Vec<(u64, usize)> = self
            .units
            .iter()
            .enumerate()
            .filter_map(|(index, unit)| Some((index, unit.as_ref()?)))
            .filter(|(_, unit)| is_due(unit))
            .map(|(index, unit)| (unit.due_us, index))
            .collect();
        due.sort_unstable();
        let room = MOST_AT_ONCE.saturating_sub(self.probes());
        for (_, index) in due.into_iter().take(room) {
            self.tell(Id(index), |unit| unit.start_probe(now_us));
            actions.push(Action::Probe(Id(index)));
        }
    }

    fn probes(&self) -> usize {
        let units = self.units.iter().flatten();
        units.filter(|unit| unit.probe.is_some()).count()
    }
}

impl Unit {
    fn new(spec: &spec::Health) -> Self {
        let every_us = spec.every_ms.saturating_mul(1000).max(SHORTEST_PAUSE_US);
        Self {
            check: Check {
                every_us,
                timeout_us: spec.timeout_ms.saturating_mul(1000).min(every_us),
                fails: spec.fails.max(1),
                start_us: spec.start_ms.saturating_mul(1000),
            },
            health: Health {
                state: State::Down,
                since_us: 0,
                fails: 0,
            },
            executed_us: 0,
            pause_us: FIRST_PAUSE_US,
            due_us: 0,
            probe: None,
        }
    }

    fn runs(&self) -> bool {
        self.health.state != State::Down
    }

    fn executed(&mut self, id: Id, now_us: u64, actions: &mut Vec<Action>) {
        if self.runs() {
            return;
        }
        self.turn(id, State::Starting, now_us, actions);
        self.executed_us = now_us;
        self.pause_us = FIRST_PAUSE_US;
        self.due_us = now_us.saturating_add(self.next_pause_us(now_us));
    }

    fn ended(&mut self, id: Id, now_us: u64, actions: &mut Vec<Action>) {
        if self.runs() {
            self.turn(id, State::Down, now_us, actions);
            self.give_probe_up(id, now_us, actions);
        }
    }

    fn start_probe(&mut self, now_us: u64) {
        let killed_after_us = self.check.timeout_us.saturating_add(GRACE_US);
        self.probe = Some(Probe {
            overdue_us: now_us.saturating_add(killed_after_us),
            counts: true,
        });
        self.due_us = now_us.saturating_add(self.next_pause_us(now_us));
    }

    fn probed(&mut self, id: Id, now_us: u64, outcome: Outcome, actions: &mut Vec<Action>) {
        let Some(probe) = self.probe.take() else {
            return;
        };
        let soonest_us = now_us.saturating_add(SHORTEST_PAUSE_US);
        self.due_us = self.due_us.max(soonest_us);
        if probe.counts {
            self.found(id, now_us, outcome, actions);
        }
    }

    /// A probe that is still there long after it should have ended has failed, and fails again
    /// each time that the next would have been due.
    fn kill_overdue(&mut self, id: Id, now_us: u64, actions: &mut Vec<Action>) {
        let Some(probe) = &mut self.probe else {
            return;
        };
        if now_us < probe.overdue_us {
            return;
        }
        actions.push(Action::Kill(id));
        probe.overdue_us = now_us.saturating_add(self.check.every_us);
        if probe.counts {
            self.found(id, now_us, Outcome::Bad, actions);
        }
    }

    /// Kills a probe whose answer no longer matters.
    fn give_probe_up(&mut self, id: Id, now_us: u64, actions: &mut Vec<Action>) {
        if let Some(probe) = &mut self.probe {
            probe.counts = false;
            probe.overdue_us = now_us.saturating_add(self.check.every_us);
            actions.push(Action::Kill(id));
        }
    }

    fn found(&mut self, id: Id, now_us: u64, outcome: Outcome, actions: &mut Vec<Action>) {
        match outcome {
            Outcome::Good => {
                self.health.fails = 0;
                self.turn(id, State::Healthy, now_us, actions);
            }
            Outcome::Bad if self.in_start_period(now_us) => {}
            Outcome::Bad => {
                self.health.fails = self.health.fails.saturating_add(1);
                if self.health.fails >= self.check.fails {
                    self.turn(id, State::Unhealthy, now_us, actions);
                }
            }
        }
    }

    fn turn(&mut self, id: Id, state: State, now_us: u64, actions: &mut Vec<Action>) {
        if self.health.state == state {
            return;
        }
        self.health.state = state;
        self.health.since_us = now_us;
        if matches!(state, State::Down | State::Starting) {
            self.health.fails = 0;
        }
        actions.push(Action::Turned(id, state));
    }

    /// Whether it may still fail without consequence: the period ends with the first good probe.
    fn in_start_period(&self, now_us: u64) -> bool {
        let age_us = now_us.saturating_sub(self.executed_us);
        self.health.state == State::Starting && age_us < self.check.start_us
    }

    /// The pause to the next probe; longer each time in the start period.
    fn next_pause_us(&mut self, now_us: u64) -> u64 {
        if !self.in_start_period(now_us) {
            return self.check.every_us;
        }
        let pause_us = self.pause_us.min(self.check.every_us);
        self.pause_us = pause_us.saturating_mul(2);
        pause_us
    }
}

impl State {
    /// The word for it in the log and on the status page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}
