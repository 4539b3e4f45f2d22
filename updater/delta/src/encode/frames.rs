//! Kernels inside boot images: the payload of a bzImage is a zstd frame of raw blocks (RFC 8878),
//! which lies in one piece in the UKI and, as our FAT is written, in the image.
//!
//! A frame is found by its magic number and believed when all its blocks follow one another.

use crate::encode::elf::number;
use crate::extents::Extents;

const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// Shorter payloads are not kernels.
const CONTENT_MIN: u32 = 16 << 10;

/// The contents of all frames of raw blocks, in the image's order.
pub(crate) fn find(image: &[u8]) -> Vec<Extents> {
    let mut frames = Vec::new();
    let mut at = 0;
    while let Some(found) = next_magic(image, at) {
        at = found + MAGIC.len();
        let frame = raw_frame(image, found);
        if let Some((content, end)) = frame.filter(|(content, _)| content.bytes() >= CONTENT_MIN) {
            at = end;
            frames.push(content);
        }
    }
    frames
}

fn next_magic(image: &[u8], from: usize) -> Option<usize> {
    let (first, rest) = MAGIC.split_first()?;
    let mut at = from;
    loop {
        at += image.get(at..)?.iter().position(|byte| byte == first)?;
        if image.get(at + 1..)?.starts_with(rest) {
            return Some(at);
        }
        at += 1;
    }
}

/// The content of a frame at `at`, and where the frame ends.
fn raw_frame(image: &[u8], at: usize) -> Option<(Extents, usize)> {
    let descriptor = *image.get(at + MAGIC.len())?;
    let single_segment = descriptor >> 5 & 1 == 1;
    let size_bytes = match descriptor >> 6 {
        0 => usize::from(single_segment),
        power => 1 << power,
    };
    let dictionary_bytes = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let mut at =
        at + MAGIC.len() + 1 + usize::from(!single_segment) + dictionary_bytes + size_bytes;
    let mut content = Extents::default();
    loop {
        let header = number::<3>(image, at)? as u32;
        let (last, kind, bytes) = (header & 1, header >> 1 & 3, header >> 3);
        let start = at + 3;
        at = start + bytes as usize;
        if kind != 0 || at > image.len() {
            return None;
        }
        content.add(start as u64, bytes).ok()?;
        if last == 1 {
            return Some((content, at));
        }
    }
}
