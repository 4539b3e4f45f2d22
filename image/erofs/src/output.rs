//! Writes the planned image front to back.

use std::io::Write;

use berth_tree::{Content, Kind, Spool};

use crate::Error;
use crate::directory;
use crate::format::{BLOCK, BLOCK_SIZE, Inode, Superblock};
use crate::layout::{Placement, Plan};
use crate::walk::{Walk, file_type};

/// Bytes that are read and written at once.
const CHUNK: usize = 1 << 20;

/// Writes `plan` to `out`; `superblock` is its first block.
pub(crate) fn write(
    walk: &Walk<'_>,
    plan: &Plan<'_>,
    spool: &Spool,
    out: &mut impl Write,
    superblock: &Superblock,
) -> Result<(), Error> {
    let mut output = Output {
        out,
        buffer: Vec::with_capacity(CHUNK),
        position: 0,
    };
    output.put(&superblock.encode())?;
    for (at, place) in plan.places.iter().enumerate() {
        match &walk.inodes[at].node.kind {
            Kind::File(content) if place.writes_data => {
                output.put_content(spool, content, place.body(), &|| walk.path(at))?;
            }
            Kind::Symlink(target) if place.writes_data => output.put(target)?,
            _ => continue,
        }
        output.pad_to(output.position.next_multiple_of(BLOCK_SIZE))?;
    }
    for (at, place) in plan.places.iter().enumerate() {
        if matches!(walk.inodes[at].node.kind, Kind::Directory(_)) && place.writes_data {
            write_directory(walk, plan, at, &mut output)?;
        }
    }
    let metadata = plan.metadata_block * BLOCK_SIZE;
    output.put(&plan.shared.area)?;
    for (at, place) in plan.places.iter().enumerate() {
        output.pad_to(metadata + place.offset)?;
        write_inode(walk, plan, at, place, spool, &mut output)?;
    }
    output.pad_to(plan.blocks * BLOCK_SIZE)?;
    output.flush()
}

/// The blocks of a directory that are not its inline tail.
fn write_directory<W: Write>(
    walk: &Walk<'_>,
    plan: &Plan<'_>,
    at: usize,
    output: &mut Output<'_, W>,
) -> Result<(), Error> {
    let mut left = plan.places[at].body();
    directory::blocks(
        walk,
        at,
        |inode| plan.nid(inode),
        |block| {
            if left == 0 {
                return Ok(());
            }
            left = left.saturating_sub(BLOCK_SIZE);
            output.put(block)?;
            output.pad_to(output.position.next_multiple_of(BLOCK_SIZE))
        },
    )
}

fn write_inode<W: Write>(
    walk: &Walk<'_>,
    plan: &Plan<'_>,
    at: usize,
    place: &Placement,
    spool: &Spool,
    output: &mut Output<'_, W>,
) -> Result<(), Error> {
    let node = walk.inodes[at].node;
    let metadata = &node.metadata;
    let mut bytes = Vec::with_capacity(64 + place.xattr_bytes);
    Inode {
        layout: place.layout,
        xattr_bytes: place.xattr_bytes,
        mode: metadata.mode | file_type(&node.kind).mode(),
        size: place.size,
        union: place.union,
        serial: u32::try_from(at + 1).unwrap_or(u32::MAX),
        uid: metadata.uid,
        gid: metadata.gid,
        mtime: metadata.mtime,
        mtime_nsec: metadata.mtime_nsec,
        nlink: walk.inodes[at].nlink,
    }
    .encode(&mut bytes);
    bytes.extend(plan.shared.body(&metadata.xattrs));
    output.put(&bytes)?;
    if place.tail() == 0 {
        return Ok(());
    }
    match &node.kind {
        Kind::File(content) => {
            let mut tail = [0; BLOCK];
            let tail = &mut tail[..usize::try_from(place.tail()).unwrap_or(BLOCK)];
            spool
                .read_at(content, place.body(), tail)
                .map_err(|source| Error::Read {
                    path: walk.path(at),
                    source,
                })?;
            output.put(tail)
        }
        Kind::Symlink(target) => output.put(target),
        Kind::Directory(_) => {
            let mut last = Vec::new();
            directory::blocks(
                walk,
                at,
                |inode| plan.nid(inode),
                |block| {
                    last.clear();
                    last.extend_from_slice(block);
                    Ok(())
                },
            )?;
            output.put(&last)
        }
        _ => Ok(()),
    }
}

/// A buffered writer that knows where it is.
struct Output<'a, W> {
    out: &'a mut W,
    buffer: Vec<u8>,
    position: u64,
}

impl<W: Write> Output<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.buffer.len() + bytes.len() > CHUNK {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// The first `len` bytes of `content`, straight from the spool into the buffer.
    fn put_content(
        &mut self,
        spool: &Spool,
        content: &Content,
        len: u64,
        path: &dyn Fn() -> String,
    ) -> Result<(), Error> {
        let mut done = 0;
        while done < len {
            if self.buffer.len() == CHUNK {
                self.flush()?;
            }
            let filled = self.buffer.len();
            let part = (len - done).min((CHUNK - filled) as u64);
            self.buffer.resize(filled + part as usize, 0);
            spool
                .read_at(content, done, &mut self.buffer[filled..])
                .map_err(|source| Error::Read {
                    path: path(),
                    source,
                })?;
            done += part;
            self.position += part;
        }
        Ok(())
    }

    fn pad_to(&mut self, position: u64) -> Result<(), Error> {
        const ZEROS: [u8; BLOCK] = [0; BLOCK];
        while self.position < position {
            let part = (position - self.position).min(BLOCK_SIZE) as usize;
            self.put(&ZEROS[..part])?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.out.write_all(&self.buffer).map_err(Error::Write)?;
        self.buffer.clear();
        Ok(())
    }
}
