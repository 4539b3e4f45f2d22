//! Replacing a file so that a power cut leaves the old content or the new, never a mixture.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes `content` beside `path`, makes it durable, moves it over `path`, makes that durable.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = beside(path);
    let mut file = File::create(&beside)?;
    file.write_all(content)?;
    file.sync_all()?; // before the rename: a name must never lead to missing content
    rename(&beside, path)
}

/// The same for a file in memory, where nothing survives a power cut: readers see the old
/// content or the new.
pub(crate) fn replace_in_memory(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = beside(path);
    fs::write(&beside, content)?;
    fs::rename(&beside, path)
}

/// Moves `from` to `to`, in the same directory, and makes that durable.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    let directory = to.parent().ok_or(io::ErrorKind::InvalidInput)?;
    File::open(directory)?.sync_all()
}

/// Where something is made before it gets its name.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}
