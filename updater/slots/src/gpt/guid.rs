//! GUIDs, kept in the byte order of the disk.

use std::fmt;

/// A GUID as the table stores it: the first three fields little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid([u8; 16]);

impl Guid {
    /// The type of an entry that is not used.
    pub const ZERO: Self = Self([0; 16]);

    /// From the bytes on disk.
    #[must_use]
    pub const fn from_disk_order(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// From bytes in the order in which the text shows them.
    #[must_use]
    pub const fn from_text_order(b: [u8; 16]) -> Self {
        let [b0, b1, b2, b3, b4, b5, b6, b7, rest @ ..] = b;
        let [b8, b9, b10, b11, b12, b13, b14, b15] = rest;
        Self([
            b3, b2, b1, b0, b5, b4, b7, b6, b8, b9, b10, b11, b12, b13, b14, b15,
        ])
    }

    /// From the number that the text is without its dashes.
    #[must_use]
    pub const fn from_number(number: u128) -> Self {
        Self::from_text_order(number.to_be_bytes())
    }

    /// The bytes on disk.
    #[must_use]
    pub const fn to_disk_order(self) -> [u8; 16] {
        self.0
    }

    /// The bytes in the order in which the text shows them.
    #[must_use]
    pub const fn to_text_order(self) -> [u8; 16] {
        // The exchange is its own inverse.
        Self::from_text_order(self.0).0
    }
}

impl fmt::Display for Guid {
    /// The form of `PARTUUID=`: lower case.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.to_text_order().iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                out.write_str("-")?;
            }
            write!(out, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_efi_system_partition_reads_as_in_the_specification() {
        let esp = Guid::from_number(0xc12a_7328_f81f_11d2_ba4b_00a0_c93e_c93b);
        assert_eq!(esp.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        assert_eq!(esp.to_disk_order()[..4], [0x28, 0x73, 0x2a, 0xc1]);
        assert_eq!(Guid::from_disk_order(esp.to_disk_order()), esp);
    }
}
