//! SHA-256, by which everything in a patch is named.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::limits::CHUNK_BYTES;

/// The SHA-256 of something.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The hash of as many zeros as a chunk has at most.
    pub(crate) fn of_zeros(bytes: usize) -> Self {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut hash = Sha256::new();
        let mut left = bytes.min(CHUNK_BYTES);
        while let Some(part) = ZEROS
            .get(..left.min(ZEROS.len()))
            .filter(|part| !part.is_empty())
        {
            hash.update(part);
            left -= part.len();
        }
        Self(hash.finalize().into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}
