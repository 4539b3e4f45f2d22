//! The boot: starts each phase of the table when it can run, and ends it.

use berth_provision::status::{PhaseResult, PhaseStatus};

use super::Pid1;
use crate::boot::PHASES;
use crate::failure::Failure;
use crate::kernel_log::{Urgency, now_us};
use crate::last_resort;
use crate::phase::{Next, Run, Verdict};
use crate::roles::Role;

impl Pid1 {
    /// Runs every phase that can run now; gives the time when there is more to do.
    pub(super) fn move_boot_on(&mut self) -> u64 {
        loop {
            self.look_at_waiting_phase();
            match self.boot.next(PHASES, now_us()) {
                Next::Start(index) => self.start_phase(index),
                Next::WaitUntil(time_us) => {
                    return time_us.min(self.head_start_until_us.unwrap_or(u64::MAX));
                }
                Next::Overdue => self.phase_overdue(),
                Next::Done => return u64::MAX,
            }
        }
    }

    fn start_phase(&mut self, index: usize) {
        let Some(phase) = PHASES.get(index) else {
            return;
        };
        let start_us = now_us();
        self.log.line(
            Urgency::Notice,
            &format!("phase={} start t={start_us}", phase.name),
        );
        self.boot.started(PHASES, start_us);
        match phase.run {
            Run::Here(work) => {
                let result = work(self);
                self.phase_ended(start_us, result);
            }
            Run::Until(_) => self.waiting_since_us = Some(start_us),
            Run::Apart(_) => match Role::start("boot", &[crate::PHASE_ROLE, phase.name], &[]) {
                Ok(role) => self.apart = Some((role, start_us)),
                Err(why) => self.phase_ended(start_us, Err(why)),
            },
        }
    }

    /// Ends a phase that only waits, when what it waits for has come.
    fn look_at_waiting_phase(&mut self) {
        let holds = match self.boot.current(PHASES).map(|phase| &phase.run) {
            Some(Run::Until(holds)) => *holds,
            _ => return,
        };
        if let Some(start_us) = self.waiting_since_us
            && holds(self)
        {
            self.waiting_since_us = None;
            self.phase_ended(start_us, Ok(()));
        }
    }

    fn phase_overdue(&mut self) {
        if let Some(start_us) = self.waiting_since_us.take() {
            self.phase_ended(start_us, Ok(()));
        } else if let Some((role, _)) = &self.apart {
            role.kill();
            self.boot.killed();
        }
    }

    pub(super) fn phase_ended(&mut self, start_us: u64, result: Result<(), Failure>) {
        let end_us = now_us();
        // Whatever ended it: a time that has passed would have the boot look again without a pause.
        self.head_start_until_us = None;
        let Some(phase) = self.boot.current(PHASES) else {
            return;
        };
        let verdict = self.boot.ended(PHASES, result.is_ok(), end_us);
        let outcome = match verdict {
            Verdict::Good => PhaseResult::Ok,
            Verdict::Degraded => PhaseResult::Degraded,
            Verdict::Again | Verdict::Fatal => PhaseResult::Failed,
        };
        let mut line = format!(
            "phase={} end t={end_us} result={}",
            phase.name,
            outcome.name()
        );
        if let Err(why) = &result {
            line.push_str(&format!(" : {why}"));
            self.book.trouble(format!("{}: {why}", phase.name));
        }
        let urgency = match outcome {
            PhaseResult::Ok => Urgency::Notice,
            _ => Urgency::Error,
        };
        self.log.line(urgency, &line);
        self.book.phase(PhaseStatus {
            name: phase.name.to_owned(),
            start_us,
            end_us,
            result: outcome,
        });
        if phase.name == "state" {
            self.state_is_open = outcome == PhaseResult::Ok;
        }
        if verdict == Verdict::Fatal {
            let why = result.err().map(|why| why.to_string()).unwrap_or_default();
            last_resort::give_up(&format!("the boot phase {} failed: {why}", phase.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::Signals;

    #[test]
    fn a_head_start_ends_with_its_phase_when_no_container_is_left_to_have_it() {
        let mut pid1 = Pid1::new(Signals::none());
        while pid1.boot.current(PHASES).map(|phase| phase.name) != Some("handover") {
            pid1.boot.ended(PHASES, true, 0);
        }
        pid1.boot.started(PHASES, 0);
        pid1.waiting_since_us = Some(0);
        pid1.head_start_until_us = Some(1);
        pid1.look_at_waiting_phase();
        let after = pid1.boot.current(PHASES).map(|phase| phase.name);
        assert_eq!((after, pid1.head_start_until_us), (Some("logs"), None));
    }
}
