//! One chunk: the cheapest kind, and its payload.

use std::io;

use crate::encode::file::File;
use crate::encode::numbers::{put, put_signed};
use crate::encode::pack::{BYTES, Properties, WORDS, pack};
use crate::encode::rest::Copy;
use crate::pieces::Piece;
use crate::streams::{COUNT, Form};

/// A DIFF payload longer than this part of its chunk is compared with the whole chunk packed.
const DIFF_PART: usize = 8;

/// How a chunk is made, without hashes.
#[derive(Debug)]
pub(crate) enum Made {
    Zero,
    Copy(u64),
    Full(Vec<u8>),
    Diff(Vec<u8>),
}

/// What the streams of a chunk are made from.
pub(crate) struct Maker<'a> {
    pub(crate) old: &'a [u8],
    pub(crate) new: &'a [u8],
    pub(crate) files: &'a [File],
    /// What belongs to no file, in the target's order.
    pub(crate) copies: &'a [Copy],
}

impl Maker<'_> {
    /// The chunk of `bytes` at `offset`, which consists of `pieces`.
    pub(crate) fn make(&self, offset: u64, bytes: usize, pieces: &[Piece]) -> io::Result<Made> {
        let chunk = &self.new[offset as usize..offset as usize + bytes];
        if chunk.iter().all(|byte| *byte == 0) {
            return Ok(Made::Zero);
        }
        if let Some(at) = self.whole_copy(offset, chunk, pieces) {
            return Ok(Made::Copy(at));
        }
        let mut streams = Streams::default();
        for piece in pieces {
            match &piece.file {
                None => self.rest(offset, piece, &mut streams),
                Some((file, part)) => {
                    let file = &self.files[*file];
                    let predicted = file.predicted(part);
                    streams.file(file, part, &predicted);
                }
            }
        }
        let diff = streams.payload()?;
        if diff.len() > bytes / DIFF_PART {
            let full = pack(chunk, WORDS)?;
            if full.len() <= diff.len() {
                return Ok(Made::Full(full));
            }
        }
        Ok(Made::Diff(diff))
    }

    /// Where the source has the whole chunk.
    fn whole_copy(&self, offset: u64, chunk: &[u8], pieces: &[Piece]) -> Option<u64> {
        let copied = |copy: &Copy| Some(offset.wrapping_add(copy.old.wrapping_sub(copy.new)));
        let by_copy = self
            .copies
            .partition_point(|copy| copy.new + copy.bytes <= offset);
        let mut places = vec![Some(offset), self.copies.get(by_copy).and_then(copied)];
        for piece in pieces {
            let Some((file, part)) = &piece.file else {
                continue;
            };
            let file = &self.files[*file];
            let first = file.map.touched(part).first();
            places.push(first.and_then(|segment| {
                let old = segment
                    .old
                    .checked_add(part.start.checked_sub(segment.new)?)?;
                let (_, image, _) = file.old.locate(old..old + 1).next()?;
                let (start, _) = piece.places.first()?;
                image.checked_sub(*start as u64)
            }));
        }
        places.into_iter().flatten().find(|at| {
            let old = usize::try_from(*at)
                .ok()
                .and_then(|at| self.old.get(at..)?.get(..chunk.len()));
            old == Some(chunk)
        })
    }

    /// What belongs to no file: new bytes and copies in turns.
    fn rest(&self, offset: u64, piece: &Piece, streams: &mut Streams) {
        let mut fresh = Vec::new();
        let mut old_end = 0_i64;
        for (start, bytes) in &piece.places {
            let (mut at, end) = (offset + *start as u64, offset + (*start + *bytes) as u64);
            let first = self
                .copies
                .partition_point(|copy| copy.new + copy.bytes <= at);
            for copy in self.copies[first..]
                .iter()
                .take_while(|copy| copy.new < end)
            {
                let from = copy.new.max(at);
                let to = (copy.new + copy.bytes).min(end);
                fresh.extend(&self.new[at as usize..from as usize]);
                let old = copy.old + (from - copy.new);
                put(&mut streams.copies, fresh.len() as u64);
                put(&mut streams.copies, to - from);
                put_signed(&mut streams.copies, old as i64 - old_end);
                streams.fresh.append(&mut fresh);
                let bytes = (to - from) as usize;
                streams.differ(
                    &self.old[old as usize..old as usize + bytes],
                    &self.new[from as usize..to as usize],
                );
                old_end = old as i64 + bytes as i64;
                at = to;
            }
            fresh.extend(&self.new[at as usize..end as usize]);
        }
        if !fresh.is_empty() {
            put(&mut streams.copies, fresh.len() as u64);
            streams.fresh.append(&mut fresh);
        }
    }
}

/// The streams of a chunk while they grow.
#[derive(Default)]
struct Streams {
    copies: Vec<u8>,
    modes: Vec<u8>,
    gaps: Vec<u8>,
    /// The differences that are not zero.
    sparse: Vec<u8>,
    dense: Vec<u8>,
    fresh: Vec<u8>,
    gap: u64,
}

impl Streams {
    fn file(&mut self, file: &File, part: &std::ops::Range<u32>, predicted: &[u8]) {
        if file.map.predicts() {
            self.modes
                .extend(file.modes_of(part).iter().map(|mode| *mode as u8));
        }
        let new = &file.new_view[part.start as usize..part.end as usize];
        let mut at = 0;
        for segment in file.map.touched(part) {
            let start = (segment.new.max(part.start) - part.start) as usize;
            let end = ((segment.new + segment.bytes).min(part.end) - part.start) as usize;
            self.fresh.extend(&new[at..start]);
            self.differ(&predicted[start..end], &new[start..end]);
            at = end;
        }
        self.fresh.extend(&new[at..]);
    }

    fn differ(&mut self, old: &[u8], new: &[u8]) {
        for (old, new) in old.iter().zip(new) {
            let difference = new.wrapping_sub(*old);
            self.dense.push(difference);
            if difference == 0 {
                self.gap += 1;
            } else {
                put(&mut self.gaps, self.gap);
                self.sparse.push(difference);
                self.gap = 0;
            }
        }
    }

    fn payload(&self) -> io::Result<Vec<u8>> {
        let common = [
            Packed::new(&self.copies, BYTES)?,
            Packed::new(&self.modes, BYTES)?,
            Packed::new(&self.fresh, WORDS)?,
        ];
        let dense = [Packed::default(), Packed::new(&self.dense, WORDS)?];
        let sparse = [
            Packed::new(&self.gaps, BYTES)?,
            Packed::new(&self.sparse, WORDS)?,
        ];
        let bytes =
            |pair: &[Packed; 2]| pair.iter().map(|packed| packed.bytes.len()).sum::<usize>();
        let fits = self.gaps.len() <= crate::limits::CHUNK_BYTES;
        let (form, [gaps, differences]) = match fits && bytes(&sparse) <= bytes(&dense) {
            true => (Form::Sparse, sparse),
            false => (Form::Dense, dense),
        };
        let [copies, modes, fresh] = common;
        let streams: [Packed; COUNT] = [copies, modes, gaps, differences, fresh];
        let mut out = vec![match form {
            Form::Dense => 0,
            Form::Sparse => 1,
        }];
        for stream in &streams {
            put(&mut out, stream.length as u64);
            if stream.length > 0 {
                put(&mut out, stream.bytes.len() as u64);
            }
        }
        for stream in streams {
            out.extend(stream.bytes);
        }
        Ok(out)
    }
}

/// A packed stream and how long it is unpacked.
#[derive(Default)]
struct Packed {
    bytes: Vec<u8>,
    length: usize,
}

impl Packed {
    fn new(stream: &[u8], candidates: &[Properties]) -> io::Result<Self> {
        Ok(Self {
            bytes: pack(stream, candidates)?,
            length: stream.len(),
        })
    }
}
