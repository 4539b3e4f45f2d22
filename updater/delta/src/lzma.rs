//! The LZMA decoder (LZMA SDK, "LZMA specification"): the coding inside LZMA2 and xz, without
//! their containers.
//!
//! The length of the result is known and its buffer is the dictionary, so a stream needs no
//! memory but the table of probabilities, and can ask for none. Input that ends early reads as
//! zeros: whoever calls has a hash of the result.

use crate::error::FormatError;

const STATES: usize = 12;
const POSITION_STATES: usize = 16;
/// Literal coders are one for each combination of these bits; liblzma's own cap.
const LITERAL_BITS_MAX: u32 = 4;
const PROBABILITY_BITS: u32 = 11;
const EVEN: u16 = 1 << (PROBABILITY_BITS - 1);
const MOVE_BITS: u32 = 5;
const TOP: u32 = 1 << 24;
const MATCH_MIN: usize = 2;

// Where each model's probabilities start in the one table.
const IS_MATCH: usize = 0;
const IS_REPEAT: usize = IS_MATCH + STATES * POSITION_STATES;
const IS_REPEAT_0: usize = IS_REPEAT + STATES;
const IS_REPEAT_1: usize = IS_REPEAT_0 + STATES;
const IS_REPEAT_2: usize = IS_REPEAT_1 + STATES;
const IS_REPEAT_0_LONG: usize = IS_REPEAT_2 + STATES;
const SLOT: usize = IS_REPEAT_0_LONG + STATES * POSITION_STATES;
const SLOT_TREE: usize = 64;
const SPECIAL: usize = SLOT + 4 * SLOT_TREE;
/// Distances below this have a tree of their own for their low bits.
const SPECIAL_END: u32 = 14;
const ALIGN: usize = SPECIAL + 128;
const ALIGN_BITS: u32 = 4;
const MATCH_LENGTH: usize = ALIGN + (1 << ALIGN_BITS);
const LENGTH_LOW: usize = 2;
const LENGTH_MIDDLE: usize = LENGTH_LOW + POSITION_STATES * 8;
const LENGTH_HIGH: usize = LENGTH_MIDDLE + POSITION_STATES * 8;
const LENGTH_MODEL: usize = LENGTH_HIGH + 256;
const REPEAT_LENGTH: usize = MATCH_LENGTH + LENGTH_MODEL;
const LITERAL: usize = REPEAT_LENGTH + LENGTH_MODEL;
const LITERAL_MODEL: usize = 0x300;

const DAMAGED: FormatError = FormatError::Damaged("a compressed part does not decode");

/// How many bits of the last byte and of the position choose a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Properties {
    last_byte: u32,
    literal_position: u32,
    position: u32,
}

impl Properties {
    /// From LZMA's property byte.
    fn parse(byte: u8) -> Result<Self, FormatError> {
        let byte = u32::from(byte);
        let properties = Self {
            last_byte: byte % 9,
            literal_position: byte / 9 % 5,
            position: byte / 45,
        };
        if properties.position > 4
            || properties.last_byte + properties.literal_position > LITERAL_BITS_MAX
        {
            return Err(FormatError::Damaged(
                "a compressed part has unknown properties",
            ));
        }
        Ok(properties)
    }
}

/// The decoder's memory, kept from stream to stream.
#[derive(Debug, Default)]
pub(crate) struct Lzma {
    probabilities: Vec<u16>,
}

impl Lzma {
    /// Fills `out` from `packed`: LZMA's property byte and its coded bytes, without the first,
    /// which is always zero. Says how many bytes at the end were not needed.
    pub(crate) fn decode(&mut self, packed: &[u8], out: &mut [u8]) -> Result<usize, FormatError> {
        let (first, coded) = packed.split_first().ok_or(DAMAGED)?;
        let properties = Properties::parse(*first)?;
        let literals = LITERAL_MODEL << (properties.last_byte + properties.literal_position);
        self.probabilities.clear();
        self.probabilities.resize(LITERAL + literals, EVEN);
        Stream {
            input: RangeDecoder::new(coded),
            model: &mut self.probabilities,
            properties,
            out: Window {
                bytes: out,
                filled: 0,
            },
            state: 0,
            distances: [0; 4],
        }
        .run()
    }
}

/// One stream being decoded.
struct Stream<'a> {
    input: RangeDecoder<'a>,
    model: &'a mut [u16],
    properties: Properties,
    out: Window<'a>,
    state: usize,
    /// The last four distances, less one.
    distances: [usize; 4],
}

impl Stream<'_> {
    fn run(mut self) -> Result<usize, FormatError> {
        let position_mask = (1_usize << self.properties.position) - 1;
        while !self.out.is_full() {
            let position = self.out.filled & position_mask;
            if self.bit(IS_MATCH + self.state * POSITION_STATES + position)? == 0 {
                self.literal()?;
                continue;
            }
            let length = if self.bit(IS_REPEAT + self.state)? == 0 {
                let length = self.length(MATCH_LENGTH, position)?;
                let distance = self.distance(length)?;
                let [first, second, third, _] = self.distances;
                self.distances = [distance, first, second, third];
                self.state = if self.state < 7 { 7 } else { 10 };
                length
            } else if let Some(length) = self.repeat(position)? {
                length
            } else {
                self.state = if self.state < 7 { 9 } else { 11 };
                1
            };
            let [distance, ..] = self.distances;
            self.out.copy(distance, length)?;
        }
        Ok(self.input.input.len())
    }

    fn bit(&mut self, index: usize) -> Result<u32, FormatError> {
        let probability = self.model.get_mut(index).ok_or(DAMAGED)?;
        Ok(self.input.bit(probability))
    }

    fn literal(&mut self) -> Result<(), FormatError> {
        let last = usize::from(self.out.back(0).unwrap_or(0));
        let Properties {
            last_byte,
            literal_position,
            ..
        } = self.properties;
        let position = self.out.filled & ((1 << literal_position) - 1);
        let which = (position << last_byte) + (last >> (8 - last_byte));
        let model = LITERAL + LITERAL_MODEL * which;
        let mut symbol = 1_usize;
        if self.state >= 7 {
            let [distance, ..] = self.distances;
            let mut expected = usize::from(self.out.back(distance).ok_or(DAMAGED)?);
            while symbol < 0x100 {
                let expected_bit = expected >> 7 & 1;
                expected <<= 1;
                let bit = self.bit(model + ((1 + expected_bit) << 8) + symbol)? as usize;
                symbol = symbol << 1 | bit;
                if bit != expected_bit {
                    break;
                }
            }
        }
        while symbol < 0x100 {
            symbol = symbol << 1 | self.bit(model + symbol)? as usize;
        }
        self.state = match self.state {
            0..4 => 0,
            4..10 => self.state - 3,
            _ => self.state - 6,
        };
        self.out.push((symbol & 0xff) as u8)
    }

    /// A repeated distance, put in front; its length, or nothing for a single byte.
    fn repeat(&mut self, position: usize) -> Result<Option<usize>, FormatError> {
        let [first, second, third, fourth] = self.distances;
        if self.bit(IS_REPEAT_0 + self.state)? == 0 {
            let long = IS_REPEAT_0_LONG + self.state * POSITION_STATES + position;
            if self.bit(long)? == 0 {
                return Ok(None);
            }
        } else if self.bit(IS_REPEAT_1 + self.state)? == 0 {
            self.distances = [second, first, third, fourth];
        } else if self.bit(IS_REPEAT_2 + self.state)? == 0 {
            self.distances = [third, first, second, fourth];
        } else {
            self.distances = [fourth, first, second, third];
        }
        let length = self.length(REPEAT_LENGTH, position)?;
        self.state = if self.state < 7 { 8 } else { 11 };
        Ok(Some(length))
    }

    fn length(&mut self, model: usize, position: usize) -> Result<usize, FormatError> {
        if self.bit(model)? == 0 {
            let low = self.tree(model + LENGTH_LOW + position * 8, 3)?;
            return Ok(MATCH_MIN + low);
        }
        if self.bit(model + 1)? == 0 {
            let middle = self.tree(model + LENGTH_MIDDLE + position * 8, 3)?;
            return Ok(MATCH_MIN + 8 + middle);
        }
        Ok(MATCH_MIN + 16 + self.tree(model + LENGTH_HIGH, 8)?)
    }

    /// A distance, less one.
    fn distance(&mut self, length: usize) -> Result<usize, FormatError> {
        let which = (length - MATCH_MIN).min(3);
        let slot = self.tree(SLOT + which * SLOT_TREE, 6)? as u32;
        if slot < 4 {
            return Ok(slot as usize);
        }
        let bits = (slot >> 1) - 1;
        let base = (2 | slot & 1) << bits;
        if slot < SPECIAL_END {
            // The trees of the slots lie one behind the other; each has its root at index 1.
            let model = SPECIAL + base as usize - slot as usize;
            return Ok(base as usize + self.reverse_tree(model, bits)?);
        }
        let high = self.input.plain_bits(bits - ALIGN_BITS) << ALIGN_BITS;
        let low = self.reverse_tree(ALIGN, ALIGN_BITS)?;
        Ok((base as usize + high as usize).wrapping_add(low))
    }

    fn tree(&mut self, model: usize, bits: u32) -> Result<usize, FormatError> {
        let mut symbol = 1;
        for _ in 0..bits {
            symbol = symbol << 1 | self.bit(model + symbol)? as usize;
        }
        Ok(symbol - (1 << bits))
    }

    fn reverse_tree(&mut self, model: usize, bits: u32) -> Result<usize, FormatError> {
        let mut symbol = 1;
        let mut value = 0;
        for place in 0..bits {
            let bit = self.bit(model + symbol)? as usize;
            symbol = symbol << 1 | bit;
            value |= bit << place;
        }
        Ok(value)
    }
}

/// The result, which is also what matches refer to.
struct Window<'a> {
    bytes: &'a mut [u8],
    filled: usize,
}

impl Window<'_> {
    fn is_full(&self) -> bool {
        self.filled == self.bytes.len()
    }

    /// The byte `distance + 1` before the next.
    fn back(&self, distance: usize) -> Option<u8> {
        let at = self.filled.checked_sub(distance.checked_add(1)?)?;
        self.bytes.get(at).copied()
    }

    fn push(&mut self, byte: u8) -> Result<(), FormatError> {
        *self.bytes.get_mut(self.filled).ok_or(DAMAGED)? = byte;
        self.filled += 1;
        Ok(())
    }

    /// Repeats what is `distance + 1` back. A match that would end behind the result is cut.
    fn copy(&mut self, distance: usize, length: usize) -> Result<(), FormatError> {
        let span = distance.checked_add(1).ok_or(DAMAGED)?;
        let from = self.filled.checked_sub(span).ok_or(DAMAGED)?;
        let mut left = length.min(self.bytes.len() - self.filled);
        // What has been copied may be copied again, so each round can take twice as much.
        while left > 0 {
            let part = left.min(self.filled - from);
            let (done, free) = self
                .bytes
                .split_at_mut_checked(self.filled)
                .ok_or(DAMAGED)?;
            let source = done.get(from..from + part).ok_or(DAMAGED)?;
            free.get_mut(..part).ok_or(DAMAGED)?.copy_from_slice(source);
            self.filled += part;
            left -= part;
        }
        Ok(())
    }
}

/// The range decoder.
struct RangeDecoder<'a> {
    input: std::slice::Iter<'a, u8>,
    range: u32,
    code: u32,
}

impl<'a> RangeDecoder<'a> {
    fn new(input: &'a [u8]) -> Self {
        let mut decoder = Self {
            input: input.iter(),
            range: u32::MAX,
            code: 0,
        };
        for _ in 0..4 {
            decoder.code = decoder.code << 8 | decoder.next();
        }
        decoder
    }

    fn next(&mut self) -> u32 {
        self.input.next().copied().map_or(0, u32::from)
    }

    fn bit(&mut self, probability: &mut u16) -> u32 {
        let bound = (self.range >> PROBABILITY_BITS) * u32::from(*probability);
        let bit = if self.code < bound {
            self.range = bound;
            *probability += ((1 << PROBABILITY_BITS) - *probability) >> MOVE_BITS;
            0
        } else {
            self.range -= bound;
            self.code -= bound;
            *probability -= *probability >> MOVE_BITS;
            1
        };
        self.normalize();
        bit
    }

    fn plain_bits(&mut self, count: u32) -> u32 {
        let mut value = 0;
        for _ in 0..count {
            self.range >>= 1;
            let bit = u32::from(self.code >= self.range);
            self.code -= self.range * bit;
            value = value << 1 | bit;
            self.normalize();
        }
        value
    }

    fn normalize(&mut self) {
        if self.range < TOP {
            self.range <<= 8;
            self.code = self.code << 8 | self.next();
        }
    }
}
