//! What a boot phase is, and the pure machine that decides which one runs next.
//!
//! Phases run strictly in the table's order. One that cannot block runs inside PID 1; one that
//! works on disks runs in a process of its own, with the main loop alive beside it, and is
//! killed at its deadline.

use crate::failure::Failure;
use crate::pid1::Pid1;

/// One line of the boot table.
pub(crate) struct Phase {
    /// Its name in the log.
    pub(crate) name: &'static str,
    /// What it does, and where.
    pub(crate) run: Run,
    /// Milliseconds after which it counts as failed.
    pub(crate) deadline_ms: u64,
    /// What then.
    pub(crate) on_failure: OnFailure,
}

/// What a phase does, and where.
pub(crate) enum Run {
    /// Inside PID 1: only for what cannot block.
    Here(fn(&mut Pid1) -> Result<(), Failure>),
    /// Nothing: the boot goes on when this holds, or at the deadline, which is no failure.
    Until(fn(&mut Pid1) -> bool),
    /// In a process of its own, for what may wait for a disk.
    Apart(fn() -> Result<(), Failure>),
}

/// What follows from a phase's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// The machine goes on without it and says so.
    Degrade,
    /// It runs again, this many times, before the machine goes on without it.
    Retry(u32),
    /// The machine cannot go on: its configured `on_failure` (restart or halt).
    GiveUp,
}

/// What PID 1 has to do about the table now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Start phase number `.0`.
    Start(usize),
    /// Nothing before this time, microseconds.
    WaitUntil(u64),
    /// The phase is past its deadline.
    Overdue,
    /// All phases are done.
    Done,
}

/// What an ended phase means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It did its work.
    Good,
    /// It failed and runs again.
    Again,
    /// It failed and the machine goes on without it.
    Degraded,
    /// It failed and the machine cannot go on.
    Fatal,
}

/// A pause before a phase runs again, for hardware that needs a moment.
const RETRY_PAUSE_US: u64 = 500_000;

/// Where the boot is in its table.
#[derive(Debug)]
pub(crate) struct Sequence {
    index: usize,
    failures: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle { not_before_us: u64 },
    Running { deadline_us: u64 },
    Killed,
}

impl Sequence {
    /// At the first phase.
    pub(crate) fn new() -> Self {
        Self {
            index: 0,
            failures: 0,
            state: State::Idle { not_before_us: 0 },
        }
    }

    /// The phase that runs, or is next.
    pub(crate) fn current(&self, table: &'static [Phase]) -> Option<&'static Phase> {
        table.get(self.index)
    }

    /// What there is to do at `now_us`.
    pub(crate) fn next(&self, table: &[Phase], now_us: u64) -> Next {
        if self.index >= table.len() {
            return Next::Done;
        }
        match self.state {
            State::Idle { not_before_us } if now_us >= not_before_us => Next::Start(self.index),
            State::Idle { not_before_us } => Next::WaitUntil(not_before_us),
            State::Running { deadline_us } if now_us >= deadline_us => Next::Overdue,
            State::Running { deadline_us } => Next::WaitUntil(deadline_us),
            State::Killed => Next::WaitUntil(u64::MAX), // its death will be reported
        }
    }

    /// The phase's process runs.
    pub(crate) fn started(&mut self, table: &[Phase], now_us: u64) {
        let allowed_us = table
            .get(self.index)
            .map_or(0, |phase| phase.deadline_ms.saturating_mul(1000));
        self.state = State::Running {
            deadline_us: now_us.saturating_add(allowed_us),
        };
    }

    /// The phase's process was killed at its deadline.
    pub(crate) fn killed(&mut self) {
        self.state = State::Killed;
    }

    /// The phase has ended; decides what that means and moves on.
    pub(crate) fn ended(&mut self, table: &[Phase], good: bool, now_us: u64) -> Verdict {
        let on_failure = table
            .get(self.index)
            .map_or(OnFailure::Degrade, |phase| phase.on_failure);
        if !good {
            self.failures += 1;
        }
        let verdict = match (good, on_failure) {
            (true, _) => Verdict::Good,
            (false, OnFailure::GiveUp) => Verdict::Fatal,
            (false, OnFailure::Retry(times)) if self.failures <= times => Verdict::Again,
            (false, _) => Verdict::Degraded,
        };
        if verdict == Verdict::Again {
            self.state = State::Idle {
                not_before_us: now_us.saturating_add(RETRY_PAUSE_US),
            };
        } else {
            self.index += 1;
            self.failures = 0;
            self.state = State::Idle { not_before_us: 0 };
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Result<(), Failure> {
        Ok(())
    }

    fn table(on_failure: OnFailure) -> [Phase; 2] {
        [(); 2].map(|()| Phase {
            name: "a",
            run: Run::Apart(nothing),
            deadline_ms: 10,
            on_failure,
        })
    }

    #[test]
    fn a_good_phase_leads_to_the_next_and_the_last_to_the_end() {
        let table = table(OnFailure::GiveUp);
        let mut sequence = Sequence::new();
        for index in 0..2 {
            assert_eq!(sequence.next(&table, 5), Next::Start(index));
            sequence.started(&table, 5);
            assert_eq!(sequence.next(&table, 5), Next::WaitUntil(10_005));
            assert_eq!(sequence.ended(&table, true, 6), Verdict::Good);
        }
        assert_eq!(sequence.next(&table, 7), Next::Done);
    }

    #[test]
    fn a_phase_past_its_deadline_is_killed_once() {
        let table = table(OnFailure::Degrade);
        let mut sequence = Sequence::new();
        sequence.started(&table, 0);
        assert_eq!(sequence.next(&table, 10_000), Next::Overdue);
        sequence.killed();
        assert_eq!(sequence.next(&table, 20_000), Next::WaitUntil(u64::MAX));
        assert_eq!(sequence.ended(&table, false, 20_000), Verdict::Degraded);
        assert_eq!(sequence.next(&table, 20_000), Next::Start(1));
    }

    #[test]
    fn retries_are_counted_per_phase_and_paused() {
        let table = table(OnFailure::Retry(1));
        let mut sequence = Sequence::new();
        for index in 0..2 {
            sequence.started(&table, 0);
            assert_eq!(sequence.ended(&table, false, 0), Verdict::Again);
            assert_eq!(sequence.next(&table, 0), Next::WaitUntil(RETRY_PAUSE_US));
            assert_eq!(sequence.next(&table, RETRY_PAUSE_US), Next::Start(index));
            assert_eq!(sequence.ended(&table, false, 0), Verdict::Degraded);
        }
    }

    #[test]
    fn a_phase_the_machine_cannot_do_without_is_fatal() {
        let table = table(OnFailure::GiveUp);
        assert_eq!(Sequence::new().ended(&table, false, 0), Verdict::Fatal);
    }
}
