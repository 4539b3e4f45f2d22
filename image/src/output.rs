//! Files appear under their names whole or not at all: written beside, synced, renamed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file that is being written. Dropped without [`Pending::finish`] it leaves nothing.
#[derive(Debug)]
pub struct Pending {
    temporary: PathBuf,
    path: PathBuf,
    file: Option<File>,
}

impl Pending {
    /// Starts a file that will be called `path`. It can be read and written.
    ///
    /// # Errors
    /// When its directory cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}.part", std::process::id()));
        let temporary = path.with_file_name(temporary);
        // Left by a process that had this number and was killed.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&temporary)?;
        Ok(Self {
            temporary,
            path: path.to_owned(),
            file: Some(file),
        })
    }

    /// The file to write to.
    ///
    /// # Errors
    /// Never before [`Pending::finish`].
    pub fn file(&mut self) -> io::Result<&mut File> {
        self.file
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Where the bytes are until the file is finished, for a reader of other outputs' parts.
    #[must_use]
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// The file gets its name, replacing what has it.
    ///
    /// # Errors
    /// When the bytes cannot be kept: a full disk may say so only now.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            file.sync_all()?;
        }
        fs::rename(&self.temporary, &self.path)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // After `finish` there is nothing under this name; before, nobody wants it.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Writes a whole file.
///
/// # Errors
/// When it cannot be written; what had the name is unchanged then.
pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut pending = Pending::create(path)?;
    pending.file()?.write_all(bytes)?;
    pending.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_finished_leaves_nothing_and_the_old_one_as_it_was() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("out");
        write_file(&path, b"old").expect("write");
        let mut pending = Pending::create(&path).expect("create");
        pending
            .file()
            .and_then(|file| file.write_all(b"half"))
            .expect("write");
        drop(pending);
        assert_eq!(fs::read(&path).expect("read"), b"old");
        assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 1);
    }
}
