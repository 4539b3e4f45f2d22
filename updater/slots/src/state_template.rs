//! The state partition's first content: a small ext4 that is grown online, so that the machine
//! needs no mkfs.
//!
//! The builder makes a file system with mke2fs ([`MKE2FS_ARGUMENTS`]), keeps what is not zero
//! ([`encode`]) and puts it into the verified root; the machine writes it ([`Template`]) and
//! gives each copy its own identity ([`Template::superblock_block`]). Layout of the file, little
//! endian: `BERTHEX4`, u32 version, u32 extents, u64 bytes of the file system, then per extent
//! u64 offset, u32 length and the bytes. Fields of ext4 follow the kernel's
//! Documentation/filesystems/ext4/super.rst.

/// Where the template is in the verified root.
pub const PATH: &str = "/usr/lib/berth/state.template";

/// Size of the file system in the template, and so the least that a state partition can have.
pub const FILE_SYSTEM_BYTES: u64 = 64 << 20;

/// Volume label of the state partition.
pub const LABEL: &str = "berth-state";

/// Arguments of mke2fs, before the path of a file of [`FILE_SYSTEM_BYTES`]; identifiers are
/// fixed, and replaced on each machine. One block group, so that there is one superblock;
/// 8192 inodes in it, because every later group gets as many.
pub const MKE2FS_ARGUMENTS: &[&str] = &[
    "-q",
    "-F",
    "-t",
    "ext4",
    "-b",
    "4096",
    "-I",
    "256",
    "-N",
    "8192",
    "-m",
    "1",
    "-J",
    "size=16",
    "-L",
    LABEL,
    "-U",
    "62657274-682d-4374-8174-652d66730000",
    "-E",
    "hash_seed=62657274-682d-4374-8174-652d66730001,lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0",
];

/// Content of the file that mke2fs must find through `MKE2FS_CONFIG`, so that the
/// distribution's own defaults change nothing. `metadata_csum_seed` lets a machine change the
/// identity without touching other checksums; `resize_inode` and `64bit` let it grow.
pub const MKE2FS_CONFIG: &str = "[defaults]
\tbase_features = none
[fs_types]
\text4 = {
\t\tfeatures = has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum,metadata_csum_seed
\t}
\tsmall = {
\t\tinode_size = 256
\t}
";

/// Seconds since 1970 that mke2fs must find in `E2FSPROGS_FAKE_TIME`.
pub const MKE2FS_TIME: &str = "1700000000";

const MAGIC: &[u8; 8] = b"BERTHEX4";
const VERSION: u32 = 1;
/// Most extents, and most bytes, of a template: far above what mke2fs makes (20 and 25 KiB).
const MAX_EXTENTS: u32 = 4096;
/// Most bytes of a template.
pub const MAX_BYTES: usize = 1 << 20;
/// Runs of zeroes shorter than this are kept: an extent's header is smaller than the gap.
const GRANULE: usize = 64;

/// Where the superblock is in the file system, and its fields that matter here.
const SUPERBLOCK: usize = 1024;
const SUPERBLOCK_BYTES: usize = 1024;
const BLOCK_BYTES: usize = 4096;
const S_BLOCKS_COUNT_LO: usize = 0x4;
const S_LOG_BLOCK_SIZE: usize = 0x18;
const S_MAGIC: usize = 0x38;
const S_FEATURE_RO_COMPAT: usize = 0x64;
const S_UUID: usize = 0x68;
const S_HASH_SEED: usize = 0xec;
const S_BLOCKS_COUNT_HI: usize = 0x150;
const S_CHECKSUM_TYPE: usize = 0x175;
const S_CHECKSUM: usize = 0x3fc;
const EXT4_MAGIC: u16 = 0xef53;
/// Structures have checksums, and the one kind of them that there is.
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;
const CRC32C: u8 = 1;

/// Why bytes are not a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file is not one of ours, or of another version.
    #[error("the state template is not one that this version knows; build the image again")]
    NotATemplate,
    /// Its parts contradict each other.
    #[error("the state template is damaged; build the image again")]
    Damaged,
    /// The file system to encode is not what the machine can use.
    #[error("mke2fs did not make the file system that was asked for")]
    NotExt4,
}

/// A checked template: all extents lie in the file system, in order, without overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template<'a> {
    file_system_bytes: u64,
    extents: Vec<(u64, &'a [u8])>,
}

impl<'a> Template<'a> {
    /// Checks a template's bytes.
    ///
    /// # Errors
    /// Says whether the bytes are something else or a damaged template.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut rest = Reader(bytes);
        if bytes.len() > MAX_BYTES || rest.take::<8>() != Some(*MAGIC) {
            return Err(Error::NotATemplate);
        }
        if rest.u32() != Some(VERSION) {
            return Err(Error::NotATemplate);
        }
        let count = rest.u32().filter(|count| *count <= MAX_EXTENTS);
        let count = count.ok_or(Error::Damaged)?;
        let file_system_bytes = rest.u64().ok_or(Error::Damaged)?;
        let mut extents = Vec::new();
        let mut free_from = 0;
        for _ in 0..count {
            let extent = rest.extent().ok_or(Error::Damaged)?;
            let end = extent.0.checked_add(extent.1.len() as u64);
            match end {
                Some(end) if extent.0 >= free_from && end <= file_system_bytes => free_from = end,
                _ => return Err(Error::Damaged),
            }
            extents.push(extent);
        }
        let template = Self {
            file_system_bytes,
            extents,
        };
        if !rest.0.is_empty() || Superblock::read(&template.first_block()).is_none() {
            return Err(Error::Damaged);
        }
        Ok(template)
    }

    /// Size of the file system; everything in it that is not in an extent is zero.
    pub fn file_system_bytes(&self) -> u64 {
        self.file_system_bytes
    }

    /// What is not zero behind the first block: byte offset and bytes. The first block comes
    /// from [`Template::superblock_block`].
    pub fn extents(&self) -> impl Iterator<Item = (u64, &'a [u8])> {
        let behind = |(offset, _): &(u64, &[u8])| *offset >= BLOCK_BYTES as u64;
        self.extents.iter().copied().filter(behind)
    }

    /// The first block, to be written after everything else, with an identity of its own: a
    /// partition whose first block is not there yet holds no file system.
    pub fn superblock_block(&self, uuid: [u8; 16], hash_seed: [u8; 16]) -> [u8; BLOCK_BYTES] {
        let mut block = self.first_block();
        if let Some(superblock) = block.get_mut(SUPERBLOCK..SUPERBLOCK + SUPERBLOCK_BYTES) {
            put(superblock, S_UUID, &uuid);
            put(superblock, S_HASH_SEED, &hash_seed);
            seal(superblock);
        }
        block
    }

    fn first_block(&self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        for (offset, bytes) in &self.extents {
            let offset = usize::try_from(*offset).unwrap_or(usize::MAX);
            let to = block.get_mut(offset..).unwrap_or_default();
            for (to, from) in to.iter_mut().zip(*bytes) {
                *to = *from;
            }
        }
        block
    }
}

/// What an ext4 superblock says about its file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Number of blocks.
    pub blocks: u64,
    /// Bytes of one block.
    pub block_bytes: u64,
    /// Its identity.
    pub uuid: [u8; 16],
}

impl Superblock {
    /// Reads the superblock from the first bytes of a partition (at least 2048); `None` when
    /// there is no ext4.
    pub fn read(start: &[u8]) -> Option<Self> {
        let superblock = start.get(SUPERBLOCK..SUPERBLOCK + SUPERBLOCK_BYTES)?;
        let magic = Reader(superblock.get(S_MAGIC..)?).take::<2>()?;
        if u16::from_le_bytes(magic) != EXT4_MAGIC {
            return None;
        }
        let low = Reader(superblock.get(S_BLOCKS_COUNT_LO..)?).u32()?;
        let high = Reader(superblock.get(S_BLOCKS_COUNT_HI..)?).u32()?;
        let shift = Reader(superblock.get(S_LOG_BLOCK_SIZE..)?).u32()?;
        Some(Self {
            blocks: u64::from(high) << 32 | u64::from(low),
            block_bytes: 1024_u64
                .checked_shl(shift)
                .filter(|bytes| *bytes <= 65536)?,
            uuid: Reader(superblock.get(S_UUID..)?).take()?,
        })
    }
}

/// Where [`mended`] goes: the superblock's offset in its partition, in bytes.
pub const SUPERBLOCK_OFFSET: u64 = SUPERBLOCK as u64;

/// The superblock in the first bytes of a partition (at least 2048) with the checksum that it should
/// have; `None` when it has that, or when there is no superblock like ours.
///
/// ext4 writes it in place when it is mounted, without its journal, and a power cut may leave one of
/// its two sectors as it was. What a mount changes is in the first and the checksum in the second, so
/// that either half that was written is a superblock that the kernel would have left, but for the
/// checksum; and the kernel mounts nothing with a wrong one.
pub fn mended(start: &[u8]) -> Option<[u8; SUPERBLOCK_BYTES]> {
    let found = Superblock::read(start)?;
    let superblock = start.get(SUPERBLOCK..)?.first_chunk::<SUPERBLOCK_BYTES>()?;
    let features = Reader(superblock.get(S_FEATURE_RO_COMPAT..)?).u32()?;
    let is_ours = found.block_bytes == BLOCK_BYTES as u64
        && features & RO_COMPAT_METADATA_CSUM != 0
        && superblock.get(S_CHECKSUM_TYPE) == Some(&CRC32C);
    let mut sealed = *superblock;
    seal(&mut sealed);
    (is_ours && sealed != *superblock).then_some(sealed)
}

/// Makes a template of a file system that mke2fs wrote.
///
/// # Errors
/// [`Error::NotExt4`] when the bytes are no ext4 of [`FILE_SYSTEM_BYTES`] with 4096-byte blocks.
pub fn encode(file_system: &[u8]) -> Result<Vec<u8>, Error> {
    let found = Superblock::read(file_system).ok_or(Error::NotExt4)?;
    let as_asked = found.block_bytes == BLOCK_BYTES as u64
        && found.blocks.checked_mul(found.block_bytes) == Some(FILE_SYSTEM_BYTES)
        && file_system.len() as u64 == FILE_SYSTEM_BYTES;
    if !as_asked {
        return Err(Error::NotExt4);
    }
    let mut extents: Vec<(usize, usize)> = Vec::new();
    for (number, granule) in file_system.chunks(GRANULE).enumerate() {
        if granule.iter().all(|byte| *byte == 0) {
            continue;
        }
        let start = number * GRANULE;
        match extents.last_mut() {
            // The first block is an extent of its own: it is written last.
            Some((_, end)) if *end == start && start != BLOCK_BYTES => *end += granule.len(),
            _ => extents.push((start, start + granule.len())),
        }
    }
    let mut bytes = Vec::new();
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    let count = u32::try_from(extents.len()).ok();
    let count = count.filter(|count| *count <= MAX_EXTENTS);
    bytes.extend_from_slice(&count.ok_or(Error::NotExt4)?.to_le_bytes());
    bytes.extend_from_slice(&FILE_SYSTEM_BYTES.to_le_bytes());
    for (start, end) in extents {
        let content = file_system.get(start..end).unwrap_or_default();
        bytes.extend_from_slice(&(start as u64).to_le_bytes());
        bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
        bytes.extend_from_slice(content);
    }
    if bytes.len() > MAX_BYTES {
        return Err(Error::NotExt4);
    }
    Ok(bytes)
}

/// Gives a superblock its checksum.
fn seal(superblock: &mut [u8]) {
    let checksum = crc32c(superblock.get(..S_CHECKSUM).unwrap_or_default());
    put(superblock, S_CHECKSUM, &checksum.to_le_bytes());
}

/// CRC-32C as ext4 uses it: starts with all ones, no final inversion.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 }
        })
    })
}

fn put(into: &mut [u8], at: usize, bytes: &[u8]) {
    let field = into.get_mut(at..).unwrap_or_default();
    for (to, from) in field.iter_mut().zip(bytes) {
        *to = *from;
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn extent(&mut self) -> Option<(u64, &'a [u8])> {
        let offset = self.u64()?;
        let length = usize::try_from(self.u32()?).ok()?;
        let (content, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some((offset, content))
    }
}
