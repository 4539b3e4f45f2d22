//! Tables of sorted numbers as differences between neighbours.
//!
//! A kernel is full of sorted lists of places: where each function starts, where each call is,
//! what to relocate. One function that grows changes every number behind it, but only one
//! difference. Files are matched and coded with their tables in this form.
//!
//! In the source the first entry of a table stays as it is. In the target so does the first that
//! lies in a chunk as a whole, so that a chunk needs nothing of the one before.

use std::ops::Range;

use crate::error::FormatError;
use crate::reader::Reader;

/// The longest entry.
pub(crate) const STRIDE_MAX: u32 = 64;
const WORD: u32 = 4;

/// A table of entries of one length, some of whose 32-bit words are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// Offset in the file.
    pub(crate) offset: u32,
    pub(crate) entries: u32,
    /// Bytes of an entry.
    pub(crate) stride: u32,
    /// Bit n: the word at byte 4n of an entry is sorted.
    pub(crate) words: u16,
}

impl Table {
    /// Reads a list of tables that follow each other in a file: for each the distance from the
    /// one before, entries, stride, words.
    pub(crate) fn read_all(from: &mut Reader<'_>, most: usize) -> Result<Vec<Self>, FormatError> {
        let count = from.at_most(most, "tables")?;
        let mut tables = Vec::with_capacity(count);
        let mut end = 0_u32;
        for _ in 0..count {
            let damaged = FormatError::Damaged("a table of sorted numbers does not add up");
            let gap = from.u32()?;
            let entries = from.u32()?;
            let stride = from.u32()?;
            let words = u16::try_from(from.u32()?).map_err(|_| damaged)?;
            let offset = end.checked_add(gap).ok_or(damaged)?;
            let bytes = entries.checked_mul(stride).ok_or(damaged)?;
            end = offset.checked_add(bytes).ok_or(damaged)?;
            let words_end = WORD * (u16::BITS - words.leading_zeros());
            if stride == 0 || stride > STRIDE_MAX || words_end > stride {
                return Err(damaged);
            }
            tables.push(Self {
                offset,
                entries,
                stride,
                words,
            });
        }
        Ok(tables)
    }

    pub(crate) fn end(&self) -> u32 {
        self.offset + self.entries * self.stride
    }

    /// The entries that lie whole in `part` of the file.
    fn whole_entries(&self, part: &Range<u32>) -> Range<u32> {
        let first = part.start.saturating_sub(self.offset).div_ceil(self.stride);
        let end = part.end.saturating_sub(self.offset) / self.stride;
        first..end.min(self.entries)
    }

    /// Offsets of the sorted words of an entry, in the file.
    fn words_of(&self, entry: u32) -> impl Iterator<Item = u32> + use<> {
        let (start, words) = (self.offset + entry * self.stride, self.words);
        (0..16)
            .filter(move |word| words >> word & 1 == 1)
            .map(move |word| start + word * WORD)
    }
}

/// The tables of a sorted list that `part` of the file touches.
pub(crate) fn touched<'a>(
    tables: &'a [Table],
    part: &Range<u32>,
) -> impl DoubleEndedIterator<Item = &'a Table> + use<'a> {
    let from = tables.partition_point(|table| table.end() <= part.start);
    let to = tables.partition_point(|table| table.offset < part.end);
    tables.get(from..to).unwrap_or_default().iter()
}

/// A part of a file in memory, by the file's offsets.
struct Part<'a> {
    start: u32,
    bytes: &'a mut [u8],
}

impl Part<'_> {
    fn word(&mut self, offset: u32) -> Option<&mut [u8; 4]> {
        let at = offset.checked_sub(self.start)? as usize;
        self.bytes.get_mut(at..)?.first_chunk_mut()
    }

    /// Changes the word at `offset` by the one at `by`.
    fn change(&mut self, offset: u32, by: u32, change: fn(u32, u32) -> u32) {
        let Some(by) = self.word(by).map(|word| u32::from_le_bytes(*word)) else {
            return;
        };
        if let Some(word) = self.word(offset) {
            *word = change(u32::from_le_bytes(*word), by).to_le_bytes();
        }
    }
}

/// Source: makes differences of the words that lie whole in `bytes`, together with their
/// neighbours in the entry before. Words at the edges stay; the caller cuts those off.
pub(crate) fn source_differences(tables: &[Table], start: u32, bytes: &mut [u8]) {
    let range = start..start.saturating_add(bytes.len() as u32);
    let mut part = Part { start, bytes };
    for table in touched(tables, &range) {
        let first = range.start.saturating_sub(table.offset) / table.stride;
        let end = range
            .end
            .saturating_sub(table.offset)
            .div_ceil(table.stride);
        // From the end, while the neighbour in front is still itself.
        for entry in (first.max(1)..end.min(table.entries)).rev() {
            for word in table.words_of(entry) {
                part.change(word, word.wrapping_sub(table.stride), u32::wrapping_sub);
            }
        }
    }
}

/// Target: makes differences in what one chunk holds of a file. The encoder's half.
#[cfg(feature = "encode")]
pub(crate) fn target_differences(tables: &[Table], start: u32, bytes: &mut [u8]) {
    let range = start..start + bytes.len() as u32;
    let mut part = Part { start, bytes };
    for table in touched(tables, &range) {
        for entry in table.whole_entries(&range).skip(1).rev() {
            for word in table.words_of(entry) {
                part.change(word, word - table.stride, u32::wrapping_sub);
            }
        }
    }
}

/// Target: makes numbers of the differences again.
pub(crate) fn target_numbers(tables: &[Table], start: u32, bytes: &mut [u8]) {
    let range = start..start.saturating_add(bytes.len() as u32);
    let mut part = Part { start, bytes };
    for table in touched(tables, &range) {
        for entry in table.whole_entries(&range).skip(1) {
            for word in table.words_of(entry) {
                part.change(word, word.wrapping_sub(table.stride), u32::wrapping_add);
            }
        }
    }
}
