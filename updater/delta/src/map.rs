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
const WORD: u32 = 4;

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
    /// Where addresses have moved to other places than the segments say, or where those say
    /// nothing: in the source's order, without overlap.
    pub(crate) hints: Vec<Hint>,
    /// Where the source lists the places of its absolute addresses.
    pub(crate) absolute: List,
}

/// What of the source has moved to where, without being copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    /// Offset in the source's file.
    pub(crate) old: u32,
    pub(crate) bytes: u32,
    /// What to add (wrapping) for the offset in the target's file.
    pub(crate) shift: u32,
}

/// Sorted 32-bit words in the source's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) offset: u32,
    pub(crate) words: u32,
}

impl List {
    fn read(from: &mut Reader<'_>, file_bytes: u32, most: usize) -> Result<Self, FormatError> {
        let words = from.at_most(most, "absolute addresses")? as u32;
        let offset = from.u32()?;
        match offset.checked_add(words * WORD) {
            Some(end) if end <= file_bytes => Ok(Self { offset, words }),
            _ => Err(DAMAGED),
        }
    }

    /// Where it lies.
    pub(crate) fn range(&self) -> Range<u32> {
        self.offset..self.offset + self.words * WORD
    }

    /// Its words, of its bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<u32>, FormatError> {
        let words: Vec<u32> = bytes
            .chunks_exact(WORD as usize)
            .filter_map(|word| Some(u32::from_le_bytes(*word.first_chunk()?)))
            .collect();
        match words.is_sorted() {
            true => Ok(words),
            false => Err(FormatError::Damaged("a list of addresses is not sorted")),
        }
    }
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
            hints: read_hints(&mut from, limits.segments)?,
            absolute: List::read(&mut from, old_bytes, limits.absolute)?,
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

/// For each hint the distance from the one before in the source, the length, and how much more it
/// moves than the one before.
fn read_hints(from: &mut Reader<'_>, most: usize) -> Result<Vec<Hint>, FormatError> {
    let count = from.at_most(most, "hints of a copy map")?;
    let mut hints = Vec::with_capacity(count);
    let (mut end, mut shift) = (0_u32, 0_u32);
    for _ in 0..count {
        let old = end.checked_add(from.u32()?).ok_or(DAMAGED)?;
        let bytes = from.u32()?;
        end = old.checked_add(bytes).ok_or(DAMAGED)?;
        shift = shift.wrapping_add(from.signed()? as u32);
        hints.push(Hint { old, bytes, shift });
    }
    Ok(hints)
}

/// Where the source's bytes have moved to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moves {
    /// From each offset on, until the next, what to add (wrapping) to get the target's offset.
    steps: Vec<(u32, u32)>,
}

impl Moves {
    /// Hints count before segments.
    pub(crate) fn new(map: &Map) -> Self {
        let by_segments = Self::by_segments(&map.segments);
        let mut steps = Vec::with_capacity(by_segments.steps.len() + 2 * map.hints.len());
        let mut base = by_segments.steps.into_iter().peekable();
        let mut last = None;
        for (hint, next) in map
            .hints
            .iter()
            .zip(map.hints.iter().skip(1).map(Some).chain([None]))
        {
            while let Some(step) = base.next_if(|(from, _)| *from < hint.old) {
                steps.push(step);
                last = Some(step.1);
            }
            steps.push((hint.old, hint.shift));
            let end = hint.old.saturating_add(hint.bytes);
            while let Some((_, shift)) = base.next_if(|(from, _)| *from <= end) {
                last = Some(shift);
            }
            if let Some(last) = last.filter(|_| next.is_none_or(|next| next.old > end)) {
                steps.push((end, last));
            }
        }
        steps.extend(base);
        Self { steps }
    }

    /// Where segments overlap in the source, the longest counts; where there is none, the last
    /// one in front.
    fn by_segments(segments: &[Segment]) -> Self {
        let mut order: Vec<Segment> = segments
            .iter()
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
