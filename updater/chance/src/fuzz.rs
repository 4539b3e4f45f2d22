//! How long a fuzz test goes on, from which seed, and what it took.

use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime};

use crate::Random;

/// Seconds, when `BERTH_FUZZ_SECONDS` says nothing: as long as every run of the tests can spare.
const SECONDS: u64 = 2;

/// The numbers for the fuzz test of this name, and when it ends: `BERTH_FUZZ_SECONDS` from now.
///
/// The seed is `BERTH_FUZZ_SEED`, otherwise the time; it is printed, and repeats what it finds.
#[must_use]
pub fn fuzz(name: &str) -> (Random, Instant) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let by_time = || now.map_or(0, |since| since.as_nanos() as u64);
    let seed = variable("BERTH_FUZZ_SEED").unwrap_or_else(by_time);
    let seconds = variable("BERTH_FUZZ_SECONDS").unwrap_or(SECONDS);
    println!("fuzz: {name} seed={seed} seconds={seconds}");
    let end = Instant::now() + Duration::from_secs(seconds);
    (Random::from_seed(seed), end)
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// The most memory that this process has had at once, KiB (`VmHWM`, proc_pid_status(5)).
#[must_use]
pub fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(u64::MAX)
}
