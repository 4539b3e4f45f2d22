//! Why something on the machine did not work, as one sentence for a person.
//!
//! Everything that goes wrong in PID 1 ends on the console, in the kernel log and in the status:
//! nobody matches on it, so it is text from the start.

use std::fmt;

/// What was being done, to what, why it stopped, what happens now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure(String);

impl Failure {
    /// A failure told in `sentence`.
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Adds what was being done to an error that only knows why it stopped.
pub(crate) trait Doing<T> {
    /// `doing` reads as in "cannot DOING: No such file or directory".
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> Doing<T> for Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|why| Failure(format!("cannot {}: {why}", doing())))
    }
}
