//! The disk that the machine started from, found from the root file system, never by a name.
//!
//! root file system → its block device → (dm-verity) the partition below → the disk around it,
//! all by sysfs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

use crate::failure::{Doing, Failure};

/// Sysfs counts in these, whatever the device's own sectors are.
const SYSFS_SECTOR_BYTES: u64 = 512;

/// The disk that holds the root partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnDisk {
    /// Its directory in sysfs.
    sysfs: PathBuf,
    /// Number of the partition that the root file system is on.
    pub(crate) root_partition: u32,
}

/// A partition as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    /// Its node in /dev.
    pub(crate) node: PathBuf,
    /// Its size.
    pub(crate) bytes: u64,
}

impl OwnDisk {
    /// Finds it; `None` when the root file system is in memory or on no partition.
    pub(crate) fn find() -> Result<Option<Self>, Failure> {
        let root = fs::metadata("/").doing(|| "look at the root directory".to_owned())?;
        let (major, minor) = (major(root.dev()), minor(root.dev()));
        if major == 0 {
            return Ok(None); // no block device: a root in memory
        }
        let link = format!("/sys/dev/block/{major}:{minor}");
        let device = fs::canonicalize(&link).doing(|| format!("follow {link}"))?;
        Self::around(&below_mapper(device)?)
    }

    fn around(partition: &Path) -> Result<Option<Self>, Failure> {
        let (Ok(number), Some(disk)) = (
            fs::read_to_string(partition.join("partition")),
            partition.parent(),
        ) else {
            return Ok(None); // a whole disk
        };
        let root_partition = number
            .trim()
            .parse()
            .doing(|| format!("read the number of the partition {}", partition.display()))?;
        Ok(Some(Self {
            sysfs: disk.to_owned(),
            root_partition,
        }))
    }

    /// The disk's node in /dev.
    pub(crate) fn node(&self) -> PathBuf {
        node(&self.sysfs)
    }

    /// A partition of the disk that the kernel knows.
    pub(crate) fn partition(&self, number: u32) -> Result<Option<Partition>, Failure> {
        let listed = fs::read_dir(&self.sysfs);
        let listed = listed.doing(|| format!("list {}", self.sysfs.display()))?;
        for entry in listed.filter_map(Result::ok) {
            let path = entry.path();
            if number_in(&path.join("partition")).ok() == Some(u64::from(number)) {
                let sectors = number_in(&path.join("size"))?;
                return Ok(Some(Partition {
                    node: node(&path),
                    bytes: sectors.saturating_mul(SYSFS_SECTOR_BYTES),
                }));
            }
        }
        Ok(None)
    }
}

/// The device under a device-mapper target, or the device itself.
fn below_mapper(device: PathBuf) -> Result<PathBuf, Failure> {
    if !device.join("dm").exists() {
        return Ok(device);
    }
    let slaves = device.join("slaves");
    let below = fs::read_dir(&slaves)
        .ok()
        .and_then(|mut entries| entries.next())
        .and_then(Result::ok)
        .ok_or_else(|| Failure::new(format!("nothing is below {}", device.display())))?;
    fs::canonicalize(below.path()).doing(|| format!("follow {}", below.path().display()))
}

/// The node that devtmpfs makes; a slash in a kernel name is a `!` in sysfs.
fn node(sysfs: &Path) -> PathBuf {
    let name = sysfs.file_name().unwrap_or_default().to_string_lossy();
    Path::new("/dev").join(name.replace('!', "/"))
}

fn number_in(path: &Path) -> Result<u64, Failure> {
    let text = fs::read_to_string(path).doing(|| format!("read {}", path.display()))?;
    text.trim()
        .parse()
        .doing(|| format!("understand {}", path.display()))
}
