//! Device paths: a partition named by its unique GUID, and a file on it.

use crate::gpt::{Extent, Guid};

/// The file that firmware starts from a partition without being told which.
const BOOT_FILE: &str = r"\EFI\BOOT\BOOTX64.EFI";

/// Types and subtypes of nodes.
const MEDIA: u8 = 4;
const HARD_DRIVE: u8 = 1;
const FILE_PATH: u8 = 4;
const END: u8 = 0x7f;
const END_ENTIRE: u8 = 0xff;

const HARD_DRIVE_BYTES: u16 = 42;
/// In a hard drive's node.
const FORMAT_GPT: u8 = 2;
const SIGNATURE_GUID: u8 = 2;

/// A partition (UEFI 2.10, 10.3.5.1). Firmware finds it by the GUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardDrive {
    /// The entry's number.
    pub entry: u32,
    /// Where the partition is.
    pub extent: Extent,
    /// The entry's unique GUID.
    pub guid: Guid,
}

/// The device path of `\EFI\BOOT\BOOTX64.EFI` on a partition.
#[must_use]
pub fn boot_file_on(partition: &HardDrive) -> Vec<u8> {
    let mut path = vec![MEDIA, HARD_DRIVE];
    path.extend(HARD_DRIVE_BYTES.to_le_bytes());
    path.extend(partition.entry.to_le_bytes());
    path.extend(partition.extent.first().to_le_bytes());
    path.extend(partition.extent.sectors().to_le_bytes());
    path.extend(partition.guid.to_disk_order());
    path.extend([FORMAT_GPT, SIGNATURE_GUID]);

    let file: Vec<u8> = text(BOOT_FILE);
    path.extend([MEDIA, FILE_PATH]);
    path.extend((file.len() as u16 + 4).to_le_bytes());
    path.extend(file);

    path.extend([END, END_ENTIRE, 4, 0]);
    path
}

/// The first partition that a device path names; `None` when it names none or is no path.
#[must_use]
pub(super) fn hard_drive(path: &[u8]) -> Option<HardDrive> {
    let mut rest = path;
    loop {
        let (header, _) = rest.split_first_chunk::<4>()?;
        let [kind, subtype, length @ ..] = *header;
        let length = usize::from(u16::from_le_bytes(length));
        let (node, behind) = (length >= 4).then(|| rest.split_at_checked(length))??;
        match (kind, subtype) {
            (MEDIA, HARD_DRIVE) => return parse_hard_drive(node),
            (END, END_ENTIRE) => return None,
            _ => rest = behind,
        }
    }
}

fn parse_hard_drive(node: &[u8]) -> Option<HardDrive> {
    let node: &[u8; HARD_DRIVE_BYTES as usize] = node.try_into().ok()?;
    let (_, fields) = node.split_first_chunk::<4>()?;
    let (entry, fields) = fields.split_first_chunk()?;
    let (first, fields) = fields.split_first_chunk()?;
    let (sectors, fields) = fields.split_first_chunk()?;
    let (guid, formats) = fields.split_first_chunk()?;
    (formats == [FORMAT_GPT, SIGNATURE_GUID]).then_some(())?;
    Some(HardDrive {
        entry: u32::from_le_bytes(*entry),
        extent: Extent::with_len(u64::from_le_bytes(*first), u64::from_le_bytes(*sectors))?,
        guid: Guid::from_disk_order(*guid),
    })
}

/// UTF-16, little endian, with a zero at the end.
pub(super) fn text(text: &str) -> Vec<u8> {
    let units = text.encode_utf16().chain([0]);
    units.flat_map(u16::to_le_bytes).collect()
}
