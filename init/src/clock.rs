//! The clock's floor: never earlier than the image was built or than this machine last knew.
//!
//! A machine without a battery-backed clock starts in 1970, and nothing that checks a
//! certificate works then. The kernel has set the clock from the RTC, where there is one.

use std::fs::{File, FileTimes};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};

use crate::failure::{Doing, Failure};
use crate::state;

/// Its modification time is the last time that this machine knew.
const SAVED: &str = "clock";

/// The time to set the clock to, when `now` is before the floor.
fn raised(now: SystemTime, built: SystemTime, saved: Option<SystemTime>) -> Option<SystemTime> {
    let floor = saved.map_or(built, |saved| saved.max(built));
    (now < floor).then_some(floor)
}

/// Raises the clock to the image's build time, seconds since 1970.
pub(crate) fn raise_to_build_time(built: u64) -> Result<(), Failure> {
    let built = SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(built))
        .unwrap_or(SystemTime::UNIX_EPOCH);
    raised(SystemTime::now(), built, None).map_or(Ok(()), set)
}

/// Raises the clock to the time saved in the state partition, if there is one.
pub(crate) fn raise_to_saved_time() -> Result<(), Failure> {
    let saved = std::fs::metadata(state::own(SAVED)).and_then(|metadata| metadata.modified());
    let now = SystemTime::now();
    raised(now, SystemTime::UNIX_EPOCH, saved.ok()).map_or(Ok(()), set)
}

/// Saves the time in the state partition.
pub(crate) fn save() -> Result<(), Failure> {
    let path = state::own(SAVED);
    touch(&path).doing(|| format!("save the time in {}", path.display()))
}

fn touch(path: &Path) -> io::Result<()> {
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(path)?;
    file.set_times(FileTimes::new().set_modified(SystemTime::now()))
}

fn set(to: SystemTime) -> Result<(), Failure> {
    let since = to
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(since))
        .doing(|| format!("set the clock to {} seconds after 1970", since.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_clock_never_goes_back() {
        assert_eq!(raised(at(100), at(50), Some(at(70))), None);
        assert_eq!(raised(at(100), at(100), None), None);
    }

    #[test]
    fn the_later_of_build_and_saved_time_is_the_floor() {
        assert_eq!(raised(at(0), at(50), None), Some(at(50)));
        assert_eq!(raised(at(0), at(50), Some(at(70))), Some(at(70)));
        assert_eq!(raised(at(0), at(50), Some(at(20))), Some(at(50)));
    }
}
