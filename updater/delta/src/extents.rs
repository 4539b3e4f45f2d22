//! Where the bytes of a file lie in an image.
//!
//! A file of an image may be in pieces: the tail of an EROFS file lies beside its inode, and a
//! kernel in a zstd frame of raw blocks is cut by the blocks' headers. Deltas are made between
//! whole files; this maps their offsets to the image's.

use std::ops::Range;

use crate::error::FormatError;
use crate::reader::Reader;

/// A piece of a file: as long as the distance to the next piece, or to the end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    /// Offset in the file.
    offset: u32,
    /// Offset in the image.
    image: u64,
}

/// All pieces of one file, in the file's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extents {
    pieces: Vec<Extent>,
    bytes: u32,
}

impl Extents {
    /// Reads a list of pieces inside an image of `image_bytes`: how many, then for each the
    /// distance from the end of the one before, and the length. `left` is how many may still come.
    pub(crate) fn read(
        from: &mut Reader<'_>,
        image_bytes: u64,
        left: &mut usize,
    ) -> Result<Self, FormatError> {
        let count = from.at_most(*left, "pieces of files")?;
        *left -= count;
        let mut extents = Self {
            pieces: Vec::with_capacity(count),
            bytes: 0,
        };
        let mut end = 0_u64;
        for _ in 0..count {
            let image = end.wrapping_add_signed(from.signed()?);
            let bytes = from.u32()?;
            end = image
                .checked_add(u64::from(bytes))
                .filter(|end| *end <= image_bytes)
                .ok_or(FormatError::Damaged("a file lies outside its image"))?;
            extents.add(image, bytes)?;
        }
        Ok(extents)
    }

    /// Adds a piece at the end of the file.
    pub(crate) fn add(&mut self, image: u64, bytes: u32) -> Result<(), FormatError> {
        self.pieces.push(Extent {
            offset: self.bytes,
            image,
        });
        self.bytes = self
            .bytes
            .checked_add(bytes)
            .ok_or(FormatError::TooLarge("bytes of one file"))?;
        Ok(())
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// The pieces: offset in the file, offset in the image, length.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (u32, u64, u32)> {
        self.locate(0..self.bytes)
    }

    /// The pieces of a part of the file.
    pub(crate) fn locate(&self, part: Range<u32>) -> impl Iterator<Item = (u32, u64, u32)> {
        let from = self
            .pieces
            .partition_point(|piece| piece.offset <= part.start)
            .saturating_sub(1);
        let pieces = self.pieces.get(from..).unwrap_or_default();
        let ends = pieces
            .iter()
            .skip(1)
            .map(|piece| piece.offset)
            .chain([self.bytes]);
        pieces
            .iter()
            .zip(ends)
            .take_while(move |(piece, _)| piece.offset < part.end)
            .filter_map(move |(piece, end)| {
                let start = piece.offset.max(part.start);
                let bytes = end
                    .min(part.end)
                    .checked_sub(start)
                    .filter(|bytes| *bytes > 0)?;
                Some((start, piece.image + u64::from(start - piece.offset), bytes))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_found_across_pieces() {
        let mut extents = Extents::default();
        extents.add(100, 10).unwrap();
        extents.add(50, 5).unwrap();
        extents.add(200, 10).unwrap();
        let found: Vec<_> = extents.locate(8..17).collect();
        assert_eq!(found, [(8, 108, 2), (10, 50, 5), (15, 200, 2)]);
        assert_eq!(extents.locate(25..25).count(), 0);
        assert_eq!(extents.locate(30..40).count(), 0);
    }
}
