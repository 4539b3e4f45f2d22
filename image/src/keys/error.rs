//! Why no key was made and nothing was signed.

use std::io;
use std::path::PathBuf;

use berth_trust::write::WriteError;

/// Why no key was made and nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file is in the way.
    #[error("{0} is there already; keys are never overwritten: move it away first")]
    Exists(PathBuf),
    /// A private key would get the name of a public half.
    #[error(
        "{0} would be the name of the public half: name the private key's file, KEY.pem, and \
         KEY.pub appears beside it"
    )]
    PublicName(PathBuf),
    /// A private key where a public half belongs.
    #[error("{0} is a private key, which its holder keeps: give the public half, its .pub file")]
    Private(PathBuf),
    /// The root is finished.
    #[error("{0} has all the signatures that it needs: there is nothing left to sign")]
    Complete(PathBuf),
    /// There is a newer root.
    #[error("{current} is not the newest root, {newer} follows it: name the newest one")]
    NotNewest {
        /// The root that was named.
        current: PathBuf,
        /// The one after it.
        newer: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be, or does not fit the others.
    #[error("{path}: {source}")]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        source: WriteError,
    },
    /// No key can be made.
    #[error(transparent)]
    NoKey(WriteError),
    /// Two holders have one key, or one name.
    #[error("{0} is named twice: each holder of a root key needs a name and a key of their own")]
    Twice(String),
    /// A holder's name cannot be a file's name.
    #[error("{0:?} cannot be a holder's name: use a-z, 0-9, '-' and '_'")]
    Name(String),
    /// More signatures are wanted than there are keys.
    #[error("{threshold} of {holders} holders can never sign")]
    Threshold {
        /// How many have to sign.
        threshold: u32,
        /// How many there are.
        holders: usize,
    },
    /// The key may not sign this root.
    #[error(
        "{key} is not one of the root keys that {root} or the root before it names, so its \
         signature would count for nothing"
    )]
    Stranger {
        /// The key's file.
        key: PathBuf,
        /// The root's file.
        root: PathBuf,
    },
    /// The root before is needed to judge this one.
    #[error("{root} follows the root in {previous}, which is not there; copy it beside")]
    NoPrevious {
        /// The root's file.
        root: PathBuf,
        /// Where the one before should be.
        previous: PathBuf,
    },
}
