//! Packs a stream with LZMA at its best settings.

use std::io::{self, Write as _};

use xz2::stream::{LzmaOptions, Stream};
use xz2::write::XzEncoder;

use crate::lzma::Lzma;

/// The strongest preset, with liblzma's flag for its extreme variant.
const PRESET: u32 = 9 | 1 << 31;
/// Bytes of the header of the .lzma format, and the first coded byte, which is always zero.
const HEADER_BYTES: usize = 13 + 1;
/// The decoder looks this far ahead; what it sees there need not be right.
const LOOK_AHEAD: usize = 4;
/// For streams up to this length it pays to try how much of the look-ahead can go.
const TRIM_MAX: usize = 64 << 10;

/// Bits of the last byte, of the position for literals, of the position: what LZMA calls lc, lp
/// and pb.
pub(crate) type Properties = (u32, u32, u32);

/// For text-like streams without any rhythm.
pub(crate) const BYTES: &[Properties] = &[(3, 0, 0), (0, 0, 0), (2, 0, 2), (4, 0, 0)];
/// For code and data in words.
pub(crate) const WORDS: &[Properties] = &[(3, 0, 2)];

/// The shortest of `bytes` packed and as they are, which is what [`crate::patch::unpack`] reads.
pub(crate) fn pack(bytes: &[u8], candidates: &[Properties]) -> io::Result<Vec<u8>> {
    let mut best = bytes.to_vec();
    for properties in candidates {
        let packed = lzma(bytes, *properties)?;
        if packed.len() < best.len() {
            best = packed;
        }
    }
    Ok(best)
}

fn lzma(bytes: &[u8], (last_byte, literal_position, position): Properties) -> io::Result<Vec<u8>> {
    let mut options = LzmaOptions::new_preset(PRESET)?;
    options
        .dict_size((bytes.len() as u32).next_power_of_two().max(4096))
        .literal_context_bits(last_byte)
        .literal_position_bits(literal_position)
        .position_bits(position)
        .nice_len(273);
    let stream = Stream::new_lzma_encoder(&options)?;
    let mut encoder = XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes)?;
    let framed = encoder.finish()?;
    let mut packed = Vec::with_capacity(framed.len());
    packed.extend(framed.first());
    packed.extend(framed.get(HEADER_BYTES..).unwrap_or_default());
    trim(bytes, &mut packed)?;
    Ok(packed)
}

/// Cuts off what the decoder does not need: it knows the length, so no mark of the end.
fn trim(bytes: &[u8], packed: &mut Vec<u8>) -> io::Result<()> {
    let mut lzma = Lzma::default();
    let mut out = vec![0; bytes.len()];
    let unused = lzma.decode(packed, &mut out).map_err(io::Error::other)?;
    if out != bytes {
        return Err(io::Error::other("LZMA did not decode to what was encoded"));
    }
    packed.truncate(packed.len() - unused);
    if bytes.len() > TRIM_MAX {
        return Ok(());
    }
    for _ in 0..LOOK_AHEAD {
        let shorter = packed.get(..packed.len() - 1).unwrap_or_default();
        if lzma.decode(shorter, &mut out).is_err() || out != bytes {
            break;
        }
        packed.pop();
    }
    Ok(())
}
