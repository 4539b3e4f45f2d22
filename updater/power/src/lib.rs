//! What is promised about a machine that loses its power, and the disk that loses what was not
//! flushed.
//!
//! Killing QEMU loses nothing: what the guest wrote is in the host's cache. So the disk is a small
//! server of our own that knows every write and every flush ([`Disk`]). It decides the moment of
//! the cut, to the write, and what the medium holds afterwards. [`Book`] follows the machine's
//! console from start to start and says when a promise is broken; [`Cut`] is where the power goes.
//! Nothing here runs on the machine, and nothing here starts QEMU.

mod book;
mod cut;
mod disk;
mod line;
mod nbd;
mod totals;

pub use book::{Book, Life, News, Release, table_is_whole};
pub use cut::{Cut, Typical};
pub use disk::{Counts, Disk, Loss, Moment};
pub use line::Line;
pub use totals::Totals;
