//! Waves: which machine takes a version when. The document says it, each machine finds its own
//! place, and nobody keeps a list of machines.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::limits;

/// Parts that a fleet is divided in: one is 0.01 %.
const PARTS: u32 = 10_000;

/// When whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// When it begins, seconds since 1970.
    pub start: u64,
    /// The waves in their order. A rollout that is stopped keeps the waves it has reached.
    pub waves: Vec<Wave>,
}

/// One wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// Seconds after the start.
    pub after_s: u64,
    /// Percentage of all machines that has its turn from then on, those before included.
    pub percent: u8,
}

/// A machine's place in a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It has its turn.
    Now,
    /// It will have, at this time, seconds since 1970.
    At(u64),
    /// It has none yet.
    Nowhere,
}

impl Rollout {
    /// Everybody from `start` on.
    #[must_use]
    pub fn at_once(start: u64) -> Self {
        Self {
            start,
            waves: vec![Wave {
                after_s: 0,
                percent: 100,
            }],
        }
    }

    /// The place of the machine with `seed`, for this version. A machine that says its `wave`
    /// (counted from 1) has that one.
    ///
    /// The version is part of the hash, so that it is not always the same machines that go first.
    #[must_use]
    pub fn place(&self, seed: &[u8], version: &str, wave: Option<u32>, now: u64) -> Place {
        let index = match wave {
            Some(wave) => {
                let wanted = usize::try_from(wave)
                    .unwrap_or(usize::MAX)
                    .saturating_sub(1);
                let last = self.waves.len().saturating_sub(1);
                // There are fewer waves: with the last, if it is everybody's.
                let everybody = self.waves.last().is_some_and(|wave| wave.percent == 100);
                (wanted <= last || everybody).then_some(wanted.min(last))
            }
            None => {
                let part = part(seed, version);
                let reached = |wave: &Wave| part < u32::from(wave.percent) * (PARTS / 100);
                self.waves.iter().position(reached)
            }
        };
        let Some(wave) = index.and_then(|index| self.waves.get(index)) else {
            return Place::Nowhere;
        };
        let time = self.start.saturating_add(wave.after_s);
        match now >= time {
            true => Place::Now,
            false => Place::At(time),
        }
    }

    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        if self.waves.is_empty() || self.waves.len() > limits::WAVES {
            return Some("a rollout has no waves, or too many");
        }
        let pairs = self.waves.iter().zip(self.waves.iter().skip(1));
        let mut ordered =
            pairs.map(|(one, next)| one.after_s <= next.after_s && one.percent <= next.percent);
        if !ordered.all(|fits| fits) || self.waves.iter().any(|wave| wave.percent > 100) {
            return Some("the waves of a rollout are not in order");
        }
        None
    }
}

/// Which of the fleet's parts a machine is in.
fn part(seed: &[u8], version: &str) -> u32 {
    let mut hash = Sha256::new();
    hash.update(b"berth wave\0");
    hash.update(version.as_bytes());
    hash.update(b"\0");
    hash.update(seed);
    let hash = hash.finalize();
    let bytes = hash.first_chunk::<8>().copied().unwrap_or_default();
    u32::try_from(u64::from_be_bytes(bytes) % u64::from(PARTS)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout() -> Rollout {
        let wave = |after_s, percent| Wave { after_s, percent };
        Rollout {
            start: 1000,
            waves: vec![wave(0, 1), wave(100, 10), wave(200, 100)],
        }
    }

    #[test]
    fn waves_take_the_share_that_they_say() {
        let rollout = rollout();
        for (now, percent) in [(999, 0), (1000, 1), (1100, 10), (1200, 100)] {
            let machines = 20_000_u32;
            let taken = (0..machines)
                .filter(|machine| {
                    rollout.place(&machine.to_be_bytes(), "2", None, now) == Place::Now
                })
                .count();
            let share = taken as f64 / f64::from(machines) * 100.0;
            assert!((share - f64::from(percent)).abs() < 1.0, "{now}: {share} %");
        }
    }

    #[test]
    fn another_version_starts_with_other_machines() {
        let first = |version: &str| -> Vec<u32> {
            let is_first = |machine: &u32| part(&machine.to_be_bytes(), version) < 100;
            (0..10_000).filter(is_first).collect()
        };
        assert_ne!(first("2"), first("3"));
    }

    #[test]
    fn a_machine_may_choose_its_wave() {
        let rollout = rollout();
        assert_eq!(rollout.place(b"x", "2", Some(1), 1000), Place::Now);
        assert_eq!(rollout.place(b"x", "2", Some(3), 1000), Place::At(1200));
        assert_eq!(rollout.place(b"x", "2", Some(9), 1200), Place::Now);
    }

    #[test]
    fn a_rollout_that_was_stopped_reaches_nobody_else() {
        let mut rollout = rollout();
        rollout.waves.truncate(1);
        let reached = (0..1000_u32)
            .filter(|machine| {
                rollout.place(&machine.to_be_bytes(), "2", None, u64::MAX) == Place::Now
            })
            .count();
        assert!(reached < 30, "{reached} of 1000");
        assert_eq!(rollout.place(b"x", "2", Some(2), u64::MAX), Place::Nowhere);
    }
}
