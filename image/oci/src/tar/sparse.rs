//! Sparse files: where the stored bytes belong in the file. GNU's old format and its three pax
//! formats (0.0, 0.1, 1.0).

use std::io::Read;

use super::header::{BLOCK, Block, number};
use super::pax::{Records, decimal};
use super::{TarError, reader::read_full};

/// A run of stored bytes at its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// The stored runs of a file of `size` bytes.
#[derive(Debug)]
pub(super) struct Map {
    pub(super) segments: Vec<Segment>,
    pub(super) size: u64,
}

impl Map {
    /// Accepts only runs in order, without overlap, inside the file, and together as long as
    /// what is `stored`.
    fn new(segments: Vec<Segment>, size: u64, stored: u64) -> Result<Self, TarError> {
        const BAD: TarError = TarError::Malformed("a sparse file's map is inconsistent");
        let (mut end, mut total) = (0u64, 0u64);
        for segment in &segments {
            if segment.offset < end {
                return Err(BAD);
            }
            end = segment.offset.checked_add(segment.len).ok_or(BAD)?;
            total = total.checked_add(segment.len).ok_or(BAD)?;
        }
        if end > size || total != stored {
            return Err(BAD);
        }
        Ok(Self { segments, size })
    }
}

/// The old GNU format: four runs in the header, 21 more in each extension block.
pub(super) fn gnu(
    block: &Block,
    stored: u64,
    input: &mut impl Read,
    max_segments: usize,
) -> Result<Map, TarError> {
    let size = unsigned(number(block.field(483, 12))?)?;
    let mut segments = Vec::new();
    let mut more = push_pairs(block.field(386, 96), &mut segments)? && block.field(482, 1) != [0];
    while more {
        let mut extension = [0; BLOCK];
        read_full(input, &mut extension)?;
        let (pairs, rest) = extension.split_at(504);
        more = push_pairs(pairs, &mut segments)? && rest.first() != Some(&0);
        check_count(&segments, max_segments)?;
    }
    Map::new(segments, size, stored)
}

/// Whether the field was full.
fn push_pairs(field: &[u8], segments: &mut Vec<Segment>) -> Result<bool, TarError> {
    for pair in field.chunks_exact(24) {
        let (offset, len) = pair.split_at(12);
        if offset.first() == Some(&0) || len.first() == Some(&0) {
            return Ok(false);
        }
        segments.push(Segment {
            offset: unsigned(number(offset)?)?,
            len: unsigned(number(len)?)?,
        });
    }
    Ok(true)
}

/// The pax formats whose map is in the records (0.0 and 0.1); `None` when there is none.
pub(super) fn from_records(
    records: &Records,
    stored: u64,
    max_segments: usize,
) -> Result<Option<Map>, TarError> {
    let Some(size) = records.number("GNU.sparse.size")? else {
        return Ok(None);
    };
    let numbers: Vec<u64> = match records.get("GNU.sparse.map") {
        Some(map) => map
            .split(|byte| *byte == b',')
            .map(whole)
            .collect::<Result<_, _>>()?,
        None => records
            .iter()
            .filter(|(key, _)| *key == b"GNU.sparse.offset" || *key == b"GNU.sparse.numbytes")
            .map(|(_, value)| whole(value))
            .collect::<Result<_, _>>()?,
    };
    let segments = pairs(&numbers)?;
    check_count(&segments, max_segments)?;
    Map::new(segments, size, stored).map(Some)
}

/// Version 1.0: the map stands in front of the data, in decimal lines padded to a block. Returns
/// the map and how many bytes it took.
pub(super) fn from_data(
    size: u64,
    stored: u64,
    input: &mut impl Read,
    max_segments: usize,
) -> Result<(Map, u64), TarError> {
    let mut lines = Lines {
        input,
        block: [0; BLOCK],
        at: BLOCK,
        taken: 0,
        stored,
    };
    let count = lines.number()?;
    if count > max_segments as u64 {
        return Err(too_many(max_segments));
    }
    let mut segments = Vec::new();
    for _ in 0..count {
        segments.push(Segment {
            offset: lines.number()?,
            len: lines.number()?,
        });
    }
    let taken = lines.taken;
    let map = Map::new(segments, size, stored - taken)?;
    Ok((map, taken))
}

struct Lines<'a, R> {
    input: &'a mut R,
    block: [u8; BLOCK],
    at: usize,
    taken: u64,
    stored: u64,
}

impl<R: Read> Lines<'_, R> {
    fn number(&mut self) -> Result<u64, TarError> {
        let mut digits = Vec::new();
        loop {
            if self.at == BLOCK {
                if self.taken + BLOCK as u64 > self.stored {
                    return Err(TarError::Malformed("a sparse file's map has no end"));
                }
                read_full(self.input, &mut self.block)?;
                self.taken += BLOCK as u64;
                self.at = 0;
            }
            let byte = self.block.get(self.at).copied().unwrap_or(0);
            self.at += 1;
            match byte {
                b'\n' => return whole(&digits),
                byte if digits.len() < 20 => digits.push(byte),
                _ => return Err(TarError::Malformed("a sparse file's map is not numbers")),
            }
        }
    }
}

fn pairs(numbers: &[u64]) -> Result<Vec<Segment>, TarError> {
    if !numbers.len().is_multiple_of(2) {
        return Err(TarError::Malformed("a sparse file's map is not pairs"));
    }
    Ok(numbers
        .chunks_exact(2)
        .filter_map(|pair| match pair {
            [offset, len] => Some(Segment {
                offset: *offset,
                len: *len,
            }),
            _ => None,
        })
        .collect())
}

fn check_count(segments: &[Segment], max: usize) -> Result<(), TarError> {
    match segments.len() > max {
        true => Err(too_many(max)),
        false => Ok(()),
    }
}

fn too_many(max: usize) -> TarError {
    TarError::TooLarge {
        what: "the number of data segments of a sparse file",
        limit: max as u64,
    }
}

fn whole(digits: &[u8]) -> Result<u64, TarError> {
    decimal(digits).ok_or(TarError::Malformed("a sparse file's map is not numbers"))
}

fn unsigned(value: i64) -> Result<u64, TarError> {
    u64::try_from(value).map_err(|_| TarError::Malformed("a sparse file's map is negative"))
}
