//! Which file of the new version a patch's bytes are for.
//!
//! A chunk's streams are packed for all its files together, so a file's part of each packed stream
//! is its part of the stream unpacked. The sum is the patch, to the byte.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::encode::elf::{self, number};
use crate::encode::file::{File, gather};
use crate::encode::{erofs, frames};
use crate::extents::Extents;

const SECTION_HEADER_BYTES: usize = 64;
const SHT_NOBITS: u64 = 8;

/// What bytes of a patch are for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A file of an EROFS image, by its path.
    File(String),
    /// A section of a program, or of the kernel in a boot image.
    Section(String),
    /// Bytes of the image that belong to no file: directories, inodes, what is around a kernel.
    Around,
    /// The patch's own: hashes of all chunks, and how they are made.
    Head,
}

/// What a part of the new version costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// What it is.
    pub what: What,
    /// Its bytes in the new version; none for the patch's own.
    pub new_bytes: u64,
    /// Bytes of the patch.
    pub patch_bytes: u64,
}

/// Bytes of a patch for a range of the new image.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    pub(crate) image: Range<u64>,
    pub(crate) bytes: f64,
}

/// Spreads `bytes` of the patch over a part of a file, in the image's offsets.
pub(crate) fn share(of: &Extents, part: Range<u32>, bytes: f64, shares: &mut Vec<Share>) {
    let whole = f64::from(part.end - part.start);
    shares.extend(of.locate(part).map(|(_, image, length)| Share {
        image: image..image + u64::from(length),
        bytes: bytes * f64::from(length) / whole,
    }));
}

/// Spreads a packed copy map over what it describes: every segment costs the same.
pub(crate) fn share_map(file: &File, packed_bytes: usize, shares: &mut Vec<Share>) {
    let segments = &file.map.segments;
    let bytes = packed_bytes as f64 / segments.len() as f64;
    for segment in segments.iter().filter(|segment| segment.bytes > 0) {
        share(&file.new, segment.new..segment.new + 1, bytes, shares);
    }
}

/// Adds up by file; the most expensive first.
pub(crate) fn add_up(new: &[u8], patch_bytes: usize, shares: &[Share]) -> Vec<Cost> {
    let regions = regions(new);
    let mut sums: BTreeMap<&What, (u64, f64)> = BTreeMap::new();
    for (image, what) in &regions {
        sums.entry(what).or_default().0 += image.end - image.start;
    }
    for share in shares {
        let whole = (share.image.end - share.image.start) as f64;
        let first = regions.partition_point(|(image, _)| image.end <= share.image.start);
        let touched = regions.get(first..).unwrap_or_default().iter();
        for (image, what) in touched.take_while(|(image, _)| image.start < share.image.end) {
            let common = image.end.min(share.image.end) - image.start.max(share.image.start);
            sums.entry(what).or_default().1 += share.bytes * common as f64 / whole;
        }
    }
    let mut costs: Vec<Cost> = sums
        .into_iter()
        .map(|(what, (new_bytes, bytes))| Cost {
            what: what.clone(),
            new_bytes,
            patch_bytes: bytes as u64,
        })
        .collect();
    let shared: u64 = costs.iter().map(|cost| cost.patch_bytes).sum();
    costs.push(Cost {
        what: What::Head,
        new_bytes: 0,
        patch_bytes: (patch_bytes as u64).saturating_sub(shared),
    });
    costs.sort_by(|one, next| {
        let order = next.patch_bytes.cmp(&one.patch_bytes);
        order.then_with(|| one.what.cmp(&next.what))
    });
    costs
}

/// All of an image in ranges, each with what it is, in the image's order.
fn regions(image: &[u8]) -> Vec<(Range<u64>, What)> {
    let mut named: Vec<(Range<u64>, What)> = Vec::new();
    let mut name = |extents: &Extents, part: Range<u32>, what: &What| {
        let pieces = extents.locate(part);
        named.extend(pieces.map(|(_, at, bytes)| (at..at + u64::from(bytes), what.clone())));
    };
    if let Some(files) = erofs::files(image) {
        for file in files {
            let path = String::from_utf8_lossy(&file.path).into_owned();
            name(&file.extents, 0..file.extents.bytes(), &What::File(path));
        }
    } else {
        for program in programs(image) {
            for (section, part) in sections(&gather(image, &program)) {
                name(&program, part, &What::Section(section));
            }
        }
    }
    named.sort_by_key(|(range, _)| (range.start, range.end));
    let mut regions = Vec::with_capacity(2 * named.len() + 1);
    let mut end = 0;
    for (range, what) in named {
        if range.start > end {
            regions.push((end..range.start, What::Around));
        }
        // Files of a damaged image may overlap: the first one counts.
        let start = range.start.max(end);
        if start < range.end {
            end = range.end;
            regions.push((start..end, what));
        }
    }
    if end < image.len() as u64 {
        regions.push((end..image.len() as u64, What::Around));
    }
    regions
}

/// The image itself if it is a program, else the kernels in it.
fn programs(image: &[u8]) -> Vec<Extents> {
    if !elf::is_elf64(image) {
        return frames::find(image);
    }
    let mut whole = Extents::default();
    let bytes = u32::try_from(image.len()).unwrap_or(0);
    match whole.add(0, bytes) {
        Ok(()) => vec![whole],
        Err(_) => Vec::new(),
    }
}

/// The sections of an ELF file that have bytes in it; nothing for any other file.
fn sections(file: &[u8]) -> Vec<(String, Range<u32>)> {
    let read = || {
        let table = elf::is_elf64(file).then(|| number::<8>(file, 40))?? as usize;
        let count = number::<2>(file, 60)? as usize;
        let header = |index: usize| table.checked_add(index * SECTION_HEADER_BYTES);
        let names = number::<8>(file, header(number::<2>(file, 62)? as usize)? + 24)? as usize;
        let section = |index: usize| {
            let at = header(index)?;
            let name = file.get(names + number::<4>(file, at)? as usize..)?;
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            let start = number::<8>(file, at + 24)?;
            let end = start.checked_add(number::<8>(file, at + 32)?)?;
            let is_here =
                number::<4>(file, at + 4)? != SHT_NOBITS && start < end && end <= file.len() as u64;
            let name = String::from_utf8_lossy(name).into_owned();
            is_here.then_some((name, start as u32..end as u32))
        };
        Some((0..count).filter_map(section).collect())
    };
    read().unwrap_or_default()
}
