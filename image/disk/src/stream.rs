//! A sequential writer to a pending file that hashes what it writes and leaves holes for zeros.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::pending::Pending;
use crate::{Artifact, Error, write_error};

/// Runs of zeros of this size are not written: blocks of every file system.
const HOLE: usize = 4096;
/// Bytes that are copied at once.
pub(crate) const CHUNK: usize = 1 << 20;

/// The writer. Its errors say nothing about the path; [`Stream::error`] adds it.
#[derive(Debug)]
pub(crate) struct Stream {
    pending: Pending,
    hash: Sha256,
    position: u64,
}

impl Stream {
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            pending: Pending::create(path).map_err(write_error(path))?,
            hash: Sha256::new(),
            position: 0,
        })
    }

    pub(crate) fn file(&self) -> &File {
        self.pending.file()
    }

    pub(crate) fn path(&self) -> &Path {
        self.pending.path()
    }

    /// Zeros up to `position`.
    pub(crate) fn pad_to(&mut self, position: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while self.position < position {
            let part = (position - self.position).min(ZEROS.len() as u64);
            self.write_all(&ZEROS[..part as usize])?;
        }
        Ok(())
    }

    /// Takes bytes that are already in the file into the hash, up to `end`.
    pub(crate) fn skip_written(&mut self, end: u64) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let mut buffer = vec![0; CHUNK];
        while self.position < end {
            let part = (end - self.position).min(CHUNK as u64) as usize;
            self.file()
                .read_exact_at(&mut buffer[..part], self.position)?;
            self.hash.update(&buffer[..part]);
            self.position += part as u64;
        }
        self.file().seek(SeekFrom::Start(self.position))?;
        Ok(())
    }

    /// Copies all of `from`, read from its start.
    pub(crate) fn copy(&mut self, from: &File) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        loop {
            let count = from.read_at(&mut buffer, at)?;
            if count == 0 {
                return Ok(());
            }
            self.write_all(&buffer[..count])?;
            at += count as u64;
        }
    }

    /// The file's length is fixed, and what it is known.
    pub(crate) fn done(self) -> Result<(Pending, Artifact), Error> {
        self.file()
            .set_len(self.position)
            .map_err(write_error(self.path()))?;
        let artifact = Artifact {
            bytes: self.position,
            sha256: self.hash.finalize().into(),
        };
        Ok((self.pending, artifact))
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.position += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (zeros, data) = runs(rest);
            if zeros > 0 {
                self.file().seek(SeekFrom::Current(zeros as i64))?;
            }
            self.file().write_all(&rest[zeros..zeros + data])?;
            rest = &rest[zeros + data..];
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many bytes at the start of `bytes` are whole zero blocks, and how many after them are not.
fn runs(bytes: &[u8]) -> (usize, usize) {
    let is_hole = |block: &&[u8]| block.len() == HOLE && is_zero(block);
    let zeros = bytes.chunks(HOLE).take_while(is_hole).count() * HOLE;
    let data: usize = bytes[zeros..]
        .chunks(HOLE)
        .take_while(|block| !is_hole(block))
        .map(<[u8]>::len)
        .sum();
    (zeros, data)
}

/// Whether all bytes are zero. Ors whole chunks, which becomes vector instructions.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(256)
        .all(|chunk| chunk.iter().fold(0, |any, byte| any | byte) == 0)
}
