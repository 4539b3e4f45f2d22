//! What a disk of Berth holds, for the device and for the builder.
//!
//! [`gpt`] is the codec of the partition table, [`layout`] the partitions Berth puts into it,
//! [`verity`] the hash tree behind a root file system and [`state_template`] the first content of
//! the state partition. Nothing here opens a device: tables are
//! parsed from bytes and become lists of writes, and data is pushed in. The sector size is 512
//! bytes, because a disk image made for it does not start on a disk with another one.

pub mod gpt;
pub mod layout;
pub mod state_template;
pub mod verity;

/// Bytes in a sector.
pub const SECTOR: u64 = 512;
