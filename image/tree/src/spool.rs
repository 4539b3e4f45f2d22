//! The spool: the data of all files, appended once, read back by position.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Bytes held back so that writes are large.
const BUFFER: usize = 128 * 1024;

/// Where the bytes of one regular file are, and what they hash to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Content {
    /// Byte offset in the spool.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// SHA-256 of the bytes; equal files are stored once.
    pub sha256: [u8; 32],
}

/// Why a file's data is not in the spool.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be had.
    #[error("cannot read the data: {0}")]
    Read(#[source] io::Error),
    /// It cannot be kept.
    #[error("cannot write the spool: {0}")]
    Write(#[source] io::Error),
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Read(source) | StoreError::Write(source) => source,
        }
    }
}

/// An unlinked temporary file that holds the data of every file of a build.
#[derive(Debug)]
pub struct Spool {
    file: File,
    directory: PathBuf,
    end: u64,
    /// The writer's, kept from file to file.
    buffer: Vec<u8>,
    seen: std::collections::HashMap<[u8; 32], Content>,
}

impl Spool {
    /// Makes an empty spool in `dir`, the directory whose disk should carry the data.
    ///
    /// # Errors
    /// When no temporary file can be made there.
    pub fn new_in(dir: &Path) -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile_in(dir)?,
            directory: dir.to_owned(),
            end: 0,
            buffer: vec![0; BUFFER],
            seen: std::collections::HashMap::new(),
        })
    }

    /// Where it is, for errors: the file itself has no name.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts a file's data; [`SpoolWriter::finish`] ends it.
    pub fn writer(&mut self) -> SpoolWriter<'_> {
        SpoolWriter {
            start: self.end,
            written: 0,
            held: 0,
            hash: Sha256::new(),
            spool: self,
        }
    }

    /// Stores `bytes` as one file's data.
    ///
    /// # Errors
    /// When the spool cannot be written.
    pub fn store(&mut self, bytes: &[u8]) -> io::Result<Content> {
        let mut writer = self.writer();
        writer.write_all(bytes)?;
        writer.finish()
    }

    /// Stores all that `reader` yields as one file's data.
    ///
    /// # Errors
    /// When `reader` or the spool fails; which of them, since that is for different people.
    pub fn store_from(&mut self, reader: &mut dyn Read) -> Result<Content, StoreError> {
        let mut writer = self.writer();
        while writer.fill_from(reader)? {}
        writer.finish().map_err(StoreError::Write)
    }

    /// Reads `content` whole. For small files (configuration, passwd); data is streamed with
    /// [`Spool::read_at`].
    ///
    /// # Errors
    /// When the spool cannot be read.
    pub fn read(&self, content: &Content) -> io::Result<Vec<u8>> {
        let len = usize::try_from(content.len).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, content.offset)?;
        Ok(bytes)
    }

    /// Reads `content` as a stream.
    pub fn reader(&self, content: &Content) -> ContentReader<'_> {
        ContentReader {
            spool: self,
            content: *content,
            at: 0,
        }
    }

    /// Fills `buffer` from `content`, starting `skip` bytes into it.
    ///
    /// # Errors
    /// When the spool cannot be read or `content` ends before `buffer` is full.
    pub fn read_at(&self, content: &Content, skip: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = skip.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > content.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(buffer, content.offset + skip)
    }
}

/// One file's data as a stream.
#[derive(Debug)]
pub struct ContentReader<'a> {
    spool: &'a Spool,
    content: Content,
    at: u64,
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.content.len - self.at).unwrap_or(usize::MAX);
        let len = left.min(buffer.len());
        let part = buffer.get_mut(..len).unwrap_or_default();
        self.spool.read_at(&self.content, self.at, part)?;
        self.at += len as u64;
        Ok(len)
    }
}

/// Appends one file's data to the spool. Dropped without [`SpoolWriter::finish`], what was
/// written is overwritten by the next file.
#[derive(Debug)]
pub struct SpoolWriter<'a> {
    spool: &'a mut Spool,
    start: u64,
    written: u64,
    /// Bytes at the start of the spool's buffer that are not written yet.
    held: usize,
    hash: Sha256,
}

impl SpoolWriter<'_> {
    /// Reads once, straight into the buffer; false at the end.
    fn fill_from(&mut self, reader: &mut dyn Read) -> Result<bool, StoreError> {
        if self.held == BUFFER {
            self.flush().map_err(StoreError::Write)?;
        }
        let free = self.spool.buffer.get_mut(self.held..).unwrap_or_default();
        let got = loop {
            match reader.read(free) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome.map_err(StoreError::Read)?,
            }
        };
        self.hash.update(free.get(..got).unwrap_or_default());
        self.held += got;
        Ok(got > 0)
    }

    /// Ends the file. Data that an earlier file has already is not kept twice.
    ///
    /// # Errors
    /// When the spool cannot be written.
    pub fn finish(mut self) -> io::Result<Content> {
        let len = self.written + self.held as u64;
        let sha256: [u8; 32] = std::mem::take(&mut self.hash).finalize().into();
        if let Some(known) = self.spool.seen.get(&sha256) {
            return Ok(*known);
        }
        self.flush()?;
        let content = Content {
            offset: self.start,
            len,
            sha256,
        };
        self.spool.end = self.start + len;
        self.spool.seen.insert(sha256, content);
        Ok(content)
    }
}

impl Write for SpoolWriter<'_> {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len();
        while !bytes.is_empty() {
            self.fill_from(&mut bytes)?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        let at = self.start + self.written;
        let held = self.spool.buffer.get(..self.held).unwrap_or_default();
        self.spool.file.write_all_at(held, at)?;
        self.written += held.len() as u64;
        self.held = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_data_is_stored_once_and_read_back() {
        let mut spool = Spool::new_in(&std::env::temp_dir()).expect("spool");
        let big = vec![7u8; 200_000];
        let first = spool.store(&big).expect("store");
        let second = spool.store_from(&mut &big[..]).expect("store again");
        let other = spool.store(b"other").expect("store other");
        assert_eq!(first, second);
        assert_eq!(other.offset, 200_000);
        assert_eq!(spool.read(&first).expect("read"), big);
        assert_eq!(spool.read(&other).expect("read"), b"other");
        let mut part = [0; 3];
        spool.read_at(&other, 2, &mut part).expect("part");
        assert_eq!(&part, b"her");
        assert!(spool.read_at(&other, 3, &mut part).is_err());
    }
}
