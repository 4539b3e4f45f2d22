//! The one way in which the updater touches a disk.
//!
//! Everything that is written goes through [`Block`], so that a test can record every write and
//! every flush of an update and look at each disk that a power cut could leave.

use std::io;

use crate::gpt::{Action, ReadSectors};
use crate::{SECTOR, gpt};

/// A disk. Offsets are bytes from its start.
pub trait Block {
    /// Its size in sectors of 512 bytes.
    ///
    /// # Errors
    /// When it cannot be found out.
    fn sectors(&mut self) -> io::Result<u64>;

    /// Fills `buffer`.
    ///
    /// # Errors
    /// When not all of it can be read.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes`. They may reach the medium in any order, or not, until a flush.
    ///
    /// # Errors
    /// When not all of them are taken.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when everything written before is on the medium; what is read afterwards comes
    /// from the medium.
    ///
    /// # Errors
    /// When that is not certain.
    fn flush(&mut self) -> io::Result<()>;
}

impl<D: Block + ?Sized> Block for &mut D {
    fn sectors(&mut self) -> io::Result<u64> {
        (**self).sectors()
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        (**self).write_at(offset, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (**self).flush()
    }
}

/// A disk as the partition table's code reads it.
pub(crate) struct Sectors<'a, D>(pub(crate) &'a mut D);

impl<D: Block> ReadSectors for Sectors<'_, D> {
    fn read_sectors(&mut self, first: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_at(byte_offset(first)?, buffer)
    }
}

/// Writes `table` in the order of [`gpt::write_actions`].
pub(crate) fn write_table(
    disk: &mut impl Block,
    table: &gpt::Table,
    disk_sectors: u64,
) -> io::Result<()> {
    for action in gpt::write_actions(table, disk_sectors) {
        match action {
            Action::Write { sector, bytes } => disk.write_at(byte_offset(sector)?, &bytes)?,
            Action::Flush => disk.flush()?,
        }
    }
    Ok(())
}

/// Where a sector starts.
pub(crate) fn byte_offset(sector: u64) -> io::Result<u64> {
    sector
        .checked_mul(SECTOR)
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
