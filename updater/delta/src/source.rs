//! Reading the source: the image that is on the machine, through dm-verity.

use std::io;
use std::ops::Range;

use crate::error::ChunkError;
use crate::extents::Extents;
use crate::tables::{STRIDE_MAX, Table, source_differences};

/// The old image. On the machine it is read through dm-verity, so rot is an error, never wrong
/// bytes.
pub trait Source {
    /// Fills `buffer` with the bytes at `offset`.
    ///
    /// # Errors
    /// When not all of them can be read; the chunk then needs the full image.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Source for &[u8] {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..)?.get(..buffer.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

impl Source for std::fs::File {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&*self, buffer, offset)
    }
}

/// A word at the start of a part needs the entry before it, and its own first bytes.
const MARGIN_BEFORE: u32 = STRIDE_MAX + 3;
const MARGIN_AFTER: u32 = 3;

/// Appends to `out` a part of a file of the source, with its tables as differences. What `part`
/// has in front of the file's start, by `missing` bytes, reads as zeros.
pub(crate) fn read_file(
    source: &mut dyn Source,
    extents: &Extents,
    tables: &[Table],
    part: Range<u32>,
    missing: usize,
    out: &mut Vec<u8>,
) -> Result<(), ChunkError> {
    out.clear();
    out.resize(missing, 0);
    let start = part.start.saturating_sub(MARGIN_BEFORE);
    let end = part.end.saturating_add(MARGIN_AFTER).min(extents.bytes());
    let wide = match tables.is_empty() {
        true => part.clone(),
        false => start..end,
    };
    for (_, image, bytes) in extents.locate(wide.clone()) {
        let filled = out.len();
        out.resize(filled + bytes as usize, 0);
        let place = out.get_mut(filled..).unwrap_or_default();
        source.read_at(image, place).map_err(ChunkError::Source)?;
    }
    source_differences(
        tables,
        wide.start,
        out.get_mut(missing..).unwrap_or_default(),
    );
    let before = (part.start - wide.start) as usize;
    out.drain(missing..missing + before);
    out.truncate(missing + (part.end - part.start) as usize);
    Ok(())
}
