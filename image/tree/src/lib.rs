//! A file tree in memory, with the files' data in one spool file beside it.
//!
//! Image layers are applied to a [`Tree`] and the EROFS writer reads it. Memory grows with the
//! number of files, never with their bytes. Nothing here touches the host's file system except
//! the spool, which is an unlinked temporary file.

mod spool;
mod tree;

pub use spool::{Content, ContentReader, Spool, SpoolWriter, StoreError};
pub use tree::{DeviceNumber, Kind, Metadata, Node, NodeId, PathError, Tree};
