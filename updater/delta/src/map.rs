//! The copy map of one file: which part of the target is like which part of the source.
//!
//! It is read twice: in the target's order it says what to copy, and in the source's order where
//! an address has moved to, which is what [`crate::predict`] needs. It is shared by all chunks of
//! the file, and loaded when a chunk needs it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use crate::addresses::Addresses;
use crate::error::FormatError;
use crate::limits::Limits;
use crate::reader::Reader;
use crate::tables::Table;

/// Shorter segments say nothing about where an address has moved to.
const TRUSTED_BYTES: u32 = 8;

const DAMAGED: FormatError = FormatError::Damaged("a copy map does not add up");

/// A part of the target that is like a part of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Offset in the source's file.
    pub(crate) old: u32,
    /// Offset in the target's file.
    pub(crate) new: u32,
    pub(crate) bytes: u32,
}

/// A copy map as it is in the patch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) old_addresses: Addresses,
    pub(crate) new_addresses: Addresses,
    pub(crate) old_tables: Vec<Table>,
    pub(crate) new_tables: Vec<Table>,
    /// In the target's order, without overlap.
    pub(crate) segments: Vec<Segment>,
    /// Memory that is not in the files and has moved: like segments, but nothing is copied.
    pub(crate) hints: Vec<Segment>,
}

impl Map {
    /// Reads a map between files of these lengths.
    pub(crate) fn read(
        bytes: &[u8],
        old_bytes: u32,
        new_bytes: u32,
        limits: &Limits,
    ) -> Result<Self, FormatError> {
        let mut from = Reader::new(bytes);
        let map = Self {
            old_addresses: Addresses::read(&mut from)?,
            new_addresses: Addresses::read(&mut from)?,
            old_tables: Table::read_all(&mut from, limits.tables)?,
            new_tables: Table::read_all(&mut from, limits.tables)?,
            segments: read_segments(&mut from, limits.segments)?,
            hints: read_segments(&mut from, limits.segments)?,
        };
        let inside = |segment: &Segment| {
            segment
                .old
                .checked_add(segment.bytes)
                .is_some_and(|end| end <= old_bytes)
                && segment
                    .new
                    .checked_add(segment.bytes)
                    .is_some_and(|end| end <= new_bytes)
        };
        if map.segments.iter().all(inside) && from.is_empty() {
            Ok(map)
        } else {
            Err(DAMAGED)
        }
    }

    /// Whether there are references to predict.
    pub(crate) fn predicts(&self) -> bool {
        !self.old_addresses.rows.is_empty()
    }

    /// The segments that `part` of the target touches.
    pub(crate) fn touched(&self, part: &Range<u32>) -> &[Segment] {
        let from = self
            .segments
            .partition_point(|segment| segment.new + segment.bytes <= part.start);
        let to = self
            .segments
            .partition_point(|segment| segment.new < part.end);
        self.segments.get(from..to).unwrap_or_default()
    }
}

/// Segments in three columns: the distance from the one before in the target, the length, and the
/// distance in the source from where the one before would go on.
fn read_segments(from: &mut Reader<'_>, most: usize) -> Result<Vec<Segment>, FormatError> {
    let count = from.at_most(most, "segments of a copy map")?;
    let mut segments = Vec::with_capacity(count);
    for _ in 0..count {
        segments.push(Segment {
            old: 0,
            new: from.u32()?,
            bytes: 0,
        });
    }
    for segment in &mut segments {
        segment.bytes = from.u32()?;
    }
    let (mut old, mut new) = (0_u32, 0_u32);
    for segment in &mut segments {
        let moved = u32::try_from(i64::from(old) + i64::from(segment.new) + from.signed()?);
        segment.old = moved.map_err(|_| DAMAGED)?;
        segment.new = segment.new.checked_add(new).ok_or(DAMAGED)?;
        new = segment.new.checked_add(segment.bytes).ok_or(DAMAGED)?;
        old = segment.old.checked_add(segment.bytes).ok_or(DAMAGED)?;
    }
    Ok(segments)
}

/// Where the source's bytes have moved to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moves {
    /// From each offset on, until the next, what to add (wrapping) to get the target's offset.
    steps: Vec<(u32, u32)>,
}

impl Moves {
    /// Where segments overlap in the source, the longest counts; where there is none, the last
    /// one in front.
    pub(crate) fn new(map: &Map) -> Self {
        let mut order: Vec<Segment> = map
            .segments
            .iter()
            .chain(&map.hints)
            .filter(|segment| segment.bytes >= TRUSTED_BYTES)
            .copied()
            .collect();
        order.sort_unstable_by_key(|segment| (segment.old, segment.new));
        let end = |segment: &Segment| segment.old.saturating_add(segment.bytes);
        let mut steps: Vec<(u32, u32)> = Vec::with_capacity(order.len());
        // Those that cover the place the sweep is at, the longest on top.
        let mut open = BinaryHeap::<(u32, Reverse<u32>, Reverse<u32>)>::new();
        let mut next = order.iter().peekable();
        let mut at = 0_u32;
        loop {
            while let Some(segment) = next.next_if(|segment| segment.old <= at) {
                open.push((segment.bytes, Reverse(segment.old), Reverse(segment.new)));
            }
            let longest = loop {
                match open.peek() {
                    Some((bytes, Reverse(old), _)) if old.saturating_add(*bytes) <= at => {
                        open.pop();
                    }
                    Some((bytes, Reverse(old), Reverse(new))) => {
                        break Some(Segment {
                            old: *old,
                            new: *new,
                            bytes: *bytes,
                        });
                    }
                    None => break None,
                }
            };
            if let Some(segment) = longest {
                let shift = segment.new.wrapping_sub(segment.old);
                if steps.last().is_none_or(|(_, last)| *last != shift) {
                    steps.push((at, shift));
                }
            }
            let start = next.peek().map(|segment| segment.old);
            at = match (longest.as_ref().map(end), start) {
                (Some(end), Some(start)) => end.min(start),
                (Some(end), None) => end,
                (None, Some(start)) => start,
                (None, None) => return Self { steps },
            };
        }
    }

    /// Where the byte at `old` would be in the target.
    pub(crate) fn new_offset(&self, old: u32) -> Option<u32> {
        let after = self.steps.partition_point(|(from, _)| *from <= old);
        let (_, shift) = self.steps.get(after.checked_sub(1)?)?;
        Some(old.wrapping_add(*shift))
    }
}
