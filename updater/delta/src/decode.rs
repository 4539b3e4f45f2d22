//! Makes a chunk of the target from its payload and the source.
//!
//! The payload's hash is checked before a byte of it is looked at, the result's before the caller
//! gets it. All memory is in the [`Decoder`] and bounded by [`crate::Limits`].

use std::ops::Range;

use crate::error::{ChunkError, FormatError};
use crate::hash::Hash;
use crate::limits::CHUNK_BYTES;
use crate::lzma::Lzma;
use crate::map::{List, Map, Moves, Segment};
use crate::patch::{Chunk, File, Kind, Patch, Payload, unpack};
use crate::pieces::Piece;
use crate::predict::{BEFORE, BLOCK, Mode, Predictor, RUN_MAX, Run};
use crate::source::{Source, read_file};
use crate::streams::{Buffers, Streams};
use crate::tables::target_numbers;

const NO_CHUNK: ChunkError = ChunkError::Asked("the patch has no such chunk");
const WRONG_BUFFER: ChunkError = ChunkError::Asked("the buffer is not as long as the chunk");

/// Makes chunks of one patch. Chunks are independent; in order they are made fastest.
#[derive(Debug)]
pub struct Decoder {
    patch: Patch,
    lzma: Lzma,
    buffers: Buffers,
    /// The map that the last piece needed.
    loaded: Option<Loaded>,
    /// A piece, before its parts go to their places.
    piece: Vec<u8>,
    /// Old bytes.
    window: Vec<u8>,
}

/// A copy map in memory.
#[derive(Debug)]
struct Loaded {
    file: usize,
    map: Map,
    moves: Moves,
    absolute: Vec<u32>,
}

impl Decoder {
    /// A decoder for `patch`.
    #[must_use]
    pub fn new(patch: Patch) -> Self {
        Self {
            patch,
            lzma: Lzma::default(),
            buffers: Buffers::default(),
            loaded: None,
            piece: Vec::new(),
            window: Vec::new(),
        }
    }

    /// The patch.
    #[must_use]
    pub fn patch(&self) -> &Patch {
        &self.patch
    }

    /// Makes chunk `index` in `out`, which must be as long as the chunk. `payload` is what
    /// [`Kind::payload`] names, empty where it names nothing.
    ///
    /// # Errors
    /// When `out` does not hold the chunk now; what to do is [`ChunkError::remedy`].
    pub fn decode(
        &mut self,
        index: usize,
        payload: &[u8],
        source: &mut dyn Source,
        out: &mut [u8],
    ) -> Result<(), ChunkError> {
        let chunk = *self.patch.chunks().get(index).ok_or(NO_CHUNK)?;
        if out.len() != chunk.bytes || out.len() > CHUNK_BYTES {
            return Err(WRONG_BUFFER);
        }
        match chunk.kind {
            Kind::Zero => {
                out.fill(0);
                return Ok(());
            }
            Kind::Copy { source: at } => source.read_at(at, out).map_err(ChunkError::Source)?,
            Kind::Full(expected) => {
                check(payload, expected)?;
                unpack(&mut self.lzma, payload, out)?;
            }
            Kind::Diff(expected) => {
                check(payload, expected)?;
                self.diff(&chunk, payload, source, out)?;
            }
        }
        match Hash::of(out) == chunk.result {
            true => Ok(()),
            false => Err(ChunkError::Result),
        }
    }

    fn diff(
        &mut self,
        chunk: &Chunk,
        payload: &[u8],
        source: &mut dyn Source,
        out: &mut [u8],
    ) -> Result<(), ChunkError> {
        let mut streams = Streams::unpack(payload, &mut self.lzma, &mut self.buffers)?;
        for piece in self.patch.pieces(chunk.offset, chunk.bytes) {
            self.piece.clear();
            self.piece.resize(piece.bytes(), 0);
            match &piece.file {
                None => {
                    copy_rest(&mut streams, source, &mut self.piece)?;
                }
                Some((file, part)) => {
                    let entry = self.patch.files.get(*file).ok_or(NO_CHUNK)?;
                    let loaded = match self.loaded.take() {
                        Some(loaded) if loaded.file == *file => loaded,
                        _ => load(&self.patch, *file, entry, &mut self.lzma, source)?,
                    };
                    FilePart {
                        entry,
                        loaded: &loaded,
                        source,
                        streams: &mut streams,
                        window: &mut self.window,
                    }
                    .make(part, &mut self.piece)?;
                    self.loaded = Some(loaded);
                }
            }
            scatter(&piece, &self.piece, out);
        }
        Ok(())
    }
}

fn check(payload: &[u8], expected: Payload) -> Result<(), ChunkError> {
    match payload.len() == expected.bytes && Hash::of(payload) == expected.hash {
        true => Ok(()),
        false => Err(ChunkError::Payload),
    }
}

fn load(
    patch: &Patch,
    number: usize,
    file: &File,
    lzma: &mut Lzma,
    source: &mut dyn Source,
) -> Result<Loaded, ChunkError> {
    let mut bytes = vec![0; file.map_bytes];
    unpack(lzma, patch.packed_map(file), &mut bytes)?;
    let map = Map::read(&bytes, file.old.bytes(), file.new_bytes, &patch.limits)?;
    read_file(source, &file.old, &[], map.absolute.range(), 0, &mut bytes)?;
    Ok(Loaded {
        file: number,
        moves: Moves::new(&map),
        absolute: List::parse(&bytes)?,
        map,
    })
}

/// What belongs to no file: in turns a number of new bytes and a number of bytes of the source,
/// with the distance from where the last copy ended.
fn copy_rest(
    streams: &mut Streams<'_>,
    source: &mut dyn Source,
    out: &mut [u8],
) -> Result<(), ChunkError> {
    let too_long = FormatError::Damaged("a chunk's copies are longer than the chunk");
    let mut rest = out;
    let mut at = 0_u64;
    while !rest.is_empty() {
        let fresh = streams.copies.at_most(rest.len(), "bytes of a chunk")?;
        let (place, behind) = rest.split_at_mut_checked(fresh).ok_or(too_long)?;
        streams.fresh(place)?;
        if behind.is_empty() {
            break;
        }
        let copied = streams.copies.at_most(behind.len(), "bytes of a chunk")?;
        at = at.wrapping_add_signed(streams.copies.signed()?);
        let (place, behind) = behind.split_at_mut_checked(copied).ok_or(too_long)?;
        source.read_at(at, place).map_err(ChunkError::Source)?;
        streams.add_differences(place)?;
        at = at.wrapping_add(copied as u64);
        rest = behind;
    }
    Ok(())
}

/// Puts the bytes of a piece where they belong.
fn scatter(piece: &Piece, bytes: &[u8], out: &mut [u8]) {
    let mut rest = bytes;
    for (start, length) in &piece.places {
        let Some((part, behind)) = rest.split_at_checked(*length) else {
            return;
        };
        if let Some(place) = out.get_mut(*start..start + length) {
            place.copy_from_slice(part);
        }
        rest = behind;
    }
}

/// Part of a file that is being made.
struct FilePart<'a, 'b> {
    entry: &'a File,
    loaded: &'a Loaded,
    source: &'a mut dyn Source,
    streams: &'a mut Streams<'b>,
    window: &'a mut Vec<u8>,
}

impl FilePart<'_, '_> {
    fn make(&mut self, part: &Range<u32>, out: &mut [u8]) -> Result<(), ChunkError> {
        let map = &self.loaded.map;
        let modes = match map.predicts() {
            true => self.streams.modes(blocks(part))?,
            false => Vec::new(),
        };
        let mut at = part.start;
        for segment in map.touched(part) {
            let start = segment.new.max(part.start);
            let end = (segment.new + segment.bytes).min(part.end);
            self.streams.fresh(slice(out, part, at..start)?)?;
            for (run, mode) in runs(start..end, part, &modes) {
                self.copy(segment, &run, mode, slice(out, part, run.clone())?)?;
            }
            at = end;
        }
        self.streams.fresh(slice(out, part, at..part.end)?)?;
        target_numbers(&map.new_tables, part.start, out);
        Ok(())
    }

    /// Copies a run of a segment, as it will be, and adds what differs.
    fn copy(
        &mut self,
        segment: &Segment,
        run: &Range<u32>,
        mode: Mode,
        out: &mut [u8],
    ) -> Result<(), ChunkError> {
        let Loaded {
            map,
            moves,
            absolute,
            ..
        } = self.loaded;
        let old = segment.old + (run.start - segment.new);
        let before = old.min(BEFORE as u32);
        let with_before = old - before..old + (run.end - run.start);
        let missing = BEFORE - before as usize;
        read_file(
            self.source,
            &self.entry.old,
            &map.old_tables,
            with_before,
            missing,
            self.window,
        )?;
        let copied = self
            .window
            .get(BEFORE..)
            .filter(|copied| copied.len() == out.len());
        out.copy_from_slice(copied.ok_or(FormatError::Damaged("a copy map leads nowhere"))?);
        let predictor = Predictor {
            old: &map.old_addresses,
            new: &map.new_addresses,
            moves,
            absolute,
        };
        let run = Run {
            window: self.window,
            old,
            new: run.start,
        };
        predictor.predict(mode, run, out);
        self.streams.add_differences(out)?;
        Ok(())
    }
}

/// The bytes of `out`, which is `part` of a file, at `wanted`.
fn slice<'a>(
    out: &'a mut [u8],
    part: &Range<u32>,
    wanted: Range<u32>,
) -> Result<&'a mut [u8], FormatError> {
    let at = |offset: u32| offset.checked_sub(part.start).map(|offset| offset as usize);
    at(wanted.start)
        .zip(at(wanted.end))
        .and_then(|(start, end)| out.get_mut(start..end))
        .ok_or(FormatError::Damaged("a copy map does not fit its file"))
}

/// How many blocks of the file a part of it touches.
pub(crate) fn blocks(part: &Range<u32>) -> usize {
    (part.end.div_ceil(BLOCK) - part.start / BLOCK) as usize
}

/// Cuts `copied` into runs of one mode; `modes` are those of the blocks that `part` touches.
pub(crate) fn runs(
    copied: Range<u32>,
    part: &Range<u32>,
    modes: &[Mode],
) -> impl Iterator<Item = (Range<u32>, Mode)> {
    let first_block = part.start / BLOCK;
    let mode_at = move |offset: u32| {
        let block = (offset / BLOCK).saturating_sub(first_block) as usize;
        modes.get(block).copied().unwrap_or(Mode::Plain)
    };
    let mut start = copied.start;
    std::iter::from_fn(move || {
        if start >= copied.end {
            return None;
        }
        let mode = mode_at(start);
        let most = (start / RUN_MAX + 1)
            .saturating_mul(RUN_MAX)
            .min(copied.end);
        let mut end = start;
        while end < most && mode_at(end) == mode {
            end = (end / BLOCK + 1).saturating_mul(BLOCK).min(most);
        }
        let run = start..end;
        start = end;
        Some((run, mode))
    })
}
