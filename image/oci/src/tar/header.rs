//! One 512-byte header block: its fields as numbers and byte strings.

use super::TarError;

/// The unit of the format.
pub(crate) const BLOCK: usize = 512;

/// A header block with a valid checksum.
pub(crate) struct Block(Box<[u8; BLOCK]>);

/// Which dialect the block is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    V7,
    Ustar,
    Gnu,
}

impl Block {
    /// Checks the checksum; `None` is a block of zeros, the mark of the end.
    pub(crate) fn parse(bytes: &[u8; BLOCK]) -> Result<Option<Self>, TarError> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let block = Self(Box::new(*bytes));
        let stated = block.number(148, 8)?;
        // The checksum is made with its own field as spaces; old tars summed signed bytes.
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (at, byte) in bytes.iter().enumerate() {
            let byte = if (148..156).contains(&at) {
                b' '
            } else {
                *byte
            };
            unsigned += i64::from(byte);
            signed += i64::from(i8::from_ne_bytes([byte]));
        }
        if stated != unsigned && stated != signed {
            return Err(TarError::Malformed("a header's checksum is wrong"));
        }
        Ok(Some(block))
    }

    pub(super) fn dialect(&self) -> Dialect {
        match self.field(257, 8) {
            b"ustar  \0" => Dialect::Gnu,
            magic if magic.starts_with(b"ustar\0") => Dialect::Ustar,
            _ => Dialect::V7,
        }
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.0[156]
    }

    /// The name as the block alone gives it.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        if self.dialect() != Dialect::Ustar {
            return name.to_vec();
        }
        // Jörg Schilling's star keeps times where ustar keeps the end of the prefix.
        let is_star = self.field(508, 4) == b"tar\0";
        let prefix = self.text(345, if is_star { 131 } else { 155 });
        match prefix {
            b"" => name.to_vec(),
            prefix => [prefix, b"/", name].concat(),
        }
    }

    pub(super) fn link_name(&self) -> Vec<u8> {
        self.text(157, 100).to_vec()
    }

    pub(super) fn mode(&self) -> Result<i64, TarError> {
        self.number(100, 8)
    }

    pub(super) fn uid(&self) -> Result<i64, TarError> {
        self.number(108, 8)
    }

    pub(super) fn gid(&self) -> Result<i64, TarError> {
        self.number(116, 8)
    }

    pub(super) fn size(&self) -> Result<i64, TarError> {
        self.number(124, 12)
    }

    pub(super) fn mtime(&self) -> Result<i64, TarError> {
        self.number(136, 12)
    }

    pub(super) fn device(&self) -> Result<(i64, i64), TarError> {
        match self.dialect() {
            Dialect::V7 => Ok((0, 0)),
            Dialect::Ustar | Dialect::Gnu => Ok((self.number(329, 8)?, self.number(337, 8)?)),
        }
    }

    pub(super) fn field(&self, at: usize, len: usize) -> &[u8] {
        self.0.get(at..at + len).unwrap_or_default()
    }

    fn text(&self, at: usize, len: usize) -> &[u8] {
        let field = self.field(at, len);
        field.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    fn number(&self, at: usize, len: usize) -> Result<i64, TarError> {
        number(self.field(at, len))
    }
}

/// A number: octal digits with spaces and NULs around them, or, with the first bit set, GNU's
/// big-endian two's complement.
pub(super) fn number(field: &[u8]) -> Result<i64, TarError> {
    let bad = TarError::Malformed("a header holds something that is not a number");
    if let Some((first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        // The top bit is the marker, the next one the sign.
        let start = i128::from(first & 0x7f) - if first & 0x40 != 0 { 0x80 } else { 0 };
        let value = rest.iter().try_fold(start, |value, byte| {
            value.checked_mul(256)?.checked_add(i128::from(*byte))
        });
        return value.and_then(|v| i64::try_from(v).ok()).ok_or(bad);
    }
    let is_padding = |byte: &u8| *byte == b' ' || *byte == 0;
    let Some(start) = field.iter().position(|byte| !is_padding(byte)) else {
        return Ok(0);
    };
    let digits = field.get(start..).unwrap_or_default();
    let digits = digits.split(is_padding).next().unwrap_or_default();
    digits.iter().try_fold(0i64, |value, byte| match byte {
        b'0'..=b'7' => value
            .checked_mul(8)
            .and_then(|v| v.checked_add(i64::from(byte - b'0')))
            .ok_or(TarError::Malformed("a number in a header is too large")),
        _ => Err(TarError::Malformed(
            "a header holds something that is not a number",
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_both_notations() {
        assert_eq!(number(b"0000644\0").expect("octal"), 0o644);
        assert_eq!(number(b"   644 \0").expect("spaces"), 0o644);
        assert_eq!(number(b"\0\0\0\0").expect("empty"), 0);
        assert_eq!(number(b"\x80\0\0\0\0\0\x01\0").expect("base 256"), 256);
        assert_eq!(number(&[0xff; 12]).expect("negative"), -1);
        assert!(number(&[0xbf; 12]).is_err(), "larger than 63 bits");
        assert!(number(b"12x4").is_err());
        assert!(number(b"-1").is_err());
    }
}
