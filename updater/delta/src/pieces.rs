//! What one chunk holds: a part of each file that has a copy map, and the rest.
//!
//! Encoder and decoder walk the pieces in the same order: the rest first, then each file's parts
//! by their offsets, joined where they touch.

use std::ops::Range;

use crate::patch::{Patch, Place};

/// Bytes of a chunk that are made together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The file, and which part of it; nothing for what belongs to no file.
    pub(crate) file: Option<(usize, Range<u32>)>,
    /// Where they go in the chunk, in their order: start and length.
    pub(crate) places: Vec<(usize, usize)>,
}

impl Piece {
    pub(crate) fn bytes(&self) -> usize {
        self.places.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// The pieces of the chunk of `bytes` at `offset` of the target.
pub(crate) fn of_chunk(places: &[Place], offset: u64, bytes: usize) -> Vec<Piece> {
    let end = offset + bytes as u64;
    let from = places.partition_point(|place| place.image + u64::from(place.bytes) <= offset);
    let to = places.partition_point(|place| place.image < end);
    let mut parts: Vec<(usize, Range<u32>, usize)> = Vec::new();
    let mut rest = Piece {
        file: None,
        places: Vec::new(),
    };
    let mut done = 0;
    for place in places.get(from..to).unwrap_or_default() {
        let skipped = offset.saturating_sub(place.image);
        let start = (place.image + skipped - offset) as usize;
        let length = (u64::from(place.bytes) - skipped).min((bytes - start) as u64) as u32;
        let first = place.offset + skipped as u32;
        if start > done {
            rest.places.push((done, start - done));
        }
        parts.push((place.file, first..first + length, start));
        done = start + length as usize;
    }
    if bytes > done {
        rest.places.push((done, bytes - done));
    }
    parts.sort_unstable_by_key(|(file, part, _)| (*file, part.start));
    let mut pieces = Vec::new();
    if !rest.places.is_empty() {
        pieces.push(rest);
    }
    for (file, part, start) in parts {
        let place = (start, (part.end - part.start) as usize);
        match pieces.last_mut() {
            Some(Piece {
                file: Some((last, before)),
                places,
            }) if *last == file && before.end == part.start => {
                before.end = part.end;
                places.push(place);
            }
            _ => pieces.push(Piece {
                file: Some((file, part)),
                places: vec![place],
            }),
        }
    }
    pieces
}

impl Patch {
    pub(crate) fn pieces(&self, offset: u64, bytes: usize) -> Vec<Piece> {
        of_chunk(&self.places, offset, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_cut_file_are_joined_and_the_rest_is_collected() {
        let place = |image, file, offset, bytes| Place {
            image,
            file,
            offset,
            bytes,
        };
        let places = [
            place(90, 1, 0, 20),
            place(113, 1, 20, 30),
            place(150, 0, 7, 100),
        ];
        let pieces = of_chunk(&places, 100, 60);
        let rest = Piece {
            file: None,
            places: vec![(10, 3), (43, 7)],
        };
        let first = Piece {
            file: Some((0, 7..17)),
            places: vec![(50, 10)],
        };
        let second = Piece {
            file: Some((1, 10..50)),
            places: vec![(0, 10), (13, 30)],
        };
        assert_eq!(pieces, [rest, first, second]);
    }
}
