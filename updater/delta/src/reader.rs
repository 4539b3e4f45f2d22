//! Reads the numbers of a patch: never past the end, never more than a cap.
//!
//! A number is LEB128: seven bits a byte, the lowest first, the top bit set on all but the last.
//! A signed number is zigzag-coded first.

use crate::error::FormatError;

const CUT_OFF: FormatError = FormatError::Damaged("a part of it is cut off");

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn rest_bytes(&self) -> usize {
        self.rest.len()
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next bytes, as many as an array has.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, FormatError> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn number(&mut self) -> Result<u64, FormatError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(FormatError::Damaged("a number has more than 64 bits"))
    }

    /// A number that may not be larger than `most`; `what` names it in the error.
    pub(crate) fn at_most(
        &mut self,
        most: usize,
        what: &'static str,
    ) -> Result<usize, FormatError> {
        let value = self.number()?;
        usize::try_from(value)
            .ok()
            .filter(|value| *value <= most)
            .ok_or(FormatError::TooLarge(what))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        u32::try_from(self.number()?)
            .map_err(|_| FormatError::Damaged("a number has more than 32 bits"))
    }

    pub(crate) fn signed(&mut self) -> Result<i64, FormatError> {
        let value = self.number()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_ends_where_its_bits_end() {
        let mut largest = vec![0xff; 9];
        largest.push(1);
        assert_eq!(Reader::new(&largest).number(), Ok(u64::MAX));
        largest[9] = 2;
        assert!(Reader::new(&largest).number().is_err());
        assert_eq!(Reader::new(&[0x80]).number(), Err(CUT_OFF));
        assert_eq!(Reader::new(&[0x80, 1]).number(), Ok(128));
        assert_eq!(Reader::new(&[3]).signed(), Ok(-2));
    }
}
