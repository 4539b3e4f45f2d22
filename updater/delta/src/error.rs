//! Why a patch, or one chunk of it, cannot be used.

use std::io;

/// Why bytes are not a patch that this decoder takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Another kind of file.
    #[error("this is not a Berth patch")]
    NotPatch,
    /// Made by a newer encoder.
    #[error("the patch has format {0}, and this version of Berth reads format 2")]
    Version(u32),
    /// Bytes changed on the way.
    #[error("the patch's head is damaged: its SHA-256 is not the one in front of it")]
    Hash,
    /// A structure that contradicts itself.
    #[error("the patch is damaged: {0}")]
    Damaged(&'static str),
    /// More than [`crate::Limits`] allows.
    #[error("the patch asks for more {0} than a decoder may use")]
    TooLarge(&'static str),
}

/// Why a chunk could not be made from its payload and the source.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// The patch has no chunk of that number, or the buffer has another length than the chunk.
    #[error("the chunk was asked for wrongly: {0}")]
    Asked(&'static str),
    /// Bytes changed on the way.
    #[error("the chunk's payload is damaged: its SHA-256 or length is not the announced one")]
    Payload,
    /// The source cannot be read where the chunk needs it.
    #[error("the source cannot be read: {0}")]
    Source(#[source] io::Error),
    /// The source is not the one that the patch was made for.
    #[error("the chunk's result has another SHA-256 than announced: the source is another one")]
    Result,
    /// Payload or map have the announced hash and yet make no sense.
    #[error("the chunk cannot be decoded: {0}")]
    Format(#[from] FormatError),
}

/// What to do about a [`ChunkError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Fetch the payload once more.
    FetchAgain,
    /// Fetch the chunk's bytes from the full image.
    FullImage,
}

impl ChunkError {
    /// What helps.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Payload => Remedy::FetchAgain,
            _ => Remedy::FullImage,
        }
    }
}
