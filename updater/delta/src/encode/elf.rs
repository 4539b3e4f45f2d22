//! The addresses of an ELF program: where its loadable segments go.

use crate::addresses::{Addresses, Row};

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const PT_LOAD: u32 = 1;
const EXECUTABLE: u32 = 1;
/// Enough for any program; a decoder takes a few more.
const ROWS_MAX: usize = 40;

/// The addresses of a 64-bit little-endian ELF file; nothing for any other file.
pub(crate) fn addresses(file: &[u8]) -> Option<Addresses> {
    if !is_elf64(file) {
        return None;
    }
    let table = number::<8>(file, 32)? as usize;
    let count = number::<2>(file, 56)? as usize;
    let mut addresses = Addresses::default();
    // Memory without bytes in the file gets offsets behind its end.
    let mut beyond = u32::try_from(file.len())
        .ok()?
        .checked_next_multiple_of(4096)?;
    let mut base = None;
    for index in 0..count {
        let at = table.checked_add(index.checked_mul(PROGRAM_HEADER_BYTES)?)?;
        if number::<4>(file, at)? as u32 != PT_LOAD {
            continue;
        }
        let flags = number::<4>(file, at + 4)? as u32;
        let offset = u32::try_from(number::<8>(file, at + 8)?).ok()?;
        let address = number::<8>(file, at + 16)?;
        let in_file = u32::try_from(number::<8>(file, at + 32)?).ok()?;
        let in_memory = u32::try_from(number::<8>(file, at + 40)?).ok()?;
        if flags & EXECUTABLE != 0 {
            base = base.or(Some(address));
        }
        if in_file > 0 {
            addresses.rows.push(Row {
                offset,
                address,
                bytes: in_file,
            });
        }
        if in_memory > in_file {
            let address = address.wrapping_add(u64::from(in_file));
            addresses.rows.push(Row {
                offset: beyond,
                address,
                bytes: in_memory - in_file,
            });
            beyond = beyond.checked_add(in_memory - in_file)?;
        }
    }
    addresses.base = base.unwrap_or_default();
    (1..=ROWS_MAX)
        .contains(&addresses.rows.len())
        .then_some(addresses)
}

/// Whether a file starts like a 64-bit little-endian ELF file.
pub(crate) fn is_elf64(file: &[u8]) -> bool {
    file.len() > HEADER_BYTES && file.starts_with(b"\x7fELF\x02\x01")
}

/// The little-endian number of `N` bytes at `at`.
pub(crate) fn number<const N: usize>(file: &[u8], at: usize) -> Option<u64> {
    let bytes: &[u8; N] = file.get(at..)?.first_chunk()?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)),
    )
}
