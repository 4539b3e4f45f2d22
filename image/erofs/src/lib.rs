//! Writes a [`Tree`] as an uncompressed EROFS image, from first byte to last, to any [`Write`].
//!
//! Follows "EROFS on-disk format" of the Linux documentation and `fs/erofs/erofs_fs.h` as of
//! Linux 5.4, plus the superblock checksum (5.5): every later kernel reads it. The same tree gives
//! the same bytes. Memory grows with the number of files, never with their bytes. The plan of the
//! image, and why it is like that, is in [`layout`]. [`entries`] reads such an image back, for
//! comparing two of them.

mod directory;
mod format;
pub mod layout;
mod output;
mod read;
mod walk;
mod xattr;

use std::io::{self, Write};

use berth_tree::{Spool, Tree};

pub use format::BLOCK_SIZE;
pub use read::{Entry, ReadError, entries};
pub use walk::Unrepresentable;

/// What the tree does not say about the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The volume name, at most 16 bytes.
    pub volume_name: String,
    /// The superblock's build time, seconds since 1970.
    pub build_time: u64,
    /// The volume's UUID; `None` derives it from everything the tree holds.
    pub uuid: Option<[u8; 16]>,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Size of the image in bytes, a multiple of [`BLOCK_SIZE`].
    pub bytes: u64,
    /// Inodes in the image; a hard link is a name, not an inode.
    pub inodes: u64,
    /// Bytes in the data area: files' whole blocks.
    pub data_bytes: u64,
    /// Bytes of directories, inodes and inline tails.
    pub metadata_bytes: u64,
    /// Bytes that files with equal contents did not cost again.
    pub shared_bytes: u64,
    /// The volume's UUID.
    pub uuid: [u8; 16],
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something in the tree has no place in EROFS, or in Linux.
    #[error("cannot put {path:?} into an EROFS image: {reason}")]
    Unrepresentable {
        /// The path in the tree.
        path: String,
        /// What is wrong with it.
        reason: Unrepresentable,
    },
    /// The option is longer than the superblock's field.
    #[error("the EROFS volume name {0:?} is longer than 16 bytes: choose a shorter one")]
    VolumeName(String),
    /// More blocks than a 32-bit block number can count.
    #[error("the EROFS image would be larger than 16 TiB: split its contents")]
    TooLarge,
    /// The data of a file could not be read back.
    #[error("cannot read the data of {path:?} for the EROFS image: {source}")]
    Read {
        /// The path in the tree.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The image could not be written.
    #[error("cannot write the EROFS image: {0}")]
    Write(#[source] io::Error),
}

/// An image laid out and not yet written.
#[derive(Debug)]
pub struct Image<'a> {
    walk: walk::Walk<'a>,
    plan: layout::Plan<'a>,
    superblock: format::Superblock,
    summary: Summary,
}

impl<'a> Image<'a> {
    /// Lays out the image of `tree`.
    ///
    /// # Errors
    /// When the tree cannot be represented.
    pub fn of(tree: &'a Tree, options: &Options) -> Result<Self, Error> {
        if options.volume_name.len() > format::VOLUME_NAME_LEN {
            return Err(Error::VolumeName(options.volume_name.clone()));
        }
        let walk = walk::Walk::of(tree)?;
        let plan = layout::Plan::of(&walk)?;
        let uuid = options.uuid.unwrap_or_else(|| walk.uuid());
        Ok(Self {
            superblock: plan.superblock(&walk, uuid, options),
            summary: plan.summary(&walk, uuid),
            walk,
            plan,
        })
    }

    /// What the image will be.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// Writes the image front to back; the files' data comes from `spool`.
    ///
    /// # Errors
    /// When `spool` cannot be read or `out` cannot be written.
    pub fn write(&self, spool: &Spool, out: &mut impl Write) -> Result<(), Error> {
        output::write(&self.walk, &self.plan, spool, out, &self.superblock)
    }
}

/// Lays out and writes the image of `tree`, whose files' data is in `spool`.
///
/// # Errors
/// See [`Error`]. Nothing has been written when the tree cannot be represented.
pub fn write(
    tree: &Tree,
    spool: &Spool,
    out: &mut impl Write,
    options: &Options,
) -> Result<Summary, Error> {
    let image = Image::of(tree, options)?;
    image.write(spool, out)?;
    Ok(image.summary())
}
