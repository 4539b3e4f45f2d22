//! One chunk: the cheapest kind, and its payload.

use std::io;
use std::ops::Range;

use crate::encode::cost::{self, Share};
use crate::encode::file::File;
use crate::encode::numbers::{put, put_signed};
use crate::encode::pack::{BYTES, Properties, WORDS, pack};
use crate::encode::rest::Copy;
use crate::pieces::Piece;
use crate::streams::{COUNT, Form};

/// A DIFF payload longer than this part of its chunk is compared with the whole chunk packed.
const DIFF_PART: usize = 8;
/// What a copy costs is told for pieces of this size.
const COST_BYTES: usize = 1024;

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
    /// The chunk of `bytes` at `offset`, which consists of `pieces`. What its payload is for is
    /// added to `shares`.
    pub(crate) fn make(
        &self,
        offset: u64,
        bytes: usize,
        pieces: &[Piece],
        shares: &mut Vec<Share>,
    ) -> io::Result<Made> {
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
                Some((index, part)) => {
                    let file = &self.files[*index];
                    let predicted = file.predicted(part);
                    streams.file(*index, file, part, &predicted);
                }
            }
        }
        let (diff, costs) = streams.payload()?;
        if diff.len() > bytes / DIFF_PART {
            let full = pack(chunk, WORDS)?;
            if full.len() <= diff.len() {
                shares.push(Share {
                    image: offset..offset + bytes as u64,
                    bytes: full.len() as f64,
                });
                return Ok(Made::Full(full));
            }
        }
        for (mark, bytes) in costs {
            match mark.of {
                Of::File(file, part) => cost::share(&self.files[file].new, part, bytes, shares),
                Of::Image(image) => shares.push(Share { image, bytes }),
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
        let mut fresh_bytes = 0;
        let mut old_end = 0_i64;
        let fresh = |range: Range<u64>, streams: &mut Streams| {
            let bytes = &self.new[range.start as usize..range.end as usize];
            streams.fresh.extend(bytes);
            streams.mark(Of::Image(range));
            bytes.len() as u64
        };
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
                fresh_bytes += fresh(at..from, streams);
                let old = copy.old + (from - copy.new);
                put(&mut streams.copies, fresh_bytes);
                put(&mut streams.copies, to - from);
                put_signed(&mut streams.copies, old as i64 - old_end);
                fresh_bytes = 0;
                let bytes = (to - from) as usize;
                streams.differ(
                    &self.old[old as usize..old as usize + bytes],
                    &self.new[from as usize..to as usize],
                    |range| Of::Image(from + range.start as u64..from + range.end as u64),
                );
                old_end = old as i64 + bytes as i64;
                at = to;
            }
            fresh_bytes += fresh(at..end, streams);
        }
        if fresh_bytes > 0 {
            put(&mut streams.copies, fresh_bytes);
        }
    }
}

/// Bytes of the target.
#[derive(Debug)]
enum Of {
    /// Part of a file with a copy map, which has this number.
    File(usize, Range<u32>),
    /// A range of the image.
    Image(Range<u64>),
}

/// What was added to the streams since the mark before.
#[derive(Debug)]
struct Mark {
    of: Of,
    /// Bytes of each stream; dense and sparse differences are two.
    added: [usize; COUNT + 1],
}

/// How many bytes of a payload each mark is for.
type Costs = Vec<(Mark, f64)>;

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
    marks: Vec<Mark>,
    marked: [usize; COUNT + 1],
}

impl Streams {
    fn file(&mut self, index: usize, file: &File, part: &Range<u32>, predicted: &[u8]) {
        if file.map.predicts() {
            self.modes
                .extend(file.modes_of(part).iter().map(|mode| *mode as u8));
            self.mark(Of::File(index, part.clone()));
        }
        let new = &file.new_view[part.start as usize..part.end as usize];
        let of = |start: usize, end: usize| {
            Of::File(index, part.start + start as u32..part.start + end as u32)
        };
        let mut at = 0;
        for segment in file.map.touched(part) {
            let start = (segment.new.max(part.start) - part.start) as usize;
            let end = ((segment.new + segment.bytes).min(part.end) - part.start) as usize;
            self.fresh.extend(&new[at..start]);
            self.mark(of(at, start));
            self.differ(&predicted[start..end], &new[start..end], |range| {
                of(start + range.start, start + range.end)
            });
            at = end;
        }
        self.fresh.extend(&new[at..]);
        self.mark(of(at, new.len()));
    }

    /// Adds what differs; `of` says which bytes of the target a range of `new` is.
    fn differ(&mut self, old: &[u8], new: &[u8], of: impl Fn(Range<usize>) -> Of) {
        let pieces = old.chunks(COST_BYTES).zip(new.chunks(COST_BYTES));
        for (index, (old, new)) in pieces.enumerate() {
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
            let start = index * COST_BYTES;
            self.mark(of(start..start + new.len()));
        }
    }

    /// What was added since the mark before is for these bytes of the target.
    fn mark(&mut self, of: Of) {
        let lengths = [
            &self.copies,
            &self.modes,
            &self.gaps,
            &self.sparse,
            &self.dense,
            &self.fresh,
        ]
        .map(Vec::len);
        let mut added = lengths;
        for (added, before) in added.iter_mut().zip(self.marked) {
            *added -= before;
        }
        self.marked = lengths;
        if added != [0; COUNT + 1] {
            self.marks.push(Mark { of, added });
        }
    }

    /// The payload, and how many of its bytes each mark is for.
    fn payload(self) -> io::Result<(Vec<u8>, Costs)> {
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
        let unit = |packed: &Packed| packed.bytes.len() as f64 / packed.length.max(1) as f64;
        let [copies, modes, gaps, differences, fresh] = streams.each_ref().map(unit);
        let (sparse, dense) = match form {
            Form::Sparse => (differences, 0.0),
            Form::Dense => (0.0, differences),
        };
        let units = [copies, modes, gaps, sparse, dense, fresh];
        let cost = |mark: &Mark| {
            let costs = mark.added.iter().zip(units);
            costs.map(|(added, unit)| *added as f64 * unit).sum()
        };
        let costs = self.marks.into_iter().map(|mark| {
            let bytes = cost(&mark);
            (mark, bytes)
        });
        let costs = costs.collect();
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
        Ok((out, costs))
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
