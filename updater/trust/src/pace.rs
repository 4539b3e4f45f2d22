//! Slow retrieval: how slow a server may be before a download is given up.

/// The least that a download has to bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinimumRate {
    /// On average since the start, bytes a second.
    pub bytes_per_s: u64,
    /// For how long nothing is asked of it, milliseconds.
    pub grace_ms: u64,
}

impl MinimumRate {
    /// Whether a download that brought `received` bytes in `elapsed_ms` is to be given up. The
    /// caller asks at every read and whenever a read takes long, so that a server which sends a
    /// byte now and then cannot hold a check up for ever.
    #[must_use]
    pub fn too_slow(self, received: u64, elapsed_ms: u64) -> bool {
        let counted_ms = elapsed_ms.saturating_sub(self.grace_ms);
        let wanted = u128::from(self.bytes_per_s) * u128::from(counted_ms);
        u128::from(received) * 1_000 < wanted
    }
}
