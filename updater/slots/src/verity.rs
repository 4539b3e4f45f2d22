//! dm-verity: the superblock and hash tree behind a root file system, and the command line that
//! makes the kernel use them.
//!
//! Follows Linux's `Documentation/admin-guide/device-mapper/verity.rst` (format 1, SHA-256, 4 KiB
//! data and hash blocks) and cryptsetup's on-disk superblock. Data is pushed in order and hash
//! blocks come out as they fill, so memory is one block for each level of the tree, whatever its
//! size: the device rebuilds a tree with this. The salt is fixed: it makes a build repeatable, and
//! blocks that two versions have in common keep their hashes.

use std::fmt::Write as _;
use std::io;

use sha2::{Digest, Sha256};

use crate::SECTOR;
use crate::gpt::Guid;

/// Bytes in a data block and in a hash block.
pub const BLOCK: usize = 4096;
const BLOCK_BYTES: u64 = 4096;
const SECTORS_PER_BLOCK: u64 = BLOCK_BYTES / SECTOR;
const HASH_BYTES: usize = 32;
const HASHES_PER_BLOCK: u64 = 128;

/// Prepended to every block that is hashed. SHA-256 of `berth dm-verity salt 1`; with its 32
/// bytes a block costs no more compressions than without.
pub const SALT: [u8; 32] = [
    0xfa, 0x73, 0xbf, 0x19, 0x0e, 0x94, 0xe0, 0xd4, 0x1b, 0x1a, 0xca, 0x1b, 0xed, 0x63, 0x49, 0x41,
    0x10, 0x51, 0x8f, 0x2f, 0xdc, 0x5a, 0xb7, 0x81, 0xe5, 0xf5, 0xfa, 0xff, 0x6b, 0xa0, 0x54, 0x1d,
];

/// Where hash blocks go: `block` counts from the start of the data.
pub trait HashSink {
    /// Stores one hash block.
    ///
    /// # Errors
    /// When it cannot be stored; the tree is given up then.
    fn write_hash_block(&mut self, block: u64, bytes: &[u8; BLOCK]) -> io::Result<()>;
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// dm-verity protects at least one block.
    #[error("cannot build a dm-verity tree over {0} blocks: it must be 1 to 2^51")]
    Size(u64),
    /// Data did not come as announced.
    #[error("the dm-verity tree was laid out for {expected} blocks of data and got {got}")]
    Length {
        /// Blocks announced.
        expected: u64,
        /// Blocks that came, counting the first too many.
        got: u64,
    },
    /// A hash block could not be stored.
    #[error("cannot write the dm-verity tree: {0}")]
    Write(#[from] io::Error),
}

/// The root of a tree: what the kernel command line pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RootHash(pub [u8; 32]);

impl RootHash {
    /// The unique GUID of the partition that holds this root: the first 128 bits of the hash, as
    /// the Discoverable Partitions Specification has it, so that text and hash read the same.
    #[must_use]
    pub fn partition_guid(&self) -> Guid {
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(&self.0) {
            *to = *from;
        }
        Guid::from_text_order(bytes)
    }

    /// The hash in lower-case hexadecimal.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Where everything is: data, then a block with the superblock, then the tree, top level first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    data_blocks: u64,
    /// First block of each level, the level over the data first.
    levels: Vec<u64>,
    total_blocks: u64,
}

impl Geometry {
    /// Lays out the tree over `data_blocks` blocks. Over one block there is none: its hash is the
    /// root.
    ///
    /// # Errors
    /// [`Error::Size`].
    pub fn new(data_blocks: u64) -> Result<Self, Error> {
        if data_blocks == 0 || data_blocks > 1 << 51 {
            return Err(Error::Size(data_blocks));
        }
        let mut sizes = Vec::new();
        let mut blocks = data_blocks;
        while blocks > 1 {
            blocks = blocks.div_ceil(HASHES_PER_BLOCK);
            sizes.push(blocks);
        }
        let mut next = data_blocks + 1;
        let mut levels: Vec<u64> = Vec::with_capacity(sizes.len());
        for size in sizes.iter().rev() {
            levels.push(next);
            next += size;
        }
        levels.reverse();
        Ok(Self {
            data_blocks,
            levels,
            total_blocks: next,
        })
    }

    /// Blocks of data.
    #[must_use]
    pub fn data_blocks(&self) -> u64 {
        self.data_blocks
    }

    /// The block of the superblock: the first behind the data.
    #[must_use]
    pub fn superblock_block(&self) -> u64 {
        self.data_blocks
    }

    /// The first block of the tree, which is dm-verity's `hash_start_block`.
    #[must_use]
    pub fn hash_start(&self) -> u64 {
        self.data_blocks + 1
    }

    /// Bytes of data, superblock and tree.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total_blocks * BLOCK_BYTES
    }
}

/// Builds a tree from data pushed in order.
#[derive(Debug)]
pub struct Builder<S> {
    geometry: Geometry,
    sink: S,
    salted: Sha256,
    pushed: u64,
    /// For each level the block being filled and how many blocks of the level are done.
    levels: Vec<Level>,
    root: Option<RootHash>,
}

#[derive(Debug)]
struct Level {
    block: Box<[u8; BLOCK]>,
    hashes: usize,
    done: u64,
}

impl<S: HashSink> Builder<S> {
    /// Starts a tree; its blocks go to `sink`.
    pub fn new(geometry: Geometry, sink: S) -> Self {
        let level = || Level {
            block: Box::new([0; BLOCK]),
            hashes: 0,
            done: 0,
        };
        let levels = geometry.levels.iter().map(|_| level()).collect();
        Self {
            geometry,
            sink,
            salted: Sha256::new_with_prefix(SALT),
            pushed: 0,
            levels,
            root: None,
        }
    }

    /// Where the hash blocks go, for a sink that is emptied between blocks of data.
    pub fn sink(&mut self) -> &mut S {
        &mut self.sink
    }

    /// Adds the next block of data.
    ///
    /// # Errors
    /// [`Error::Length`] for one too many, [`Error::Write`] from the sink.
    pub fn push(&mut self, data: &[u8; BLOCK]) -> Result<(), Error> {
        self.pushed += 1;
        if self.pushed > self.geometry.data_blocks {
            return Err(self.length_error());
        }
        let hash = salted_hash(&self.salted, data);
        self.add(0, hash)
    }

    /// Ends the tree: writes the blocks that are not full, and returns the root hash.
    ///
    /// # Errors
    /// [`Error::Length`] when data is missing, [`Error::Write`] from the sink.
    pub fn finish(mut self) -> Result<(RootHash, S), Error> {
        if self.pushed != self.geometry.data_blocks {
            return Err(self.length_error());
        }
        for level in 0..self.levels.len() {
            // Full blocks have been written already.
            if self.levels.get(level).is_some_and(|level| level.hashes > 0) {
                self.flush(level)?;
            }
        }
        let root = self.root.ok_or_else(|| self.length_error())?;
        let superblock = superblock(&self.geometry, &root);
        self.sink
            .write_hash_block(self.geometry.superblock_block(), &superblock)?;
        Ok((root, self.sink))
    }

    /// Puts the hash of a block below into `level`.
    fn add(&mut self, level: usize, hash: [u8; HASH_BYTES]) -> Result<(), Error> {
        let Some(at) = self.levels.get_mut(level) else {
            self.root = Some(RootHash(hash));
            return Ok(());
        };
        let place = at.block.chunks_exact_mut(HASH_BYTES).nth(at.hashes);
        if let Some(place) = place {
            place.copy_from_slice(&hash);
        }
        at.hashes += 1;
        if at.hashes as u64 == HASHES_PER_BLOCK {
            self.flush(level)?;
        }
        Ok(())
    }

    /// Writes the block that `level` is filling and hands its hash to the level above.
    fn flush(&mut self, level: usize) -> Result<(), Error> {
        let (Some(at), Some(first)) = (self.levels.get_mut(level), self.geometry.levels.get(level))
        else {
            return Ok(());
        };
        self.sink.write_hash_block(first + at.done, &at.block)?;
        let hash = salted_hash(&self.salted, &at.block);
        at.block.fill(0);
        at.hashes = 0;
        at.done += 1;
        self.add(level + 1, hash)
    }

    fn length_error(&self) -> Error {
        Error::Length {
            expected: self.geometry.data_blocks,
            got: self.pushed,
        }
    }
}

/// `salted` is the state of the hash after the salt.
fn salted_hash(salted: &Sha256, block: &[u8; BLOCK]) -> [u8; HASH_BYTES] {
    salted.clone().chain_update(block).finalize().into()
}

/// cryptsetup's superblock: for tools; the kernel never reads it.
fn superblock(geometry: &Geometry, root: &RootHash) -> [u8; BLOCK] {
    let mut fields = Vec::with_capacity(BLOCK);
    fields.extend(b"verity\0\0");
    fields.extend(1_u32.to_le_bytes()); // version of the superblock
    fields.extend(1_u32.to_le_bytes()); // version of the tree: salt first, padded levels
    fields.extend(superblock_uuid(root));
    fields.extend(b"sha256");
    fields.resize(64, 0);
    fields.extend((BLOCK as u32).to_le_bytes());
    fields.extend((BLOCK as u32).to_le_bytes());
    fields.extend(geometry.data_blocks.to_le_bytes());
    fields.extend((SALT.len() as u16).to_le_bytes());
    fields.extend([0; 6]);
    fields.extend(SALT);
    let mut block = [0; BLOCK];
    for (to, from) in block.iter_mut().zip(fields) {
        *to = from;
    }
    block
}

/// A UUID (version 8, RFC 9562) from the second half of the root hash; the first half names the
/// partition.
fn superblock_uuid(root: &RootHash) -> [u8; 16] {
    let mut uuid = [0; 16];
    for (at, (to, from)) in uuid.iter_mut().zip(root.0.iter().skip(16)).enumerate() {
        *to = match at {
            6 => from & 0x0f | 0x80,
            8 => from & 0x3f | 0x80,
            _ => *from,
        };
    }
    uuid
}

/// The kernel parameters that make the tree the root file system: dm-init creates `dm-0` from the
/// partition that the root hash names, as soon as it appears. A block that does not fit the tree
/// panics the machine.
///
/// See `Documentation/admin-guide/device-mapper/dm-init.rst`: fields of the device end with
/// commas, those of the table with spaces.
#[must_use]
pub fn kernel_parameters(geometry: &Geometry, root: &RootHash) -> String {
    let partition = format!("PARTUUID={}", root.partition_guid());
    let sectors = geometry.data_blocks * SECTORS_PER_BLOCK;
    format!(
        "dm-mod.create=\"root,,,ro,0 {sectors} verity 1 {partition} {partition} {BLOCK} {BLOCK} \
         {blocks} {start} sha256 {hash} {salt} 1 panic_on_corruption\" dm-mod.waitfor={partition} \
         root=/dev/dm-0 rootfstype=erofs ro",
        blocks = geometry.data_blocks,
        start = geometry.hash_start(),
        hash = root.hex(),
        salt = hex(&SALT),
    )
}
