//! What the command tells people, on standard error.

use std::fmt;
use std::io::Write;

/// Tells whoever listens. Nobody may: what was done is done all the same, and a closed pipe must
/// not look like a failure of it.
pub fn say(what: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "berth: {what}");
}
