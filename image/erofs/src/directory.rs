//! Directory data: blocks of entries in byte order, `.` and `..` in their place among them.
//!
//! A block holds its entries' fixed parts, then their names; an entry never crosses a block. The
//! last block of a directory ends with its last name.

use std::iter::once;

use berth_tree::{Kind, NodeId};

use crate::format::{BLOCK, DIRENT_SIZE};
use crate::walk::{FileType, Walk, file_type};

/// One name in a directory.
#[derive(Clone, Copy)]
struct Entry<'a> {
    name: &'a [u8],
    inode: usize,
    file_type: FileType,
}

/// The size in bytes of the directory `at`'s data.
pub(crate) fn size(walk: &Walk<'_>, at: usize) -> u64 {
    let mut full = 0;
    let mut used = 0;
    for entry in entries(walk, at) {
        let cost = DIRENT_SIZE + entry.name.len();
        if used + cost > BLOCK {
            full += BLOCK as u64;
            used = 0;
        }
        used += cost;
    }
    full + used as u64
}

/// Calls `emit` with the data of each block of the directory `at`, every one but the last padded
/// to a whole block.
pub(crate) fn blocks<E>(
    walk: &Walk<'_>,
    at: usize,
    nid: impl Fn(usize) -> u64,
    mut emit: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut batch: Vec<Entry<'_>> = Vec::new();
    let mut used = 0;
    for entry in entries(walk, at) {
        let cost = DIRENT_SIZE + entry.name.len();
        if used + cost > BLOCK {
            let mut block = encode(&batch, &nid);
            block.resize(BLOCK, 0);
            emit(&block)?;
            batch.clear();
            used = 0;
        }
        used += cost;
        batch.push(entry);
    }
    emit(&encode(&batch, &nid))
}

fn encode(batch: &[Entry<'_>], nid: &impl Fn(usize) -> u64) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK);
    let mut name_offset = batch.len() * DIRENT_SIZE;
    for entry in batch {
        block.extend(nid(entry.inode).to_le_bytes());
        block.extend(u16::try_from(name_offset).unwrap_or(u16::MAX).to_le_bytes());
        block.extend([entry.file_type.dirent(), 0]);
        name_offset += entry.name.len();
    }
    for entry in batch {
        block.extend(entry.name);
    }
    block
}

/// The entries of directory `at` with `.` and `..` where byte order puts them.
fn entries<'a>(walk: &'a Walk<'a>, at: usize) -> impl Iterator<Item = Entry<'a>> {
    let own = |name, inode| Entry {
        name,
        inode,
        file_type: FileType::DIRECTORY,
    };
    let named = move |(name, id): (&'a Vec<u8>, &NodeId)| {
        let inode = walk.index_of(*id);
        Entry {
            name,
            inode,
            file_type: file_type(&walk.inodes[inode].node.kind),
        }
    };
    let children = match &walk.inodes[at].node.kind {
        Kind::Directory(entries) => Some(entries),
        _ => None,
    };
    let (one, two): (&[u8], &[u8]) = (b".", b"..");
    let range = move |from, to| {
        children
            .into_iter()
            .flat_map(move |map| map.range::<[u8], _>((from, to)).map(named))
    };
    use std::ops::Bound::{Excluded, Unbounded};
    range(Unbounded, Excluded(one))
        .chain(once(own(one, at)))
        .chain(range(Excluded(one), Excluded(two)))
        .chain(once(own(two, walk.inodes[at].parent)))
        .chain(range(Excluded(two), Unbounded))
}
