//! Trying again: how often, and after which pause.

use std::thread;
use std::time::Duration;

use super::error::RegistryError;
use crate::options::RegistryOptions;

/// Longest pause that a server may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Failures of one request so far.
pub(super) struct Failures {
    left: u32,
    next_pause: Duration,
}

impl Failures {
    pub(super) fn new(options: &RegistryOptions) -> Self {
        Self {
            left: options.attempts.saturating_sub(1),
            next_pause: options.backoff,
        }
    }

    /// Waits before the next try, or gives up with `error`.
    pub(super) fn pause(
        &mut self,
        asked_for: Option<Duration>,
        error: impl FnOnce() -> RegistryError,
    ) -> Result<(), RegistryError> {
        if self.left == 0 {
            return Err(error());
        }
        self.left -= 1;
        let pause = asked_for.unwrap_or(Duration::ZERO).max(self.next_pause);
        self.next_pause = self.next_pause.saturating_mul(2);
        thread::sleep(pause.min(MAX_PAUSE));
        Ok(())
    }
}
