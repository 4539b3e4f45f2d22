//! Replacing a file so that a power cut leaves the old content or the new, never a mixture.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes `content` beside `path`, makes it durable, moves it over `path`, makes that durable.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(content)?;
    file.sync_all()?; // before the rename: a name must never lead to missing content
    fs::rename(&beside, path)?;
    File::open(directory)?.sync_all() // the rename itself
}

/// The same for a file in memory, where nothing survives a power cut: readers see the old
/// content or the new.
pub(crate) fn replace_in_memory(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, content)?;
    fs::rename(&beside, path)
}
