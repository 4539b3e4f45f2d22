//! Bundles on disks that are plugged in: which disks to look at, and a bundle as a source of
//! published files.
//!
//! A disk is opened for reading only, and nothing on it is mounted: of a stranger's stick the
//! machine reads the first block, and more only if that is a bundle's. What comes out of it is
//! believed as little as what a web server says.

use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use berth_release::bundle::{self, BLOCK, Header, Index};
use nix::fcntl::OFlag;

use crate::server::Server;

/// Where the kernel lists whole disks.
const DISKS: &str = "/sys/block";
/// What the place of a disk without hardware starts with.
const VIRTUAL: &[u8] = b"/sys/devices/virtual/";

/// The whole disks of the machine, besides its own.
pub(crate) fn disks(own: &Path) -> Vec<PathBuf> {
    let Ok(listed) = fs::read_dir(DISKS) else {
        return Vec::new();
    };
    let real = |entry: &DirEntry| {
        let place = fs::canonicalize(entry.path());
        place.is_ok_and(|place| !place.as_os_str().as_bytes().starts_with(VIRTUAL))
    };
    let own = own.as_os_str();
    let mut nodes = Vec::new();
    for entry in listed.filter_map(Result::ok).filter(|entry| real(entry)) {
        // A slash in a kernel name is a `!` in sysfs.
        let name = entry.file_name().to_string_lossy().replace('!', "/");
        let node = PathBuf::from(format!("/dev/{name}"));
        if node.as_os_str() != own {
            nodes.push(node);
        }
    }
    nodes
}

/// A bundle.
#[derive(Debug)]
pub(crate) struct Bundle {
    who: String,
    file: File,
    index: Index,
}

impl Bundle {
    /// The bundle on a disk; `None` when there is none.
    ///
    /// # Errors
    /// Why a bundle cannot be used, as a sentence.
    pub(crate) fn on(disk: &Path) -> Option<Result<Self, String>> {
        // A drive without a medium does not wait for one.
        let flags = OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits())
            .open(disk);
        let mut file = file.ok()?;
        let mut first: Header = [0; BLOCK as usize];
        file.read_exact_at(&mut first, 0).ok()?;
        if !bundle::begins(&first) {
            return None;
        }
        let who = format!("the bundle on {}", disk.display());
        let index = file.seek(SeekFrom::End(0)).map_err(Into::into);
        let index = index.and_then(|bytes| {
            Index::read(bytes, |offset, buffer| file.read_exact_at(buffer, offset))
        });
        Some(match index {
            Ok(index) => Ok(Self { who, file, index }),
            Err(why) => Err(format!("{who} is not used: {why}")),
        })
    }

    fn failed(&self, path: &str, why: &std::io::Error) -> String {
        format!("{} cannot be read ({path}): {why}", self.who)
    }
}

impl Server for Bundle {
    fn who(&self) -> &str {
        &self.who
    }

    fn whole(&mut self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
        let Some(range) = self.index.find(path) else {
            return Ok(None);
        };
        let length = range.end.saturating_sub(range.start);
        if length > most {
            return Err(format!("{path} is longer than it can be"));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        let read = self.file.read_exact_at(&mut bytes, range.start);
        read.map_err(|why| self.failed(path, &why))?;
        Ok(Some(bytes))
    }

    fn range<'a>(
        &'a mut self,
        path: &str,
        range: Range<u64>,
    ) -> Result<Option<Box<dyn Read + 'a>>, String> {
        let Some(file) = self.index.find(path) else {
            return Ok(None);
        };
        let start = file.start.saturating_add(range.start);
        let end = file.start.saturating_add(range.end);
        if start > end || end > file.end {
            return Ok(None);
        }
        let at = self.file.seek(SeekFrom::Start(start));
        at.map_err(|why| self.failed(path, &why))?;
        Ok(Some(Box::new((&self.file).take(end - start))))
    }
}
