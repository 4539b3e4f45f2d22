//! Deltas between two versions of an image, a kernel or a program.
//!
//! A patch makes the new version from the old one in independent chunks of 1 MiB. Each chunk's
//! payload is checked by SHA-256 before it is decoded, and each result before it is handed out, so
//! a chunk is right or an error. Memory stays below [`Limits`] whatever the patch says. Any chunk
//! that cannot be made is the same range of the full image.
//!
//! Nothing here does I/O: patch bytes come in as slices, and the old version is read through
//! [`Source`]. `docs/delta.md` specifies the format. The encoder is behind the feature `encode`.

mod addresses;
mod decode;
mod error;
mod extents;
mod hash;
mod limits;
mod lzma;
mod map;
mod patch;
mod pieces;
mod predict;
mod reader;
mod source;
mod streams;
mod tables;

#[cfg(feature = "encode")]
pub mod encode;

pub use decode::Decoder;
pub use error::{ChunkError, FormatError, Remedy};
pub use hash::Hash;
pub use limits::{CHUNK, Limits, PAYLOAD_BYTES};
pub use patch::{Chunk, Identity, Kind, Patch, Payload, Prefix};
pub use source::Source;
