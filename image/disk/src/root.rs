//! The verified root: the file system as it is written, with its hash tree behind it.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use berth_slots::verity::{self, BLOCK, Builder, Geometry, HashSink, RootHash};

use crate::pending::Pending;
use crate::stream::Stream;
use crate::{Artifact, Error, write_error};

/// Takes the file system's bytes, writes them to a file and builds the tree on the way.
#[derive(Debug)]
pub struct RootWriter {
    stream: Stream,
    geometry: Geometry,
    builder: Builder<TreeFile>,
    /// Bytes that do not fill a block yet.
    partial: Vec<u8>,
}

/// A root file system with its hash tree, complete and not yet under its final name.
#[derive(Debug)]
pub struct Root {
    pub(crate) pending: Pending,
    pub(crate) artifact: Artifact,
    /// What the kernel command line pins.
    pub hash: RootHash,
    /// Where data and tree are.
    pub geometry: Geometry,
}

impl Root {
    /// The file, for reading.
    #[must_use]
    pub fn file(&self) -> &File {
        self.pending.file()
    }
}

/// Writes hash blocks to their place in the same file.
#[derive(Debug)]
struct TreeFile(File);

impl HashSink for TreeFile {
    fn write_hash_block(&mut self, block: u64, bytes: &[u8; BLOCK]) -> io::Result<()> {
        self.0.write_all_at(bytes, block * BLOCK as u64)
    }
}

impl RootWriter {
    /// Starts the file `path` for a file system of `bytes`, a multiple of 4096.
    ///
    /// # Errors
    /// When the file cannot be made, or no tree has that size.
    pub fn create(path: &Path, bytes: u64) -> Result<Self, Error> {
        let geometry = Geometry::new(bytes.div_ceil(BLOCK as u64))?;
        let stream = Stream::create(path)?;
        let file = stream.file().try_clone().map_err(write_error(path))?;
        Ok(Self {
            builder: Builder::new(geometry.clone(), TreeFile(file)),
            stream,
            geometry,
            partial: Vec::with_capacity(BLOCK),
        })
    }

    /// Ends the file system and writes the rest of the tree.
    ///
    /// # Errors
    /// When fewer or more bytes were written than announced, or the file cannot be written.
    pub fn finish(mut self) -> Result<Root, Error> {
        let path = self.stream.path().to_owned();
        let (hash, _) = self.builder.finish()?;
        self.stream
            .skip_written(self.geometry.total_bytes())
            .map_err(write_error(&path))?;
        let (pending, artifact) = self.stream.done()?;
        Ok(Root {
            pending,
            artifact,
            hash,
            geometry: self.geometry,
        })
    }

    fn push(&mut self, block: &[u8; BLOCK]) -> io::Result<()> {
        self.builder.push(block).map_err(|error| match error {
            verity::Error::Write(error) => error,
            other => io::Error::other(other),
        })
    }
}

impl Write for RootWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write_all(bytes)?;
        let mut rest = bytes;
        if !self.partial.is_empty() {
            let missing = rest.len().min(BLOCK - self.partial.len());
            self.partial.extend_from_slice(&rest[..missing]);
            rest = &rest[missing..];
            if let Ok(block) = <[u8; BLOCK]>::try_from(&self.partial[..]) {
                self.push(&block)?;
                self.partial.clear();
            }
        }
        while let Some((block, behind)) = rest.split_first_chunk() {
            self.push(block)?;
            rest = behind;
        }
        self.partial.extend_from_slice(rest);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
