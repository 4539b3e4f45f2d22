//! Turns: no more guests run at once than the computer has cores, over all test processes.
//!
//! Each turn is a lock on one of N files; the kernel gives it back when its holder ends, however
//! that ends. A test holds at most one turn besides a machine that its whole file shares, and
//! there are always at least two, so nobody waits for a turn that cannot come.

use std::fs::{File, OpenOptions};
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use crate::{Error, target_directory};

/// Pause between two looks for a free turn.
const PAUSE: Duration = Duration::from_millis(100);

/// The right to run one guest.
pub struct Turn {
    _lock: Flock<File>,
}

impl Turn {
    /// Waits for a free turn.
    pub fn take() -> Result<Self, Error> {
        let directory = target_directory().join("qemu-tests").join(".turns");
        std::fs::create_dir_all(&directory).map_err(Error::file("creating", &directory))?;
        let turns = thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
        loop {
            for turn in 0..turns {
                let path = directory.join(turn.to_string());
                let file = OpenOptions::new()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .open(&path)
                    .map_err(Error::file("opening", &path))?;
                if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                    return Ok(Self { _lock: lock });
                }
            }
            thread::sleep(PAUSE);
        }
    }
}
