//! The kernel's payload as a zstd frame of raw blocks (RFC 8878, 3.1.1.2): the stock decompressor
//! takes it at the speed of a copy, and a delta between two kernels sees the real bytes.
//! The kernel's makefile asks for a compressor by name and gives it standard input and output;
//! [`payload_role`] lets the running executable be that compressor.

use std::io::{self, Read, Write};
use std::process::ExitCode;

/// The name under which the makefile calls this executable.
pub(crate) const ROLE: &str = "berth-payload";

/// Changes with the bytes that [`store`] makes, so that cached kernels are made anew.
pub(crate) const VERSION: u32 = 1;

/// Block_Maximum_Size of the format.
const BLOCK: usize = 128 * 1024;
const MAGIC: u32 = 0xFD2F_B528;
/// Frame_Content_Size in 4 bytes, a single segment, no checksum, no dictionary.
const DESCRIPTOR: u8 = 0b1010_0000;

/// Does the compressor's work if this process was started under the compressor's name, and says
/// with which code to exit then; otherwise does nothing. Must come first in `main`.
#[must_use]
pub fn payload_role() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    if std::path::Path::new(&name).file_name()? != ROLE {
        return None;
    }
    match pack(io::stdin().lock(), io::stdout().lock()) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("The kernel's payload could not be packed: {error}");
            Some(ExitCode::FAILURE)
        }
    }
}

fn pack(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut content = Vec::new();
    from.read_to_end(&mut content)?;
    to.write_all(&store(&content)?)?;
    to.flush()
}

/// Wraps `content` into a valid zstd frame without compressing it.
///
/// # Errors
/// Content of 4 GiB or more, which the frame's header cannot state.
pub fn store(content: &[u8]) -> io::Result<Vec<u8>> {
    let size = u32::try_from(content.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "4 GiB or more"))?;
    let blocks = content.len().div_ceil(BLOCK).max(1);
    let mut frame = Vec::with_capacity(content.len() + 9 + 3 * blocks);
    frame.extend(MAGIC.to_le_bytes());
    frame.push(DESCRIPTOR);
    frame.extend(size.to_le_bytes());
    for index in 0..blocks {
        let start = index * BLOCK;
        let block = &content[start..content.len().min(start + BLOCK)];
        let last = u32::from(index + 1 == blocks);
        // Block_Type 0 (raw) in bits 1 and 2, Block_Size above them.
        let header = (block.len() as u32) << 3 | last;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.extend(block);
    }
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_its_header_and_the_content_in_blocks() {
        let content = vec![7; BLOCK + 1];
        let frame = store(&content).unwrap();
        assert_eq!(frame.len(), 9 + 3 + BLOCK + 3 + 1);
        assert_eq!(&frame[..5], &[0x28, 0xB5, 0x2F, 0xFD, 0xA0]);
        assert_eq!(&frame[frame.len() - 4..], &[1 << 3 | 1, 0, 0, 7]);
    }

    #[test]
    fn an_empty_payload_is_one_empty_last_block() {
        assert_eq!(
            store(&[]).unwrap(),
            [0x28, 0xB5, 0x2F, 0xFD, 0xA0, 0, 0, 0, 0, 1, 0, 0]
        );
    }
}
