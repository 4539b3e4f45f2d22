//! What a build is doing, for whoever waits: one line that changes on a terminal, plain lines
//! otherwise.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use berth_oci::Step;

/// Tells people on standard error.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<Line>>);

#[derive(Debug, Default)]
struct Line {
    /// A line on a terminal is open.
    open: bool,
}

impl Progress {
    /// Something new begins.
    pub(crate) fn step(&self, what: &str) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut error = std::io::stderr().lock();
        // A reader that went away is no reason to stop.
        let _ = if error.is_terminal() {
            line.open = true;
            write!(error, "\r\x1b[Kberth: {what} ").and_then(|()| error.flush())
        } else {
            writeln!(error, "berth: {what}")
        };
    }

    /// Something goes on: shown on a terminal, where it replaces what was shown before; a log
    /// would only fill up.
    fn detail(&self, what: &str) {
        if std::io::stderr().is_terminal() {
            self.step(what);
        }
    }

    /// Tells of a step that has a length, when it is told how much of it is done.
    pub(crate) fn percent(&self, what: &str, whole: u64) -> impl FnMut(u64) {
        let mut told = 0;
        move |done| {
            let percent = done.saturating_mul(100) / whole.max(1);
            if percent > told {
                told = percent;
                self.detail(&format!("{what}, {percent} %"));
            }
        }
    }

    /// What is printed next starts on a line of its own.
    pub fn end(&self) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut line.open) {
            let mut error = std::io::stderr().lock();
            let _ = write!(error, "\r\x1b[K").and_then(|()| error.flush());
        }
    }

    /// Options for images whose steps are told here.
    pub(super) fn image_options(&self, temporary: &Path) -> berth_oci::Options {
        let this = self.clone();
        berth_oci::Options {
            temp_dir: temporary.to_owned(),
            progress: berth_oci::Progress::new(move |step| this.image_step(&step)),
            ..berth_oci::Options::default()
        }
    }

    fn image_step(&self, step: &Step<'_>) {
        match step {
            Step::Layer { number, of, bytes } => {
                let size = crate::svg::bytes(*bytes);
                self.step(&format!("unpacking layer {number} of {of} ({size})"));
            }
            Step::Download {
                digest,
                bytes,
                total,
            } => {
                let short: String = digest.hex().chars().take(12).collect();
                let (done, all) = (crate::svg::bytes(*bytes), crate::svg::bytes(*total));
                self.detail(&format!("downloading {short}, {done} of {all}"));
            }
        }
    }
}
