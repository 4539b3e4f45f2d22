//! A machine's serial console: read by a thread, kept whole, written to a file as it comes, and
//! waited on with deadlines.
//!
//! The lines that PID 1 writes for programs (`berth: …`, ARCHITECTURE.md) are [`Line`]s.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use berth_power::Line;

use crate::Error;

/// What a kernel that cannot go on writes.
const PANIC: &str = "Kernel panic - not syncing";
/// Lines of the console that an error shows.
const TAIL_LINES: usize = 30;
/// The most that is kept of one console.
const CONSOLE_MAX: usize = 64 << 20;

#[derive(Default)]
struct State {
    text: String,
    /// Where the last whole line ends in `text`.
    whole: usize,
    lines: Vec<Line>,
    ended: bool,
}

/// A serial console.
pub struct Console {
    label: String,
    failed: Arc<AtomicBool>,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Console {
    /// Starts to read `source` and to copy it to the file `log`; sets `failed` when something
    /// that is waited for does not come.
    pub(crate) fn read(
        label: String,
        failed: Arc<AtomicBool>,
        mut source: impl Read + Send + 'static,
        log: &Path,
    ) -> Result<Self, Error> {
        let mut log = File::create(log).map_err(Error::file("creating", log))?;
        let shared = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(read @ 1..) = source.read(&mut chunk) {
                // The copy is for people; a full disk must not stop the test.
                let _ = log.write_all(&chunk[..read]);
                let mut state = lock(&theirs.0);
                state.take(&String::from_utf8_lossy(&chunk[..read]));
                theirs.1.notify_all();
            }
            lock(&theirs.0).ended = true;
            theirs.1.notify_all();
        });
        Ok(Self {
            label,
            failed,
            shared,
        })
    }

    /// Everything so far.
    pub fn text(&self) -> String {
        lock(&self.shared.0).text.clone()
    }

    /// The whole lines from this byte on.
    pub fn lines_from(&self, byte: usize) -> String {
        let state = lock(&self.shared.0);
        let lines = state.text.get(byte..state.whole);
        lines.unwrap_or_default().to_owned()
    }

    /// Waits until there is more than so many bytes, or for `most`.
    pub fn wait_beyond(&self, bytes: usize, most: Duration) {
        let state = lock(&self.shared.0);
        let waiting = |state: &mut State| state.whole <= bytes && !state.ended;
        // Either way the caller looks.
        drop(self.shared.1.wait_timeout_while(state, most, waiting));
    }

    /// PID 1's lines so far.
    pub fn lines(&self) -> Vec<Line> {
        lock(&self.shared.0).lines.clone()
    }

    /// How many lines PID 1 wrote so far: a mark for [`Console::expect_after`].
    pub fn mark(&self) -> usize {
        lock(&self.shared.0).lines.len()
    }

    /// Waits until the text stands somewhere on the console and returns its line as far as it
    /// has come. A kernel panic ends the wait unless it is what is waited for.
    pub fn wait_for(&self, pattern: &str, deadline: Duration) -> Result<String, Error> {
        let what = format!("{pattern:?}");
        self.wait(&what, deadline, pattern.contains("panic"), |state| {
            let at = state.text.find(pattern)?;
            let from = state.text[..at]
                .rfind('\n')
                .map_or(0, |newline| newline + 1);
            let line = state.text[from..].lines().next().unwrap_or_default();
            Some(line.to_owned())
        })
    }

    /// Waits until a whole line with the text stands on the console and returns it.
    pub fn wait_for_line(&self, pattern: &str, deadline: Duration) -> Result<String, Error> {
        let what = format!("a line with {pattern:?}");
        self.wait(&what, deadline, pattern.contains("panic"), |state| {
            let whole = state.text.get(..state.whole)?;
            let line = whole.lines().find(|line| line.contains(pattern))?;
            Some(line.to_owned())
        })
    }

    /// Waits for a line of PID 1, past or future, that fits.
    pub fn expect(
        &self,
        what: &str,
        deadline: Duration,
        fits: impl Fn(&Line) -> bool,
    ) -> Result<Line, Error> {
        self.expect_after(0, what, deadline, fits)
    }

    /// Waits for a line of PID 1 after the mark that fits.
    pub fn expect_after(
        &self,
        mark: usize,
        what: &str,
        deadline: Duration,
        fits: impl Fn(&Line) -> bool,
    ) -> Result<Line, Error> {
        self.wait(what, deadline, false, |state| {
            let new = state.lines.get(mark..).unwrap_or_default();
            new.iter().find(|line| fits(line)).cloned()
        })
    }

    /// Waits for a line of PID 1 that fits, on a machine that may panic and restart before it comes.
    pub fn expect_in_the_end(
        &self,
        what: &str,
        deadline: Duration,
        fits: impl Fn(&Line) -> bool,
    ) -> Result<Line, Error> {
        self.wait(what, deadline, true, |state| {
            state.lines.iter().find(|line| fits(line)).cloned()
        })
    }

    /// Waits until PID 1 says that every container has started.
    pub fn ready(&self, deadline: Duration) -> Result<Line, Error> {
        self.expect("every container to start", deadline, |line| {
            line.says("ready")
        })
    }

    /// Waits until the console is closed: QEMU has ended and all it said has been read.
    pub fn closed(&self, deadline: Duration) -> bool {
        let state = lock(&self.shared.0);
        let wait = self
            .shared
            .1
            .wait_timeout_while(state, deadline, |state| !state.ended);
        wait.is_ok_and(|(state, _)| state.ended)
    }

    /// The last lines, for an error's reader.
    pub fn tail(&self) -> String {
        tail(&lock(&self.shared.0).text)
    }

    fn wait<T>(
        &self,
        what: &str,
        deadline: Duration,
        panics_are_fine: bool,
        look: impl Fn(&State) -> Option<T>,
    ) -> Result<T, Error> {
        let outcome = self.wait_quietly(what, deadline, panics_are_fine, look);
        if outcome.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        outcome
    }

    fn wait_quietly<T>(
        &self,
        what: &str,
        deadline: Duration,
        panics_are_fine: bool,
        look: impl Fn(&State) -> Option<T>,
    ) -> Result<T, Error> {
        let until = Instant::now() + deadline;
        let mut state = lock(&self.shared.0);
        loop {
            if let Some(found) = look(&state) {
                return Ok(found);
            }
            let machine = self.label.clone();
            let what = what.to_owned();
            if !panics_are_fine && state.text.contains(PANIC) {
                let tail = tail(&state.text);
                return Err(Error::Panicked {
                    machine,
                    what,
                    tail,
                });
            }
            let tail = || tail(&state.text);
            if state.ended {
                let tail = tail();
                return Err(Error::Ended {
                    machine,
                    what,
                    tail,
                });
            }
            let now = Instant::now();
            if now >= until {
                return Err(Error::Deadline {
                    machine,
                    what,
                    waited: deadline,
                    tail: tail(),
                });
            }
            state = self
                .shared
                .1
                .wait_timeout(state, until - now)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl State {
    fn take(&mut self, text: &str) {
        if self.text.len() + text.len() > CONSOLE_MAX {
            return;
        }
        self.text.push_str(text);
        while let Some(length) = self.text[self.whole..].find('\n') {
            let line = &self.text[self.whole..self.whole + length];
            self.lines.extend(Line::parse(line));
            self.whole += length + 1;
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last lines of a console.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_the_console() {
        let log = tempfile::NamedTempFile::new().expect("a scratch file");
        let bytes: &[u8] = b"one\nberth: ready t=7\nKernel panic - not syncing: x\n";
        let console = Console::read("test".into(), Arc::default(), bytes, log.path());
        let console = console.expect("a console");
        let deadline = Duration::from_secs(5);
        assert_eq!(console.ready(deadline).expect("ready").micros(), Some(7));
        let panicked = console.wait_for("two", deadline);
        assert!(matches!(panicked, Err(Error::Panicked { .. })));
        let told = console.wait_for("Kernel panic", deadline);
        assert_eq!(
            told.expect("the panic's line"),
            "Kernel panic - not syncing: x"
        );
    }
}
