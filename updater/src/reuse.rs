//! Chunks of a version that no patch leads to, put together of the blocks that this machine holds
//! already, wherever they lie: in the version that runs, and in what the other slot still has.
//!
//! The publisher's block index says what each block is. It is kept in memory for one GiB of the
//! part at a time, whatever the part's size; both slots are read once for each. Nothing is believed
//! of it: a chunk whose hash is not the signed one is made in another way.

use berth_delta::Source;
use berth_release::blocks::{BLOCK, SHORT, SPAN, SPAN_CHUNKS, short};
use berth_release::{CHUNK, Hash};
use berth_slots::block::Block;
use sha2::{Digest, Sha256};

use crate::transfer::{Transfer, TransferError, Window, flush_sometimes};

/// What is read of a slot at once.
const STEP: usize = 64 * BLOCK;
/// Of a chunk's blocks, one in so many may be fetched. Packed, a chunk takes about as much.
const FETCHED_PART: usize = 4;
/// An index must be for so many times its bytes.
const INDEX_PART: u64 = 16;
/// No place.
const NOWHERE: u32 = u32::MAX;
/// Set in the places of the other slot; the others are the running version's.
const OTHER: u32 = 1 << 31;

/// What the blocks of one GiB of a part are, and where this machine has them.
struct Index {
    /// Of each block.
    hashes: Vec<u8>,
    /// The blocks' numbers, in the order of their hashes.
    order: Vec<u32>,
    /// Of each block: the number of a block of a slot.
    places: Vec<u32>,
    /// What a block of zeros is.
    zeros: [u8; SHORT],
}

impl Index {
    fn new(hashes: Vec<u8>) -> Self {
        let count = (hashes.len() / SHORT) as u32;
        let mut index = Self {
            hashes,
            order: Vec::new(),
            places: vec![NOWHERE; count as usize],
            zeros: short(&[0; BLOCK]),
        };
        let mut order: Vec<u32> = (0..count).collect();
        order.sort_unstable_by_key(|block| index.hash(*block));
        index.order = order;
        index
    }

    fn hash(&self, block: u32) -> [u8; SHORT] {
        let start = (block as usize).saturating_mul(SHORT);
        let hash = self.hashes.get(start..).and_then(<[u8]>::first_chunk);
        hash.copied().unwrap_or_default()
    }

    fn place(&self, block: u32) -> u32 {
        let place = self.places.get(block as usize);
        place.copied().unwrap_or(NOWHERE)
    }

    /// Notes that a slot has, at `place`, a block of this hash.
    fn note(&mut self, hash: [u8; SHORT], place: u32) {
        let first = self.order.partition_point(|block| self.hash(*block) < hash);
        for block in self.order.iter().skip(first) {
            if self.hash(*block) != hash {
                return;
            }
            match self.places.get_mut(*block as usize) {
                Some(old) if *old == NOWHERE => *old = place,
                // Where one of a hash has its place, all have.
                _ => return,
            }
        }
    }

    /// Notes all blocks that `read` gives of `bytes`. What cannot be read is left out.
    fn look(&mut self, bytes: u64, mark: u32, mut read: impl FnMut(u64, &mut [u8]) -> bool) {
        let mut buffer = vec![0; STEP];
        let mut offset = 0_u64;
        while offset < bytes {
            let step = usize::try_from(bytes - offset).map_or(STEP, |left| left.min(STEP));
            let step = buffer.get_mut(..step).unwrap_or_default();
            if read(offset, step) {
                let first = (offset / BLOCK as u64) as u32;
                for (block, number) in step.chunks_exact(BLOCK).zip(first..) {
                    if block.iter().any(|byte| *byte != 0) {
                        self.note(short(block), number | mark);
                    }
                }
            }
            offset = offset.saturating_add(STEP as u64);
        }
    }
}

impl<D: Block> Transfer<'_, '_, D> {
    /// Makes chunks of blocks that this machine holds; returns what is still missing. Looks once.
    pub(crate) fn reuse(&mut self, missing: Vec<usize>) -> Result<Vec<usize>, TransferError> {
        let Some(mut held) = self.held.take() else {
            return Ok(missing);
        };
        let mut left = Vec::new();
        let mut rest = missing.as_slice();
        while let Some(first) = rest.first() {
            let span = first / SPAN_CHUNKS;
            let count = rest.partition_point(|index| index / SPAN_CHUNKS == span);
            let (now, behind) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            rest = behind;
            match self.index(span, now.len(), &mut held)? {
                None => left.extend_from_slice(now),
                Some(index) => {
                    for chunk in now {
                        if !self.assemble(&index, span, *chunk, &mut held)? {
                            left.push(*chunk);
                        }
                    }
                }
            }
        }
        Ok(left)
    }

    /// The index of one GiB with all places known; `None` when there is none, or it does not pay
    /// for so few missing chunks.
    fn index(
        &mut self,
        span: usize,
        missing: usize,
        held: &mut Window,
    ) -> Result<Option<Index>, TransferError> {
        let Some((path, hash, length)) = self.published.block_index(span) else {
            return Ok(None);
        };
        if length.saturating_mul(INDEX_PART) > (missing as u64).saturating_mul(CHUNK) {
            return Ok(None);
        }
        let Some(bytes) = self.fetch(&path, 0..length)? else {
            return Ok(None);
        };
        if Hash(Sha256::digest(&bytes).into()) != hash {
            return Ok(None);
        }
        let mut index = Index::new(bytes);
        index.look(held.bytes, 0, |offset, out| {
            held.read_at(offset, out).is_ok()
        });
        let (staging, part) = (&mut *self.staging, self.part);
        index.look(staging.bytes(part), OTHER, |offset, out| {
            staging.read(part, offset, out).is_ok()
        });
        Ok(Some(index))
    }

    /// Puts one chunk together and writes it; says whether it could.
    fn assemble(
        &mut self,
        index: &Index,
        span: usize,
        chunk: usize,
        held: &mut Window,
    ) -> Result<bool, TransferError> {
        let (Some(range), Some(hash)) = (
            self.published.chunk_range(chunk),
            self.published.chunks.get(chunk).copied(),
        ) else {
            return Ok(false);
        };
        let start = range.start.saturating_sub(span as u64 * SPAN);
        let first = (start / BLOCK as u64) as u32;
        let length = usize::try_from(range.end.saturating_sub(range.start));
        let mut out = vec![0; length.unwrap_or_default()];
        let mut unknown = Vec::new();
        for ((place, number), at) in out
            .chunks_mut(BLOCK)
            .zip(first..)
            .zip((0_u64..).step_by(BLOCK))
        {
            if !self.block(index, number, place, held) {
                unknown.push(at..at.saturating_add(place.len() as u64));
            }
        }
        let blocks = out.len().div_ceil(BLOCK);
        if unknown.len().saturating_mul(FETCHED_PART) > blocks {
            return Ok(false);
        }
        let path = self.published.path();
        let mut rest = unknown.into_iter().peekable();
        while let Some(mut gap) = rest.next() {
            while let Some(next) = rest.next_if(|next| next.start == gap.end) {
                gap.end = next.end;
            }
            let wanted = range.start.saturating_add(gap.start)..range.start.saturating_add(gap.end);
            let Some(bytes) = self.fetch(&path, wanted)? else {
                return Ok(false);
            };
            if let Some(place) = out.get_mut(gap.start as usize..gap.end as usize) {
                place.copy_from_slice(&bytes);
            }
        }
        if Hash(Sha256::digest(&out).into()) != hash {
            return Ok(false);
        }
        let written = self.staging.write(self.part, range.start, &out);
        written.map_err(|why| TransferError::Disk(why.to_string()))?;
        self.done(|counted| &mut counted.elsewhere, out.len() as u64);
        flush_sometimes(self.staging, &mut self.unflushed)?;
        Ok(true)
    }

    /// One block from where the index says it is. The other slot may have been written there since.
    fn block(&mut self, index: &Index, number: u32, out: &mut [u8], held: &mut Window) -> bool {
        let (hash, place) = (index.hash(number), index.place(number));
        if out.len() == BLOCK && hash == index.zeros {
            out.fill(0);
            return true;
        }
        if place == NOWHERE || out.len() != BLOCK {
            return false;
        }
        let offset = u64::from(place & !OTHER).saturating_mul(BLOCK as u64);
        let read = match place & OTHER {
            0 => held.read_at(offset, out).is_ok(),
            _ => self.staging.read(self.part, offset, out).is_ok(),
        };
        read && short(out) == hash
    }
}
