//! What tests that leave something to chance share: numbers that a seed gives again, and the
//! bounds of a fuzz test. Nothing here runs on the machine.

mod fuzz;
mod random;

pub use fuzz::{fuzz, peak_kib};
pub use random::Random;
