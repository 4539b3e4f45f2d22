//! The files of an uncompressed EROFS image, by path.
//!
//! Names are those of Linux's `fs/erofs/erofs_fs.h`. A reader for the encoder alone: what it does
//! not understand it leaves out, and that is then matched as bytes of the image.

use std::collections::HashSet;

use crate::encode::elf::number;
use crate::extents::Extents;

const SUPER_OFFSET: usize = 1024;
const SUPER_MAGIC_V1: u64 = 0xe0f5_e1e2;
const SLOT: u64 = 32;
const DIRENT_BYTES: usize = 12;
const FLAT_PLAIN: u64 = 0;
const FLAT_INLINE: u64 = 2;
const S_IFMT: u64 = 0o170_000;
const S_IFDIR: u64 = 0o040_000;
const S_IFREG: u64 = 0o100_000;
/// Deeper trees are damaged ones.
const DEPTH_MAX: usize = 256;

/// A regular file of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: Vec<u8>,
    pub(crate) extents: Extents,
}

/// All regular files that have bytes, each inode once; nothing if this is no EROFS image.
pub(crate) fn files(image: &[u8]) -> Option<Vec<Found>> {
    if number::<4>(image, SUPER_OFFSET)? != SUPER_MAGIC_V1 {
        return None;
    }
    let block_bits = number::<1>(image, SUPER_OFFSET + 12)?;
    if !(9..=16).contains(&block_bits) {
        return None;
    }
    let mut walk = Walk {
        image,
        block: 1 << block_bits,
        meta: number::<4>(image, SUPER_OFFSET + 40)? << block_bits,
        seen: HashSet::new(),
        found: Vec::new(),
    };
    let root = number::<2>(image, SUPER_OFFSET + 14)?;
    walk.directory(root, &mut Vec::new(), 0);
    Some(walk.found)
}

struct Walk<'a> {
    image: &'a [u8],
    block: u64,
    /// Where inode 0 would be.
    meta: u64,
    seen: HashSet<u64>,
    found: Vec<Found>,
}

impl Walk<'_> {
    fn directory(&mut self, nid: u64, path: &mut Vec<u8>, depth: usize) {
        let Some((S_IFDIR, extents)) = self.inode(nid) else {
            return;
        };
        if depth > DEPTH_MAX || !self.seen.insert(nid) {
            return;
        }
        for (_, at, bytes) in extents.pieces() {
            let piece = &self.image[at as usize..(at + u64::from(bytes)) as usize];
            for block in piece.chunks(self.block as usize) {
                for (name, child) in entries(block) {
                    if name == b"." || name == b".." {
                        continue;
                    }
                    let length = path.len();
                    path.push(b'/');
                    path.extend(name);
                    self.entry(child, path, depth);
                    path.truncate(length);
                }
            }
        }
    }

    fn entry(&mut self, nid: u64, path: &mut Vec<u8>, depth: usize) {
        match self.inode(nid) {
            Some((S_IFDIR, _)) => self.directory(nid, path, depth + 1),
            Some((S_IFREG, extents)) if extents.bytes() > 0 && self.seen.insert(nid) => {
                self.found.push(Found {
                    path: path.clone(),
                    extents,
                });
            }
            _ => {}
        }
    }

    /// The kind of an inode and where its data is.
    fn inode(&self, nid: u64) -> Option<(u64, Extents)> {
        let at = usize::try_from(nid.checked_mul(SLOT)?.checked_add(self.meta)?).ok()?;
        let format = number::<2>(self.image, at)?;
        let attributes = number::<2>(self.image, at + 2)?;
        let kind = number::<2>(self.image, at + 4)? & S_IFMT;
        let (inode_bytes, size) = match format & 1 {
            0 => (32, number::<4>(self.image, at + 8)?),
            _ => (64, number::<8>(self.image, at + 8)?),
        };
        let first = number::<4>(self.image, at + 16)?.checked_mul(self.block)?;
        let size = u32::try_from(size).ok()?;
        let tail = match format >> 1 & 7 {
            FLAT_PLAIN => 0,
            FLAT_INLINE => size % self.block as u32,
            _ => return None,
        };
        let mut extents = Extents::default();
        let whole = size - tail;
        if whole > 0 {
            extents.add(first, whole).ok()?;
        }
        if tail > 0 {
            // An attribute body is its 12-byte header and 4 bytes for each count above one.
            let body = attributes.checked_sub(1).map_or(0, |more| 12 + 4 * more);
            extents.add(at as u64 + inode_bytes + body, tail).ok()?;
        }
        let inside =
            |(_, at, bytes): (u32, u64, u32)| at + u64::from(bytes) <= self.image.len() as u64;
        let is_inside = extents.pieces().all(inside);
        is_inside.then_some((kind, extents))
    }
}

/// Names and inode numbers of one block of a directory.
fn entries(block: &[u8]) -> Vec<(&[u8], u64)> {
    let name_at = |index: usize| number::<2>(block, index * DIRENT_BYTES + 8).map(|at| at as usize);
    let count = name_at(0).unwrap_or(0) / DIRENT_BYTES;
    (0..count)
        .filter_map(|index| {
            let end = if index + 1 < count {
                name_at(index + 1)?
            } else {
                block.len()
            };
            let name = block.get(name_at(index)?..end)?;
            let length = name
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(name.len());
            Some((&name[..length], number::<8>(block, index * DIRENT_BYTES)?))
        })
        .collect()
}
