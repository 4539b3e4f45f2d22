//! The head of a patch: what its chunks are, and where the files of both images lie.
//!
//! docs/delta.md is the specification of the format.

use std::ops::Range;

use crate::error::FormatError;
use crate::extents::Extents;
use crate::hash::Hash;
use crate::limits::{CHUNK, Limits, PAYLOAD_BYTES};
use crate::lzma::Lzma;
use crate::reader::Reader;

/// The first bytes of a patch.
pub(crate) const MAGIC: [u8; 8] = *b"\x89BERTHD\n";
/// The format that this crate reads and writes.
pub(crate) const VERSION: u32 = 2;

/// The first bytes of a patch, which say how long its head is and what hash it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Bytes of the head, which follows.
    pub head_bytes: usize,
    /// Its hash.
    pub head_hash: Hash,
}

impl Prefix {
    /// Bytes of the prefix.
    pub const BYTES: usize = 48;

    /// Reads the first [`Prefix::BYTES`] bytes of a patch.
    ///
    /// # Errors
    /// When this is no patch, is one of another version, or has too large a head.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, FormatError> {
        let mut from = Reader::new(bytes);
        if from.array() != Ok(MAGIC) {
            return Err(FormatError::NotPatch);
        }
        match u32::from_le_bytes(from.array()?) {
            VERSION => {}
            version => return Err(FormatError::Version(version)),
        }
        let head_bytes = usize::try_from(u32::from_le_bytes(from.array()?))
            .ok()
            .filter(|bytes| *bytes <= limits.head_bytes)
            .ok_or(FormatError::TooLarge("bytes of head"))?;
        Ok(Self {
            head_bytes,
            head_hash: Hash(from.array()?),
        })
    }
}

/// What names an image: its length and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Bytes of all of it.
    pub bytes: u64,
    /// Their SHA-256.
    pub hash: Hash,
}

impl Identity {
    fn read(from: &mut Reader<'_>, limits: &Limits) -> Result<Self, FormatError> {
        let bytes = u64::from_le_bytes(from.array()?);
        if bytes > limits.image_bytes {
            return Err(FormatError::TooLarge("bytes of image"));
        }
        Ok(Self {
            bytes,
            hash: Hash(from.array()?),
        })
    }
}

/// Bytes of the patch file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Where they start, counted from the start of the patch.
    pub offset: u64,
    /// How many.
    pub bytes: usize,
    /// Their hash.
    pub hash: Hash,
}

/// How a chunk is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is zeros.
    Zero,
    /// It is in the source, in one piece.
    Copy {
        /// Where.
        source: u64,
    },
    /// It is in the payload, compressed or not.
    Full(Payload),
    /// The payload says how it differs from parts of the source.
    Diff(Payload),
}

impl Kind {
    /// What must be fetched.
    #[must_use]
    pub fn payload(&self) -> Option<Payload> {
        match self {
            Self::Full(payload) | Self::Diff(payload) => Some(*payload),
            Self::Zero | Self::Copy { .. } => None,
        }
    }
}

/// A chunk of the target: [`CHUNK`] bytes, the last one fewer. The full image has the same grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its number.
    pub index: usize,
    /// Where it is in the target.
    pub offset: u64,
    /// Its length.
    pub bytes: usize,
    /// Its hash, in the target.
    pub result: Hash,
    /// How it is made.
    pub kind: Kind,
}

impl Chunk {
    /// Whether `bytes`, found in the target, are the chunk already.
    #[must_use]
    pub fn is(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.bytes && Hash::of(bytes) == self.result
    }
}

/// A file that has a copy map.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) old: Extents,
    pub(crate) new_bytes: u32,
    /// The packed map in the head.
    pub(crate) map: Range<usize>,
    pub(crate) map_bytes: usize,
}

/// Consecutive bytes of a file in the target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Offset in the target.
    pub(crate) image: u64,
    pub(crate) file: usize,
    /// Offset in the file.
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
}

/// The head of a patch, checked.
#[derive(Clone, Debug)]
pub struct Patch {
    source: Identity,
    target: Identity,
    chunks: Vec<Chunk>,
    bytes: u64,
    pub(crate) files: Vec<File>,
    /// In the target's order, without overlap.
    pub(crate) places: Vec<Place>,
    head: Vec<u8>,
    pub(crate) limits: Limits,
}

impl Patch {
    /// Reads the head, which follows the prefix.
    ///
    /// # Errors
    /// When it has another hash than the prefix says, contradicts itself, or asks for too much.
    pub fn parse(prefix: &Prefix, head: Vec<u8>, limits: Limits) -> Result<Self, FormatError> {
        if head.len() != prefix.head_bytes || Hash::of(&head) != prefix.head_hash {
            return Err(FormatError::Hash);
        }
        let mut from = Reader::new(&head);
        let source = Identity::read(&mut from, &limits)?;
        let target = Identity::read(&mut from, &limits)?;
        let index_bytes = from.at_most(limits.index_bytes, "bytes of index")?;
        let packed = from.at_most(head.len(), "bytes of index")?;
        let mut index = vec![0; index_bytes];
        unpack(&mut Lzma::default(), from.take(packed)?, &mut index)?;
        let mut index = Reader::new(&index);
        let mut payload_start = (Prefix::BYTES + head.len()) as u64;
        let chunks = read_chunks(&mut index, &mut from, source, target, &mut payload_start)?;
        let maps_start = head.len() - from.rest_bytes();
        let (files, places) =
            read_files(&mut index, source, target, maps_start, head.len(), &limits)?;
        if !index.is_empty() {
            return Err(FormatError::Damaged("its index is longer than it says"));
        }
        Ok(Self {
            source,
            target,
            chunks,
            bytes: payload_start,
            files,
            places,
            head,
            limits,
        })
    }

    /// The old image.
    #[must_use]
    pub fn source(&self) -> Identity {
        self.source
    }

    /// The new image.
    #[must_use]
    pub fn target(&self) -> Identity {
        self.target
    }

    /// All chunks, in order.
    #[must_use]
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Bytes of the whole patch file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A file's copy map, packed.
    pub(crate) fn packed_map(&self, file: &File) -> &[u8] {
        self.head.get(file.map.clone()).unwrap_or_default()
    }
}

/// Unpacks what is in the patch packed, or, where packing does not help, as it is.
pub(crate) fn unpack(lzma: &mut Lzma, packed: &[u8], out: &mut [u8]) -> Result<(), FormatError> {
    if packed.len() == out.len() {
        out.copy_from_slice(packed);
        return Ok(());
    }
    lzma.decode(packed, out).map(|_| ())
}

/// Each chunk: in the index its kind, and with it where to copy from or how long the payload is;
/// in the head's hashes the result's and the payload's.
fn read_chunks(
    index: &mut Reader<'_>,
    hashes: &mut Reader<'_>,
    source: Identity,
    target: Identity,
    payload_start: &mut u64,
) -> Result<Vec<Chunk>, FormatError> {
    let damaged = FormatError::Damaged("a chunk does not add up");
    let count = usize::try_from(target.bytes.div_ceil(CHUNK)).map_err(|_| damaged)?;
    let mut chunks = Vec::new();
    let mut copy_end = 0_u64;
    for number in 0..count {
        let offset = number as u64 * CHUNK;
        let bytes = (target.bytes - offset).min(CHUNK) as usize;
        let kind_byte = index.byte()?;
        let result = match kind_byte {
            0 => Hash::of_zeros(bytes),
            _ => Hash(hashes.array()?),
        };
        let mut payload = || {
            let bytes = index.at_most(PAYLOAD_BYTES, "bytes of payload")?;
            let payload = Payload {
                offset: *payload_start,
                bytes,
                hash: Hash(hashes.array()?),
            };
            *payload_start += bytes as u64;
            Ok::<_, FormatError>(payload)
        };
        let kind = match kind_byte {
            0 => Kind::Zero,
            1 => {
                let at = copy_end.wrapping_add_signed(index.signed()?);
                copy_end = at
                    .checked_add(bytes as u64)
                    .filter(|end| *end <= source.bytes)
                    .ok_or(damaged)?;
                Kind::Copy { source: at }
            }
            2 => Kind::Full(payload()?),
            3 => Kind::Diff(payload()?),
            _ => return Err(damaged),
        };
        chunks.push(Chunk {
            index: number,
            offset,
            bytes,
            result,
            kind,
        });
    }
    Ok(chunks)
}

/// Files: pieces in the source, pieces in the target, how long the map is, packed and not.
fn read_files(
    index: &mut Reader<'_>,
    source: Identity,
    target: Identity,
    mut map_start: usize,
    head_bytes: usize,
    limits: &Limits,
) -> Result<(Vec<File>, Vec<Place>), FormatError> {
    let damaged = FormatError::Damaged("a file's map does not add up");
    let count = index.at_most(limits.files, "files")?;
    let mut left = limits.extents;
    let mut files = Vec::with_capacity(count);
    let mut places = Vec::new();
    for file in 0..count {
        let old = Extents::read(index, source.bytes, &mut left)?;
        let new = Extents::read(index, target.bytes, &mut left)?;
        places.extend(new.pieces().map(|(offset, image, bytes)| Place {
            image,
            file,
            offset,
            bytes,
        }));
        let packed = index.at_most(head_bytes, "bytes of copy map")?;
        let map_bytes = index.at_most(limits.map_bytes, "bytes of copy map")?;
        let map = map_start..map_start + packed;
        map_start = map.end;
        files.push(File {
            old,
            new_bytes: new.bytes(),
            map,
            map_bytes,
        });
    }
    places.sort_unstable_by_key(|place| place.image);
    let overlap = places
        .iter()
        .zip(places.iter().skip(1))
        .any(|(one, next)| one.image + u64::from(one.bytes) > next.image);
    if overlap || map_start != head_bytes {
        return Err(damaged);
    }
    Ok((files, places))
}
