//! One copy of the table as bytes: header, array of entries, checksums.
//!
//! UEFI Specification 2.10, 5.2.3 (protective MBR), 5.3.2 (header), 5.3.3 (entries).

use super::guid::Guid;
use super::table::{Entry, Extent, Name, PlaceError, Table};

/// Entries in a table: the only number that is edited.
pub const ENTRY_COUNT: usize = 128;
/// Sectors of one copy: the header and the array.
pub const TABLE_SECTORS: u64 = 33;

pub(super) const SECTOR_BYTES: usize = 512;
pub(super) const ARRAY_BYTES: usize = ENTRY_COUNT * ENTRY_BYTES;
const ENTRY_BYTES: usize = 128;
const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;
const HEADER_BYTES: u32 = 92;
const CHECKSUM_AT: usize = 16;

/// Why bytes are not a table that Berth edits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not a table at all.
    #[error("it does not begin with \"EFI PART\"")]
    Signature,
    /// Fewer bytes than a table.
    #[error("it is cut off")]
    Truncated,
    /// A revision of the header that is not known.
    #[error("its revision is {0:#x}, not 0x10000")]
    Revision(u32),
    /// A header that cannot be in a sector.
    #[error("its header has {0} bytes")]
    HeaderSize(u32),
    /// A torn or damaged header.
    #[error("the checksum of its header is wrong")]
    HeaderChecksum,
    /// A torn or damaged array.
    #[error("the checksum of its entries is wrong")]
    ArrayChecksum,
    /// The copy belongs to another place.
    #[error("it says that it is at sector {0}")]
    WrongPlace(u64),
    /// Not the form that Berth makes.
    #[error(
        "it has {count} entries of {bytes} bytes at sector {sector}, and only 128 of 128 bytes beside the header are supported"
    )]
    Array {
        /// Number of entries.
        count: u32,
        /// Size of an entry.
        bytes: u32,
        /// Where the array is.
        sector: u64,
    },
    /// The usable sectors are not inside the disk.
    #[error("its usable sectors {first} to {last} do not fit the disk's {disk} sectors")]
    Usable {
        /// First usable sector.
        first: u64,
        /// Last usable sector.
        last: u64,
        /// Sectors of the disk.
        disk: u64,
    },
    /// An entry that ends before it begins.
    #[error("its entry {0} ends before it begins")]
    BackwardEntry(usize),
    /// Entries that overlap or leave the usable sectors.
    #[error("it contradicts itself: {0}")]
    Entry(#[from] PlaceError),
}

/// Which copy of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copy {
    /// Header at sector 1, array behind it.
    Primary,
    /// Array, then the header at `header`.
    Backup {
        /// Sector of the header.
        header: u64,
    },
}

impl Copy {
    fn header(self) -> u64 {
        match self {
            Self::Primary => 1,
            Self::Backup { header } => header,
        }
    }

    fn array(self) -> u64 {
        match self {
            Self::Primary => 2,
            Self::Backup { header } => (header + 1).saturating_sub(TABLE_SECTORS),
        }
    }
}

/// A parsed copy: the table, and where it says the other copy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) table: Table,
    pub(super) other_header: u64,
}

/// Parses one copy from its header sector and its array.
pub(super) fn parse(
    copy: Copy,
    header: &[u8],
    array: &[u8],
    disk_sectors: u64,
) -> Result<Parsed, ParseError> {
    let mut fields = Fields(header);
    if &fields.take::<8>()? != SIGNATURE {
        return Err(ParseError::Signature);
    }
    let revision = fields.u32()?;
    if revision != REVISION {
        return Err(ParseError::Revision(revision));
    }
    let header_bytes = fields.u32()?;
    let covered = usize::try_from(header_bytes)
        .ok()
        .filter(|bytes| (HEADER_BYTES as usize..=SECTOR_BYTES).contains(bytes))
        .and_then(|bytes| header.get(..bytes))
        .ok_or(ParseError::HeaderSize(header_bytes))?;
    if fields.u32()? != header_checksum(covered) {
        return Err(ParseError::HeaderChecksum);
    }
    let _reserved = fields.u32()?;
    let own_header = fields.u64()?;
    if own_header != copy.header() {
        return Err(ParseError::WrongPlace(own_header));
    }
    let other_header = fields.u64()?;
    let (first, last) = (fields.u64()?, fields.u64()?);
    let disk_guid = fields.guid()?;
    let (sector, count, bytes) = (fields.u64()?, fields.u32()?, fields.u32()?);
    if (sector, count as usize, bytes as usize) != (copy.array(), ENTRY_COUNT, ENTRY_BYTES) {
        return Err(ParseError::Array {
            count,
            bytes,
            sector,
        });
    }
    let array = array.get(..ARRAY_BYTES).ok_or(ParseError::Truncated)?;
    if fields.u32()? != crc32(array) {
        return Err(ParseError::ArrayChecksum);
    }
    let usable = Extent::new(first, last)
        .filter(|usable| usable.first() > TABLE_SECTORS)
        .filter(|usable| usable.last().saturating_add(TABLE_SECTORS) < disk_sectors)
        .ok_or(ParseError::Usable {
            first,
            last,
            disk: disk_sectors,
        })?;
    let mut table = Table::with_usable(disk_guid, usable);
    for (index, entry) in (1..).zip(array.chunks_exact(ENTRY_BYTES)) {
        if let Some(entry) = parse_entry(index, entry)? {
            table.place(index, entry)?;
        }
    }
    Ok(Parsed {
        table,
        other_header,
    })
}

fn parse_entry(index: usize, bytes: &[u8]) -> Result<Option<Entry>, ParseError> {
    let mut fields = Fields(bytes);
    let kind = fields.guid()?;
    if kind == Guid::ZERO {
        return Ok(None);
    }
    let guid = fields.guid()?;
    let extent = Extent::new(fields.u64()?, fields.u64()?);
    let attributes = fields.u64()?;
    let mut name = [0; 36];
    for unit in &mut name {
        *unit = u16::from_le_bytes(fields.take()?);
    }
    Ok(Some(Entry {
        kind,
        guid,
        extent: extent.ok_or(ParseError::BackwardEntry(index))?,
        attributes,
        name: Name(name),
    }))
}

/// The 33 sectors of one copy in the order of the disk.
pub(super) fn encode(table: &Table, copy: Copy, disk_sectors: u64) -> Vec<u8> {
    let array = encode_array(table);
    let backup = disk_sectors.saturating_sub(1);
    let other = match copy {
        Copy::Primary => backup,
        Copy::Backup { .. } => 1,
    };
    let fields = |checksum: u32| {
        let mut header = Vec::with_capacity(SECTOR_BYTES);
        header.extend(SIGNATURE);
        header.extend(REVISION.to_le_bytes());
        header.extend(HEADER_BYTES.to_le_bytes());
        header.extend(checksum.to_le_bytes());
        header.extend([0; 4]);
        header.extend(copy.header().to_le_bytes());
        header.extend(other.to_le_bytes());
        header.extend(table.usable().first().to_le_bytes());
        header.extend(table.usable().last().to_le_bytes());
        header.extend(table.disk_guid().to_disk_order());
        header.extend(copy.array().to_le_bytes());
        header.extend((ENTRY_COUNT as u32).to_le_bytes());
        header.extend((ENTRY_BYTES as u32).to_le_bytes());
        header.extend(crc32(&array).to_le_bytes());
        header
    };
    let mut header = fields(crc32(&fields(0)));
    header.resize(SECTOR_BYTES, 0);
    match copy {
        Copy::Primary => [header, array].concat(),
        Copy::Backup { .. } => [array, header].concat(),
    }
}

fn encode_array(table: &Table) -> Vec<u8> {
    let mut array = Vec::with_capacity(ARRAY_BYTES);
    for entry in table.array() {
        let Some(entry) = entry else {
            array.extend([0; ENTRY_BYTES]);
            continue;
        };
        array.extend(entry.kind.to_disk_order());
        array.extend(entry.guid.to_disk_order());
        array.extend(entry.extent.first().to_le_bytes());
        array.extend(entry.extent.last().to_le_bytes());
        array.extend(entry.attributes.to_le_bytes());
        array.extend(entry.name.0.iter().flat_map(|unit| unit.to_le_bytes()));
    }
    array
}

/// Sector 0 of a GPT disk: one MBR partition of type 0xEE over all of it. Its size is the value
/// for "larger than an MBR can say", which is right on every disk, so growing one never has to
/// touch this sector.
#[must_use]
pub fn protective_mbr() -> [u8; 512] {
    const PARTITION: [u8; 16] = [
        0x00, // not active
        0x00, 0x02, 0x00, // cylinder, head, sector of sector 1
        0xee, // GPT protective
        0xff, 0xff, 0xff, // beyond what they can say
        0x01, 0x00, 0x00, 0x00, // first sector
        0xff, 0xff, 0xff, 0xff, // sectors
    ];
    let mut sector = [0; SECTOR_BYTES];
    for (to, from) in sector.iter_mut().skip(446).zip(PARTITION) {
        *to = from;
    }
    if let Some(signature) = sector.last_chunk_mut() {
        *signature = [0x55, 0xaa];
    }
    sector
}

/// The checksum of a header, with its own field taken as zero.
fn header_checksum(header: &[u8]) -> u32 {
    let own = CHECKSUM_AT..CHECKSUM_AT + 4;
    let zeroed = header
        .iter()
        .enumerate()
        .map(|(at, byte)| if own.contains(&at) { 0 } else { *byte });
    crc32_of(zeroed)
}

fn crc32(bytes: &[u8]) -> u32 {
    crc32_of(bytes.iter().copied())
}

/// CRC-32 of ISO 3309. A table of bytes costs 1 KB and saves the boot half a million instructions.
fn crc32_of(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(u32::MAX, |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        let at = usize::from(low ^ byte);
        (crc >> 8) ^ CRC_OF_BYTE.get(at).copied().unwrap_or_default()
    })
}

/// The remainder of each byte.
///
/// Computed by the compiler, which refuses an index that is out of bounds; `const` code has no
/// iterator that could write the table without one.
#[allow(clippy::indexing_slicing)]
static CRC_OF_BYTE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// Little-endian fields, taken from the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], ParseError> {
        let (field, rest) = self.0.split_first_chunk().ok_or(ParseError::Truncated)?;
        self.0 = rest;
        Ok(*field)
    }

    fn u32(&mut self) -> Result<u32, ParseError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, ParseError> {
        self.take().map(u64::from_le_bytes)
    }

    fn guid(&mut self) -> Result<Guid, ParseError> {
        self.take().map(Guid::from_disk_order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
