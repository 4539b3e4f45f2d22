//! Reads back what this crate writes: what each path is, whose, and its bytes.
//!
//! For comparing images on the operator's computer. An image of another kind, or a damaged one, is
//! refused; nothing is followed twice, so the work is bounded by the image's size.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::{
    self, BLOCK, DIRENT_SIZE, INODE_LAYOUT_EXTENDED, INODE_SIZE, SLOT, SUPER_OFFSET,
    XATTR_ENTRY_SIZE, XATTR_HEADER_SIZE,
};
use crate::xattr;

const S_IFMT: u16 = 0o170_000;
const S_IFDIR: u16 = 0o040_000;
const S_IFREG: u16 = 0o100_000;
const S_IFLNK: u16 = 0o120_000;
/// Linux takes no longer paths.
const PATH_MAX: usize = 4096;

/// Why an image cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It has no superblock of EROFS, or one with features that are never written here.
    #[error("not an EROFS image as berth writes it")]
    NotOurs,
    /// It contradicts itself.
    #[error("a damaged EROFS image: {0}")]
    Damaged(&'static str),
}

/// What one path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// File type and permissions, as `st_mode`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes by full name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// A device's number, as stored; 0 for anything else.
    pub device: u32,
    /// Bytes of a file or of a link's target: its whole blocks, and the rest.
    pub data: [&'a [u8]; 2],
}

impl Entry<'_> {
    /// Whether it is a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.mode & S_IFMT == S_IFREG
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.mode & S_IFMT == S_IFDIR
    }

    /// Whether it is a symbolic link.
    #[must_use]
    pub fn is_link(&self) -> bool {
        self.mode & S_IFMT == S_IFLNK
    }

    /// Bytes of its data.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.data.iter().map(|piece| piece.len() as u64).sum()
    }
}

/// Everything in an image by its path, which starts with `/`; the root directory is `/`.
///
/// # Errors
/// When the image is not one of ours, or damaged.
pub fn entries(image: &[u8]) -> Result<BTreeMap<Vec<u8>, Entry<'_>>, ReadError> {
    let read = Reader { image };
    if read.number(SUPER_OFFSET, 4) != Some(u64::from(format::SUPER_MAGIC_V1))
        || read.number(SUPER_OFFSET + 12, 1) != Some(u64::from(format::BLOCK_SIZE_BITS))
        || read.number(SUPER_OFFSET + 80, 4) != Some(0)
    {
        return Err(ReadError::NotOurs);
    }
    let cut = ReadError::Damaged("it is cut off");
    let field = |at, bytes| read.number(SUPER_OFFSET + at, bytes).ok_or(cut);
    let areas = Areas {
        meta: field(40, 4)?.saturating_mul(BLOCK as u64),
        xattr: field(44, 4)?.saturating_mul(BLOCK as u64),
    };
    let root = field(14, 2)?;
    let mut found = BTreeMap::new();
    let mut seen = BTreeSet::from([root]);
    let mut open = vec![(b"/".to_vec(), root)];
    found.insert(b"/".to_vec(), read.inode(root, &areas)?);
    while let Some((path, nid)) = open.pop() {
        let directory = read.inode(nid, &areas)?;
        for block in directory.data.iter().flat_map(|piece| piece.chunks(BLOCK)) {
            for (name, child) in names(block)? {
                if name == b"." || name == b".." {
                    continue;
                }
                let mut path = path.clone();
                if path.len() > 1 {
                    path.push(b'/');
                }
                path.extend(name);
                let entry = read.inode(child, &areas)?;
                if entry.is_directory() {
                    if !seen.insert(child) {
                        return Err(ReadError::Damaged("a directory has two parents"));
                    }
                    open.push((path.clone(), child));
                }
                let is_new = found.insert(path.clone(), entry).is_none();
                if !is_new || path.len() > PATH_MAX || found.len() > image.len() / DIRENT_SIZE {
                    return Err(ReadError::Damaged("its directories do not add up"));
                }
            }
        }
    }
    Ok(found)
}

/// Where the parts of the metadata start, in bytes.
struct Areas {
    meta: u64,
    xattr: u64,
}

struct Reader<'a> {
    image: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The little-endian number of `bytes` bytes at `at`.
    fn number(&self, at: usize, bytes: usize) -> Option<u64> {
        number(self.image, at, bytes)
    }

    fn inode(&self, nid: u64, areas: &Areas) -> Result<Entry<'a>, ReadError> {
        let at = nid
            .checked_mul(SLOT)
            .and_then(|at| at.checked_add(areas.meta))
            .and_then(|at| usize::try_from(at).ok());
        let at = at.ok_or(ReadError::Damaged("an inode lies outside it"))?;
        self.inode_at(at, areas)
            .ok_or(ReadError::Damaged("an inode cannot be read"))
    }

    fn inode_at(&self, at: usize, areas: &Areas) -> Option<Entry<'a>> {
        let field = |offset: usize, bytes: usize| self.number(at.checked_add(offset)?, bytes);
        let layout = field(0, 2)?;
        let tail_is_inline = match layout & !u64::from(INODE_LAYOUT_EXTENDED) {
            0 => false,
            4 => true,
            _ => return None,
        };
        if layout & u64::from(INODE_LAYOUT_EXTENDED) == 0 {
            return None;
        }
        let xattr_bytes = match field(2, 2)? as usize {
            0 => 0,
            count => XATTR_HEADER_SIZE + (count - 1) * XATTR_ENTRY_SIZE,
        };
        let mode = field(4, 2)? as u16;
        let body = at + INODE_SIZE as usize;
        let size = usize::try_from(field(8, 8)?).ok()?;
        let union = field(16, 4)?;
        let mut entry = Entry {
            mode,
            uid: field(24, 4)? as u32,
            gid: field(28, 4)? as u32,
            xattrs: self.xattrs(body, xattr_bytes, areas)?,
            device: 0,
            data: [&[]; 2],
        };
        if !(entry.is_file() || entry.is_directory() || entry.is_link()) {
            entry.device = union as u32;
            return Some(entry);
        }
        let tail = if tail_is_inline { size % BLOCK } else { 0 };
        let take = |start: usize, bytes: usize| match bytes {
            0 => Some(&[][..]),
            bytes => self.image.get(start..start.checked_add(bytes)?),
        };
        let first = usize::try_from(union.checked_mul(BLOCK as u64)?).ok()?;
        entry.data = [
            take(first, size - tail)?,
            take(body.checked_add(xattr_bytes)?, tail)?,
        ];
        Some(entry)
    }

    /// The attributes in the body of `bytes` at `at`.
    fn xattrs(&self, at: usize, bytes: usize, areas: &Areas) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut found = BTreeMap::new();
        let Some(entries) = bytes.checked_sub(XATTR_HEADER_SIZE) else {
            return Some(found);
        };
        let shared = self.number(at + 4, 1)? as usize * XATTR_ENTRY_SIZE;
        let entries_at = at + XATTR_HEADER_SIZE;
        for id in (0..shared).step_by(XATTR_ENTRY_SIZE) {
            let id = self.number(entries_at + id, XATTR_ENTRY_SIZE)?;
            let start = areas.xattr.checked_add(id * XATTR_ENTRY_SIZE as u64)?;
            let entry = self.image.get(usize::try_from(start).ok()?..)?;
            let (name, value, _) = xattr::decode_entry(entry)?;
            found.insert(name, value);
        }
        let mut rest = self
            .image
            .get(entries_at..entries_at + entries)?
            .get(shared..)?;
        while !rest.is_empty() {
            let (name, value, size) = xattr::decode_entry(rest)?;
            found.insert(name, value);
            rest = rest.get(size..)?;
        }
        Some(found)
    }
}

/// Names and inode numbers of one block of a directory.
fn names(block: &[u8]) -> Result<Vec<(&[u8], u64)>, ReadError> {
    let damaged = ReadError::Damaged("a directory cannot be read");
    let name_at = |index: usize| number(block, index * DIRENT_SIZE + 8, 2).map(|at| at as usize);
    let count = name_at(0).unwrap_or(0) / DIRENT_SIZE;
    let mut names = Vec::with_capacity(count.min(BLOCK / DIRENT_SIZE));
    for index in 0..count {
        let start = name_at(index).ok_or(damaged)?;
        let end = match index + 1 < count {
            true => name_at(index + 1).ok_or(damaged)?,
            false => block.len(),
        };
        let name = block.get(start..end).ok_or(damaged)?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let is_name = !name.is_empty() && !name.contains(&b'/');
        let child = number(block, index * DIRENT_SIZE, 8).filter(|_| is_name);
        names.push((name, child.ok_or(damaged)?));
    }
    Ok(names)
}

fn number(bytes: &[u8], at: usize, count: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(count)?)?;
    let joined = bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte));
    Some(joined)
}
