//! The pause before a container is started again: doubled each time, back to the first once it
//! has run long enough.

use crate::spec::Restart;

/// A container that ran this long was not failing at its start (the time that Docker takes).
pub(super) const STABLE_US: u64 = 10_000_000;

/// The shortest pause whatever the specification says: a container that dies at once must not
/// keep the machine busy with starting it.
pub(super) const SHORTEST_US: u64 = 100_000;

/// Pauses of one container.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first_us: u64,
    longest_us: u64,
    next_us: u64,
}

impl Backoff {
    pub(super) fn new(restart: &Restart) -> Self {
        let first_us = restart.backoff_min_ms.saturating_mul(1000).max(SHORTEST_US);
        Self {
            first_us,
            longest_us: restart.backoff_max_ms.saturating_mul(1000).max(first_us),
            next_us: first_us,
        }
    }

    /// The pause after a run of this length.
    pub(super) fn next_us(&mut self, ran_us: u64) -> u64 {
        if ran_us >= STABLE_US {
            self.next_us = self.first_us;
        }
        let pause_us = self.next_us;
        self.next_us = pause_us.saturating_mul(2).min(self.longest_us);
        pause_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::RestartPolicy;

    #[test]
    fn pauses_double_to_the_longest_and_start_over_after_a_stable_run() {
        let mut backoff = Backoff::new(&Restart {
            policy: RestartPolicy::Always,
            backoff_min_ms: 1_000,
            backoff_max_ms: 5_000,
        });
        let mut pauses = |ran_us: u64| backoff.next_us(ran_us) / 1_000_000;
        assert_eq!([pauses(0), pauses(0), pauses(0), pauses(0)], [1, 2, 4, 5]);
        assert_eq!(pauses(STABLE_US - 1), 5);
        assert_eq!([pauses(STABLE_US), pauses(0)], [1, 2]);
    }

    #[test]
    fn no_pause_is_ever_shorter_than_the_shortest() {
        let mut backoff = Backoff::new(&Restart {
            policy: RestartPolicy::Always,
            backoff_min_ms: 0,
            backoff_max_ms: 0,
        });
        for _ in 0..3 {
            assert_eq!(backoff.next_us(0), SHORTEST_US);
        }
    }
}
