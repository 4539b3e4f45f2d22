//! Lines to the kernel log, in the form that ARCHITECTURE.md fixes: `berth: KEY=VALUE … : sentence`.
//!
//! The kernel prints what it gets to every console at once, character by character, so lines
//! are held back until the first containers run, and let go at once when anything fails.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use nix::time::{ClockId, clock_gettime};

use crate::failure::Failure;
use crate::mounts::write_kernel_file;

/// A record of /dev/kmsg holds 1024 bytes with its header; longer writes are refused.
const LINE_BYTES: usize = 900;
/// Lines held back at most.
const HELD_LINES: usize = 256;

/// How urgent a line is, as the kernel counts: consoles at `loglevel=6` and above show both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Something failed.
    Error = 3,
    /// What happens when all is well.
    Notice = 5,
}

/// Where lines go.
#[derive(Debug, Default)]
pub(crate) struct KernelLog {
    file: Option<File>,
    held: Option<Vec<String>>,
}

impl KernelLog {
    /// A log that keeps its lines until [`KernelLog::let_go`].
    pub(crate) fn held_back() -> Self {
        Self {
            file: None,
            held: Some(Vec::with_capacity(32)),
        }
    }

    /// A log that writes every line at once: for roles that PID 1 started.
    pub(crate) fn direct() -> Self {
        let mut log = Self::default();
        log.open();
        log
    }

    /// Opens the kernel's log and switches off its rate limit for what programs write: a boot
    /// has more lines than it allows in five seconds.
    pub(crate) fn open_unlimited(&mut self) -> Result<(), Failure> {
        let limit = write_kernel_file("/proc/sys/kernel/printk_devkmsg", "on\n");
        self.open();
        match self.file {
            Some(_) => limit,
            None => Err(Failure::new(
                "cannot open /dev/kmsg: this machine's log goes to its console only",
            )),
        }
    }

    /// Writes one line, or keeps it.
    pub(crate) fn line(&mut self, urgency: Urgency, text: &str) {
        let line = record(urgency, text);
        match &mut self.held {
            Some(held) if urgency == Urgency::Notice && held.len() < HELD_LINES => held.push(line),
            Some(_) => {
                self.let_go();
                self.write(&line);
            }
            None => self.write(&line),
        }
    }

    /// Writes what was held back; from now on every line is written at once.
    pub(crate) fn let_go(&mut self) {
        for line in self.held.take().unwrap_or_default() {
            self.write(&line);
        }
    }

    fn open(&mut self) {
        self.file = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open("/dev/kmsg")
            .ok();
    }

    /// A line that cannot be written has nobody to be reported to: standard error is the
    /// console that the kernel gave PID 1.
    fn write(&mut self, line: &str) {
        let written = match &mut self.file {
            Some(file) => file.write_all(line.as_bytes()),
            None => Err(std::io::ErrorKind::NotFound.into()),
        };
        if written.is_err() {
            let text = line.split_once('>').map_or(line, |(_, text)| text);
            let _ = write!(std::io::stderr(), "{text}");
        }
    }
}

/// `text` as one record of /dev/kmsg, a whole line within its limit.
fn record(urgency: Urgency, text: &str) -> String {
    /// The facility "user level", so that nobody takes a line for the kernel's.
    const USER: u8 = 1 << 3;
    let mut line = format!("<{}>berth: ", USER | urgency as u8);
    for character in text.trim_end().chars() {
        if line.len() + character.len_utf8() > LINE_BYTES {
            break;
        }
        line.push(if character.is_control() {
            ' '
        } else {
            character
        });
    }
    // A record without its newline could still be continued: the kernel shows it to nobody
    // before the next one comes.
    line.push('\n');
    line
}

/// Microseconds since the kernel started (CLOCK_MONOTONIC).
pub(crate) fn now_us() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let nanoseconds = u64::try_from(time.tv_nsec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000) + nanoseconds / 1000
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_within_the_kernels_limit() {
        let long = format!("a\nb{}", "ü".repeat(2000));
        let line = record(Urgency::Error, &long);
        assert!(line.starts_with("<11>berth: a b"));
        assert!(line.len() <= LINE_BYTES + 1);
        assert_eq!(line.find('\n'), Some(line.len() - 1));
    }

    #[test]
    fn an_error_lets_go_of_everything_held_before_it() {
        let mut log = KernelLog::held_back();
        log.line(Urgency::Notice, "one");
        assert_eq!(log.held.as_ref().map(Vec::len), Some(1));
        log.line(Urgency::Error, "two");
        assert!(log.held.is_none());
    }
}
