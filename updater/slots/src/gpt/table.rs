//! The table without its copies: which entry covers which sectors.
//!
//! A [`Table`] never has two entries that overlap nor one outside the usable sectors: there is no
//! way to make one.

use std::fmt;

use super::guid::Guid;
use super::wire::{ENTRY_COUNT, TABLE_SECTORS};
use crate::SECTOR;

/// The largest disk: its bytes can still be counted, and sums of sectors never overflow.
pub(super) const SECTORS_MAX: u64 = u64::MAX / SECTOR;

/// A range of sectors, both ends included, at least one sector long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    first: u64,
    last: u64,
}

impl Extent {
    /// `None` when `last` is before `first`.
    #[must_use]
    pub fn new(first: u64, last: u64) -> Option<Self> {
        // The length of an extent must fit as well.
        (first <= last && last < u64::MAX).then_some(Self { first, last })
    }

    /// `sectors` from `first` on; `None` for no sectors or too many.
    #[must_use]
    pub fn with_len(first: u64, sectors: u64) -> Option<Self> {
        Self::new(first, first.checked_add(sectors)?.checked_sub(1)?)
    }

    /// The first sector.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The last sector.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// How many sectors.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.last - self.first + 1
    }

    /// Whether a sector is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The part that starts and ends on multiples of `sectors`.
    #[must_use]
    pub fn aligned(&self, sectors: u64) -> Option<Self> {
        let first = self.first.checked_next_multiple_of(sectors)?;
        let end = (self.last + 1) / sectors * sectors;
        Self::new(first, end.checked_sub(1)?)
    }
}

/// A partition's name: up to 36 UTF-16 units, padded with zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name(pub(super) [u16; 36]);

impl Name {
    /// `text`, cut after 36 units.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut units = [0; 36];
        for (to, from) in units.iter_mut().zip(text.encode_utf16()) {
            *to = from;
        }
        Self(units)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.0.iter().copied().take_while(|unit| *unit != 0);
        char::decode_utf16(units)
            .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
            .try_for_each(|letter| write!(out, "{letter}"))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "\"{self}\"")
    }
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it holds; never zero.
    pub kind: Guid,
    /// Which one it is: `PARTUUID`.
    pub guid: Guid,
    /// Where it is.
    pub extent: Extent,
    /// Attribute bits.
    pub attributes: u64,
    /// What people read.
    pub name: Name,
}

/// Why an entry cannot be where it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The table has 128 entries.
    #[error("entry {0} does not exist: a table has entries 1 to 128")]
    NoSuchEntry(usize),
    /// Entries are never replaced.
    #[error("entry {0} is in use")]
    InUse(usize),
    /// There is nothing to extend.
    #[error("entry {0} is not in use")]
    Unused(usize),
    /// The type that means "not used".
    #[error("entry {0} has the type GUID of an unused entry")]
    UnusedKind(usize),
    /// Another partition is there.
    #[error("entry {0} would overlap entry {1}")]
    Overlap(usize, usize),
    /// Outside the sectors that the table covers.
    #[error("entry {index} would cover sectors {} to {} of {} to {} usable ones",
        extent.first(), extent.last(), usable.first(), usable.last())]
    OutOfRange {
        /// The entry.
        index: usize,
        /// Where it would be.
        extent: Extent,
        /// Where entries can be.
        usable: Extent,
    },
    /// No room for the table itself, or more bytes than 64 bits count.
    #[error("a disk of {0} sectors cannot have a partition table")]
    DiskSize(u64),
}

/// A partition table. Entries are counted from 1, as everyone but the specification does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    disk_guid: Guid,
    usable: Extent,
    entries: Vec<Option<Entry>>,
}

impl Table {
    /// An empty table for a disk of `disk_sectors`.
    ///
    /// # Errors
    /// [`PlaceError::DiskSize`].
    pub fn new(disk_guid: Guid, disk_sectors: u64) -> Result<Self, PlaceError> {
        Ok(Self {
            disk_guid,
            usable: usable(disk_sectors)?,
            entries: vec![None; ENTRY_COUNT],
        })
    }

    /// The table of a disk that says itself which sectors are usable.
    pub(super) fn with_usable(disk_guid: Guid, usable: Extent) -> Self {
        Self {
            disk_guid,
            usable,
            entries: vec![None; ENTRY_COUNT],
        }
    }

    /// The disk's GUID.
    #[must_use]
    pub fn disk_guid(&self) -> Guid {
        self.disk_guid
    }

    /// The sectors that partitions can use.
    #[must_use]
    pub fn usable(&self) -> Extent {
        self.usable
    }

    /// Entry `index`, counted from 1; `None` when it is unused.
    #[must_use]
    pub fn entry(&self, index: usize) -> Option<&Entry> {
        self.entries.get(index.checked_sub(1)?)?.as_ref()
    }

    /// All entries in use with their index.
    pub fn entries(&self) -> impl Iterator<Item = (usize, &Entry)> {
        (1..)
            .zip(&self.entries)
            .filter_map(|(index, entry)| Some((index, entry.as_ref()?)))
    }

    /// Every entry of the array, used or not.
    pub(super) fn array(&self) -> &[Option<Entry>] {
        &self.entries
    }

    /// Adds an entry in free space.
    ///
    /// # Errors
    /// When the index is taken or the extent is not free.
    pub fn place(&mut self, index: usize, entry: Entry) -> Result<(), PlaceError> {
        if entry.kind == Guid::ZERO {
            return Err(PlaceError::UnusedKind(index));
        }
        self.check(index, &entry.extent)?;
        let slot = index
            .checked_sub(1)
            .and_then(|at| self.entries.get_mut(at))
            .ok_or(PlaceError::NoSuchEntry(index))?;
        if slot.is_some() {
            return Err(PlaceError::InUse(index));
        }
        *slot = Some(entry);
        Ok(())
    }

    /// Moves the end of entry `index` to `last`, into free space.
    ///
    /// # Errors
    /// When the sectors up to `last` are not free.
    pub fn extend(&mut self, index: usize, last: u64) -> Result<(), PlaceError> {
        let entry = self.entry(index).ok_or(PlaceError::Unused(index))?;
        let last = last.max(entry.extent.last);
        let extent = Extent {
            first: entry.extent.first,
            last,
        };
        self.check(index, &extent)?;
        self.entry_mut(index)?.extent = extent;
        Ok(())
    }

    /// Gives entry `index` another unique GUID.
    ///
    /// # Errors
    /// When the entry is not in use.
    pub fn name_entry(&mut self, index: usize, guid: Guid) -> Result<(), PlaceError> {
        self.entry_mut(index)?.guid = guid;
        Ok(())
    }

    /// Exchanges the places of two entries; everything else about them stays.
    ///
    /// # Errors
    /// When one is not in use.
    pub fn exchange_places(&mut self, one: usize, other: usize) -> Result<(), PlaceError> {
        let (first, second) = (self.entry_mut(one)?.extent, self.entry_mut(other)?.extent);
        self.entry_mut(one)?.extent = second;
        self.entry_mut(other)?.extent = first;
        Ok(())
    }

    /// The table with entries at other places, into their own sectors or free ones.
    ///
    /// # Errors
    /// When an entry is not in use, or a place is not free.
    pub fn with_moved(&self, moves: &[(usize, Extent)]) -> Result<Self, PlaceError> {
        let mut moved = self.clone();
        let mut entries = Vec::with_capacity(moves.len());
        for (index, extent) in moves {
            let mut entry = moved.entry_mut(*index)?.clone();
            entry.extent = *extent;
            moved.remove(*index);
            entries.push((*index, entry));
        }
        for (index, entry) in entries {
            moved.place(index, entry)?;
        }
        Ok(moved)
    }

    /// The table without an entry: its sectors are free.
    #[must_use]
    pub fn without(&self, index: usize) -> Self {
        let mut rest = self.clone();
        rest.remove(index);
        rest
    }

    fn remove(&mut self, index: usize) {
        let slot = index.checked_sub(1).and_then(|at| self.entries.get_mut(at));
        if let Some(slot) = slot {
            *slot = None;
        }
    }

    fn entry_mut(&mut self, index: usize) -> Result<&mut Entry, PlaceError> {
        let slot = index.checked_sub(1).and_then(|at| self.entries.get_mut(at));
        slot.and_then(Option::as_mut)
            .ok_or(PlaceError::Unused(index))
    }

    /// Makes all of a disk that has grown to `disk_sectors` usable.
    ///
    /// # Errors
    /// [`PlaceError::DiskSize`].
    pub fn grow_to(&mut self, disk_sectors: u64) -> Result<(), PlaceError> {
        self.usable.last = self.usable.last.max(usable(disk_sectors)?.last);
        Ok(())
    }

    /// The free ranges in order, whole multiples of `alignment` sectors.
    #[must_use]
    pub fn free(&self, alignment: u64) -> Vec<Extent> {
        let mut used: Vec<Extent> = self.entries().map(|(_, entry)| entry.extent).collect();
        used.sort_by_key(Extent::first);
        let mut free = Vec::new();
        let mut next = self.usable.first;
        for extent in used {
            free.extend(
                extent
                    .first
                    .checked_sub(1)
                    .and_then(|last| Extent::new(next, last)),
            );
            next = extent.last + 1;
        }
        free.extend(Extent::new(next, self.usable.last));
        free.iter()
            .filter_map(|extent| extent.aligned(alignment))
            .collect()
    }

    /// Whether entry `index` may cover `extent`.
    fn check(&self, index: usize, extent: &Extent) -> Result<(), PlaceError> {
        if extent.first < self.usable.first || extent.last > self.usable.last {
            return Err(PlaceError::OutOfRange {
                index,
                extent: *extent,
                usable: self.usable,
            });
        }
        let other = self
            .entries()
            .find(|(other, entry)| *other != index && entry.extent.overlaps(extent));
        match other {
            Some((other, _)) => Err(PlaceError::Overlap(index, other)),
            None => Ok(()),
        }
    }
}

/// What a disk has left between the two copies of the table.
fn usable(disk_sectors: u64) -> Result<Extent, PlaceError> {
    Some(disk_sectors)
        .filter(|sectors| (TABLE_SECTORS * 2 + 2..=SECTORS_MAX).contains(sectors))
        .and_then(|sectors| sectors.checked_sub(TABLE_SECTORS + 1))
        .and_then(|last| Extent::new(TABLE_SECTORS + 1, last))
        .ok_or(PlaceError::DiskSize(disk_sectors))
}
