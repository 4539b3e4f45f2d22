//! A role that runs as long as the machine does: started again when it ends, ever less often
//! while it keeps failing.

use std::os::fd::{AsFd, BorrowedFd};

use crate::failure::Failure;
use crate::roles::Role;

const FIRST_PAUSE_US: u64 = 500_000;
const LONGEST_PAUSE_US: u64 = 60_000_000;
/// An agent that lived this long was in order: its next failure is the first again.
const GOOD_LIFE_US: u64 = 60_000_000;

/// One agent.
#[derive(Debug, Default)]
pub(crate) struct Agent {
    life: Life,
    failures: u32,
}

#[derive(Debug, Default)]
enum Life {
    #[default]
    Off,
    Running {
        role: Role,
        since_us: u64,
    },
    Pausing {
        until_us: u64,
    },
}

impl Agent {
    /// Takes what became of a start.
    pub(crate) fn started(
        &mut self,
        role: Result<Role, Failure>,
        now_us: u64,
    ) -> Result<(), Failure> {
        match role {
            Ok(role) => {
                let since_us = now_us;
                self.life = Life::Running { role, since_us };
                Ok(())
            }
            Err(why) => {
                self.pause(now_us, now_us);
                Err(why)
            }
        }
    }

    /// Whether this is its process.
    pub(crate) fn is(&self, pid: i32) -> bool {
        matches!(&self.life, Life::Running { role, .. } if role.pid == pid)
    }

    /// Whether it has a process.
    pub(crate) fn runs(&self) -> bool {
        matches!(self.life, Life::Running { .. })
    }

    /// Its process has ended; it is to be started again after a pause.
    pub(crate) fn ended(&mut self, now_us: u64) {
        if let Life::Running { since_us, .. } = self.life {
            self.pause(since_us, now_us);
        }
    }

    /// When it is to be started again.
    pub(crate) fn restart_us(&self) -> Option<u64> {
        match self.life {
            Life::Pausing { until_us } => Some(until_us),
            Life::Off | Life::Running { .. } => None,
        }
    }

    /// Asks it to end, for good.
    pub(crate) fn stop(&mut self) {
        match &self.life {
            Life::Running { role, .. } => role.ask_to_end(),
            Life::Off | Life::Pausing { .. } => self.life = Life::Off,
        }
    }

    /// What to poll.
    pub(crate) fn output(&self) -> Option<BorrowedFd<'_>> {
        match &self.life {
            Life::Running { role, .. } if role.is_open() => Some(role.as_fd()),
            _ => None,
        }
    }

    /// Fills `buffer` with what it wrote; the number of bytes, 0 when there is nothing.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> usize {
        match &mut self.life {
            Life::Running { role, .. } => role.read(buffer),
            Life::Off | Life::Pausing { .. } => 0,
        }
    }

    fn pause(&mut self, since_us: u64, now_us: u64) {
        if now_us.saturating_sub(since_us) >= GOOD_LIFE_US {
            self.failures = 0;
        }
        self.life = Life::Pausing {
            until_us: now_us.saturating_add(pause_us(self.failures)),
        };
        self.failures = self.failures.saturating_add(1);
    }
}

/// The pause after this many failures in a row: doubled each time.
fn pause_us(failures: u32) -> u64 {
    FIRST_PAUSE_US
        .checked_shl(failures.min(16))
        .map_or(LONGEST_PAUSE_US, |pause| pause.min(LONGEST_PAUSE_US))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_fails_at_once_is_started_ever_less_often() {
        let mut agent = Agent::default();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            agent.pause(0, 0);
            pauses.extend(agent.restart_us());
        }
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(pauses.first(), Some(&FIRST_PAUSE_US));
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE_US));
    }

    #[test]
    fn a_good_life_is_rewarded() {
        let mut agent = Agent::default();
        for _ in 0..10 {
            agent.pause(0, 0);
        }
        agent.pause(0, GOOD_LIFE_US);
        assert_eq!(agent.restart_us(), Some(GOOD_LIFE_US + FIRST_PAUSE_US));
    }

    #[test]
    fn an_agent_that_was_stopped_is_not_started_again() {
        let mut agent = Agent::default();
        agent.pause(0, 0);
        agent.stop();
        assert_eq!(agent.restart_us(), None);
    }
}
