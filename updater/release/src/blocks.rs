//! A part's block index: what each of its blocks is, in a few bytes, so that a machine finds those
//! it holds already, wherever they lie, when no patch leads from its version.
//!
//! An index is a help and no proof: what is put together with it is checked chunk by chunk. So a
//! block's hash may be cut to 48 bits: when a million blocks are looked for among a million others,
//! two that differ look alike in one of about 250 updates, which costs it one chunk.

use sha2::{Digest, Sha256};

use crate::CHUNK;

/// Bytes of a block. File systems lay files out by it.
pub const BLOCK: usize = 4096;
/// Bytes of a block's hash: the first ones of its SHA-256.
pub const SHORT: usize = 6;
/// Bytes of a part that one index file is about: what a machine can keep in memory at once.
pub const SPAN: u64 = 1 << 30;
/// Chunks of a part that one index file is about.
pub const SPAN_CHUNKS: usize = (SPAN / CHUNK) as usize;

/// A block's hash, cut. The last block of a part may be shorter.
#[must_use]
pub fn short(block: &[u8]) -> [u8; SHORT] {
    let hash: [u8; 32] = Sha256::digest(block).into();
    let mut short = [0; SHORT];
    short.copy_from_slice(hash.first_chunk::<SHORT>().unwrap_or(&[0; SHORT]));
    short
}

/// The index files of a part, one for each [`SPAN`].
#[must_use]
pub fn index(part: &[u8]) -> Vec<Vec<u8>> {
    part.chunks(SPAN as usize)
        .map(|span| span.chunks(BLOCK).flat_map(short).collect())
        .collect()
}
