//! The seed file: randomness carried from one boot to the next.
//!
//! A seed is credited at most once: its successor is on the disk before the kernel counts it
//! (random(4), "Saving and restoring"). Without this a machine without a hardware generator
//! makes its first keys from little.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use crate::durable;
use crate::failure::{Doing, Failure};
use crate::state;
use crate::sys;

const SAVED: &str = "random-seed";
/// The kernel's pool holds 256 bits; more is only margin.
const SEED_BYTES: usize = 64;
const DEVICE: &str = "/dev/urandom";

/// Mixes the saved seed in, replaces it, then lets it count. May block on the disk.
pub(crate) fn restore() -> Result<(), Failure> {
    let path = state::own(SAVED);
    let seed = fs::read(&path).ok().filter(|seed| seed.len() == SEED_BYTES);
    credit_after_replacing(seed.as_deref())
        .doing(|| format!("restore randomness from {}", path.display()))
}

/// Saves a new seed at shutdown, when the pool knows most.
pub(crate) fn save() -> Result<(), Failure> {
    let path = state::own(SAVED);
    next_seed()
        .and_then(|seed| durable::replace(&path, &seed))
        .doing(|| format!("save randomness in {}", path.display()))
}

fn credit_after_replacing(seed: Option<&[u8]>) -> io::Result<()> {
    let mut device = File::options().write(true).open(DEVICE)?;
    device.write_all(seed.unwrap_or_default())?; // mixed, not counted: the successor depends on it
    durable::replace(&state::own(SAVED), &next_seed()?)?;
    seed.map_or(Ok(()), |seed| sys::credit_entropy(device.as_fd(), seed))
}

fn next_seed() -> io::Result<[u8; SEED_BYTES]> {
    let mut seed = [0; SEED_BYTES];
    File::open(DEVICE)?.read_exact(&mut seed)?;
    Ok(seed)
}
