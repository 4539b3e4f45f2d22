//! A block device, and the two files of the record.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::SECTOR;
use crate::block::Block;
use crate::record::{PAGE, Records};

/// A whole disk (or its image).
#[derive(Debug)]
pub struct BlockDevice(File);

impl BlockDevice {
    /// Opens a disk for reading and writing.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self(file))
    }
}

impl From<File> for BlockDevice {
    fn from(file: File) -> Self {
        Self(file)
    }
}

impl Block for BlockDevice {
    fn sectors(&mut self) -> io::Result<u64> {
        Ok(self.0.seek(SeekFrom::End(0))? / SECTOR)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.sync_all()?;
        // Written back, the pages can go: what is read next comes from the medium.
        posix_fadvise(&self.0, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        Ok(())
    }
}

/// The record's two copies, in a directory of the state partition.
#[derive(Debug)]
pub struct RecordFiles(PathBuf);

impl RecordFiles {
    /// The copies in `directory`, which is made if it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn in_directory(directory: &Path) -> io::Result<Self> {
        if !directory.is_dir() {
            fs::create_dir_all(directory)?;
            if let Some(parent) = directory.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        Ok(Self(directory.to_owned()))
    }

    fn path(&self, copy: usize) -> PathBuf {
        self.0.join(format!("record.{copy}"))
    }
}

impl Records for RecordFiles {
    fn load(&mut self) -> io::Result<[Option<Vec<u8>>; 2]> {
        let read = |copy| match File::open(self.path(copy)) {
            Ok(file) => {
                let mut bytes = Vec::new();
                // One more than a page, so that a longer file is none.
                file.take(PAGE as u64 + 1).read_to_end(&mut bytes)?;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        Ok([read(0)?, read(1)?])
    }

    /// In place: the other copy counts until this one is whole.
    fn save(&mut self, copy: usize, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(copy);
        let new = !path.exists();
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        file.write_all_at(bytes, 0)?;
        file.sync_all()?;
        if new {
            File::open(&self.0)?.sync_all()?;
        }
        Ok(())
    }
}
