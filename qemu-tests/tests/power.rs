//! Power cuts of a running machine: QEMU is killed in the middle of its update, what it had not
//! flushed is lost, and the next start has to be the right version, whole, and go on.

use std::sync::atomic::AtomicU64;
use std::thread;

use berth_power::Totals;
use berth_qemu_tests::power::Lane;
use berth_qemu_tests::{Error, TestResult, long_tests_wanted};

/// Cuts that a start must follow; `BERTH_POWER_CUTS` sets another number.
const CUTS: u64 = 4;
const CUTS_LONG: u64 = 1000;
/// Versions that a machine is updated to before it gets a new disk.
const UPDATES: usize = 1;
const UPDATES_LONG: usize = 6;
/// `BERTH_POWER_SEED` sets another one.
const SEED: u64 = 20_261_124;

#[test]
fn a_machine_whose_power_goes_at_any_moment_comes_back_and_gets_its_update() -> TestResult {
    let long = long_tests_wanted("a thousand power cuts");
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let wanted = number("BERTH_POWER_CUTS").unwrap_or(if long { CUTS_LONG } else { CUTS });
    let seed = number("BERTH_POWER_SEED").unwrap_or(SEED);
    let updates = if long { UPDATES_LONG } else { UPDATES };
    println!("power: {wanted} cuts, seed {seed}");
    let came_back = AtomicU64::new(0);
    let lanes = if long { 2 } else { 1 };
    let cut = |lane: u64| {
        Lane::new(&format!("power-{lane}"), seed + lane, updates)?.run(wanted, &came_back)
    };
    let lanes = thread::scope(|scope| {
        let cut = &cut;
        let workers: Vec<_> = (0..lanes)
            .map(|lane| scope.spawn(move || cut(lane)))
            .collect();
        let join = |worker: thread::ScopedJoinHandle<'_, _>| worker.join();
        workers.into_iter().map(join).collect::<Vec<_>>()
    });
    let mut totals = Totals::default();
    let mut failures = Vec::new();
    for lane in lanes {
        let (of_lane, failed) = lane.map_err(|_| Error::broken("a lane panicked"))??;
        totals.add(&of_lane);
        failures.extend(failed);
    }
    println!("{totals}");
    if let Some(first) = failures.first() {
        return Err(Error::broken(format!(
            "{} machines broke a promise; the first: {first}",
            failures.len()
        )));
    }
    if long && (totals.committed == 0 || totals.pages == 0) {
        return Err(Error::broken("no update was ever completed"));
    }
    Ok(())
}
