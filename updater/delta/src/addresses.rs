//! From offsets in a file to the addresses at which its bytes are loaded, and back.

use crate::error::FormatError;
use crate::reader::Reader;

const ROWS_MAX: usize = 64;

/// Bytes that are loaded together: a loadable segment of an ELF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Offset in the file. Memory that is not in the file (`.bss`) has offsets behind its end.
    pub(crate) offset: u32,
    pub(crate) address: u64,
    pub(crate) bytes: u32,
}

/// The addresses of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) rows: Vec<Row>,
    /// What base-relative references count from: the start of the code.
    pub(crate) base: u64,
}

impl Addresses {
    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, FormatError> {
        let count = from.at_most(ROWS_MAX, "loaded segments")?;
        let base = from.number()?;
        let rows = (0..count)
            .map(|_| {
                Ok(Row {
                    offset: from.u32()?,
                    address: from.number()?,
                    bytes: from.u32()?,
                })
            })
            .collect::<Result<_, FormatError>>()?;
        Ok(Self { rows, base })
    }

    /// The address of the byte at `offset`.
    pub(crate) fn of(&self, offset: u32) -> Option<u64> {
        self.rows.iter().find_map(|row| {
            let inside = offset
                .checked_sub(row.offset)
                .filter(|inside| *inside < row.bytes)?;
            Some(row.address.wrapping_add(u64::from(inside)))
        })
    }

    /// The offset of the byte at `address`.
    pub(crate) fn offset(&self, address: u64) -> Option<u32> {
        self.rows.iter().find_map(|row| {
            let inside = address
                .checked_sub(row.address)
                .filter(|inside| *inside < u64::from(row.bytes))?;
            row.offset.checked_add(inside as u32)
        })
    }
}
