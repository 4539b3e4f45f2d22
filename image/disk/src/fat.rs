//! A FAT file system that is written once and holds one file, `\EFI\BOOT\BOOTX64.EFI`.
//!
//! Follows Microsoft's "FAT32 File System Specification" 1.03 and the UEFI Specification,
//! section 13.3. Nobody ever writes to it again: directories are just large enough, the file is
//! one run of clusters, all times are the format's first day. The file starts on a 4 KiB
//! boundary, so that equal blocks of two versions are equal blocks of the disk.

use std::io::{self, Write};

const SECTOR: u64 = 512;
/// Where the file starts.
const ALIGNMENT: u64 = 4096;
/// The format tells its kinds apart by the number of clusters. Some readers draw the lines a few
/// clusters off, so those are avoided.
const CLUSTERS_FAT16_MIN: u64 = 4085 + 16;
const CLUSTERS_FAT16_MAX: u64 = 65_524 - 16;
const CLUSTERS_FAT32_MIN: u64 = 65_525 + 16;
const CLUSTER_MAX: u64 = 32 << 10;
/// FAT16 up to here, as in Microsoft's table of sizes; FAT32 above.
const FAT16_BYTES_MAX: u64 = 512 << 20;
/// Entries of FAT16's fixed root directory: 4 KiB of them.
const ROOT_ENTRIES: u64 = 128;
const ENTRY_BYTES: u64 = 32;
const COPIES: u64 = 2;
const MEDIA_FIXED_DISK: u8 = 0xf8;
/// 1 January 1980.
const DATE: u16 = 1 << 5 | 1;
const ATTRIBUTE_VOLUME: u8 = 0x08;
const ATTRIBUTE_DIRECTORY: u8 = 0x10;
const ATTRIBUTE_ARCHIVE: u8 = 0x20;
const LABEL: &[u8; 11] = b"BERTH BOOT ";

/// Why there is no file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FatError {
    /// Sizes have 32 bits.
    #[error("a file of {0} bytes does not fit FAT, which ends at 4 GiB")]
    TooLarge(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Fat16,
    Fat32,
}

/// A file system laid out for a file of a known size.
#[derive(Clone, Debug)]
pub struct Fat {
    width: Width,
    volume_id: u32,
    file_bytes: u32,
    cluster_bytes: u64,
    clusters: u64,
    reserved_sectors: u64,
    table_sectors: u64,
}

impl Fat {
    /// The smallest file system for a file of `file_bytes`; `volume_id` is its serial number.
    ///
    /// # Errors
    /// [`FatError::TooLarge`].
    pub fn new(file_bytes: u64, volume_id: u32) -> Result<Self, FatError> {
        let size = u32::try_from(file_bytes).map_err(|_| FatError::TooLarge(file_bytes))?;
        let width = match file_bytes <= FAT16_BYTES_MAX {
            true => Width::Fat16,
            false => Width::Fat32,
        };
        let (least, most) = match width {
            Width::Fat16 => (CLUSTERS_FAT16_MIN, CLUSTERS_FAT16_MAX),
            Width::Fat32 => (CLUSTERS_FAT32_MIN, u64::from(u32::MAX >> 4) - 16),
        };
        // The largest clusters that leave enough of them: the fewest steps for firmware.
        let mut cluster_bytes = CLUSTER_MAX;
        while cluster_bytes > SECTOR && needed(width, file_bytes, cluster_bytes) < least {
            cluster_bytes /= 2;
        }
        let clusters = needed(width, file_bytes, cluster_bytes).max(least);
        debug_assert!(clusters <= most);
        let mut fat = Self {
            width,
            volume_id,
            file_bytes: size,
            cluster_bytes,
            clusters,
            reserved_sectors: 0,
            table_sectors: ((clusters + 2) * width.entry_bytes()).div_ceil(SECTOR),
        };
        let least_reserved = match width {
            Width::Fat16 => 1,
            Width::Fat32 => 8, // boot sector, information sector, copy of both at 6
        };
        let directories = width.directories() * cluster_bytes / SECTOR;
        let before = least_reserved + COPIES * fat.table_sectors + fat.root_sectors() + directories;
        fat.reserved_sectors =
            least_reserved + before.next_multiple_of(ALIGNMENT / SECTOR) - before;
        Ok(fat)
    }

    /// Bytes of the whole file system.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.total_sectors() * SECTOR
    }

    /// Writes the file system; `file` must write as many bytes as announced.
    ///
    /// # Errors
    /// When `out` or `file` fails, or `file` writes another number of bytes.
    pub fn write<W: Write>(
        &self,
        out: &mut W,
        file: impl FnOnce(&mut Counted<'_, W>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.write_reserved(out)?;
        for _ in 0..COPIES {
            self.write_table(out)?;
        }
        self.write_directories(out)?;
        let mut counted = Counted { out, written: 0 };
        file(&mut counted)?;
        let written = counted.written;
        if written != self.file_bytes.into() {
            return Err(io::Error::other(format!(
                "the boot file has {written} bytes and not {}",
                self.file_bytes
            )));
        }
        let heap = self.clusters * self.cluster_bytes;
        let directories = self.width.directories() * self.cluster_bytes;
        zeros(out, heap - directories - written)
    }

    fn total_sectors(&self) -> u64 {
        self.heap_sector() + self.clusters * self.cluster_bytes / SECTOR
    }

    /// The sector of cluster 2.
    fn heap_sector(&self) -> u64 {
        self.reserved_sectors + COPIES * self.table_sectors + self.root_sectors()
    }

    fn root_sectors(&self) -> u64 {
        match self.width {
            Width::Fat16 => ROOT_ENTRIES * ENTRY_BYTES / SECTOR,
            Width::Fat32 => 0,
        }
    }

    /// The first cluster of `\EFI`; `\EFI\BOOT` and the file follow.
    fn first_cluster(&self) -> u32 {
        match self.width {
            Width::Fat16 => 2,
            Width::Fat32 => 3,
        }
    }

    fn write_reserved(&self, out: &mut impl Write) -> io::Result<()> {
        let mut sectors = self.boot_sector();
        if self.width == Width::Fat32 {
            let used = needed(self.width, self.file_bytes.into(), self.cluster_bytes);
            sectors.extend(information_sector(self.clusters - used, used + 2));
            let copy = sectors.clone();
            sectors.resize(6 * SECTOR as usize, 0);
            sectors.extend(copy);
        }
        sectors.resize((self.reserved_sectors * SECTOR) as usize, 0);
        out.write_all(&sectors)
    }

    fn boot_sector(&self) -> Vec<u8> {
        let sectors = self.total_sectors();
        let short = |value: u64, fits: bool| if fits { value as u16 } else { 0 };
        let fat16 = self.width == Width::Fat16;
        let total_fits = fat16 && sectors < 1 << 16;
        let mut sector = Vec::with_capacity(SECTOR as usize);
        sector.extend(match self.width {
            Width::Fat16 => [0xeb, 0x3c, 0x90],
            Width::Fat32 => [0xeb, 0x58, 0x90],
        });
        sector.extend(b"BERTH   ");
        sector.extend((SECTOR as u16).to_le_bytes());
        sector.push((self.cluster_bytes / SECTOR) as u8);
        sector.extend((self.reserved_sectors as u16).to_le_bytes());
        sector.push(COPIES as u8);
        sector.extend(short(ROOT_ENTRIES, fat16).to_le_bytes());
        sector.extend(short(sectors, total_fits).to_le_bytes());
        sector.push(MEDIA_FIXED_DISK);
        sector.extend(short(self.table_sectors, fat16).to_le_bytes());
        sector.extend(63_u16.to_le_bytes()); // sectors of a track, heads: of no meaning since LBA
        sector.extend(255_u16.to_le_bytes());
        sector.extend(0_u32.to_le_bytes()); // sectors before the partition: it may be moved
        let long = if total_fits { 0 } else { sectors as u32 };
        sector.extend(long.to_le_bytes());
        if self.width == Width::Fat32 {
            sector.extend((self.table_sectors as u32).to_le_bytes());
            sector.extend([0; 4]); // both tables in use, version 0.0
            sector.extend(2_u32.to_le_bytes()); // the root directory's cluster
            sector.extend(1_u16.to_le_bytes()); // the information sector
            sector.extend(6_u16.to_le_bytes()); // the copy of this one
            sector.extend([0; 12]);
        }
        sector.extend([0x80, 0, 0x29]);
        sector.extend(self.volume_id.to_le_bytes());
        sector.extend(LABEL);
        sector.extend(match self.width {
            Width::Fat16 => b"FAT16   ",
            Width::Fat32 => b"FAT32   ",
        });
        sector.resize(SECTOR as usize - 2, 0);
        sector.extend([0x55, 0xaa]);
        sector
    }

    /// One copy of the table: each directory is one cluster, the file the run after them.
    fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        let end = self.width.end_of_chain();
        let entry_bytes = self.width.entry_bytes() as usize;
        let mut table = Vec::with_capacity((self.table_sectors * SECTOR) as usize);
        let mut push = |entry: u32| table.extend(&entry.to_le_bytes()[..entry_bytes]);
        push(end & !0xff | u32::from(MEDIA_FIXED_DISK));
        push(end);
        for _ in 0..self.width.directories() {
            push(end);
        }
        let run = u64::from(self.file_bytes).div_ceil(self.cluster_bytes) as u32;
        let first = 2 + self.width.directories() as u32;
        for cluster in first..first + run {
            push(if cluster + 1 == first + run {
                end
            } else {
                cluster + 1
            });
        }
        table.resize((self.table_sectors * SECTOR) as usize, 0);
        out.write_all(&table)
    }

    fn write_directories(&self, out: &mut impl Write) -> io::Result<()> {
        let efi = self.first_cluster();
        let (boot, file) = (efi + 1, efi + 2);
        let file = if self.file_bytes == 0 { 0 } else { file };
        let root = [
            entry(LABEL, ATTRIBUTE_VOLUME, 0, 0),
            entry(b"EFI        ", ATTRIBUTE_DIRECTORY, efi, 0),
        ];
        let root_bytes = match self.width {
            Width::Fat16 => self.root_sectors() * SECTOR,
            Width::Fat32 => self.cluster_bytes,
        };
        let own = |cluster| entry(b".          ", ATTRIBUTE_DIRECTORY, cluster, 0);
        // The root as a parent is cluster 0, whatever it is.
        let parent = |cluster| entry(b"..         ", ATTRIBUTE_DIRECTORY, cluster, 0);
        let in_efi = [
            own(efi),
            parent(0),
            entry(b"BOOT       ", ATTRIBUTE_DIRECTORY, boot, 0),
        ];
        let in_boot = [
            own(boot),
            parent(efi),
            entry(b"BOOTX64 EFI", ATTRIBUTE_ARCHIVE, file, self.file_bytes),
        ];
        for (entries, bytes) in [
            (root.concat(), root_bytes),
            (in_efi.concat(), self.cluster_bytes),
            (in_boot.concat(), self.cluster_bytes),
        ] {
            out.write_all(&entries)?;
            zeros(out, bytes - entries.len() as u64)?;
        }
        Ok(())
    }
}

impl Width {
    fn entry_bytes(self) -> u64 {
        match self {
            Self::Fat16 => 2,
            Self::Fat32 => 4,
        }
    }

    fn end_of_chain(self) -> u32 {
        match self {
            Self::Fat16 => 0xffff,
            Self::Fat32 => 0x0fff_ffff,
        }
    }

    /// Clusters that directories take.
    fn directories(self) -> u64 {
        match self {
            Self::Fat16 => 2,
            Self::Fat32 => 3,
        }
    }
}

/// Clusters that directories and file take.
fn needed(width: Width, file_bytes: u64, cluster_bytes: u64) -> u64 {
    width.directories() + file_bytes.div_ceil(cluster_bytes)
}

/// A directory entry of the format's first day.
fn entry(name: &[u8; 11], attribute: u8, cluster: u32, bytes: u32) -> [u8; 32] {
    let mut entry = [0; 32];
    let [low0, low1, high0, high1] = cluster.to_le_bytes();
    entry[..11].copy_from_slice(name);
    entry[11] = attribute;
    entry[16..18].copy_from_slice(&DATE.to_le_bytes()); // created
    entry[18..20].copy_from_slice(&DATE.to_le_bytes()); // read
    entry[20..22].copy_from_slice(&[high0, high1]);
    entry[24..26].copy_from_slice(&DATE.to_le_bytes()); // written
    entry[26..28].copy_from_slice(&[low0, low1]);
    entry[28..].copy_from_slice(&bytes.to_le_bytes());
    entry
}

/// FAT32's hints: how many clusters are free, and from which one to look.
fn information_sector(free: u64, next: u64) -> Vec<u8> {
    let mut sector = Vec::with_capacity(SECTOR as usize);
    sector.extend(b"RRaA");
    sector.resize(484, 0);
    sector.extend(b"rrAa");
    sector.extend((free as u32).to_le_bytes());
    sector.extend((next as u32).to_le_bytes());
    sector.resize(508, 0);
    sector.extend([0, 0, 0x55, 0xaa]);
    sector
}

fn zeros(out: &mut impl Write, bytes: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), bytes), out).map(|_| ())
}

/// Counts what the file's writer writes.
#[derive(Debug)]
pub struct Counted<'a, W> {
    out: &'a mut W,
    written: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
