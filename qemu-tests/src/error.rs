//! What can go wrong around a machine, each a sentence for the reader of a failed test.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A machine, or something asked of it, did not do what was expected.
#[derive(thiserror::Error)]
pub enum Error {
    /// A file or directory of the harness itself.
    #[error("{doing} {path}: {source}")]
    File {
        /// What was being done ("reading").
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it stopped.
        source: std::io::Error,
    },
    /// A program that the harness needs could not be started.
    #[error("starting {program}: {source}; is its package installed? (make check names it)")]
    Program {
        /// The program.
        program: String,
        /// Why it did not start.
        source: std::io::Error,
    },
    /// A program ended with something other than success.
    #[error("{command} ended with {status}:\n{output}")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// What it wrote, both streams.
        output: String,
    },
    /// Something that was waited for did not come.
    #[error("{machine}: waited {waited:?} for {what}; the console's last lines:\n{tail}")]
    Deadline {
        /// The machine's name and where its files are.
        machine: String,
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// The console's last lines.
        tail: String,
    },
    /// The guest's kernel panicked while something else was waited for.
    #[error("{machine}: the kernel panicked while waiting for {what}; the last lines:\n{tail}")]
    Panicked {
        /// The machine's name and where its files are.
        machine: String,
        /// What was waited for.
        what: String,
        /// The console's last lines.
        tail: String,
    },
    /// QEMU ended while something was waited for.
    #[error("{machine}: QEMU ended while waiting for {what}; the console's last lines:\n{tail}")]
    Ended {
        /// The machine's name and where its files are.
        machine: String,
        /// What was waited for.
        what: String,
        /// The console's last lines.
        tail: String,
    },
    /// The monitor refused a command or answered nonsense.
    #[error("{machine}: asking the monitor to {command}: {reason}")]
    Monitor {
        /// The machine's name and where its files are.
        machine: String,
        /// The QMP command.
        command: String,
        /// What it said.
        reason: String,
    },
    /// An HTTP exchange with the machine failed.
    #[error("GET {url}: {reason}")]
    Http {
        /// What was asked for.
        url: String,
        /// Why there is no answer.
        reason: String,
    },
    /// What was observed is not what was promised.
    #[error("{0}")]
    Broken(String),
}

impl Error {
    /// An [`Error::File`].
    pub fn file(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }

    /// An [`Error::Broken`] from a sentence.
    pub fn broken(sentence: impl Into<String>) -> Self {
        Self::Broken(sentence.into())
    }
}

/// A test that returns an error is reported by its `Debug` form; people want the sentence.
impl fmt::Debug for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}
