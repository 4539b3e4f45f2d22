//! Why there is no build.

use std::io;
use std::path::PathBuf;

use crate::assets::AssetError;
use crate::config::Mistakes;
use crate::lock::LockError;

use super::userland::UserlandError;

/// Why there is no build. Nothing has appeared under an output's name then.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The configuration does not fit its images.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
    /// The tool lacks a part.
    #[error(transparent)]
    Asset(#[from] AssetError),
    /// The lock file cannot be used, or pins something else.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There is no kernel.
    #[error(transparent)]
    Kernel(#[from] berth_kernel_config::Error),
    /// An image cannot be used.
    #[error(transparent)]
    Image(#[from] berth_oci::Error),
    /// The root cannot be put together.
    #[error(transparent)]
    Userland(#[from] UserlandError),
    /// The root cannot be written.
    #[error(transparent)]
    Erofs(#[from] berth_erofs::Error),
    /// The disk cannot be assembled.
    #[error(transparent)]
    Disk(#[from] berth_disk::Error),
    /// An input cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An output cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `SOURCE_DATE_EPOCH` is not a number.
    #[error(
        "SOURCE_DATE_EPOCH is {0:?}; it must be a number of seconds since 1970 (see \
         reproducible-builds.org), or not be set"
    )]
    SourceDate(String),
}

/// Whose fault a failure is, for the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Something that was given cannot be used.
    Input,
    /// The results cannot be kept.
    Output,
}

impl BuildError {
    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        let full = |source: &io::Error| {
            matches!(
                source.kind(),
                io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::FileTooLarge
            )
        };
        match self {
            Self::Write { .. } | Self::Userland(_) => Blame::Output,
            Self::Disk(berth_disk::Error::Write { .. } | berth_disk::Error::Verity(_)) => {
                Blame::Output
            }
            Self::Erofs(berth_erofs::Error::Write(_)) => Blame::Output,
            Self::Image(berth_oci::Error::Spool { .. }) => Blame::Output,
            Self::Image(berth_oci::Error::Io { source, .. }) if full(source) => Blame::Output,
            _ => Blame::Input,
        }
    }

    pub(super) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }

    pub(super) fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }
}
