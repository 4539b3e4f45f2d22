//! Predicts references: most bytes that differ between two builds of a program are addresses of
//! things that moved, and the copy map knows where to.
//!
//! A prediction changes the old bytes before the difference is taken, so a wrong one costs a few
//! bytes and nothing else. The encoder chooses a [`Mode`] for each kibibyte of the target.

use crate::addresses::Addresses;
use crate::map::Moves;

/// Bytes of the target that share a mode.
pub(crate) const BLOCK: u32 = 1024;
/// References are predicted in runs of one mode, cut at multiples of this.
pub(crate) const RUN_MAX: u32 = 16 * BLOCK;
/// Bytes in front of a run that say what kind of instruction a reference belongs to.
pub(crate) const BEFORE: usize = 2;

/// How references are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// There are none.
    Plain,
    /// x86-64 code: calls, jumps, conditional jumps, operands relative to RIP, and the 32-bit
    /// absolute addresses that a list in the source names.
    Code,
    /// 64-bit absolute, aligned.
    Absolute64,
    /// 32-bit, relative to their own place, aligned to 4.
    SelfRelative4,
    /// 32-bit, relative to the start of the code, aligned.
    BaseRelative,
    /// 32-bit absolute, aligned.
    Absolute32,
    /// 32-bit, relative to their own place, aligned to 2.
    SelfRelative2,
}

impl Mode {
    #[cfg(feature = "encode")]
    pub(crate) const PREDICTING: [Self; 6] = [
        Self::Code,
        Self::Absolute64,
        Self::SelfRelative4,
        Self::BaseRelative,
        Self::Absolute32,
        Self::SelfRelative2,
    ];

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Plain,
            1 => Self::Code,
            2 => Self::Absolute64,
            3 => Self::SelfRelative4,
            4 => Self::BaseRelative,
            5 => Self::Absolute32,
            6 => Self::SelfRelative2,
            _ => return None,
        })
    }
}

/// Smaller numbers are numbers, not addresses.
const ABSOLUTE_MIN: u64 = 0x1000;
const RELATIVE_MIN: u64 = 16;

/// What a prediction knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Predictor<'a> {
    pub(crate) old: &'a Addresses,
    pub(crate) new: &'a Addresses,
    pub(crate) moves: &'a Moves,
    /// Where the source has absolute addresses of 32 bits: the low halves of the places' own
    /// addresses, sorted.
    pub(crate) absolute: &'a [u32],
}

/// A run of old bytes: with [`BEFORE`] bytes in front, where it was and where it goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) window: &'a [u8],
    pub(crate) old: u32,
    pub(crate) new: u32,
}

impl Predictor<'_> {
    /// Changes `out`, which holds the run's old bytes, to what they will be.
    pub(crate) fn predict(&self, mode: Mode, run: Run<'_>, out: &mut [u8]) {
        let (Some(old), Some(new)) = (self.old.of(run.old), self.new.of(run.new)) else {
            return;
        };
        let moved = new.wrapping_sub(old);
        match mode {
            Mode::Plain => {}
            Mode::Code => self.code(run.window, old, moved, out),
            Mode::Absolute64 => words(run.old, 8, out, |_, value: u64| {
                (value >= ABSOLUTE_MIN)
                    .then(|| self.new_address(value))
                    .flatten()
            }),
            Mode::Absolute32 => words(run.old, 4, out, |_, value: u32| {
                let address = value as i32 as u64;
                let new = (address >= ABSOLUTE_MIN)
                    .then(|| self.new_address(address))
                    .flatten()?;
                Some(new as u32)
            }),
            Mode::BaseRelative => words(run.old, 4, out, |_, value: u32| {
                let far = u64::from(value);
                let address = self.old.base.wrapping_add(far);
                let new = (far >= RELATIVE_MIN)
                    .then(|| self.new_address(address))
                    .flatten()?;
                Some(new.wrapping_sub(self.new.base) as u32)
            }),
            Mode::SelfRelative4 => words(run.old, 4, out, |at, value: u32| {
                self.relative(old.wrapping_add(at), value, moved)
            }),
            Mode::SelfRelative2 => words(run.old, 2, out, |at, value: u32| {
                self.relative(old.wrapping_add(at), value, moved)
            }),
        }
    }

    /// Where what was at `address` is now.
    fn new_address(&self, address: u64) -> Option<u64> {
        let new = self.moves.new_offset(self.old.offset(address)?)?;
        Some(self.new.of(new).unwrap_or(address))
    }

    /// A displacement from `from`, which itself moves by `moved`.
    fn relative(&self, from: u64, value: u32, moved: u64) -> Option<u32> {
        let far = value as i32 as u64;
        let target = from.wrapping_add(far);
        let new = (far != 0).then(|| self.new_address(target)).flatten()?;
        Some(
            far.wrapping_add(new.wrapping_sub(target))
                .wrapping_sub(moved) as u32,
        )
    }

    fn code(&self, window: &[u8], old: u64, moved: u64, out: &mut [u8]) {
        let absolute = self.absolute;
        let first_absolute = absolute.partition_point(|place| *place < old as u32);
        let mut absolute = absolute.iter().skip(first_absolute).peekable();
        let mut skip = 0;
        for (at, bytes) in window.windows(BEFORE + 4).enumerate() {
            if skip > 0 {
                skip -= 1;
                continue;
            }
            let [first, second, a, b, c, d] = *bytes else {
                return;
            };
            let far = i32::from_le_bytes([a, b, c, d]) as u64;
            let place = old.wrapping_add(at as u64);
            while absolute.next_if(|next| **next < place as u32).is_some() {}
            let predicted = if absolute.peek() == Some(&&(place as u32)) {
                self.new_address(far)
            } else if is_relative(first, second) {
                let target = place.wrapping_add(4).wrapping_add(far);
                self.new_address(target).map(|new| {
                    far.wrapping_add(new.wrapping_sub(target))
                        .wrapping_sub(moved)
                })
            } else {
                None
            };
            if let (Some(new), Some(place)) = (predicted, out.get_mut(at..at + 4)) {
                place.copy_from_slice(&(new as u32).to_le_bytes());
                skip = 3;
            }
        }
    }
}

/// Whether the 32-bit word behind these two bytes of code is likely to be relative to its end.
pub(crate) fn is_relative(first: u8, second: u8) -> bool {
    matches!(second, 0xe8 | 0xe9) || first == 0x0f && second & 0xf0 == 0x80 || second & 0xc7 == 0x05
}

/// A number in little-endian bytes.
trait Word: Copy {
    const BYTES: usize;
    fn get(bytes: &[u8]) -> Option<Self>;
    fn put(self, bytes: &mut [u8]);
}

macro_rules! word {
    ($type:ty) => {
        impl Word for $type {
            const BYTES: usize = size_of::<$type>();
            fn get(bytes: &[u8]) -> Option<Self> {
                bytes.first_chunk().map(|bytes| Self::from_le_bytes(*bytes))
            }
            fn put(self, bytes: &mut [u8]) {
                if let Some(place) = bytes.first_chunk_mut() {
                    *place = self.to_le_bytes();
                }
            }
        }
    };
}
word!(u32);
word!(u64);

/// Replaces each number at a multiple of `alignment` (in the file that starts `offset` before
/// `out`) for which `change`, given its place in `out`, has another.
fn words<W: Word>(
    offset: u32,
    alignment: u32,
    out: &mut [u8],
    change: impl Fn(u64, W) -> Option<W>,
) {
    let step = alignment as usize;
    let mut at = (alignment - offset % alignment) as usize % step;
    while let Some(rest) = out.get_mut(at..).filter(|rest| rest.len() >= W::BYTES) {
        let changed = W::get(rest).and_then(|word| change(at as u64, word));
        if let Some(word) = changed {
            word.put(rest);
        }
        // A number that was found leaves no room for another inside it.
        at += if changed.is_some() {
            W::BYTES.max(step)
        } else {
            step
        };
    }
}
