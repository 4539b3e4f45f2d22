//! The partitions of a Berth disk: their types, names and sizes, and what first boot adds.
//!
//! ```text
//! uploaded image   [boot A][root A]
//! after first boot [boot A][root A] [boot B][root B][reserve .........][state .............]
//! ```
//!
//! The image that is uploaded has the first slot only. First boot adds the second slot with the
//! sizes of the first, the state partition, and between them a reserve that no entry covers.
//!
//! **The reserve** is what lets an image outgrow its slot years later. With twice a slot's size an
//! update can place the other slot at the far end of the free range, and the next one can do the
//! same from the front, until both slots have doubled. Small images grow by more than a factor:
//! one more container can be fifty times the rest. So the reserve is twice the slot's size and at
//! least 1 GiB, but never more than a quarter of what the slots leave of the disk, so that on a
//! small disk the state partition gets most of it.
//!
//! Everything is placed in the largest free range; nothing foreign is ever moved or overwritten.
//! On a disk that has grown, a state partition that free space follows is extended into it.

use std::fmt;

use crate::gpt::{Entry, Extent, Guid, Name, PlaceError, Table};
use crate::verity::RootHash;
use crate::{SECTOR, state_template};

/// Partitions start and end on multiples of this many sectors: 1 MiB.
pub const ALIGNMENT: u64 = 2048;

/// Entry of the committed slot's boot image: firmware starts the first entry.
pub const BOOT_A: usize = 1;
/// Entry of the other slot's boot image.
pub const BOOT_B: usize = 2;
/// Entry of the root file system that the uploaded image holds.
pub const ROOT_A: usize = 3;
/// Entry of the other slot's root file system.
pub const ROOT_B: usize = 4;
/// Entry of the state partition.
pub const STATE: usize = 5;

/// Type of entry 1: EFI system partition.
pub const EFI_SYSTEM: Guid = Guid::from_number(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);
/// Type of entry 2: ours, so that nothing but Berth takes it for a system partition.
pub const OTHER_BOOT: Guid = Guid::from_number(0xb3fa104e_729f_4c4c_b44e_38fd21bee385);
/// Type of the root entries: root file system for x86-64 (Discoverable Partitions Specification).
pub const ROOT_X86_64: Guid = Guid::from_number(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709);
/// Type of the state partition: Linux file system.
pub const LINUX: Guid = Guid::from_number(0x0fc63daf_8483_4772_8e79_3d69d8477de4);

/// Unique GUID of entry 1 on every disk (X): it stays with the entry when a commit exchanges the
/// ranges of entries 1 and 2, so a boot option made for it always means the committed slot.
pub const BOOT_A_GUID: Guid = Guid::from_number(0x97f36554_9f45_42cb_bdd7_f5220ad467a0);
/// Unique GUID of entry 2 on every disk (Y): what a trial's boot option names.
pub const BOOT_B_GUID: Guid = Guid::from_number(0xa2ee259c_0117_45ce_a042_ae4c11eab181);
/// Unique GUID of a root entry that holds no root yet; an update sets it from its root hash.
pub const EMPTY_ROOT_GUID: Guid = Guid::from_number(0x2844eeaa_baf6_4e27_8999_b01f98c6679c);
/// Unique GUID of the state partition on every disk.
pub const STATE_GUID: Guid = Guid::from_number(0x25fdd589_0070_41df_95ae_fe6a75ba4779);

const MIB: u64 = 2048;
/// The smallest state partition that is made, in sectors: the template's file system.
pub const STATE_MIN: u64 = state_template::FILE_SYSTEM_BYTES / SECTOR;
/// The reserve behind the slots that a disk with room gets at least, in sectors: 1 GiB.
pub const RESERVE_MIN: u64 = 1024 * MIB;

/// The partitions of an uploaded image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The table.
    pub table: Table,
    /// Where the boot image goes.
    pub boot: Extent,
    /// Where the root file system goes.
    pub root: Extent,
    /// Sectors of the disk, a multiple of 1 MiB.
    pub disk_sectors: u64,
}

impl Image {
    /// The smallest image that holds a boot image of `boot_bytes` and the root file system with
    /// its hash tree of `root_bytes`. The disk's GUID is the second half of the root hash.
    ///
    /// # Errors
    /// When the sizes are beyond any disk.
    pub fn new(boot_bytes: u64, root_bytes: u64, root: &RootHash) -> Result<Self, PlaceError> {
        let too_large = || PlaceError::DiskSize(u64::MAX);
        let extent = |first, bytes: u64| {
            let sectors = bytes.max(1).div_ceil(SECTOR);
            Extent::with_len(first, sectors.next_multiple_of(ALIGNMENT)).ok_or_else(too_large)
        };
        let boot = extent(ALIGNMENT, boot_bytes)?;
        let root_extent = extent(boot.last() + 1, root_bytes)?;
        // The backup table has the last MiB to itself.
        let disk_sectors = (root_extent.last() + 1)
            .checked_add(ALIGNMENT)
            .ok_or_else(too_large)?;
        let mut table = Table::new(disk_guid(root), disk_sectors)?;
        table.place(BOOT_A, boot_entry(BOOT_A, boot))?;
        table.place(
            ROOT_A,
            root_entry(ROOT_A, root.partition_guid(), root_extent),
        )?;
        Ok(Self {
            table,
            boot,
            root: root_extent,
            disk_sectors,
        })
    }
}

fn disk_guid(root: &RootHash) -> Guid {
    let half = root.0.last_chunk::<16>();
    Guid::from_text_order(half.copied().unwrap_or_default())
}

fn boot_entry(index: usize, extent: Extent) -> Entry {
    let (kind, guid, name) = match index {
        BOOT_A => (EFI_SYSTEM, BOOT_A_GUID, "berth-boot"),
        _ => (OTHER_BOOT, BOOT_B_GUID, "berth-boot-b"),
    };
    Entry {
        kind,
        guid,
        extent,
        attributes: 0,
        name: Name::new(name),
    }
}

fn root_entry(index: usize, guid: Guid, extent: Extent) -> Entry {
    let name = if index == ROOT_A {
        "berth-root-a"
    } else {
        "berth-root-b"
    };
    Entry {
        kind: ROOT_X86_64,
        guid,
        extent,
        // Read-only, and not to be mounted by the discovery of someone else's system (bits 60 and
        // 63 of the Discoverable Partitions Specification).
        attributes: 1 << 60 | 1 << 63,
        name: Name::new(name),
    }
}

fn state_entry(extent: Extent) -> Entry {
    Entry {
        kind: LINUX,
        guid: STATE_GUID,
        extent,
        attributes: 1 << 63,
        name: Name::new("berth-state"),
    }
}

/// What first boot would do to a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The table as it should be; the old one when there is nothing to do.
    pub table: Table,
    /// What is added or grown.
    pub changes: Vec<Change>,
    /// What could not be placed, and why.
    pub missing: Vec<Missing>,
}

/// One thing that first boot does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The second slot: its boot image's and its root's place.
    SecondSlot {
        /// Entry 2.
        boot: Extent,
        /// Entry 4.
        root: Extent,
    },
    /// The state partition, entry 5. What was there before is not a file system of ours.
    State(Extent),
    /// The disk has grown, and the state partition with it.
    StateGrown(Extent),
}

/// Something that a disk cannot have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What.
    pub part: Part,
    /// Why.
    pub reason: Reason,
}

/// What first boot places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Entries 2 and 4.
    SecondSlot,
    /// Entry 5.
    State,
}

/// Why something was not placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The largest free range is too small.
    NoRoom {
        /// Sectors needed, with what has to fit beside it.
        needed: u64,
        /// Sectors of the largest free range.
        free: u64,
    },
    /// An entry that it needs belongs to somebody else.
    EntryInUse(usize),
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, loss) = match self.part {
            Part::SecondSlot => ("second slot", "it cannot update itself"),
            Part::State => ("state partition", "it forgets everything at each restart"),
        };
        match self.reason {
            Reason::NoRoom { needed, free } => write!(
                out,
                "the disk has no room for a {what} ({} MiB needed, {} MiB free in one piece), so {loss}: use a larger disk",
                needed.div_ceil(MIB),
                free / MIB
            ),
            Reason::EntryInUse(entry) => write!(
                out,
                "entry {entry} of the partition table belongs to somebody else, so there is no {what} and {loss}: free that entry"
            ),
        }
    }
}

/// Why a disk is left alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Entry 1 or 3 is not what an image of Berth has there.
    #[error("entry {0} of the partition table is not Berth's, so the table is left as it is")]
    NotBerth(usize),
    /// The free space was not free: never on a table that was parsed.
    #[error("the partition table cannot take a new entry: {0}")]
    Place(#[from] PlaceError),
}

/// Decides what to add to `table` on a disk of `disk_sectors`. Doing it and asking again changes
/// nothing.
///
/// # Errors
/// When the disk is not one of Berth's.
pub fn first_boot(table: &Table, disk_sectors: u64) -> Result<Plan, LayoutError> {
    let boot = ours(table, BOOT_A, EFI_SYSTEM, Some(BOOT_A_GUID))?.sectors();
    let root = ours(table, ROOT_A, ROOT_X86_64, None)?.sectors();
    let mut plan = Plan {
        table: table.clone(),
        changes: Vec::new(),
        missing: Vec::new(),
    };
    plan.table.grow_to(disk_sectors)?;
    let needs_slot = plan.wants(Part::SecondSlot, &[BOOT_B, ROOT_B]);
    let needs_state = plan.wants(Part::State, &[STATE]);
    if needs_slot {
        plan.add_slot(boot, root, if needs_state { STATE_MIN } else { 0 })?;
    }
    if needs_state {
        let slot = Some(boot + root).filter(|_| plan.table.entry(ROOT_B).is_some());
        plan.add_state(slot)?;
    }
    plan.grow_state()?;
    Ok(plan)
}

fn ours(
    table: &Table,
    index: usize,
    kind: Guid,
    guid: Option<Guid>,
) -> Result<Extent, LayoutError> {
    table
        .entry(index)
        .filter(|entry| entry.kind == kind && guid.is_none_or(|guid| guid == entry.guid))
        .map(|entry| entry.extent)
        .ok_or(LayoutError::NotBerth(index))
}

/// Whether an entry that first boot makes is ours.
fn is_ours(entry: &Entry, index: usize) -> bool {
    match index {
        BOOT_B => entry.guid == BOOT_B_GUID,
        ROOT_B => entry.kind == ROOT_X86_64,
        _ => entry.guid == STATE_GUID,
    }
}

impl Plan {
    /// Whether `part` is to be made: its entries are unused. Foreign ones are reported.
    fn wants(&mut self, part: Part, entries: &[usize]) -> bool {
        let foreign = entries.iter().find(|index| {
            self.table
                .entry(**index)
                .is_some_and(|e| !is_ours(e, **index))
        });
        if let Some(index) = foreign {
            let reason = Reason::EntryInUse(*index);
            self.missing.push(Missing { part, reason });
            return false;
        }
        entries
            .iter()
            .any(|index| self.table.entry(*index).is_none())
    }

    /// Entries 2 and 4, if `beside` sectors stay free behind them.
    fn add_slot(&mut self, boot: u64, root: u64, beside: u64) -> Result<(), LayoutError> {
        let free = self.largest_free();
        let needed = boot + root + beside;
        let room = free.filter(|free| free.sectors() >= needed);
        let extents = room.and_then(|free| {
            let boot = Extent::with_len(free.first(), boot)?;
            Some((boot, Extent::with_len(boot.last() + 1, root)?))
        });
        let Some((boot, root)) = extents else {
            self.no_room(Part::SecondSlot, needed, free);
            return Ok(());
        };
        self.table.place(BOOT_B, boot_entry(BOOT_B, boot))?;
        self.table
            .place(ROOT_B, root_entry(ROOT_B, EMPTY_ROOT_GUID, root))?;
        self.changes.push(Change::SecondSlot { boot, root });
        Ok(())
    }

    /// Entry 5 behind the reserve of two slots of `slot` sectors.
    fn add_state(&mut self, slot: Option<u64>) -> Result<(), LayoutError> {
        let free = self.largest_free();
        let extent = free.and_then(|free| {
            let reserve = slot.map_or(0, |slot| reserve(slot, free.sectors()));
            Extent::new(free.first() + reserve, free.last())
        });
        let Some(extent) = extent.filter(|extent| extent.sectors() >= STATE_MIN) else {
            self.no_room(Part::State, STATE_MIN, free);
            return Ok(());
        };
        self.table.place(STATE, state_entry(extent))?;
        self.changes.push(Change::State(extent));
        Ok(())
    }

    /// Extends an older state partition into free space right behind it.
    fn grow_state(&mut self) -> Result<(), LayoutError> {
        let Some(state) = self.table.entry(STATE).filter(|e| is_ours(e, STATE)) else {
            return Ok(());
        };
        let end = state.extent.last() + 1;
        let behind = self.table.free(ALIGNMENT).into_iter().find(|free| {
            // Free ranges are aligned; less than that between the two is free as well.
            (end..=end.next_multiple_of(ALIGNMENT)).contains(&free.first())
        });
        if let Some(behind) = behind {
            self.table.extend(STATE, behind.last())?;
            if let Some(entry) = self.table.entry(STATE) {
                self.changes.push(Change::StateGrown(entry.extent));
            }
        }
        Ok(())
    }

    /// The first of the largest free ranges.
    fn largest_free(&self) -> Option<Extent> {
        let free = self.table.free(ALIGNMENT);
        free.into_iter().rev().max_by_key(Extent::sectors)
    }

    fn no_room(&mut self, part: Part, needed: u64, free: Option<Extent>) {
        let free = free.map_or(0, |free| free.sectors());
        let reason = Reason::NoRoom { needed, free };
        self.missing.push(Missing { part, reason });
    }
}

/// Sectors kept free behind slots of `slot` sectors, of the `free` ones that they leave: see the
/// top of this file.
fn reserve(slot: u64, free: u64) -> u64 {
    let wanted = slot.saturating_mul(2).max(RESERVE_MIN);
    wanted.min(free / 4) / ALIGNMENT * ALIGNMENT
}
