//! The disk as it is uploaded: protective MBR, partition table, boot partition, root, backup.

use std::fs::File;
use std::io::{self, Seek, Write};

use berth_slots::SECTOR;
use berth_slots::gpt::{Action, protective_mbr, write_actions};
use berth_slots::layout::Image;

use crate::fat::Fat;
use crate::stream::Stream;
use crate::uki::Uki;

/// Writes `image` front to back.
pub(crate) fn write(
    image: &Image,
    fat: &Fat,
    uki: &Uki,
    mut kernel: &File,
    root: &File,
    out: &mut Stream,
) -> io::Result<()> {
    out.write_all(&protective_mbr())?;
    // The backup comes first in a change, and last on the disk.
    let mut copies: Vec<(u64, Vec<u8>)> = write_actions(&image.table, image.disk_sectors)
        .into_iter()
        .filter_map(|action| match action {
            Action::Write { sector, bytes } => Some((sector, bytes)),
            Action::Flush => None,
        })
        .collect();
    copies.sort();
    let (before, behind): (Vec<_>, Vec<_>) = copies
        .into_iter()
        .partition(|(sector, _)| *sector < image.boot.first());
    write_copies(&before, out)?;
    out.pad_to(image.boot.first() * SECTOR)?;
    kernel.rewind()?;
    fat.write(out, |file| uki.write(&mut kernel, file))?;
    out.pad_to(image.root.first() * SECTOR)?;
    out.copy(root)?;
    write_copies(&behind, out)?;
    out.pad_to(image.disk_sectors * SECTOR)
}

fn write_copies(copies: &[(u64, Vec<u8>)], out: &mut Stream) -> io::Result<()> {
    for (sector, bytes) in copies {
        out.pad_to(sector * SECTOR)?;
        out.write_all(bytes)?;
    }
    Ok(())
}
