//! Filling the other slot: chunks in any order, the hash tree, and the proof that the medium
//! holds what was signed.
//!
//! There is no journal: after an interruption [`Staging::holds`] compares what is there with the
//! manifest. Only [`Whole`], which only [`Staging::finish`] makes, lets the slot be named.

use std::io;

use sha2::{Digest, Sha256};

use crate::block::{Block, byte_offset};
use crate::gpt::Extent;
use crate::slot::InactiveSlot;
use crate::target::Target;
use crate::verity::{self, BLOCK, Builder, Geometry, HashSink, RootHash};

/// Bytes read at once.
const STEP: usize = 256 * BLOCK;

/// The two images of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The boot image: a FAT file system.
    Boot,
    /// The root file system, without its hash tree.
    Root,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Boot => "boot image",
            Self::Root => "root file system",
        }
    }
}

/// Why a slot could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// A chunk that does not lie in the image.
    #[error("{bytes} bytes at {offset} are outside the {}", part.name())]
    Outside {
        /// The image.
        part: Part,
        /// Where.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// The content is not the signed one: chunks are missing or wrong.
    #[error("the {} in the slot is not the signed one: check its chunks and fetch what is wrong", .0.name())]
    Wrong(Part),
    /// The medium gave back something else than was written.
    #[error(
        "the disk does not keep what is written to it: the hash tree was read back wrong at block {0} of the root"
    )]
    Medium(u64),
    /// The disk failed.
    #[error("the disk failed while the slot was {doing}: {source}")]
    Disk {
        /// What was done to the slot.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The tree could not be built.
    #[error("cannot build the hash tree of the slot: {0}")]
    Tree(#[from] verity::Error),
}

fn disk_error(doing: &'static str) -> impl Fn(io::Error) -> StagingError {
    move |source| StagingError::Disk { doing, source }
}

/// The other slot while it is filled.
#[derive(Debug)]
pub struct Staging<'a, D> {
    disk: &'a mut D,
    slot: InactiveSlot,
    target: Target,
    geometry: Geometry,
}

/// A slot whose content is on the medium and is the signed one.
#[derive(Debug, PartialEq, Eq)]
pub struct Whole {
    slot: InactiveSlot,
    root_hash: RootHash,
}

impl Whole {
    /// Whether it is about this slot and this root.
    pub(crate) fn is(&self, slot: &InactiveSlot, root: RootHash) -> bool {
        self.slot == *slot && self.root_hash == root
    }
}

impl<'a, D: Block> Staging<'a, D> {
    /// `None` when the slot is too small or the target has no root of a size.
    pub(crate) fn new(disk: &'a mut D, slot: InactiveSlot, target: Target) -> Option<Self> {
        let geometry = target.geometry()?;
        let fits = |extent: Extent, bytes: u64| {
            let end = (extent.last() + 1).checked_mul(crate::SECTOR);
            end.is_some() && bytes.div_ceil(crate::SECTOR) <= extent.sectors()
        };
        let all = fits(slot.boot(), target.boot_bytes) && fits(slot.root(), geometry.total_bytes());
        all.then_some(Self {
            disk,
            slot,
            target,
            geometry,
        })
    }

    /// What the slot is filled with.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Bytes of an image.
    #[must_use]
    pub fn bytes(&self, part: Part) -> u64 {
        match part {
            Part::Boot => self.target.boot_bytes,
            Part::Root => self.target.root_bytes,
        }
    }

    /// Whether the slot holds these bytes already.
    ///
    /// # Errors
    /// When they are outside the image, or the disk cannot be read.
    pub fn holds(
        &mut self,
        part: Part,
        offset: u64,
        bytes: u64,
        sha256: &[u8; 32],
    ) -> Result<bool, StagingError> {
        let start = self.place(part, offset, bytes)?;
        let mut hash = Sha256::new();
        read_all(self.disk, start, bytes, |step| hash.update(step))
            .map_err(disk_error("compared with the manifest"))?;
        Ok(hash.finalize().as_slice() == sha256)
    }

    /// Reads what the slot holds, right or not.
    ///
    /// # Errors
    /// When it is outside the image, or the disk cannot be read.
    pub fn read(&mut self, part: Part, offset: u64, buffer: &mut [u8]) -> Result<(), StagingError> {
        let start = self.place(part, offset, buffer.len() as u64)?;
        self.disk.read_at(start, buffer).map_err(disk_error("read"))
    }

    /// Writes a part of an image.
    ///
    /// # Errors
    /// When it is outside the image, or the disk cannot be written.
    pub fn write(&mut self, part: Part, offset: u64, bytes: &[u8]) -> Result<(), StagingError> {
        let start = self.place(part, offset, bytes.len() as u64)?;
        self.disk
            .write_at(start, bytes)
            .map_err(disk_error("written"))
    }

    /// Bounds what a power cut undoes: nothing written before has to be fetched again.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn flush(&mut self) -> Result<(), StagingError> {
        self.disk.flush().map_err(disk_error("written"))
    }

    /// Builds the hash tree and proves that the medium holds the signed images.
    ///
    /// Everything is flushed first, so what is hashed comes from the medium: the boot image as a
    /// whole, and the root block by block into the tree, whose root is compared with the signed
    /// one. The tree is then flushed and read back as well.
    ///
    /// # Errors
    /// [`StagingError::Wrong`] names the image that is not the signed one.
    pub fn finish(mut self) -> Result<Whole, StagingError> {
        self.flush()?;
        let boot = self.place(Part::Boot, 0, self.target.boot_bytes)?;
        let mut hash = Sha256::new();
        read_all(self.disk, boot, self.target.boot_bytes, |step| {
            hash.update(step);
        })
        .map_err(disk_error("verified"))?;
        if hash.finalize().as_slice() != self.target.boot_sha256 {
            return Err(StagingError::Wrong(Part::Boot));
        }
        let tree = self.build_tree()?;
        self.flush()?;
        self.read_back(&tree)?;
        Ok(Whole {
            slot: self.slot,
            root_hash: self.target.root_hash,
        })
    }

    /// Hashes the root and writes the blocks of its tree that are not right already; their
    /// numbers and hashes.
    fn build_tree(&mut self) -> Result<Vec<(u64, [u8; 32])>, StagingError> {
        let start = self.place(Part::Root, 0, self.target.root_bytes)?;
        let mut tree = Vec::new();
        let mut builder = Builder::new(self.geometry.clone(), Filled::default());
        let mut buffer = vec![0; STEP];
        let mut done = 0;
        while done < self.target.root_bytes {
            let step = step_bytes(self.target.root_bytes - done, buffer.len());
            let step = buffer.get_mut(..step).unwrap_or_default();
            self.disk
                .read_at(start.saturating_add(done), step)
                .map_err(disk_error("verified"))?;
            done = done.saturating_add(step.len() as u64);
            let (blocks, _) = step.as_chunks::<BLOCK>();
            for block in blocks {
                builder.push(block)?;
                for filled in builder.sink().0.drain(..) {
                    tree.push(self.keep(&filled)?);
                }
            }
        }
        let (root, rest) = builder.finish()?;
        if root != self.target.root_hash {
            return Err(StagingError::Wrong(Part::Root));
        }
        for filled in &rest.0 {
            tree.push(self.keep(filled)?);
        }
        Ok(tree)
    }

    /// Writes a block of the tree unless it is there already: a resumed update wears nothing.
    fn keep(&mut self, filled: &(u64, Box<[u8; BLOCK]>)) -> Result<(u64, [u8; 32]), StagingError> {
        let (number, block) = filled;
        let place = self.tree_block(*number)?;
        let mut there = [0; BLOCK];
        self.disk
            .read_at(place, &mut there)
            .map_err(disk_error("verified"))?;
        if there != **block {
            self.disk
                .write_at(place, &block[..])
                .map_err(disk_error("given its hash tree"))?;
        }
        Ok((*number, Sha256::digest(&block[..]).into()))
    }

    fn read_back(&mut self, tree: &[(u64, [u8; 32])]) -> Result<(), StagingError> {
        let mut block = [0; BLOCK];
        for (number, hash) in tree {
            let place = self.tree_block(*number)?;
            self.disk
                .read_at(place, &mut block)
                .map_err(disk_error("read back"))?;
            if Sha256::digest(block).as_slice() != hash {
                return Err(StagingError::Medium(*number));
            }
        }
        Ok(())
    }

    /// Where a block of superblock or tree is on the disk.
    fn tree_block(&self, number: u64) -> Result<u64, StagingError> {
        let outside = || StagingError::Outside {
            part: Part::Root,
            offset: number.saturating_mul(BLOCK as u64),
            bytes: BLOCK as u64,
        };
        let offset = number.checked_mul(BLOCK as u64).ok_or_else(outside)?;
        let end = offset.checked_add(BLOCK as u64).ok_or_else(outside)?;
        let tree = self.target.root_bytes..=self.geometry.total_bytes();
        if !tree.contains(&offset) || !tree.contains(&end) {
            return Err(outside());
        }
        let start = byte_offset(self.slot.root().first()).map_err(disk_error("written"))?;
        start.checked_add(offset).ok_or_else(outside)
    }

    /// Where bytes of an image are on the disk; nothing outside the image has a place.
    fn place(&self, part: Part, offset: u64, bytes: u64) -> Result<u64, StagingError> {
        let extent = match part {
            Part::Boot => self.slot.boot(),
            Part::Root => self.slot.root(),
        };
        let start = byte_offset(extent.first()).map_err(disk_error("written"))?;
        offset
            .checked_add(bytes)
            .filter(|end| *end <= self.bytes(part))
            .and_then(|_| start.checked_add(offset))
            .ok_or(StagingError::Outside {
                part,
                offset,
                bytes,
            })
    }
}

/// Hash blocks on their way to the disk.
#[derive(Debug, Default)]
struct Filled(Vec<(u64, Box<[u8; BLOCK]>)>);

impl HashSink for Filled {
    fn write_hash_block(&mut self, block: u64, bytes: &[u8; BLOCK]) -> io::Result<()> {
        self.0.push((block, Box::new(*bytes)));
        Ok(())
    }
}

/// Hands out `bytes` from `start` on, in steps.
fn read_all(
    disk: &mut impl Block,
    start: u64,
    bytes: u64,
    mut take: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut buffer = vec![0; step_bytes(bytes, STEP)];
    let mut done = 0;
    while done < bytes {
        let step = step_bytes(bytes - done, buffer.len());
        let step = buffer.get_mut(..step).unwrap_or_default();
        disk.read_at(start.saturating_add(done), step)?;
        take(step);
        done = done.saturating_add(step.len() as u64);
    }
    Ok(())
}

fn step_bytes(left: u64, most: usize) -> usize {
    usize::try_from(left).map_or(most, |left| left.min(most))
}
