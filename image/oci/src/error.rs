//! Errors as sentences: what was being done, to what, why it stopped, what to do.

use std::io;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::reference::{Reference, ReferenceError};
use crate::registry::RegistryError;

/// Why an image could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The reference is not one.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The operating system said no.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, and to what.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is no room for what was unpacked.
    #[error(
        "{doing}: cannot write temporary data in {}: {source}; make room there", directory.display()
    )]
    Spool {
        /// What was being done, and to what.
        doing: String,
        /// Where the data should be.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file, image or blob is not there.
    #[error("{place}: {what}")]
    Missing {
        /// Archive, directory or registry name.
        place: String,
        /// What is not there, and what to do.
        what: String,
    },
    /// Several images fit.
    #[error("{place}: holds several images ({found}); add the one you want to the reference")]
    Ambiguous {
        /// Archive or directory.
        place: String,
        /// Their names.
        found: String,
    },
    /// The bytes are not what the format says.
    #[error("{place}: {what} is malformed: {why}; make or download the image again")]
    Malformed {
        /// Archive, directory or registry name.
        place: String,
        /// Which part.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Well-formed, but not something that can be run here.
    #[error("{place}: {why}")]
    Unsupported {
        /// Archive, directory or registry name.
        place: String,
        /// What it is and what is needed instead.
        why: String,
    },
    /// A cap of [`crate::Limits`] was reached.
    #[error(
        "{place}: {what} is larger than the limit of {limit}; images that are meant to be run stay far below it"
    )]
    TooLarge {
        /// Archive, directory or registry name.
        place: String,
        /// Which part.
        what: String,
        /// The cap, with its unit.
        limit: String,
    },
    /// Bytes do not have the digest they were asked for by.
    #[error(
        "{place}: {what} has digest {actual}, but {expected} was expected: it is damaged or was altered; make or download the image again"
    )]
    WrongDigest {
        /// Archive, directory or registry name.
        place: String,
        /// Which part.
        what: String,
        /// The digest asked for.
        expected: Digest,
        /// The digest found.
        actual: Digest,
    },
    /// More or fewer bytes than the descriptor says.
    #[error(
        "{place}: {what} has {actual} bytes, but {expected} were expected: it is truncated or was altered; make or download the image again"
    )]
    WrongSize {
        /// Archive, directory or registry name.
        place: String,
        /// Which part.
        what: String,
        /// Bytes announced.
        expected: u64,
        /// Bytes found.
        actual: u64,
    },
    /// The image is not the one that the lock file names.
    #[error(
        "{reference}: the image is now {found}, but the lock file names {locked}; if the new one is meant, make the lock file again"
    )]
    NotTheLockedImage {
        /// The reference.
        reference: Box<Reference>,
        /// Digest in the lock file.
        locked: Digest,
        /// Digest found.
        found: Digest,
    },
    /// An entry of a layer cannot be used.
    #[error("{place}: layer {layer}: entry {entry}: {why}")]
    Entry {
        /// Archive, directory or registry name.
        place: String,
        /// The layer's digest.
        layer: String,
        /// The entry's name in the layer, quoted and escaped.
        entry: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// A registry could not be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A user or group could not be found in the image.
    #[error(transparent)]
    User(#[from] crate::user::UserError),
}

impl Error {
    /// An I/O error with what was being done.
    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            doing: doing.into(),
            source,
        }
    }

    pub(crate) fn malformed(place: &str, what: impl Into<String>, why: impl ToString) -> Self {
        Self::Malformed {
            place: place.to_owned(),
            what: what.into(),
            why: why.to_string(),
        }
    }

    pub(crate) fn missing(place: &str, what: impl Into<String>) -> Self {
        Self::Missing {
            place: place.to_owned(),
            what: what.into(),
        }
    }

    pub(crate) fn unsupported(place: &str, why: impl Into<String>) -> Self {
        Self::Unsupported {
            place: place.to_owned(),
            why: why.into(),
        }
    }
}

/// Bytes from an image as a person may read them: in quotes, what is not printable escaped, and
/// not all of them when they are many.
pub(crate) fn printable(bytes: &[u8]) -> String {
    const MOST: usize = 512;
    let shown = bytes.get(..MOST).unwrap_or(bytes);
    format!("{:?}", String::from_utf8_lossy(shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_an_image_moves_the_cursor() {
        let shown = printable(b"a\"\n\x1b[2K\x7f\xc2\x9b\xff");
        assert_eq!(shown, "\"a\\\"\\n\\u{1b}[2K\\u{7f}\\u{9b}\u{fffd}\"");
        assert_eq!(printable(&[b'x'; 600]).len(), 512 + 2);
    }
}
