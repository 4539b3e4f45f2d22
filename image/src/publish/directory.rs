//! A published directory while it is changed: by one publisher at a time, and durably.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use berth_disk::pending;
use berth_release::{METADATA, TARGETS};
use nix::fcntl::{Flock, OFlag};

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
    /// Makes what is missing, and waits for whoever publishes there now. What an interrupted
    /// publication left under temporary names is removed.
    pub(super) fn lock(
        path: &Path,
        target: &str,
        progress: &Progress,
    ) -> Result<Self, PublishError> {
        let folders = FOLDERS.map(|folder| path.join(folder));
        for folder in &folders {
            make(folder).map_err(PublishError::write(folder))?;
        }
        let lock = exclusive::lock(path, || {
            progress.step(&format!(
                "waiting: somebody else publishes into {}",
                path.display()
            ));
        })
        .map_err(|source| match exclusive::has_no_locks(&source) {
            true => PublishError::NoLocks {
                path: path.to_owned(),
                source,
            },
            false => PublishError::write(path)(source),
        })?;
        // The target's own is made with its document: a publication that is refused leaves none.
        let document = path.join(TARGETS).join(target);
        let documents = document.parent().unwrap_or(&document);
        let documents = documents.is_dir().then(|| documents.to_owned());
        for folder in folders.iter().chain(&documents) {
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

/// Makes a directory and those above it, open to the web server whatever the umask is, so that a
/// power cut does not take them away again.
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
        Ok(()) => open_to_all(path)?,
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
        Err(why) => return Err(why),
    }
    File::open(parent)?.sync_all()
}

/// Lets everybody read and enter a directory that was just made, and nothing else in its place.
fn open_to_all(path: &Path) -> io::Result<()> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let mut options = OpenOptions::new();
    let directory = options.read(true).custom_flags(flags.bits()).open(path)?;
    let mode = directory.metadata()?.permissions().mode();
    directory.set_permissions(Permissions::from_mode(mode | 0o755))
}
