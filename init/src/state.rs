//! /state: the one file system that survives updates.
//!
//! The partition is made, and gets its file system, in `first_boot`; here it is mounted and
//! grown to its partition. Growing is the kernel's, in its journal: a power cut leaves the old
//! size or the new, and the next boot goes on. Whatever else is found there is left alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use berth_slots::state_template::{SUPERBLOCK_OFFSET, Superblock, mended};
use nix::mount::{MsFlags, mount, umount};

use crate::failure::{Doing, Failure};
use crate::kernel_log::{KernelLog, Urgency};
use crate::own_disk::{OwnDisk, Partition};
use crate::sys;

/// Where it is mounted.
pub(crate) const TARGET: &str = "/state";
/// What the machine itself keeps there; everything else belongs to volumes.
const OWN: &str = "/state/berth";
/// Number of the state partition (ARCHITECTURE.md, "The disk").
pub(crate) const PARTITION: u32 = 5;

/// No set-id programs and no devices from a disk that containers write to; access times cost
/// writes and nobody reads them.
const FLAGS: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOATIME);

/// A file that the machine itself keeps.
pub(crate) fn own(name: &str) -> PathBuf {
    Path::new(OWN).join(name)
}

/// Mounts the state partition and grows it, or memory when the machine has no disk of its own.
/// May block on the disk.
pub(crate) fn open() -> Result<(), Failure> {
    match OwnDisk::find()? {
        None => mount(
            Some("tmpfs"),
            TARGET,
            Some("tmpfs"),
            FLAGS,
            Some("mode=0755"),
        )
        .doing(|| format!("mount memory on {TARGET}"))?,
        Some(disk) => {
            let partition = disk.partition(PARTITION)?.ok_or_else(|| {
                Failure::new(format!(
                    "{} has no partition {PARTITION} for the state: the first boot could not make \
                     it; nothing that needs {TARGET} is started",
                    disk.node().display()
                ))
            })?;
            open_partition(&partition)?;
        }
    }
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(OWN)
        .doing(|| format!("make {OWN}"))
}

fn open_partition(partition: &Partition) -> Result<(), Failure> {
    let node = partition.node.display();
    let superblock = superblock(&partition.node)?.ok_or_else(|| {
        Failure::new(format!(
            "{node} holds no ext4 file system; it is not touched, since it may be someone's data: \
             delete the partition to have it made again"
        ))
    })?;
    if is_mounted(TARGET) {
        return grow(partition, &superblock);
    }
    mend(&partition.node).doing(|| format!("mend the superblock of {node}"))?;
    mount_ext4(&partition.node)?;
    // A cut may have left the growing in the journal. The kernel has counted the block groups
    // before it replays that, and then finds nothing right: it has to look again.
    let replayed = self::superblock(&partition.node)?;
    let replayed = replayed.filter(|replayed| replayed.blocks != superblock.blocks);
    if replayed.is_some() {
        umount(TARGET).doing(|| format!("unmount {TARGET} after its journal was replayed"))?;
        mount_ext4(&partition.node)?;
    }
    grow(partition, &replayed.unwrap_or(superblock))
}

fn mount_ext4(node: &Path) -> Result<(), Failure> {
    mount(
        Some(node),
        TARGET,
        Some("ext4"),
        FLAGS,
        Some("errors=remount-ro"),
    )
    .doing(|| format!("mount {} on {TARGET}", node.display()))
}

/// Tells the kernel to use the whole partition. A file system that is as large already, and one
/// that differs by less than what a block group needs, is left as it is.
fn grow(partition: &Partition, found: &Superblock) -> Result<(), Failure> {
    let blocks = partition.bytes.checked_div(found.block_bytes).unwrap_or(0);
    if blocks <= found.blocks {
        return Ok(());
    }
    let root = File::open(TARGET).doing(|| format!("open {TARGET}"))?;
    sys::grow_ext4(root.as_fd(), blocks).doing(|| {
        format!(
            "grow the state file system from {} to {blocks} blocks",
            found.blocks
        )
    })
}

/// Makes good what a power cut can do to the one block that ext4 writes without its journal; a cut
/// in here leaves the same to be done.
fn mend(node: &Path) -> io::Result<()> {
    let device = OpenOptions::new().read(true).write(true).open(node)?;
    let mut start = [0; 2048];
    device.read_exact_at(&mut start, 0)?;
    let Some(superblock) = mended(&start) else {
        return Ok(());
    };
    device.write_all_at(&superblock, SUPERBLOCK_OFFSET)?;
    device.sync_all()?;
    let line = "state : a power cut tore the superblock of the state file system; it is mended";
    KernelLog::direct().line(Urgency::Notice, line);
    Ok(())
}

fn superblock(node: &Path) -> Result<Option<Superblock>, Failure> {
    let mut start = [0; 2048];
    File::open(node)
        .and_then(|mut device| device.read_exact(&mut start))
        .doing(|| format!("read {}", node.display()))?;
    Ok(Superblock::read(&start))
}

fn is_mounted(target: &str) -> bool {
    fs::read_to_string("/proc/self/mounts")
        .unwrap_or_default()
        .lines()
        .any(|line| line.split(' ').nth(1) == Some(target))
}
