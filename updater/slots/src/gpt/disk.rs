//! Both copies of the table on a disk: which one counts, and how to change them.
//!
//! Firmware believes the primary copy when it is whole, else the backup. So do we: what is
//! believed is written over the other copy, and a change goes to the backup first. A power cut
//! between any two writes leaves a disk that starts as before the change or as after it.

use std::io;

use super::table::{SECTORS_MAX, Table};
use super::wire::{self, Copy, ParseError, SECTOR_BYTES, TABLE_SECTORS};
use crate::SECTOR;

/// A disk that can be read.
pub trait ReadSectors {
    /// Fills `buffer`, a multiple of 512 bytes long, from sector `first` on.
    ///
    /// # Errors
    /// When it cannot be read whole.
    fn read_sectors(&mut self, first: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// A step of a change, to be done in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write `bytes` from `sector` on.
    Write {
        /// First sector.
        sector: u64,
        /// Whole sectors.
        bytes: Vec<u8>,
    },
    /// Wait until all writes before are on the medium.
    Flush,
}

/// What is wrong with the copies of a table that could be read. Writing the table with
/// [`write_actions`] repairs all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Nothing: both copies are whole, equal and in their places.
    None,
    /// The primary copy is damaged; the table is the backup's.
    Primary(ParseError),
    /// The backup copy is damaged; the table is the primary's.
    Backup(ParseError),
    /// Both are whole and differ; the table is the primary's, as firmware has it.
    Differ,
    /// The disk has grown: the backup is not at its end.
    BackupNotAtEnd,
}

/// A table and the state of its copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What firmware believes.
    pub table: Table,
    /// What has to be repaired.
    pub repair: Repair,
}

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The disk could not be read.
    #[error("cannot read the partition table: {0}")]
    Read(#[from] io::Error),
    /// No room for a table, or a size that is none.
    #[error("a disk of {0} sectors cannot have a partition table")]
    DiskSize(u64),
    /// Neither copy is whole.
    #[error(
        "the disk has no usable partition table: of its primary copy, {primary}; of its backup at the end of the disk, {backup}"
    )]
    NoCopy {
        /// What is wrong with the primary.
        primary: ParseError,
        /// What is wrong with the backup.
        backup: ParseError,
    },
}

/// Reads the table of a disk of `disk_sectors`.
///
/// # Errors
/// See [`LoadError`].
pub fn load(disk: &mut impl ReadSectors, disk_sectors: u64) -> Result<Loaded, LoadError> {
    if !(2 * TABLE_SECTORS + 2..=SECTORS_MAX).contains(&disk_sectors) {
        return Err(LoadError::DiskSize(disk_sectors));
    }
    let end = disk_sectors - 1;
    let primary = read_copy(disk, Copy::Primary, disk_sectors)?;
    let backup = read_copy(disk, Copy::Backup { header: end }, disk_sectors)?;
    let (table, repair) = match (primary, backup) {
        (Ok(primary), _) if primary.other_header != end => (primary.table, Repair::BackupNotAtEnd),
        (Ok(primary), Err(error)) => (primary.table, Repair::Backup(error)),
        (Ok(primary), Ok(backup)) if primary.table == backup.table => (primary.table, Repair::None),
        (Ok(primary), Ok(_)) => (primary.table, Repair::Differ),
        (Err(error), Ok(backup)) => (backup.table, Repair::Primary(error)),
        (Err(primary), Err(backup)) => return Err(LoadError::NoCopy { primary, backup }),
    };
    Ok(Loaded { table, repair })
}

fn read_copy(
    disk: &mut impl ReadSectors,
    copy: Copy,
    disk_sectors: u64,
) -> io::Result<Result<wire::Parsed, ParseError>> {
    let mut bytes = vec![0; (TABLE_SECTORS * SECTOR) as usize];
    let first = match copy {
        Copy::Primary => 1,
        Copy::Backup { header } => header + 1 - TABLE_SECTORS,
    };
    disk.read_sectors(first, &mut bytes)?;
    let parts = match copy {
        Copy::Primary => bytes.split_first_chunk::<SECTOR_BYTES>(),
        Copy::Backup { .. } => bytes
            .split_last_chunk::<SECTOR_BYTES>()
            .map(|(array, header)| (header, array)),
    };
    Ok(match parts {
        Some((header, array)) => wire::parse(copy, header, array, disk_sectors),
        None => Err(ParseError::Truncated),
    })
}

/// How to put `table` on a disk of `disk_sectors`: the backup, and only when it is on the medium
/// the primary.
#[must_use]
pub fn write_actions(table: &Table, disk_sectors: u64) -> Vec<Action> {
    let header = disk_sectors.saturating_sub(1);
    let backup = Action::Write {
        sector: disk_sectors.saturating_sub(TABLE_SECTORS),
        bytes: wire::encode(table, Copy::Backup { header }, disk_sectors),
    };
    let primary = Action::Write {
        sector: 1,
        bytes: wire::encode(table, Copy::Primary, disk_sectors),
    };
    vec![backup, Action::Flush, primary, Action::Flush]
}
