//! A published directory while it is changed: by one publisher at a time, and durably.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use berth_disk::pending;
use berth_release::{METADATA, TARGETS};
use nix::fcntl::Flock;

use super::PublishError;
use crate::build::Progress;
use crate::exclusive;

/// Where files are, besides the documents.
const FOLDERS: [&str; 3] = ["images", "deltas", METADATA];

/// The directory, locked: whoever else publishes into it waits.
pub(super) struct Directory {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Directory {
    /// Makes what is missing for the target's document and all else, and waits for whoever
    /// publishes there now. What an interrupted publication left under temporary names is removed.
    pub(super) fn lock(
        path: &Path,
        target: &str,
        progress: &Progress,
    ) -> Result<Self, PublishError> {
        let document = Path::new(TARGETS).join(target);
        let documents = document.parent().unwrap_or(&document);
        let folders = FOLDERS.map(Path::new).into_iter().chain([documents]);
        let folders: Vec<PathBuf> = folders.map(|folder| path.join(folder)).collect();
        for folder in &folders {
            make(folder).map_err(PublishError::write(folder))?;
        }
        let lock = exclusive::lock(path, || {
            progress.step(&format!(
                "waiting: somebody else publishes into {}",
                path.display()
            ));
        })
        .map_err(PublishError::write(path))?;
        for folder in &folders {
            pending::remove_leftovers(folder, |_| true).map_err(PublishError::write(folder))?;
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Writes a file that is named by its content, and the directories above it. One that is there and
/// whole stays as it is.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), PublishError> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make(parent).map_err(PublishError::write(parent))?;
    }
    pending::write_file(path, bytes).map_err(PublishError::write(path))
}

/// Makes a directory and those above it so that a power cut does not take them away again.
fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make(parent)?;
    match fs::create_dir(path) {
        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => Err(why),
        _ => File::open(parent)?.sync_all(),
    }
}
