//! What to do about a version that is offered. Pure: what is known goes in, one step comes out.

use berth_provision::{Update, UpdatePolicy};
use berth_release::{Place, Release};

/// What is known when an offer is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Root hash of the version that runs.
    pub(crate) running_root: [u8; 32],
    /// Root hash of the version that the other slot holds whole, ready to be tried.
    pub(crate) staged_root: Option<[u8; 32]>,
    /// When this machine's turn is.
    pub(crate) place: Place,
}

/// What is to be done about an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It runs already.
    Current,
    /// It is not this machine's turn; when it is, if that is known, seconds since 1970.
    Turn(Option<u64>),
    /// Put it into the other slot.
    Stage,
    /// It is there already.
    Staged,
}

/// Decides.
#[must_use]
pub(crate) fn decide(offer: &Release, facts: &Facts) -> Step {
    let root = offer.root.root_hash.0;
    if root == facts.running_root {
        return Step::Current;
    }
    match facts.place {
        // A rollout that was stopped is stopped for those, too, that hold the version already.
        Place::Now if facts.staged_root == Some(root) => Step::Staged,
        Place::Now => Step::Stage,
        Place::At(time) => Step::Turn(Some(time)),
        Place::Nowhere => Step::Turn(None),
    }
}

/// When a staged version is tried, seconds from now; `None` when the machine does not restart by
/// itself.
#[must_use]
pub(crate) fn restarts_in(update: &Update, now: u64) -> Option<u64> {
    match update.policy {
        UpdatePolicy::Auto => Some(update.window.map_or(0, |window| window.opens_in(now))),
        UpdatePolicy::Stage | UpdatePolicy::Off => None,
    }
}

/// The pause before the next look: as configured, a tenth more or less by the machine's own seed
/// and the count, so that a fleet that was switched on at once does not ask at once.
#[must_use]
pub(crate) fn pause_ms(every_ms: u64, seed: u64, count: u64) -> u64 {
    let mixed = seed
        .wrapping_add(count)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(31);
    let tenth = (every_ms / 10).max(1);
    every_ms
        .saturating_sub(tenth)
        .saturating_add(mixed % (tenth.saturating_mul(2)))
}

/// The pause after a look that failed: short at first, never longer than between two looks.
#[must_use]
pub(crate) fn retry_ms(failures: u32, every_ms: u64) -> u64 {
    let pause = 2_000_u64.checked_shl(failures.min(20)).unwrap_or(u64::MAX);
    pause.min(every_ms).max(1000)
}

/// Seconds since 1970 as `HH:MM UTC`.
#[must_use]
pub(crate) fn time_of_day(unix_seconds: u64) -> String {
    let minute = unix_seconds / 60 % (24 * 60);
    format!("{:02}:{:02} UTC", minute / 60, minute % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_spread_around_what_is_configured() {
        let pauses: Vec<u64> = (0..1000).map(|seed| pause_ms(60_000, seed, 0)).collect();
        assert!(pauses.iter().all(|pause| (54_000..66_000).contains(pause)));
        let early = pauses.iter().filter(|pause| **pause < 57_000).count();
        assert!(
            (150..350).contains(&early),
            "{early} of 1000 in the first quarter"
        );
    }

    #[test]
    fn failures_pause_longer_up_to_what_is_configured() {
        let pauses: Vec<u64> = (0..8).map(|failures| retry_ms(failures, 60_000)).collect();
        assert_eq!(
            pauses,
            [2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]
        );
    }

    #[test]
    fn times_are_told_as_people_read_them() {
        assert_eq!(
            time_of_day(20_000 * 86_400 + 2 * 3600 + 5 * 60),
            "02:05 UTC"
        );
    }
}
