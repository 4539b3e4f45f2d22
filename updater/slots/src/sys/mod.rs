//! The device side: the disk, the record's files, the firmware's variables. Thin: nothing here
//! decides anything, and each line of `unsafe` says why it is sound.

mod efivarfs;
mod files;

pub use efivarfs::EfiVarFs;
pub use files::{BlockDevice, RecordFiles};
