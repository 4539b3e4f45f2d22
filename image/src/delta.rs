//! `berth delta`: patches between any two files, in the format of the updates and by its code.
//!
//! The new file appears under its name whole and verified, or not at all. The old file is hashed
//! before anything is written: a patch for another version is refused by a sentence.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use berth_delta::{
    CHUNK, ChunkError, Decoder, FormatError, Hash, Identity, Limits, Patch, Prefix, encode,
};
use berth_disk::pending::{Pending, write_file};
use sha2::{Digest, Sha256};

/// Why there is no patch, or no new file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An input cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The output cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The encoder gave up.
    #[error("cannot make a patch: {0}")]
    Encode(#[from] encode::Error),
    /// The patch is none, or damaged.
    #[error("{path}: {source}")]
    Patch {
        /// The patch.
        path: PathBuf,
        /// What is wrong.
        source: FormatError,
    },
    /// The patch's payload for a part of the new file cannot be used.
    #[error("{path}: from byte {offset} of the new file on: {source}")]
    Chunk {
        /// The patch.
        path: PathBuf,
        /// Where the part starts.
        offset: u64,
        /// Why.
        source: ChunkError,
    },
    /// Bytes behind the patch's end, or some missing.
    #[error(
        "{path} has {bytes} bytes and its head says {expected}: it is cut off or not a patch alone"
    )]
    Length {
        /// The patch.
        path: PathBuf,
        /// Bytes of the file.
        bytes: u64,
        /// Bytes it should have.
        expected: u64,
    },
    /// The old file is another version.
    #[error(
        "{path} is not the file that the patch was made from: it has {bytes} bytes and SHA-256 \
         {found}, the patch needs {expected_bytes} bytes and {expected}"
    )]
    WrongOld {
        /// The old file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// Its hash.
        found: Hash,
        /// The length of the right one.
        expected_bytes: u64,
        /// The hash of the right one.
        expected: Hash,
    },
    /// Every part was right and the whole is not: a patch put together wrongly.
    #[error("{0}: the whole new file has another SHA-256 than the patch says; nothing was written")]
    WrongNew(PathBuf),
}

/// Sizes of what [`create`] read and wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// Bytes of the patch.
    pub patch_bytes: u64,
    /// Bytes of the new file.
    pub new_bytes: u64,
}

/// Makes the patch that makes `new` from `old`, and writes it to `patch`.
///
/// # Errors
/// When a file cannot be read or written, or is too large.
pub fn create(old: &Path, new: &Path, patch: &Path) -> Result<Created, Error> {
    let bytes = |path: &Path| fs::read(path).map_err(|source| read_error(path, source));
    let (old, new) = (bytes(old)?, bytes(new)?);
    let made = encode::create(&old, &new)?;
    write_file(patch, &made).map_err(|source| write_error(patch, source))?;
    Ok(Created {
        patch_bytes: made.len() as u64,
        new_bytes: new.len() as u64,
    })
}

/// Makes the new file from `old` and `patch`, and writes it to `new`, chunk by chunk. Returns what
/// it is.
///
/// # Errors
/// When a file cannot be read or written, the patch is damaged, or `old` is not the file it was
/// made from. What had the name `new` is unchanged then.
pub fn apply(old: &Path, patch: &Path, new: &Path) -> Result<Identity, Error> {
    let open = |path: &Path| File::open(path).map_err(|source| read_error(path, source));
    let mut patch_file = open(patch)?;
    let head = read_head(&mut patch_file, patch)?;
    let mut old_file = open(old)?;
    check_old(&old_file, old, head.source())?;

    let cannot_write = |source| write_error(new, source);
    let pending = Pending::create(new).map_err(cannot_write)?;
    let mut decoder = Decoder::new(head);
    let mut whole = Sha256::new();
    let mut buffer = vec![0; CHUNK as usize];
    let mut payload = Vec::new();
    for index in 0..decoder.patch().chunks().len() {
        let chunk = decoder.patch().chunks()[index];
        payload.clear();
        if let Some(wanted) = chunk.kind.payload() {
            payload.resize(wanted.bytes, 0);
            patch_file
                .read_exact_at(&mut payload, wanted.offset)
                .map_err(|source| read_error(patch, source))?;
        }
        let out = &mut buffer[..chunk.bytes];
        decoder
            .decode(index, &payload, &mut old_file, out)
            .map_err(|source| match source {
                ChunkError::Source(source) => read_error(old, source),
                source => Error::Chunk {
                    path: patch.to_owned(),
                    offset: chunk.offset,
                    source,
                },
            })?;
        whole.update(&*out);
        pending.file().write_all(out).map_err(cannot_write)?;
    }
    let target = decoder.patch().target();
    if Hash(whole.finalize().into()) != target.hash {
        return Err(Error::WrongNew(patch.to_owned()));
    }
    pending.finish().map_err(cannot_write)?;
    Ok(target)
}

fn read_head(file: &mut File, path: &Path) -> Result<Patch, Error> {
    let limits = Limits::default();
    let damaged = |source| Error::Patch {
        path: path.to_owned(),
        source,
    };
    let mut prefix = [0; Prefix::BYTES];
    file.read_exact(&mut prefix)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged(FormatError::NotPatch),
            _ => read_error(path, error),
        })?;
    let prefix = Prefix::parse(&prefix, &limits).map_err(damaged)?;
    let mut head = Vec::new();
    file.take(prefix.head_bytes as u64)
        .read_to_end(&mut head)
        .map_err(|source| read_error(path, source))?;
    let patch = Patch::parse(&prefix, head, limits).map_err(damaged)?;
    let bytes = file
        .metadata()
        .map_err(|source| read_error(path, source))?
        .len();
    match bytes == patch.bytes() {
        true => Ok(patch),
        false => {
            let expected = patch.bytes();
            Err(Error::Length {
                path: path.to_owned(),
                bytes,
                expected,
            })
        }
    }
}

/// Refuses an old file that is not the one the patch was made from.
fn check_old(mut file: &File, path: &Path, expected: Identity) -> Result<(), Error> {
    let mut hash = Sha256::new();
    let bytes = io::copy(&mut file, &mut hash).map_err(|source| read_error(path, source))?;
    let found = Hash(hash.finalize().into());
    if found == expected.hash && bytes == expected.bytes {
        return Ok(());
    }
    Err(Error::WrongOld {
        path: path.to_owned(),
        bytes,
        found,
        expected_bytes: expected.bytes,
        expected: expected.hash,
    })
}

fn read_error(path: &Path, source: io::Error) -> Error {
    Error::Read {
        path: path.to_owned(),
        source,
    }
}

fn write_error(path: &Path, source: io::Error) -> Error {
    Error::Write {
        path: path.to_owned(),
        source,
    }
}
