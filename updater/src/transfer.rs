//! Fills the other slot: what it already holds is kept, patches give most of the rest, and what
//! they cannot give is fetched from the whole image, one range for each chunk.
//!
//! Memory is a few chunks whatever the image's size. Nothing is written that was not hashed.

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
use std::thread::sleep;
use std::time::Duration;

use berth_delta::{CHUNK, Chunk, Decoder, Limits, Prefix, Remedy, Source};
use berth_release::{self as release, Hash};
use berth_slots::block::Block;
use berth_slots::staging::{Part, Staging};
use sha2::{Digest, Sha256};

use crate::server::Server;

/// How often a server is asked again for the same bytes.
const ATTEMPTS: u32 = 5;
/// The first pause between two attempts; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 1000 });
/// Chunks of a patch that do not fit the machine's own version, one after the other, before the
/// patch is given up. One that the source has only a part of is given up at once.
const MISFITS: u32 = 2;
/// Written chunks between two flushes: what a power cut may cost.
const FLUSH_EVERY: u32 = 16;

/// Why a part is not whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    /// The server does not give what it promises. What was written stays, and is used next time.
    #[error("{0}")]
    Server(String),
    /// The disk does not take it.
    #[error("cannot write the new version: {0}")]
    Disk(String),
}

/// Where the bytes of a part came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Bytes that the slot already held.
    pub(crate) kept: u64,
    /// Bytes that patches gave.
    pub(crate) patched: u64,
    /// Bytes of whole chunks.
    pub(crate) whole: u64,
    /// Bytes of chunks that were put together of blocks that this machine held elsewhere.
    pub(crate) elsewhere: u64,
    /// Bytes that came over the network.
    pub(crate) fetched: u64,
}

/// One part on its way into the slot.
pub(crate) struct Transfer<'a, 'b, D: Block> {
    /// The published files.
    pub(crate) server: &'a mut dyn Server,
    /// The slot.
    pub(crate) staging: &'a mut Staging<'b, D>,
    /// Which part of it.
    pub(crate) part: Part,
    /// The part as it is published.
    pub(crate) published: &'a release::Part,
    /// Called with the bytes done and those of the whole part.
    pub(crate) progress: &'a mut dyn FnMut(u64, u64),
    /// Where the bytes came from.
    pub(crate) counted: Counted,
    /// Chunks that were written since the last flush.
    pub(crate) unflushed: u32,
    /// The same part of the version that runs, whose blocks may be in this one.
    pub(crate) held: Option<Window>,
}

impl<D: Block> Transfer<'_, '_, D> {
    /// Makes the part whole with the help of `patches`, the best first; each reads its own source.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub(crate) fn run(
        &mut self,
        patches: &mut [(release::Patch, &mut dyn Source)],
    ) -> Result<(), TransferError> {
        let mut missing = self.missing()?;
        for (patch, source) in patches {
            if self.published.packed == Some(*patch) {
                // No other patch is left.
                missing = self.reuse(missing)?;
            }
            if !missing.is_empty() {
                missing = self.apply(patch, *source, missing)?;
            }
        }
        missing = self.reuse(missing)?;
        for index in missing {
            self.whole_chunk(index)?;
        }
        self.staging
            .flush()
            .map_err(|why| TransferError::Disk(why.to_string()))
    }

    /// The chunks that the slot does not hold.
    fn missing(&mut self) -> Result<Vec<usize>, TransferError> {
        let mut missing = Vec::new();
        for (index, hash) in self.published.chunks.iter().enumerate() {
            let Some(range) = self.published.chunk_range(index) else {
                continue;
            };
            let bytes = range.end.saturating_sub(range.start);
            let holds = self.staging.holds(self.part, range.start, bytes, &hash.0);
            // What cannot be read is written anew.
            if holds.unwrap_or(false) {
                self.done(|counted| &mut counted.kept, bytes);
            } else {
                missing.push(index);
            }
        }
        Ok(missing)
    }

    /// Takes from a patch what it gives; returns what is still missing.
    fn apply(
        &mut self,
        patch: &release::Patch,
        source: &mut dyn Source,
        missing: Vec<usize>,
    ) -> Result<Vec<usize>, TransferError> {
        let Some(mut decoder) = self.open(patch)? else {
            return Ok(missing);
        };
        let mut left = Vec::new();
        let mut misfits = 0;
        let mut attempts = 0;
        let mut rest = missing.as_slice();
        while !rest.is_empty() {
            if misfits >= MISFITS {
                break;
            }
            let run = run_length(&decoder, rest);
            let (now, _) = rest.split_at_checked(run).unwrap_or((rest, &[]));
            let range = payloads(&decoder, now);
            let before = rest.len();
            match self.stream(
                patch,
                &mut decoder,
                source,
                now,
                range,
                &mut left,
                &mut misfits,
            ) {
                Ok(done) => rest = rest.get(done..).unwrap_or_default(),
                Err((done, why)) => {
                    rest = rest.get(done..).unwrap_or_default();
                    match why {
                        TransferError::Server(_) if rest.len() < before => attempts = 0,
                        TransferError::Server(_) if attempts < ATTEMPTS => {}
                        why => return Err(why),
                    }
                    sleep(FIRST_PAUSE.saturating_mul(1 << attempts));
                    attempts += 1;
                }
            }
        }
        left.extend_from_slice(rest);
        left.sort_unstable();
        Ok(left)
    }

    /// The patch's head, checked against the signed hash; `None` when it is of no use.
    fn open(&mut self, patch: &release::Patch) -> Result<Option<Decoder>, TransferError> {
        let limits = Limits::default();
        let path = patch.path();
        let first = Prefix::BYTES as u64;
        if patch.bytes < first {
            return Ok(None);
        }
        let Some(prefix) = self.fetch(&path, 0..first)? else {
            return Ok(None);
        };
        let Ok(prefix) = Prefix::parse(&prefix, &limits) else {
            return Ok(None);
        };
        let end = first.saturating_add(prefix.head_bytes as u64);
        if prefix.head_hash.0 != patch.head_sha256.0 || end > patch.bytes {
            return Ok(None);
        }
        let Some(head) = self.fetch(&path, first..end)? else {
            return Ok(None);
        };
        let Ok(opened) = berth_delta::Patch::parse(&prefix, head, limits) else {
            return Ok(None);
        };
        let target = opened.target();
        let fits = target.bytes == self.published.bytes
            && target.hash.0 == self.published.sha256.0
            && opened.bytes() == patch.bytes;
        Ok(fits.then(|| Decoder::new(opened)))
    }

    /// Decodes chunks whose payloads lie one behind the other, from one request. What the patch
    /// cannot give goes to `left`. Gives how many of `chunks` are dealt with, also on an error.
    #[allow(clippy::too_many_arguments)] // one loop's state, and no better place for it
    fn stream(
        &mut self,
        patch: &release::Patch,
        decoder: &mut Decoder,
        source: &mut dyn Source,
        chunks: &[usize],
        range: Range<u64>,
        left: &mut Vec<usize>,
        misfits: &mut u32,
    ) -> Result<usize, (usize, TransferError)> {
        let mut bytes = Vec::new();
        let mut out = Vec::new();
        let mut stream: Box<dyn Read + '_> = match range.is_empty() {
            true => Box::new(io::empty()),
            false => {
                let stream = self.server.range(&patch.path(), range);
                match stream.map_err(|why| (0, TransferError::Server(why)))? {
                    Some(stream) => stream,
                    None => {
                        *misfits = MISFITS;
                        return Ok(0);
                    }
                }
            }
        };
        for (done, index) in chunks.iter().enumerate() {
            let Some(chunk) = decoder.patch().chunks().get(*index).copied() else {
                left.push(*index);
                continue;
            };
            let range = payload(&chunk).unwrap_or(0..0);
            let length = range.end.saturating_sub(range.start);
            bytes.resize(usize::try_from(length).unwrap_or_default(), 0);
            stream
                .read_exact(&mut bytes)
                .map_err(|why| (done, TransferError::Server(why.to_string())))?;
            self.counted.fetched = self.counted.fetched.saturating_add(length);
            out.resize(chunk.bytes, 0);
            if let Err(why) = decoder.decode(*index, &bytes, source, &mut out) {
                left.push(*index);
                // Bytes that were damaged on their way say nothing about the patch.
                if why.remedy() == Remedy::FullImage {
                    *misfits += 1;
                }
                if *misfits >= MISFITS {
                    return Ok(done + 1);
                }
                continue;
            }
            *misfits = 0;
            let disk = |why: String| (done, TransferError::Disk(why));
            let written = self.staging.write(self.part, chunk.offset, &out);
            written.map_err(|why| disk(why.to_string()))?;
            self.counted.patched = self.counted.patched.saturating_add(chunk.bytes as u64);
            (self.progress)(self.counted.sum(), self.published.bytes);
            flush_sometimes(self.staging, &mut self.unflushed).map_err(|why| (done, why))?;
        }
        Ok(chunks.len())
    }

    /// One chunk of the whole image.
    fn whole_chunk(&mut self, index: usize) -> Result<(), TransferError> {
        let (Some(range), Some(hash)) = (
            self.published.chunk_range(index),
            self.published.chunks.get(index),
        ) else {
            return Ok(());
        };
        let path = self.published.path();
        for _ in 0..2 {
            let Some(bytes) = self.fetch(&path, range.clone())? else {
                return Err(TransferError::Server(format!(
                    "{} has no patch that gives all of the new version, and {path} is not there, has \
                     another length or is not given in parts (HTTP ranges)",
                    self.server.who()
                )));
            };
            if Hash(Sha256::digest(&bytes).into()) == *hash {
                let written = self.staging.write(self.part, range.start, &bytes);
                written.map_err(|why| TransferError::Disk(why.to_string()))?;
                self.done(|counted| &mut counted.whole, bytes.len() as u64);
                return Ok(());
            }
        }
        Err(TransferError::Server(format!(
            "{} gives other bytes for {path} than were signed",
            self.server.who()
        )))
    }

    /// Bytes of a file, asked for again when the connection breaks; `None` when there is no such
    /// file.
    pub(crate) fn fetch(
        &mut self,
        path: &str,
        range: Range<u64>,
    ) -> Result<Option<Vec<u8>>, TransferError> {
        let length = range.end.saturating_sub(range.start);
        if length > 4 * CHUNK {
            return Err(TransferError::Server(format!(
                "{path} has a part that is too long"
            )));
        }
        let mut attempt = 0;
        loop {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
            let got = self.server.range(path, range.clone());
            let got = got.and_then(|from| match from {
                Some(mut from) => {
                    let read = from.read_exact(&mut bytes);
                    read.map(|()| true).map_err(|why| why.to_string())
                }
                None => Ok(false),
            });
            match got {
                Ok(false) => return Ok(None),
                Ok(true) => {
                    self.counted.fetched = self.counted.fetched.saturating_add(length);
                    return Ok(Some(bytes));
                }
                Err(why) if attempt >= ATTEMPTS => return Err(TransferError::Server(why)),
                Err(_) => {
                    sleep(FIRST_PAUSE.saturating_mul(1 << attempt));
                    attempt += 1;
                }
            }
        }
    }

    pub(crate) fn done(&mut self, of: impl FnOnce(&mut Counted) -> &mut u64, bytes: u64) {
        let counter = of(&mut self.counted);
        *counter = counter.saturating_add(bytes);
        (self.progress)(self.counted.sum(), self.published.bytes);
    }
}

impl Counted {
    /// Bytes that are in the slot.
    pub(crate) fn sum(&self) -> u64 {
        self.kept
            .saturating_add(self.patched)
            .saturating_add(self.whole)
            .saturating_add(self.elsewhere)
    }

    /// Both parts together.
    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            kept: self.kept.saturating_add(other.kept),
            patched: self.patched.saturating_add(other.patched),
            whole: self.whole.saturating_add(other.whole),
            elsewhere: self.elsewhere.saturating_add(other.elsewhere),
            fetched: self.fetched.saturating_add(other.fetched),
        }
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kept,
            patched,
            whole,
            elsewhere,
            fetched,
        } = self;
        write!(
            out,
            "{fetched} bytes fetched, {patched} bytes made from patches, {whole} from the whole \
             image, {elsewhere} from this machine's own blocks, {kept} were there"
        )
    }
}

/// A chunk was written: bounds what a power cut undoes.
pub(crate) fn flush_sometimes<D: Block>(
    staging: &mut Staging<'_, D>,
    unflushed: &mut u32,
) -> Result<(), TransferError> {
    *unflushed += 1;
    if *unflushed < FLUSH_EVERY {
        return Ok(());
    }
    *unflushed = 0;
    let flushed = staging.flush();
    flushed.map_err(|why| TransferError::Disk(why.to_string()))
}

/// The bytes of the patch file that a chunk needs.
fn payload(chunk: &Chunk) -> Option<Range<u64>> {
    let payload = chunk.kind.payload()?;
    Some(payload.offset..payload.offset.saturating_add(payload.bytes as u64))
}

fn payload_of(decoder: &Decoder, index: usize) -> Option<Range<u64>> {
    payload(decoder.patch().chunks().get(index)?)
}

/// How many of `chunks` have payloads one behind the other.
fn run_length(decoder: &Decoder, chunks: &[usize]) -> usize {
    let mut end = None;
    for (count, index) in chunks.iter().enumerate() {
        if let Some(range) = payload_of(decoder, *index) {
            if end.is_some_and(|end| end != range.start) {
                return count;
            }
            end = Some(range.end);
        }
    }
    chunks.len()
}

/// The bytes of the patch file that `chunks` need, which lie one behind the other.
fn payloads(decoder: &Decoder, chunks: &[usize]) -> Range<u64> {
    let mut ranges = chunks
        .iter()
        .filter_map(|index| payload_of(decoder, *index));
    let Some(first) = ranges.next() else {
        return 0..0;
    };
    first.start..ranges.next_back().map_or(first.end, |last| last.end)
}

/// A source that has nothing: what a patch from nothing is made from.
pub(crate) struct Nothing;

impl Source for Nothing {
    fn read_at(&mut self, _: u64, buffer: &mut [u8]) -> io::Result<()> {
        match buffer.is_empty() {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Bytes of a file or a device.
#[derive(Debug)]
pub(crate) struct Window {
    /// What is read.
    pub(crate) file: std::fs::File,
    /// Where its first byte is.
    pub(crate) start: u64,
    /// How many there are.
    pub(crate) bytes: u64,
}

impl Window {
    /// The same bytes, to be read by someone else besides.
    pub(crate) fn again(&self) -> Result<Self, String> {
        let file = self.file.try_clone();
        Ok(Self {
            file: file.map_err(|why| format!("cannot read the version that runs: {why}"))?,
            start: self.start,
            bytes: self.bytes,
        })
    }
}

impl Source for Window {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let at = self
            .start
            .checked_add(offset)
            .ok_or(io::ErrorKind::InvalidInput)?;
        self.file.read_exact_at(buffer, at)
    }
}
