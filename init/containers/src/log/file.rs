//! A container's log: the file `NAME`, and `NAME.1` with what was written before it.
//!
//! Each holds at most half of what is kept; a full one becomes `NAME.1` in place of the older.
//! Where there is no room for that much, what is older goes earlier.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::record::{self, Stream};

/// The least that is kept in each of the two files.
const SMALLEST: u64 = 4 << 10;
/// Records are written together up to this size.
const BATCH: usize = 32 << 10;

/// One log that is written.
pub(super) struct File {
    path: PathBuf,
    older: PathBuf,
    most_bytes: u64,
    open: Option<fs::File>,
    bytes: u64,
    /// What could not be written, in bytes of the container's.
    lost: u64,
}

impl File {
    pub(super) fn new(directory: &Path, name: &str, keep_bytes: u64) -> Self {
        Self {
            path: directory.join(name),
            older: directory.join(format!("{name}.1")),
            most_bytes: (keep_bytes / 2).max(SMALLEST),
            open: None,
            bytes: 0,
            lost: 0,
        }
    }

    /// Writes what was read at once.
    pub(super) fn append(&mut self, since_1970: Duration, stream: Stream, read: &[u8]) {
        let mut batch = Vec::new();
        let mut written = true;
        if self.lost > 0 {
            let note = format!("[{} bytes of output were lost]\n", self.lost);
            record::split(since_1970, Stream::Stderr, note.as_bytes(), |record| {
                batch.extend_from_slice(record);
            });
        }
        record::split(since_1970, stream, read, |record| {
            let room = self.most_bytes.saturating_sub(self.bytes);
            let size = batch.len().saturating_add(record.len());
            if size as u64 > room || size > BATCH {
                written &= self.write(&batch);
                batch.clear();
            }
            if self.bytes.saturating_add(record.len() as u64) > self.most_bytes {
                self.rotate();
            }
            batch.extend_from_slice(record);
        });
        written &= self.write(&batch);
        self.lost = if written {
            0
        } else {
            self.lost.saturating_add(read.len() as u64)
        };
    }

    /// Writes whole records; tells whether that went well.
    fn write(&mut self, batch: &[u8]) -> bool {
        loop {
            match self.try_to_write(batch) {
                Ok(()) => return true,
                Err(why) if why.kind() == ErrorKind::StorageFull && self.drop_oldest() => {}
                Err(_) => return false,
            }
        }
    }

    fn try_to_write(&mut self, batch: &[u8]) -> io::Result<()> {
        let mut file = match self.open.take() {
            Some(file) => file,
            None => {
                let mut options = fs::OpenOptions::new();
                let file = options.create(true).append(true).open(&self.path)?;
                // The role that died before this one has written some of it.
                self.bytes = file.metadata()?.len();
                file
            }
        };
        if let Err(why) = file.write_all(batch) {
            // Half a record may be there. If it stays, whatever comes next starts on a line of
            // its own; the length is read anew.
            if file.set_len(self.bytes).is_err() {
                let _ = file.write_all(b"\n");
            }
            return Err(why);
        }
        self.bytes = self.bytes.saturating_add(batch.len() as u64);
        self.open = Some(file);
        Ok(())
    }

    /// Makes room by dropping what was written first; tells whether there was anything.
    fn drop_oldest(&mut self) -> bool {
        if fs::remove_file(&self.older).is_ok() {
            return true;
        }
        let any = self.bytes > 0 && fs::remove_file(&self.path).is_ok();
        if any {
            self.open = None;
            self.bytes = 0;
        }
        any
    }

    fn rotate(&mut self) {
        if self.bytes > 0 && fs::rename(&self.path, &self.older).is_ok() {
            self.open = None;
            self.bytes = 0;
        }
    }
}
