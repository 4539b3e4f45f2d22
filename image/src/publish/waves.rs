//! Waves as people write them: `1%,10%@24h,100%@72h`.

use berth_release::{Rollout, Wave, limits};
use berth_trust::Time;

use crate::config::duration_ms;

/// The waves of a rollout that has not started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waves(Vec<Wave>);

impl Waves {
    /// The rollout, from `start` on, seconds since 1970.
    #[must_use]
    pub fn starting(&self, start: u64) -> Rollout {
        Rollout {
            start,
            waves: self.0.clone(),
        }
    }
}

/// A rollout that is not for everybody at once, in a line for people.
pub(super) fn told(rollout: &Rollout) -> Option<String> {
    let waves = &rollout.waves;
    if matches!(
        waves.as_slice(),
        [Wave {
            percent: 100,
            after_s: 0
        }]
    ) {
        return None;
    }
    let wave = |wave: &Wave| match wave.after_s {
        0 => format!("{} % of the machines at once", wave.percent),
        after_s => format!("{} % after {} h", wave.percent, after_s as f64 / 3600.0),
    };
    let told: Vec<String> = waves.iter().map(wave).collect();
    let rest = waves.last().filter(|last| last.percent < 100);
    let rest = rest.map_or("", |_| "; the others not yet");
    let start = Time(i64::try_from(rollout.start).unwrap_or(i64::MAX));
    Some(format!("rollout since {start}: {}{rest}", told.join(", ")))
}

/// Reads waves.
///
/// # Errors
/// A clause that says what was expected.
pub fn parse_waves(text: &str) -> Result<Waves, String> {
    let mut waves: Vec<Wave> = Vec::new();
    for wave in text.split(',') {
        let (percent, after) = match wave.trim().split_once('@') {
            Some((percent, after)) => (percent, duration_ms(after)? / 1000),
            None => (wave.trim(), 0),
        };
        let percent = percent
            .strip_suffix('%')
            .and_then(|percent| percent.parse().ok());
        let Some(percent) = percent.filter(|percent| (1..=100).contains(percent)) else {
            return Err(format!(
                "expected a share like \"10%\" or \"10%@24h\", found {wave:?}"
            ));
        };
        let after_s = after;
        if let Some(before) = waves.last()
            && (before.percent >= percent || before.after_s > after_s)
        {
            return Err(format!(
                "each wave is larger and later than the one before it; {wave:?} is not"
            ));
        }
        waves.push(Wave { after_s, percent });
    }
    match waves.len() <= limits::WAVES {
        true => Ok(Waves(waves)),
        false => Err(format!("at most {} waves", limits::WAVES)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_are_read_as_people_write_them() {
        let waves = parse_waves("1%, 10%@24h,100%@72h").expect("waves");
        let rollout = waves.starting(7);
        let read: Vec<_> = rollout
            .waves
            .iter()
            .map(|w| (w.percent, w.after_s))
            .collect();
        assert_eq!(read, [(1, 0), (10, 86_400), (100, 259_200)]);
        assert_eq!(rollout.start, 7);
    }

    #[test]
    fn waves_that_go_backwards_are_refused() {
        for text in ["", "10", "0%", "101%", "10%,5%", "10%@2h,20%@1h", "10%@x"] {
            assert!(parse_waves(text).is_err(), "{text:?}");
        }
    }
}
