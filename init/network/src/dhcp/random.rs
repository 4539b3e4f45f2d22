//! Numbers nobody has to guess wrong twice: transaction identifiers and jitter. Not for secrets.

use std::time::Duration;

/// SplitMix64, seeded from the kernel.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A transaction identifier.
    pub fn transaction(&mut self) -> u32 {
        (self.bits() >> 32) as u32
    }

    /// A duration from zero up to and including `most`, in whole milliseconds.
    pub fn up_to(&mut self, most: Duration) -> Duration {
        let most_ms = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(
            self.bits()
                .checked_rem(most_ms.saturating_add(1))
                .unwrap_or(0),
        )
    }
}
