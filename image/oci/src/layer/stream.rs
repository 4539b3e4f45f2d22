//! A layer's bytes: stored blob → digest check → decompression → diff_id check → tar.
//! Everything streams; memory does not grow with the layer.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::entries::Problem;
use super::{Applied, Applier};
use crate::digest::{Digest, HashingReader};
use crate::error::{Error, printable};
use crate::tar::{Reader, TarError};

/// A stored blob, open for reading.
pub(crate) struct Blob {
    /// Its bytes.
    pub(crate) reader: Box<dyn Read>,
    /// The digest and size its bytes must have; `None` when that was checked already.
    pub(crate) expected: Option<(Digest, u64)>,
    /// Where it is, for errors: archive, directory or registry name.
    pub(crate) place: String,
}

const BUFFER: usize = 128 * 1024;

impl Applier<'_> {
    /// Applies the layer `number` (from 0) and checks its digests.
    pub(crate) fn apply(
        &mut self,
        number: usize,
        blob: Blob,
        layer: &Digest,
        diff_id: &Digest,
    ) -> Result<Applied, Error> {
        self.layer = u16::try_from(number).unwrap_or(u16::MAX);
        self.upper.clear();
        let place = blob.place;
        let what = format!("layer {layer}");
        let read_error = |source| Error::io(format!("{place}: cannot read {what}"), source);

        // The size ends a stream that never ends; one byte more shows that it is too long.
        let limit = blob
            .expected
            .as_ref()
            .map_or(u64::MAX, |(_, size)| size.saturating_add(1));
        let algorithm = blob.expected.as_ref().map(|(digest, _)| digest.algorithm());
        let mut stored = HashingReader::new(blob.reader.take(limit), algorithm);
        let mut input = BufReader::with_capacity(BUFFER, &mut stored);
        let compression = Compression::of(input.fill_buf().map_err(read_error)?);
        let plain: Box<dyn Read + '_> = match compression {
            Compression::Gzip => Box::new(MultiGzDecoder::new(&mut input)),
            Compression::Zstd => {
                Box::new(zstd::Decoder::with_buffer(&mut input).map_err(read_error)?)
            }
            Compression::None => Box::new(&mut input),
        };
        // A layer that is not compressed is hashed once: both digests are of the same bytes.
        let hashed_already =
            compression == Compression::None && algorithm == Some(diff_id.algorithm());
        let before = self.unpacked;
        let mut hashing = HashingReader::new(
            Capped {
                inner: plain,
                left: self.limits.unpacked_bytes.saturating_sub(before),
                limit: self.limits.unpacked_bytes,
            },
            (!hashed_already).then(|| diff_id.algorithm()),
        );
        let mut buffered = BufReader::with_capacity(BUFFER, &mut hashing);
        let outcome = self.entries(&place, layer, &mut buffered);

        // Whatever stopped the tar reader: if the bytes are not the ones that were asked for, that
        // is the reason to tell. So both hashes are finished first.
        let drained = io::copy(&mut buffered, &mut io::sink());
        drop(buffered);
        let (unpacked, tar_bytes) = hashing.finish();
        io::copy(&mut input, &mut io::sink()).map_err(read_error)?;
        drop(input);
        let (stored, count) = stored.finish();
        if let (Some((digest, size)), Some(actual)) = (&blob.expected, &stored) {
            check(&place, &what, digest, *size, actual, count)?;
        }
        let mut applied = outcome?;
        drained.map_err(|error| unpack_error(&place, &what, error))?;
        self.unpacked = self.unpacked.max(before.saturating_add(tar_bytes));
        if let Some(actual) = unpacked.or(stored)
            && actual != *diff_id
        {
            return Err(Error::WrongDigest {
                place,
                what: format!("{what}, uncompressed,"),
                expected: diff_id.clone(),
                actual,
            });
        }
        applied.tar_bytes = tar_bytes;
        Ok(applied)
    }

    fn entries(
        &mut self,
        place: &str,
        layer: &Digest,
        input: &mut impl Read,
    ) -> Result<Applied, Error> {
        let limits = self.limits;
        let mut applied = Applied::default();
        let mut reader = Reader::new(input, limits);
        let mut seen = Vec::new();
        let error = |seen: &[u8], why: String| Error::Entry {
            place: place.to_owned(),
            layer: layer.to_string(),
            entry: printable(seen),
            why,
        };
        loop {
            let next = reader.next(&mut seen).map_err(|why| match &why {
                TarError::Read(source) => unpack_error(
                    place,
                    &format!("layer {layer} after entry {}", printable(&seen)),
                    io::Error::new(source.kind(), source.to_string()),
                ),
                why => error(&seen, format!("here or in the entry behind it, {why}")),
            })?;
            let Some(entry) = next else {
                return Ok(applied);
            };
            let bytes = self.entry(entry, &mut reader).map_err(|why| match why {
                Problem::Spool(source) => Error::Spool {
                    doing: format!("{place}: cannot unpack layer {layer}"),
                    directory: self.spool.directory().to_owned(),
                    source,
                },
                why => error(&seen, why.to_string()),
            })?;
            applied.entries += 1;
            applied.file_bytes = applied.file_bytes.saturating_add(bytes);
        }
    }
}

/// Compares what came with what was announced.
pub(crate) fn check(
    place: &str,
    what: &str,
    digest: &Digest,
    size: u64,
    actual: &Digest,
    count: u64,
) -> Result<(), Error> {
    if count != size {
        return Err(Error::WrongSize {
            place: place.to_owned(),
            what: what.to_owned(),
            expected: size,
            actual: count,
        });
    }
    if actual != digest {
        return Err(Error::WrongDigest {
            place: place.to_owned(),
            what: what.to_owned(),
            expected: digest.clone(),
            actual: actual.clone(),
        });
    }
    Ok(())
}

fn unpack_error(place: &str, what: &str, source: io::Error) -> Error {
    Error::io(format!("{place}: cannot unpack {what}"), source)
}

/// How a stream is compressed, by its first bytes: media types are often wrong about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub(crate) fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame, with which seekable zstd may begin.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// Fails, rather than ends, when more comes than is allowed.
struct Capped<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => {
                return Err(io::Error::other(format!(
                    "the image unpacks to more than {} bytes; if that is meant, raise the limit",
                    self.limit
                )));
            }
        }
        Ok(n)
    }
}
