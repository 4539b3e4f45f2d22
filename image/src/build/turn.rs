//! One build at a time in a directory, and nothing left there of those that were interrupted.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use berth_disk::pending;
use nix::fcntl::Flock;

use super::{NAMES, Progress, TEMPORARY};
use crate::exclusive;
use crate::manifest::FILE_NAME;

/// Waits for whoever builds into `out` now, and removes what interrupted builds left. Nothing on a
/// file system that has no locks, as NFS has none for directories: somebody may be building.
pub(super) fn wait_for(out: &Path, progress: &Progress) -> io::Result<Option<Flock<File>>> {
    let turn = exclusive::lock(out, || {
        progress.step(&format!(
            "waiting: somebody else builds into {}",
            out.display()
        ));
    });
    let turn = match turn {
        Err(why) if exclusive::has_no_locks(&why) => return Ok(None),
        other => other?,
    };
    // What cannot be removed, because somebody else made it, is in nobody's way. Others may be
    // writing other files there.
    let is_output = |name: &str| name == FILE_NAME || NAMES.contains(&name);
    let _ = pending::remove_leftovers(out, is_output);
    for entry in fs::read_dir(out)?.filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(Some(turn))
}
