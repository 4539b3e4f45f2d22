//! Reading tar as a stream: POSIX ustar and pax, GNU long names and sparse files, the old v7
//! format. POSIX.1-2017 "pax Interchange Format"; the GNU tar manual, "Sparse Formats"; where
//! those are silent, what Go's archive/tar accepts, since that reads images everywhere else.
//!
//! Never allocates by a size that a header claims, and never seeks.

mod header;
mod pax;
mod reader;
mod sparse;
mod write;

pub(crate) use reader::{Entry, Kind, Reader};
pub(crate) use write::Writer;

use std::io;

/// Why a tar stream could not be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    #[error("{0}")]
    Read(#[from] io::Error),
    #[error("the tar file ends in the middle of an entry; it is truncated")]
    Truncated,
    #[error("the tar file is malformed: {0}")]
    Malformed(&'static str),
    #[error("{what} is larger than the limit of {limit}")]
    TooLarge { what: &'static str, limit: u64 },
}
