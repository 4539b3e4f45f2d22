//! A million machines and one rollout, on paper: who asks what when, and what the server and a
//! cache in front of it see. Prints what docs/fleet.md says.
//!
//! Each machine finds its turn by the code that machines run. Its looks are a period apart, a tenth
//! more or less, and begin anywhere in the period.

use berth_release::{Place, Rollout, Wave};

const MACHINES: u64 = 1_000_000;
const PERIOD_S: u64 = 3600;
const HOUR: u64 = 3600;
/// A look: the next root file, which is not there, and the timestamp; their answers with heads.
const LOOK_REQUESTS: u64 = 2;
const LOOK_BYTES: u64 = 2 * 400 + 559 + 153;
/// A new version: snapshot, targets, document, and for two parts a patch's prefix, head, payloads.
const UPDATE_REQUESTS: u64 = 9;
/// Metadata and document of a small machine, and their answers' heads.
const METADATA_BYTES: u64 = 9 * 400 + 557 + 739 + 3103;
/// What a point release of the whole system may cost on the wire.
const DELTA_BYTES: u64 = 400_000;
/// How long a cache keeps the timestamp.
const CACHE_S: u64 = 60;

fn rollout() -> Rollout {
    let wave = |hours, percent| Wave {
        after_s: hours * HOUR,
        percent,
    };
    Rollout {
        start: 0,
        waves: vec![wave(0, 1), wave(24, 10), wave(72, 100)],
    }
}

/// A pseudo-random number below `bound` that is always the same for `seed`.
fn mixed(seed: u64, bound: u64) -> u64 {
    let mut x = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ x >> 31) % bound
}

/// When a machine takes the version, seconds after the start; `None` when it never does.
fn takes(rollout: &Rollout, machine: u64) -> Option<u64> {
    let turn = match rollout.place(&machine.to_be_bytes(), "2", None, 0) {
        Place::Now => 0,
        Place::At(time) => time,
        Place::Nowhere => return None,
    };
    // At its first look after its turn.
    let longest = PERIOD_S + PERIOD_S / 10;
    Some(turn + mixed(machine, longest))
}

/// Most updates that begin in any minute.
fn busiest_minute(times: &[u64]) -> u64 {
    let mut most = 0;
    let mut start = 0;
    for (end, time) in times.iter().enumerate() {
        while time - times[start] >= 60 {
            start += 1;
        }
        most = most.max(end + 1 - start);
    }
    most as u64
}

#[test]
fn a_million_machines_cost_a_static_server_and_a_cache_little() {
    let rollout = rollout();
    let taken = (0..MACHINES).filter_map(|machine| takes(&rollout, machine));
    let mut times: Vec<u64> = taken.collect();
    assert_eq!(times.len() as u64, MACHINES, "everybody has it in the end");
    times.sort_unstable();
    let mbit = |bytes: f64| bytes * 8.0 / 1e6;
    let looks = MACHINES as f64 / PERIOD_S as f64;
    let updates = busiest_minute(&times) as f64 / 60.0;
    let update_bytes = METADATA_BYTES + DELTA_BYTES;
    let idle = looks * LOOK_REQUESTS as f64;
    let idle_mbit = mbit(looks * LOOK_BYTES as f64);
    let peak = idle + updates * UPDATE_REQUESTS as f64;
    let peak_mbit = idle_mbit + mbit(updates * update_bytes as f64);
    let hours_to_99 = times[times.len() * 99 / 100 - 1] as f64 / HOUR as f64;
    println!("between rollouts: {idle:.0} requests/s, {idle_mbit:.1} Mbit/s at the cache");
    println!(
        "in the busiest minute: {updates:.0} updates/s, {peak:.0} requests/s, {peak_mbit:.0} Mbit/s"
    );
    println!(
        "behind the cache: {:.2} requests/s, and each new file once",
        LOOK_REQUESTS as f64 / CACHE_S as f64
    );
    println!(
        "the whole rollout: {:.0} GB",
        (MACHINES * update_bytes) as f64 / 1e9
    );
    println!("99 % have the version after {hours_to_99:.1} h");
    assert!(hours_to_99 < 73.5);
    assert!(peak < 10_000.0, "{peak} requests/s");
}

#[test]
fn a_bad_version_that_is_caught_in_wave_1_reaches_one_machine_in_a_hundred() {
    let mut stopped = rollout();
    stopped.waves.truncate(1);
    let takers = (0..MACHINES).filter(|machine| takes(&stopped, *machine).is_some());
    let reached = takers.count();
    println!("stopped in wave 1: {reached} of {MACHINES} machines tried it and went back");
    let share = reached as f64 / MACHINES as f64;
    assert!((0.009..0.011).contains(&share), "{share}");
}
