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

/// Number of the other slot's boot image (ARCHITECTURE.md, "The disk").
const OTHER_BOOT: u32 = 2;

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
    /// Where it begins on the disk, in bytes.
    start: u64,
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
                let bytes = |name: &str| {
                    let sectors = number_in(&path.join(name));
                    sectors.map(|sectors| sectors.saturating_mul(SYSFS_SECTOR_BYTES))
                };
                return Ok(Some(Partition {
                    node: node(&path),
                    bytes: bytes("size")?,
                    start: bytes("start")?,
                }));
            }
        }
        Ok(None)
    }

    /// Whether the machine runs from the slot that firmware does not start by itself: its root is
    /// the one right behind the other slot's boot image.
    ///
    /// The kernel has read the table to find the root, and knows it as it was then. Nothing is read
    /// from the disk, so neither a disk that fails nor one that hangs can hide the answer.
    pub(crate) fn runs_from_other_slot(&self) -> Result<bool, Failure> {
        let boot = self.partition(OTHER_BOOT)?;
        let root = self.partition(self.root_partition)?;
        Ok(boot
            .zip(root)
            .is_some_and(|(boot, root)| boot.start.saturating_add(boot.bytes) == root.start))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What sysfs has of a disk with these partitions (number, start, sectors).
    fn disk(name: &str, partitions: &[(u32, u64, u64)], root_partition: u32) -> OwnDisk {
        let name = format!("berth-own-disk-{}-{name}", std::process::id());
        let sysfs = std::env::temp_dir().join(name);
        for (number, start, size) in partitions {
            let partition = sysfs.join(format!("vda{number}"));
            fs::create_dir_all(&partition).expect("a directory");
            let numbers = [
                ("partition", u64::from(*number)),
                ("start", *start),
                ("size", *size),
            ];
            for (file, number) in numbers {
                fs::write(partition.join(file), format!("{number}\n")).expect("a file");
            }
        }
        OwnDisk {
            sysfs,
            root_partition,
        }
    }

    /// Asks a disk, whose node nobody can open, and removes what stands for its sysfs.
    fn on_trial(disk: &OwnDisk) -> Result<bool, Failure> {
        let answer = disk.runs_from_other_slot();
        fs::remove_dir_all(&disk.sysfs).expect("a directory");
        answer
    }

    #[test]
    fn a_trial_is_known_without_reading_the_disk() {
        let both = [
            (1, 2048, 2048),
            (2, 8192, 2048),
            (3, 4096, 4096),
            (4, 10_240, 4096),
            (5, 20_480, 4096),
        ];
        assert_eq!(on_trial(&disk("a", &both, 3)), Ok(false));
        assert_eq!(on_trial(&disk("b", &both, 4)), Ok(true));
        let mut after_a_commit = both;
        (after_a_commit[0].1, after_a_commit[1].1) = (8192, 2048);
        assert_eq!(on_trial(&disk("c", &after_a_commit, 3)), Ok(true));
        assert_eq!(on_trial(&disk("d", &after_a_commit, 4)), Ok(false));
    }

    #[test]
    fn the_first_boot_of_an_image_is_no_trial() {
        let fresh = [(1, 2048, 2048), (3, 4096, 4096)];
        assert_eq!(on_trial(&disk("fresh", &fresh, 3)), Ok(false));
    }

    #[test]
    fn what_sysfs_does_not_say_is_no_answer() {
        let partitions = [(2, 8192, 2048), (4, 10_240, 4096)];
        let disk = disk("torn", &partitions, 4);
        fs::remove_file(disk.sysfs.join("vda2/start")).expect("a file");
        assert!(on_trial(&disk).is_err());
    }
}
