//! A machine: what it is made of ([`Builder`]) and what can be done to it while it runs
//! ([`Machine`]).
//!
//! Disks are never written: each gets an overlay of its own, which lasts as long as the machine
//! unless a test keeps it (with the firmware's variables) for the next start. Guest ports are
//! forwarded from free ports that the operating system picks. QEMU is ended when the machine is
//! dropped, and by the kernel when the test process ends in any other way.

mod builder;

use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::observer::{self, Observer, Process};
use crate::turn::Turn;
use crate::{Artifacts, Console, Error, http, monitor::Monitor};

pub use builder::{Builder, Disk};

/// Pause between two looks at whether QEMU has ended.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the last words of an ended QEMU may take to be read.
const CLOSING: Duration = Duration::from_secs(5);

/// QEMU; ended when dropped.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A machine that was started.
pub struct Machine {
    label: String,
    console: Console,
    monitor: Mutex<Monitor>,
    observer: Mutex<Observer>,
    qemu: Mutex<Qemu>,
    overlays: Vec<PathBuf>,
    started: Instant,
    screen: bool,
    artifacts: Artifacts,
    _sockets: TempDir,
    _turn: Turn,
}

impl Machine {
    /// A machine with 256 MiB, one processor, a network card and no disk, started by SeaBIOS.
    pub fn named(name: &str) -> Builder {
        Builder::named(name)
    }

    /// Its serial console.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Its monitor.
    pub fn monitor(&self) -> MutexGuard<'_, Monitor> {
        self.monitor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Where its files are.
    pub fn artifacts(&self) -> &Artifacts {
        &self.artifacts
    }

    /// A disk's overlay. Only to be read when the machine has ended.
    pub fn overlay(&self, number: usize) -> &Path {
        self.overlays.get(number).map_or(Path::new(""), |path| path)
    }

    /// The host's port that is forwarded to the guest's.
    pub fn port(&self, guest: u16) -> Result<u16, Error> {
        let table = self.monitor().human("info usernet")?;
        let found = table.lines().find_map(|line| {
            // TCP[HOST_FORWARD]  13       127.0.0.1 40001       10.0.2.15  8080     0     0
            let words: Vec<&str> = line.split_whitespace().collect();
            let forward = words.first()?.starts_with("TCP[HOST_FORWARD]");
            let fits = forward && *words.get(5)? == guest.to_string();
            fits.then(|| words.get(3)?.parse().ok()).flatten()
        });
        found.ok_or_else(|| {
            Error::broken(format!(
                "port {guest} of the guest is not forwarded:\n{table}"
            ))
        })
    }

    /// Asks a web server on the guest's port until it answers.
    pub fn http(&self, port: u16, path: &str, deadline: Duration) -> Result<http::Answer, Error> {
        http::get_within(self.port(port)?, path, deadline)
    }

    /// Asks the observer (see `src/bin/guest/observer.rs` for what it answers).
    pub fn ask(&self, question: &str, deadline: Duration) -> Result<String, Error> {
        let mut observer = self.observer.lock().unwrap_or_else(PoisonError::into_inner);
        observer.ask(question, deadline)
    }

    /// Every process of the machine, as the observer sees it.
    pub fn processes(&self, deadline: Duration) -> Result<Vec<Process>, Error> {
        let answer = self.ask("processes", deadline)?;
        observer::processes(&answer)
            .ok_or_else(|| self.broken(&format!("no list of processes: {answer}")))
    }

    /// An error that says what was promised and not kept, and where this machine's files are.
    pub fn broken(&self, sentence: &str) -> Error {
        Error::broken(format!("{}: {sentence}", self.label))
    }

    /// Presses the power button.
    pub fn powerdown(&self) -> Result<(), Error> {
        self.monitor()
            .execute("system_powerdown", json!({}))
            .map(drop)
    }

    /// Presses the reset button.
    pub fn reset(&self) -> Result<(), Error> {
        self.monitor().execute("system_reset", json!({})).map(drop)
    }

    /// Pulls the plug: what the guest has not flushed may be lost.
    pub fn kill(&self) -> Result<(), Error> {
        let mut qemu = self.qemu.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = qemu.0.kill().and_then(|()| qemu.0.wait());
        gone.map(drop)
            .map_err(Error::file("ending", "this test's QEMU"))
    }

    /// Waits until QEMU has ended (power-off, or a restart that was not asked for).
    pub fn ended(&self, deadline: Duration) -> Result<ExitStatus, Error> {
        let until = Instant::now() + deadline;
        loop {
            let mut qemu = self.qemu.lock().unwrap_or_else(PoisonError::into_inner);
            let status = qemu
                .0
                .try_wait()
                .map_err(Error::file("waiting for", "this test's QEMU"))?;
            drop(qemu);
            match status {
                Some(status) => {
                    self.console.closed(CLOSING);
                    return Ok(status);
                }
                None if Instant::now() < until => thread::sleep(PAUSE),
                None => {
                    return Err(Error::Deadline {
                        machine: self.label.clone(),
                        what: "the machine to end".into(),
                        waited: deadline,
                        tail: self.console.tail(),
                    });
                }
            }
        }
    }

    /// Presses the power button and waits until the machine is off.
    pub fn shut_down(&self, deadline: Duration) -> Result<(), Error> {
        self.powerdown()?;
        self.ended(deadline).map(drop)
    }

    /// Writes what the screen shows beside the console's log (PNG).
    pub fn screenshot(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.artifacts.path(&format!("{name}.png"));
        let arguments = json!({ "filename": path, "format": "png" });
        self.monitor().execute("screendump", arguments)?;
        Ok(path)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() && self.screen {
            // What the screen showed may say why; QEMU may be gone, and then there is none.
            let _ = self.screenshot("failure");
        }
    }
}
