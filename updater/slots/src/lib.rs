//! What a disk of Berth holds, for the device and for the builder, and how an update changes it.
//!
//! [`gpt`] is the codec of the partition table, [`layout`] the partitions Berth puts into it,
//! [`slot`] which of them belong together, [`verity`] the hash tree behind a root file system and
//! [`state_template`] the first content of the state partition.
//!
//! An update is a [`session::Session`]: it asks [`state`], the pure state machine, and does what
//! that says, to the disk through [`block::Block`], to the firmware through [`efi::Variables`]
//! and to the [`record`] of what nothing else remembers. [`staging`] fills a slot and proves it.
//! Only [`sys`] opens a device. The sector size is 512 bytes, because a disk image made for it does
//! not start on a disk with another one.

pub mod block;
pub mod efi;
pub mod gpt;
pub mod layout;
pub mod record;
pub mod session;
pub mod slot;
pub mod staging;
pub mod state;
pub mod state_template;
pub mod sys;
pub mod target;
pub mod verity;

/// Bytes in a sector.
pub const SECTOR: u64 = 512;
