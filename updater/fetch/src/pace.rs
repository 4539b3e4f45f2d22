//! How fast a body comes: not faster than allowed, not slower than is worth waiting for.

use std::time::{Duration, Instant};

/// Time over which the speed is looked at.
const SPAN: Duration = Duration::from_secs(30);

/// The pace of one body.
#[derive(Debug)]
pub(crate) struct Pace {
    most: Option<u64>,
    least: u64,
    started: Instant,
    bytes: u64,
    /// Time spent waiting for the server in this span, and what came in it. What the reader does
    /// in between is not the server's fault.
    waited: Duration,
    span_bytes: u64,
}

impl Pace {
    pub(crate) fn new(most: Option<u64>, least: u64, now: Instant) -> Self {
        Self {
            most,
            least,
            started: now,
            bytes: 0,
            waited: Duration::ZERO,
            span_bytes: 0,
        }
    }

    /// Counts what came after `waited`; gives the pause that is due. `None` when it comes too
    /// slowly.
    pub(crate) fn came(&mut self, bytes: u64, waited: Duration, now: Instant) -> Option<Duration> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.span_bytes = self.span_bytes.saturating_add(bytes);
        self.waited = self.waited.saturating_add(waited);
        if self.waited >= SPAN {
            if self.span_bytes < self.least.saturating_mul(self.waited.as_secs()) {
                return None;
            }
            self.waited = Duration::ZERO;
            self.span_bytes = 0;
        }
        let Some(most) = self.most else {
            return Some(Duration::ZERO);
        };
        let due_ms = self.bytes.saturating_mul(1000).checked_div(most);
        let due = Duration::from_millis(due_ms.unwrap_or(0));
        Some(due.saturating_sub(now.saturating_duration_since(self.started)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_body_is_held_to_its_speed() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(1000), 0, start);
        assert_eq!(pace.came(500, SECOND, start), Some(SECOND / 2));
        assert_eq!(pace.came(500, SECOND, start + SECOND), Some(Duration::ZERO));
    }

    #[test]
    fn a_trickle_is_given_up_and_a_slow_reader_is_not() {
        let start = Instant::now();
        let mut pace = Pace::new(None, 100, start);
        assert_eq!(pace.came(1, 29 * SECOND, start), Some(Duration::ZERO));
        assert_eq!(pace.came(1, SECOND, start), None);
        let mut pace = Pace::new(None, 100, start);
        assert_eq!(pace.came(3000, 30 * SECOND, start), Some(Duration::ZERO));
        let later = start + 1000 * SECOND;
        assert_eq!(pace.came(1, SECOND, later), Some(Duration::ZERO));
    }
}
