//! Other people's programs that judge what Berth writes: disks, file systems, hash trees.
//!
//! Each judge returns the first thing that is wrong as an error with the program's own words.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Command;

use crate::files::which;
use crate::{Error, process};

const SECTOR: u64 = 512;
/// What sgdisk says about a table that it does not like; its exit status is 0 even then.
const SGDISK_COMPLAINTS: [&str; 5] = ["Caution", "Warning", "ERROR", "Identified", "Problem"];

/// Where a partition is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its first byte.
    pub start: u64,
    /// Its length.
    pub length: u64,
}

/// A program in a directory that may not be on `PATH`.
fn judge(program: &str) -> Result<Command, Error> {
    Ok(Command::new(which(program)?))
}

/// The partition table, and its copy, by sgdisk.
pub fn partition_table(disk: &Path) -> Result<(), Error> {
    let said = process::run(judge("sgdisk")?.arg("-v").arg(disk))?;
    let fine = said.contains("No problems found");
    if !fine || SGDISK_COMPLAINTS.iter().any(|bad| said.contains(bad)) {
        return Err(Error::broken(format!("{}: {said}", disk.display())));
    }
    Ok(())
}

/// Where a partition is, by sgdisk; none when the table has none of that number.
pub fn partition(disk: &Path, number: u32) -> Result<Option<Extent>, Error> {
    let said = process::run(judge("sgdisk")?.arg(format!("-i={number}")).arg(disk))?;
    let sector = |key: &str| -> Option<u64> {
        let line = said.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let (first, last) = (sector("First sector: "), sector("Last sector: "));
    Ok(first.zip(last).map(|(first, last)| Extent {
        start: first * SECTOR,
        length: (last + 1 - first) * SECTOR,
    }))
}

/// Copies a partition into a file.
pub fn copy_partition(disk: &Path, number: u32, to: &Path) -> Result<(), Error> {
    let extent = partition(disk, number)?
        .ok_or_else(|| Error::broken(format!("{} has no partition {number}", disk.display())))?;
    let copy = || -> std::io::Result<()> {
        let mut disk = File::open(disk)?;
        disk.seek(SeekFrom::Start(extent.start))?;
        let mut out = File::create(to)?;
        let copied = std::io::copy(&mut disk.take(extent.length), &mut out)?;
        if copied == extent.length {
            return Ok(());
        }
        Err(std::io::ErrorKind::UnexpectedEof.into())
    };
    copy().map_err(Error::file("copying a partition to", to))
}

/// The FAT file system, by fsck.vfat.
pub fn fat(image: &Path) -> Result<(), Error> {
    process::run(judge("fsck.vfat")?.args(["-n", "-v"]).arg(image)).map(drop)
}

/// The EROFS file system, by fsck.erofs.
pub fn erofs(image: &Path) -> Result<(), Error> {
    process::run(judge("fsck.erofs")?.arg(image)).map(drop)
}

/// Every block of a root partition against its hash tree, by veritysetup.
pub fn verity(partition: &Path, hash_offset: u64, root_hash: &str) -> Result<(), Error> {
    let mut verify = judge("veritysetup")?;
    verify
        .arg("verify")
        .arg(partition)
        .arg(partition)
        .arg(root_hash);
    verify.arg(format!("--hash-offset={hash_offset}"));
    process::run(&mut verify).map(drop)
}

/// A qcow2 image, by qemu-img: sound, and the same bytes as the raw one.
pub fn qcow2(image: &Path, raw: &Path) -> Result<(), Error> {
    process::run(Command::new("qemu-img").arg("check").arg(image))?;
    let mut compare = Command::new("qemu-img");
    compare.args(["compare", "-f", "qcow2", "-F", "raw"]);
    process::run(compare.arg(image).arg(raw)).map(drop)
}

/// The ext4 file system, by e2fsck, which changes nothing.
pub fn ext4(image: &Path) -> Result<(), Error> {
    let said = process::run(judge("e2fsck")?.arg("-fn").arg(image))?;
    if said.contains("journal recovery") {
        return Err(Error::broken(format!("it was not left clean: {said}")));
    }
    Ok(())
}

/// Replays the journal, as mounting does; whatever else is wrong stays.
pub fn replay_ext4_journal(image: &Path) -> Result<(), Error> {
    let mut replay = judge("e2fsck")?;
    replay.args(["-E", "journal_only", "-y"]).arg(image);
    let (status, said) = process::finish(&mut replay)?;
    // 1: something was changed, which is the point.
    if matches!(status.code(), Some(0 | 1)) {
        return Ok(());
    }
    Err(Error::broken(format!(
        "replaying the journal: {status}: {said}"
    )))
}

/// A disk as one raw file.
pub fn flatten(disk: &Path, raw: &Path) -> Result<(), Error> {
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-O", "raw"]);
    process::run(convert.arg(disk).arg(raw)).map(drop)
}
