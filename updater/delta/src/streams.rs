//! The payload of a DIFF chunk: one stream for each kind of thing, each packed by itself.

use crate::error::FormatError;
use crate::limits::CHUNK_BYTES;
use crate::lzma::Lzma;
use crate::patch::unpack;
use crate::predict::Mode;
use crate::reader::Reader;

/// How differences are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A byte for each copied byte.
    Dense,
    /// For each byte that differs, how many before it do not, and the difference.
    Sparse,
}

/// The streams' number: copies, modes, gaps, differences, new bytes.
pub(crate) const COUNT: usize = 5;

/// The unpacked streams of one chunk.
#[derive(Debug)]
pub(crate) struct Streams<'a> {
    form: Form,
    /// Where what belongs to no file comes from.
    pub(crate) copies: Reader<'a>,
    modes: Reader<'a>,
    gaps: Reader<'a>,
    differences: Reader<'a>,
    fresh: Reader<'a>,
    /// Copied bytes until the next that differs; nothing when none does.
    gap: Option<u64>,
}

/// Memory for unpacked streams, kept from chunk to chunk.
pub(crate) type Buffers = [Vec<u8>; COUNT];

impl<'a> Streams<'a> {
    /// Unpacks a payload of a chunk: a byte for the form, the lengths of each stream unpacked and
    /// packed, then the packed streams.
    pub(crate) fn unpack(
        payload: &[u8],
        lzma: &mut Lzma,
        buffers: &'a mut Buffers,
    ) -> Result<Self, FormatError> {
        let mut from = Reader::new(payload);
        let form = match from.byte()? {
            0 => Form::Dense,
            1 => Form::Sparse,
            _ => return Err(FormatError::Damaged("a chunk has an unknown form")),
        };
        let mut lengths = [(0, 0); COUNT];
        for (bytes, packed) in &mut lengths {
            *bytes = from.at_most(CHUNK_BYTES, "bytes of a stream")?;
            if *bytes > 0 {
                *packed = from.at_most(*bytes, "bytes of a stream")?;
            }
        }
        for (buffer, (bytes, packed)) in buffers.iter_mut().zip(lengths) {
            buffer.clear();
            buffer.resize(bytes, 0);
            unpack_some(lzma, from.take(packed)?, buffer)?;
        }
        let [copies, modes, gaps, differences, fresh] = buffers;
        let mut streams = Self {
            form,
            copies: Reader::new(copies),
            modes: Reader::new(modes),
            gaps: Reader::new(gaps),
            differences: Reader::new(differences),
            fresh: Reader::new(fresh),
            gap: None,
        };
        streams.next_gap()?;
        Ok(streams)
    }

    /// The modes of the next `blocks` blocks.
    pub(crate) fn modes(&mut self, blocks: usize) -> Result<Vec<Mode>, FormatError> {
        let unknown = FormatError::Damaged("a chunk names an unknown mode");
        let bytes = self.modes.take(blocks)?;
        bytes
            .iter()
            .map(|byte| Mode::from_byte(*byte).ok_or(unknown))
            .collect()
    }

    /// Fills `out` with bytes that are not in the source.
    pub(crate) fn fresh(&mut self, out: &mut [u8]) -> Result<(), FormatError> {
        out.copy_from_slice(self.fresh.take(out.len())?);
        Ok(())
    }

    /// Adds the differences to the copied bytes in `out`.
    pub(crate) fn add_differences(&mut self, out: &mut [u8]) -> Result<(), FormatError> {
        if self.form == Form::Dense {
            let differences = self.differences.take(out.len())?;
            for (byte, difference) in out.iter_mut().zip(differences) {
                *byte = byte.wrapping_add(*difference);
            }
            return Ok(());
        }
        let mut rest = out;
        while let Some(gap) = self.gap {
            let left = rest.len() as u64;
            if gap >= left {
                self.gap = Some(gap - left);
                return Ok(());
            }
            let (_, at_gap) = rest.split_at_mut_checked(gap as usize).unwrap_or_default();
            if let Some((byte, behind)) = at_gap.split_first_mut() {
                *byte = byte.wrapping_add(self.differences.byte()?);
                rest = behind;
            } else {
                return Ok(());
            }
            self.next_gap()?;
        }
        Ok(())
    }

    fn next_gap(&mut self) -> Result<(), FormatError> {
        self.gap = match self.gaps.is_empty() {
            true => None,
            false => Some(self.gaps.number()?),
        };
        Ok(())
    }
}

fn unpack_some(lzma: &mut Lzma, packed: &[u8], out: &mut [u8]) -> Result<(), FormatError> {
    match out.is_empty() {
        true => Ok(()),
        false => unpack(lzma, packed, out),
    }
}
