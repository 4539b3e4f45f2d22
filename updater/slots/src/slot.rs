//! Which entries of the table make up a slot, and room for a slot that has become too small.
//!
//! A slot is one piece of disk: its boot image, and right behind it its root. So the table alone
//! says which root belongs to which boot image, however often a commit has exchanged the places
//! of entries 1 and 2: **the root of a boot image is the entry of 3 and 4 that starts where the
//! boot image ends**. Entry 1 is the committed slot's boot image, entry 2 the other's; entries 3
//! and 4 never exchange anything, and which of them is the committed one changes with each commit.

use crate::SECTOR;
use crate::gpt::{Extent, Guid, PlaceError, Table};
use crate::layout::{
    ALIGNMENT, BOOT_A, BOOT_A_GUID, BOOT_B, BOOT_B_GUID, EMPTY_ROOT_GUID, ROOT_A, ROOT_B,
    ROOT_X86_64,
};

/// One slot as the table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Where its boot image is.
    pub boot: Extent,
    /// Where its root and hash tree are, right behind.
    pub root: Extent,
    /// The entry of the root: 3 or 4.
    pub root_entry: usize,
    /// The unique GUID of that entry: which root it holds whole.
    pub root_guid: Guid,
}

/// Both slots of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The one that firmware starts.
    pub committed: Slot,
    /// The one that updates are written to.
    pub other: Slot,
}

/// Why a table has no two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// An entry is missing or somebody else's.
    #[error(
        "the disk has no second slot (entry {0} of its partition table is missing or somebody \
         else's), so it cannot update itself"
    )]
    NotOurs(usize),
    /// Somebody moved a partition.
    #[error(
        "entry {0} of the partition table has no root right behind it: the partitions were moved, \
         and it is not certain which root belongs to it"
    )]
    NoRootBehind(usize),
}

impl Pair {
    /// The slots of `table`.
    ///
    /// # Errors
    /// When there are no two.
    pub fn of(table: &Table) -> Result<Self, PairError> {
        let boot = |index, guid| {
            let entry = table.entry(index).filter(|entry| entry.guid == guid);
            entry.map(|e| e.extent).ok_or(PairError::NotOurs(index))
        };
        let root = |index| {
            let entry = table.entry(index).filter(|e| e.kind == ROOT_X86_64);
            entry.ok_or(PairError::NotOurs(index))
        };
        let roots = [(ROOT_A, root(ROOT_A)?), (ROOT_B, root(ROOT_B)?)];
        let slot = |index, boot: Extent| {
            let behind = |(_, root): &&(usize, &crate::gpt::Entry)| {
                boot.last().checked_add(1) == Some(root.extent.first())
            };
            let (root_entry, root) = roots
                .iter()
                .find(behind)
                .ok_or(PairError::NoRootBehind(index))?;
            Ok(Slot {
                boot,
                root: root.extent,
                root_entry: *root_entry,
                root_guid: root.guid,
            })
        };
        Ok(Self {
            committed: slot(BOOT_A, boot(BOOT_A, BOOT_A_GUID)?)?,
            other: slot(BOOT_B, boot(BOOT_B, BOOT_B_GUID)?)?,
        })
    }
}

/// The other slot, while the machine runs from the committed one: the only place that content is
/// written to. Made by the state machine only, so that writing into a slot that is committed or
/// that the machine runs from cannot be said.
#[derive(Debug, PartialEq, Eq)]
pub struct InactiveSlot {
    boot: Extent,
    root: Extent,
}

impl InactiveSlot {
    /// `None` while the machine runs from the other slot, or from none of the two.
    pub(crate) fn of(pair: &Pair, running: Guid) -> Option<Self> {
        let free = running == pair.committed.root_guid && running != pair.other.root_guid;
        free.then_some(Self {
            boot: pair.other.boot,
            root: pair.other.root,
        })
    }

    /// Where the boot image goes.
    #[must_use]
    pub fn boot(&self) -> Extent {
        self.boot
    }

    /// Where the root and its hash tree go.
    #[must_use]
    pub fn root(&self) -> Extent {
        self.root
    }
}

/// Why the other slot cannot be made to fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoomError {
    /// No free range is large enough.
    #[error(
        "it needs a slot of {} MiB, and the largest place that the disk has for one is {} MiB: \
         use a larger disk, or free space behind the slots",
        needed.div_ceil(2048), free / 2048
    )]
    NoRoom {
        /// Sectors of the slot.
        needed: u64,
        /// Sectors of the largest free range, the other slot's own place included.
        free: u64,
    },
    /// A size that no disk has.
    #[error("its size is beyond any disk")]
    Size,
    /// There are no two slots.
    #[error(transparent)]
    Pair(#[from] PairError),
    /// The free space was not free: never on a table that was parsed.
    #[error("the partition table cannot take the slot: {0}")]
    Place(#[from] PlaceError),
}

/// The table with an other slot that holds a boot image of `boot_bytes` and a root with its tree
/// of `root_bytes`, and whose root entry names no root. The committed slot and everybody else's
/// entries stay as they are.
///
/// A slot that is large enough stays where it is. One that is not moves as one piece, as far from
/// the committed slot as its free range goes: what lies between the two then serves the next time,
/// for either of them.
///
/// # Errors
/// See [`RoomError`]; nothing has to be undone.
pub fn make_room(table: &Table, boot_bytes: u64, root_bytes: u64) -> Result<Table, RoomError> {
    let pair = Pair::of(table)?;
    let mut table = table.clone();
    table.name_entry(pair.other.root_entry, EMPTY_ROOT_GUID)?;
    let (boot, root) = (aligned_sectors(boot_bytes)?, aligned_sectors(root_bytes)?);
    if boot <= pair.other.boot.sectors() && root <= pair.other.root.sectors() {
        return Ok(table);
    }
    let needed = boot.checked_add(root).ok_or(RoomError::Size)?;
    let range = free_range(&table, &pair, needed)?;
    let first = if range.first() > pair.committed.boot.first() {
        range.last() + 1 - needed
    } else {
        range.first()
    };
    let boot = Extent::with_len(first, boot).ok_or(RoomError::Size)?;
    let root = Extent::with_len(boot.last() + 1, root).ok_or(RoomError::Size)?;
    Ok(table.with_moved(&[(BOOT_B, boot), (pair.other.root_entry, root)])?)
}

/// The free range for a slot of `needed` sectors: the one that the other slot is in, or the
/// largest.
fn free_range(table: &Table, pair: &Pair, needed: u64) -> Result<Extent, RoomError> {
    let without = table.without(BOOT_B).without(pair.other.root_entry);
    let free = without.free(ALIGNMENT);
    let own = free.iter().find(|range| range.overlaps(&pair.other.boot));
    let largest = free.iter().max_by_key(|range| range.sectors());
    let fits = |range: &&Extent| range.sectors() >= needed;
    own.filter(fits)
        .or(largest.filter(fits))
        .copied()
        .ok_or_else(|| RoomError::NoRoom {
            needed,
            free: largest.map_or(0, Extent::sectors),
        })
}

fn aligned_sectors(bytes: u64) -> Result<u64, RoomError> {
    bytes
        .max(1)
        .div_ceil(SECTOR)
        .checked_next_multiple_of(ALIGNMENT)
        .ok_or(RoomError::Size)
}

/// The table after a commit: entries 1 and 2 have exchanged their places. Types, GUIDs and names
/// stay with the index, so a boot option that firmware made for entry 1 means the new version.
///
/// # Errors
/// When there are no two slots.
pub fn commit(table: &Table) -> Result<Table, RoomError> {
    Pair::of(table)?;
    let mut table = table.clone();
    table.exchange_places(BOOT_A, BOOT_B)?;
    Ok(table)
}
