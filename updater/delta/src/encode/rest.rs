//! What has no copy map: copies between the images themselves.

use crate::encode::file::gather;
use crate::encode::matching::{self, common};
use crate::extents::Extents;
use crate::map::Segment;

use std::collections::HashMap;

/// Suffix arrays are made of at most this much at a time: they take four times as much memory.
const WINDOW: usize = 96 << 20;
/// What is larger is first searched for equal blocks of this size.
const BLOCK: usize = 4096;

/// Bytes of the target that are like bytes of the source, in the images' offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) old: u64,
    pub(crate) new: u64,
    pub(crate) bytes: u64,
}

/// Copies that make the new file from the old one.
pub(crate) fn copies(
    old_image: &[u8],
    new_image: &[u8],
    old: &Extents,
    new: &Extents,
) -> Vec<Copy> {
    let (old_file, new_file) = (gather(old_image, old), gather(new_image, new));
    let segments = match old_file == new_file {
        true => vec![Segment {
            old: 0,
            new: 0,
            bytes: new.bytes(),
        }],
        false if old_file.len().max(new_file.len()) <= WINDOW => {
            matching::segments(&old_file, &new_file)
        }
        false => large(&old_file, &new_file),
    };
    segments
        .iter()
        .flat_map(|segment| in_images(segment, old, new))
        .collect()
}

/// A segment between two files, cut where either file is cut in its image.
fn in_images(segment: &Segment, old: &Extents, new: &Extents) -> Vec<Copy> {
    let mut copies = Vec::new();
    for (start, new_at, length) in new.locate(segment.new..segment.new + segment.bytes) {
        let from = segment.old + (start - segment.new);
        for (offset, old_at, bytes) in old.locate(from..from + length) {
            copies.push(Copy {
                old: old_at,
                new: new_at + u64::from(offset - from),
                bytes: bytes.into(),
            });
        }
    }
    copies
}

/// Segments of files that are too large for one suffix array: equal blocks wherever they are,
/// then what is left, window by window.
fn large(old: &[u8], new: &[u8]) -> Vec<Segment> {
    let mut segments = equal_blocks(old, new);
    let new_left = complement(segments.iter().map(|one| (one.new, one.bytes)), new.len());
    let mut used: Vec<_> = segments.iter().map(|one| (one.old, one.bytes)).collect();
    used.sort_unstable();
    let old_left = complement(used.into_iter(), old.len());
    let windows = new_left
        .bytes()
        .max(old_left.bytes())
        .div_ceil(WINDOW as u32)
        .max(1);
    let part = |extents: &Extents, window: u32| {
        let bytes = u64::from(extents.bytes());
        let at = |window: u32| (bytes * u64::from(window) / u64::from(windows)) as u32;
        let mut part = Extents::default();
        for (_, image, bytes) in extents.locate(at(window)..at(window + 1)) {
            // No longer than what it is a part of.
            let _ = part.add(image, bytes);
        }
        part
    };
    for window in 0..windows {
        let (old_part, new_part) = (part(&old_left, window), part(&new_left, window));
        let found = matching::segments(&gather(old, &old_part), &gather(new, &new_part));
        for copy in found
            .iter()
            .flat_map(|segment| in_images(segment, &old_part, &new_part))
        {
            segments.push(Segment {
                old: copy.old as u32,
                new: copy.new as u32,
                bytes: copy.bytes as u32,
            });
        }
    }
    segments.sort_unstable_by_key(|segment| segment.new);
    segments
}

/// What the sorted `used` ranges leave of a file.
pub(crate) fn complement(used: impl Iterator<Item = (u32, u32)>, bytes: usize) -> Extents {
    let mut left = Extents::default();
    let mut end = 0_u32;
    for (start, length) in used.chain([(bytes as u32, 0)]) {
        if start > end {
            // The sum is at most the file's length.
            let _ = left.add(end.into(), start - end);
        }
        end = end.max(start + length);
    }
    left
}

/// Segments that are equal, found by the old file's blocks at any place of the new one.
fn equal_blocks(old: &[u8], new: &[u8]) -> Vec<Segment> {
    let mut blocks = HashMap::new();
    for (index, block) in old.chunks_exact(BLOCK).enumerate() {
        blocks
            .entry(Rolling::over(block).value)
            .or_insert(index * BLOCK);
    }
    let mut segments: Vec<Segment> = Vec::new();
    let (mut at, mut done) = (0, 0);
    let mut rolling = None;
    while let Some(window) = new.get(at..at + BLOCK) {
        let hash = *rolling.get_or_insert_with(|| Rolling::over(window));
        let found = blocks
            .get(&hash.value)
            .filter(|old_at| old[**old_at..].starts_with(window));
        let Some(old_at) = found.copied() else {
            rolling = new.get(at + BLOCK).map(|next| hash.roll(new[at], *next));
            at += 1;
            continue;
        };
        let back = (0..old_at.min(at - done))
            .take_while(|back| old[old_at - 1 - back] == new[at - 1 - back])
            .count();
        let length = back + common(&old[old_at..], &new[at..]);
        let (old_start, new_start) = (old_at - back, at - back);
        segments.push(Segment {
            old: old_start as u32,
            new: new_start as u32,
            bytes: length as u32,
        });
        done = new_start + length;
        at = done;
        rolling = None;
    }
    segments
}

/// A polynomial hash of a block, which can move by one byte.
#[derive(Clone, Copy)]
struct Rolling {
    value: u64,
}

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Rolling {
    fn over(block: &[u8]) -> Self {
        let add = |value: u64, byte: &u8| {
            value
                .wrapping_mul(FACTOR)
                .wrapping_add(u64::from(*byte) + 1)
        };
        Self {
            value: block.iter().fold(0, add),
        }
    }

    fn roll(self, gone: u8, next: u8) -> Self {
        const FIRST: u64 = FACTOR.wrapping_pow(BLOCK as u32);
        let value = self
            .value
            .wrapping_mul(FACTOR)
            .wrapping_add(u64::from(next) + 1)
            .wrapping_sub((u64::from(gone) + 1).wrapping_mul(FIRST));
        Self { value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rolled_hash_is_that_of_the_next_block() {
        let bytes: Vec<u8> = (0..BLOCK as u32 + 1)
            .map(|at| ((at * at) >> 3) as u8)
            .collect();
        let rolled = Rolling::over(&bytes[..BLOCK]).roll(bytes[0], bytes[BLOCK]);
        assert_eq!(rolled.value, Rolling::over(&bytes[1..]).value);
    }
}
