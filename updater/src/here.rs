//! What this machine is, and what time it is.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_provision::Machine;
use berth_slots::state::Booted;
use berth_slots::target::Version;
use nix::time::{ClockId, clock_gettime};

/// What runs, as the kernel and the image say it.
pub(crate) fn booted(machine: &Machine) -> Result<Booted, String> {
    let read =
        |path: &str| fs::read_to_string(path).map_err(|why| format!("cannot read {path}: {why}"));
    let line = read("/proc/cmdline")?;
    let boot_id = read("/proc/sys/kernel/random/boot_id")?;
    let digits: Vec<u8> = boot_id.bytes().filter(u8::is_ascii_hexdigit).collect();
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).unwrap_or_default();
        *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
    }
    Ok(Booted {
        root: Booted::root_of_command_line(&line)
            .ok_or("the machine does not run from a verified root, so it has no slots")?,
        boot_id: id,
        version: Version::new(&machine.version).ok_or("the image has no version")?,
        security_version: machine.security_version,
    })
}

pub(crate) fn seed_number(seed: &[u8]) -> u64 {
    seed.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

pub(crate) fn unix_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or(Duration::ZERO).as_secs()
}

/// Microseconds since the kernel's start.
pub(crate) fn now_us() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    let micros = now.unwrap_or(Duration::ZERO).as_micros();
    u64::try_from(micros).unwrap_or(u64::MAX)
}
