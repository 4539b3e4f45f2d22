//! The hardware watchdog: opened early, fed only by a main loop that is alive.
//!
//! Never closed by accident: a driver with NOWAYOUT restarts the machine, one without keeps
//! counting, and both are what a PID 1 that has lost its way deserves. On the way down the
//! timeout is stretched once and the feeding stops, so that a shutdown that hangs still ends.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::sync::OnceLock;

use crate::failure::{Doing, Failure};
use crate::sys;

const NODE: &str = "/dev/watchdog";
/// Long enough for a main loop that waits for memory under a fork bomb.
const TIMEOUT_SECONDS: i32 = 60;
/// A quarter of the timeout, so that three feedings may be late.
pub(crate) const FEED_EVERY_US: u64 = 15_000_000;
/// For the whole way down: stopping containers is bounded on its own before this starts.
const SHUTDOWN_SECONDS: i32 = 120;

/// The armed watchdog; never closed.
static DEVICE: OnceLock<File> = OnceLock::new();

/// Opens and arms the watchdog; a machine without one is told by `false`.
pub(crate) fn arm() -> Result<bool, Failure> {
    let device = match OpenOptions::new().write(true).open(NODE) {
        Ok(device) => device,
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(why) => return Err(why).doing(|| format!("open {NODE}")),
    };
    let _ = DEVICE.set(device);
    set_timeout(TIMEOUT_SECONDS)?;
    feed()?;
    Ok(true)
}

/// The main loop is alive.
pub(crate) fn feed() -> Result<(), Failure> {
    DEVICE.get().map_or(Ok(()), |device| {
        sys::watchdog_keep_alive(device.as_fd()).doing(|| format!("feed {NODE}"))
    })
}

/// The last feeding: from now the machine has [`SHUTDOWN_SECONDS`] to go down. The kernel stops
/// most devices itself as the last thing before it restarts.
pub(crate) fn bound_shutdown() -> Result<(), Failure> {
    set_timeout(SHUTDOWN_SECONDS)?;
    feed()
}

fn set_timeout(seconds: i32) -> Result<(), Failure> {
    DEVICE.get().map_or(Ok(()), |device| {
        sys::set_watchdog_timeout(device.as_fd(), seconds)
            .map(drop)
            .doing(|| format!("set the timeout of {NODE} to {seconds} s"))
    })
}
