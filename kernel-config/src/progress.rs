//! What a build is doing, and how a person sees it: one line that is updated on a terminal, plain
//! lines otherwise.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// A step of [`crate::ensure`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The kernel was built before.
    Cached,
    /// Another process builds the same kernel; we wait for it.
    Waiting,
    /// The source package is being fetched.
    Fetching {
        /// Its name and release.
        package: String,
    },
    /// The source is being unpacked.
    Unpacking,
    /// The configuration is being made and checked.
    Configuring,
    /// Files are being compiled.
    Compiling {
        /// Steps of the makefile that are done.
        done: usize,
        /// How many there are, as far as an earlier build of the profile tells.
        estimate: usize,
    },
}

impl fmt::Display for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Progress::Cached => formatter.write_str("found in the cache"),
            Progress::Waiting => formatter.write_str("waiting for another build of the same"),
            Progress::Fetching { package } => write!(formatter, "fetching {package}"),
            Progress::Unpacking => formatter.write_str("unpacking the source"),
            Progress::Configuring => formatter.write_str("configuring"),
            Progress::Compiling { done, estimate } => {
                write!(
                    formatter,
                    "compiling, {done} of about {} steps",
                    estimate.max(done)
                )
            }
        }
    }
}

/// Shows progress on standard error.
#[derive(Debug)]
pub struct Console {
    started: Instant,
    terminal: bool,
    shown: Option<Instant>,
    last: Option<Progress>,
}

/// How often a terminal's line changes, and how often a log gets a line about the same step.
const REFRESH: Duration = Duration::from_millis(250);
const LOG_EVERY: Duration = Duration::from_secs(30);

impl Console {
    /// Starts the clock that the lines show.
    #[must_use]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
            shown: None,
            last: None,
        }
    }

    /// Shows `progress`, unless the same step was shown a moment ago. A console that went away is
    /// no reason to end a build.
    pub fn show(&mut self, progress: Progress) {
        let same = self
            .last
            .as_ref()
            .is_some_and(|last| std::mem::discriminant(last) == std::mem::discriminant(&progress));
        let pause = if self.terminal { REFRESH } else { LOG_EVERY };
        if same && self.shown.is_some_and(|shown| shown.elapsed() < pause) {
            return;
        }
        let seconds = self.started.elapsed().as_secs();
        let mut error = std::io::stderr().lock();
        let _ = if self.terminal {
            write!(error, "\r\x1b[Kberth: kernel: {progress} ({seconds} s)")
                .and_then(|()| error.flush())
        } else {
            writeln!(error, "berth: kernel: {progress} ({seconds} s)")
        };
        self.shown = Some(Instant::now());
        self.last = Some(progress);
    }

    /// Ends the line, so that what is printed next starts on its own.
    pub fn finish(self) {
        if self.terminal && self.shown.is_some() {
            eprintln!();
        }
    }
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}
