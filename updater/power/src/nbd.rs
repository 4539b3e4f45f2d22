//! The network block device protocol, as much of it as QEMU speaks to a plain export: fixed
//! newstyle negotiation with `NBD_OPT_GO`, simple replies, reads, writes and flushes.
//!
//! The specification is doc/proto.md of the NBD project. The client is a QEMU that we started; a
//! client that says anything else is cut off.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use crate::Disk;
use crate::disk::Outcome;

const GREETING: u64 = 0x4e42_444d_4147_4943;
const HAVE_OPTION: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;

/// Handshake flags: fixed newstyle, no zeroes.
const HANDSHAKE: u16 = 3;
/// Transmission flags: there are flags, and there is a flush.
const TRANSMISSION: u16 = 1 | 4;
/// Sizes of requests: at least, best, at most.
const SIZES: [u32; 3] = [512, 4096, REQUEST_MAX];
const REQUEST_MAX: u32 = 32 << 20;
/// The longest option that is read.
const OPTION_MAX: u32 = 8192;

const OPTION_ABORT: u32 = 2;
const OPTION_INFO: u32 = 6;
const OPTION_GO: u32 = 7;

const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = (1 << 31) | 1;
const INFO_EXPORT: u16 = 0;
const INFO_BLOCK_SIZE: u16 = 3;

const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;
const INVALID: u32 = 22;

/// Serves a client until it leaves or the power is gone.
pub(crate) fn serve(disk: &Disk, turn: u64, mut stream: &UnixStream) -> io::Result<()> {
    if !negotiate(disk, stream)? {
        return Ok(());
    }
    loop {
        if u32::from_be_bytes(take(stream)?) != REQUEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let _flags: [u8; 2] = take(stream)?;
        let kind = u16::from_be_bytes(take(stream)?);
        let handle: [u8; 8] = take(stream)?;
        let offset = u64::from_be_bytes(take(stream)?);
        let length = u32::from_be_bytes(take(stream)?);
        if length > REQUEST_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let end = offset.checked_add(u64::from(length));
        let inside = end.is_some_and(|end| end <= disk.bytes());
        let mut error = 0;
        let mut answer = Vec::new();
        let outcome = match kind {
            READ if inside => match disk.read(turn, offset, length as usize) {
                Outcome::Done(bytes) => {
                    answer = bytes;
                    Outcome::Done(())
                }
                Outcome::Dark => Outcome::Dark,
            },
            WRITE => {
                let mut bytes = vec![0; length as usize];
                stream.read_exact(&mut bytes)?;
                if inside {
                    disk.write(turn, offset, bytes)
                } else {
                    error = INVALID;
                    Outcome::Done(())
                }
            }
            FLUSH => disk.flush(turn),
            DISCONNECT => return Ok(()),
            _ => {
                error = INVALID;
                Outcome::Done(())
            }
        };
        match outcome {
            Outcome::Done(()) => {
                let mut reply = Vec::with_capacity(16 + answer.len());
                reply.extend(REPLY.to_be_bytes());
                reply.extend(error.to_be_bytes());
                reply.extend(handle);
                reply.extend(answer);
                stream.write_all(&reply)?;
            }
            Outcome::Dark => return Ok(()),
        }
    }
}

/// Agrees on the export; false when the client wants none.
fn negotiate(disk: &Disk, mut stream: &UnixStream) -> io::Result<bool> {
    let mut hello = Vec::new();
    hello.extend(GREETING.to_be_bytes());
    hello.extend(HAVE_OPTION.to_be_bytes());
    hello.extend(HANDSHAKE.to_be_bytes());
    stream.write_all(&hello)?;
    let _flags: [u8; 4] = take(stream)?;
    loop {
        if u64::from_be_bytes(take(stream)?) != HAVE_OPTION {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let option = u32::from_be_bytes(take(stream)?);
        let length = u32::from_be_bytes(take(stream)?);
        if length > OPTION_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // Whatever it asks to be told, it is told the same, and every name is this disk's.
        stream.read_exact(&mut vec![0; length as usize])?;
        match option {
            OPTION_GO | OPTION_INFO => {
                let mut export = Vec::new();
                export.extend(INFO_EXPORT.to_be_bytes());
                export.extend(disk.bytes().to_be_bytes());
                export.extend(TRANSMISSION.to_be_bytes());
                reply(stream, option, REPLY_INFO, &export)?;
                let mut sizes = Vec::new();
                sizes.extend(INFO_BLOCK_SIZE.to_be_bytes());
                sizes.extend(SIZES.iter().flat_map(|size| size.to_be_bytes()));
                reply(stream, option, REPLY_INFO, &sizes)?;
                reply(stream, option, REPLY_ACK, &[])?;
                if option == OPTION_GO {
                    return Ok(true);
                }
            }
            OPTION_ABORT => {
                reply(stream, option, REPLY_ACK, &[])?;
                return Ok(false);
            }
            _ => reply(stream, option, REPLY_UNSUPPORTED, &[])?,
        }
    }
}

fn reply(mut stream: &UnixStream, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let mut bytes = Vec::new();
    bytes.extend(OPTION_REPLY.to_be_bytes());
    bytes.extend(option.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    stream.write_all(&bytes)
}

fn take<const N: usize>(mut stream: &UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
