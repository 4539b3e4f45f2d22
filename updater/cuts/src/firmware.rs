//! What UEFI firmware starts: a model, written without the code that it judges.
//!
//! Each rule was seen in OVMF: the first entry of the table is started whatever its type; the
//! primary copy of the table counts while it is whole, else the backup; `BootNext` is removed and
//! then started if its option names a partition that holds a boot image; a first entry without
//! one leaves the start to the next entry.

use std::io;

use berth_slots::block::Block;

use crate::memory::MemoryVariables;

const SECTOR: usize = 512;
const ENTRY: usize = 128;

/// A partition as firmware sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub entry: usize,
    /// Its unique GUID, as on disk.
    pub guid: [u8; 16],
    /// Where it starts, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// What firmware starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// From which partition.
    pub partition: Partition,
    /// Because of `BootNext`.
    pub trial: bool,
    /// All partitions of the table that it believes.
    pub partitions: Vec<Partition>,
}

/// The partitions in the order of the table that firmware believes; `None` when it believes none.
///
/// # Errors
/// What the disk says.
pub fn partitions(disk: &mut impl Block) -> io::Result<Option<Vec<Partition>>> {
    let sectors = disk.sectors()?;
    if let Some(table) = read_table(disk, 1)? {
        return Ok(Some(table));
    }
    read_table(disk, sectors - 1)
}

/// What a start begins with; `BootNext` is removed from the variables. `bootable` says whether a
/// partition holds a boot image.
///
/// # Errors
/// What the disk says.
pub fn start<D: Block>(
    disk: &mut D,
    variables: &mut MemoryVariables,
    mut bootable: impl FnMut(&mut D, &Partition) -> bool,
) -> io::Result<Option<Choice>> {
    let Some(partitions) = partitions(disk)? else {
        return Ok(None);
    };
    let next = variables.0.remove("BootNext");
    let number = next.and_then(|next| Some(u16::from_le_bytes(next.try_into().ok()?)));
    let option = number.and_then(|number| variables.0.get(&format!("Boot{number:04X}")));
    let named = option.and_then(|option| guid_in_option(option));
    let wanted = partitions.iter().find(|one| Some(one.guid) == named);
    let wanted = wanted.filter(|one| bootable(disk, one)).copied();
    let first = || partitions.iter().find(|one| bootable(disk, one)).copied();
    Ok(wanted.or_else(first).map(|partition| Choice {
        partition,
        trial: wanted.is_some(),
        partitions,
    }))
}

/// The GUID in the hard drive node at the start of a load option's device path.
fn guid_in_option(option: &[u8]) -> Option<[u8; 16]> {
    let text = option.get(6..)?;
    let end = text.chunks_exact(2).position(|unit| unit == [0, 0])?;
    let node = text.get((end + 1) * 2..)?;
    (node.get(..4)? == [4, 1, 42, 0]).then_some(())?;
    node.get(24..40)?.try_into().ok()
}

fn read_table(disk: &mut impl Block, header_sector: u64) -> io::Result<Option<Vec<Partition>>> {
    let mut header = [0; SECTOR];
    disk.read_at(header_sector * SECTOR as u64, &mut header)?;
    let u32_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| header[at + byte]));
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    let mut covered = header[..92].to_vec();
    covered[16..20].fill(0);
    let whole = &header[..8] == b"EFI PART"
        && u32_at(12) == 92
        && u32_at(16) == crc32(&covered)
        && u64_at(24) == header_sector
        && (u32_at(80), u32_at(84)) == (128, 128);
    if !whole {
        return Ok(None);
    }
    let mut array = vec![0; 128 * ENTRY];
    disk.read_at(u64_at(72) * SECTOR as u64, &mut array)?;
    if u32_at(88) != crc32(&array) {
        return Ok(None);
    }
    let mut partitions = Vec::new();
    for (number, entry) in array.chunks_exact(ENTRY).enumerate() {
        if entry[..16] == [0; 16] {
            continue;
        }
        let sector = |at: usize| u64::from_le_bytes(std::array::from_fn(|b| entry[at + b]));
        partitions.push(Partition {
            entry: number + 1,
            guid: std::array::from_fn(|byte| entry[16 + byte]),
            offset: sector(32) * SECTOR as u64,
            bytes: (sector(40) + 1 - sector(32)) * SECTOR as u64,
        });
    }
    Ok(Some(partitions))
}

fn crc32(bytes: &[u8]) -> u32 {
    static TABLE: std::sync::OnceLock<[u32; 256]> = std::sync::OnceLock::new();
    let table = TABLE.get_or_init(|| {
        std::array::from_fn(|byte| {
            (0..8).fold(byte as u32, |crc, _| {
                (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
            })
        })
    });
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (crc >> 8) ^ table[(crc as u8 ^ byte) as usize]
    })
}
