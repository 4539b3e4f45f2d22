//! Why nothing was published.

use std::io;
use std::path::PathBuf;

use berth_release::ReleaseError;
use berth_trust::Time;
use berth_trust::write::WriteError;

use crate::inspect::InspectError;

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// There is no build.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The directory is not what a build leaves.
    #[error("this is not a build that can be published: {0}")]
    NotABuild(String),
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The keys are not there, or are not keys.
    #[error("{}: {reason}", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Keys of something else.
    #[error(
        "{} is not signed by these keys ({reason}); nothing was changed: name the right ones with \
         --keys",
        directory.display()
    )]
    OtherKeys {
        /// The published directory.
        directory: PathBuf,
        /// How that shows.
        reason: String,
    },
    /// The root file has ended.
    #[error(
        "the newest root file ended on {expires}, and it is {now} by this computer's clock: berth \
         keys next drafts the one that follows it, which its holders sign"
    )]
    RootEnded {
        /// When.
        expires: Time,
        /// The present.
        now: Time,
    },
    /// What would be signed again was signed by keys that count no longer.
    #[error(
        "what is published of {kept} was signed by a key that root {newest} does not name any more, \
         so whoever has that may have changed it: look at it, and have it signed again with \
         --trust-old-keys"
    )]
    OldKeys {
        /// The targets that would be signed again.
        kept: String,
        /// The root whose keys count.
        newest: u64,
    },
    /// The clock is wrong, or the build's date.
    #[error(
        "it is {now} by this computer's clock, and the build is of {built}: machines would take \
         what is signed now for ended long ago; set the clock, or build again with a \
         SOURCE_DATE_EPOCH that has passed"
    )]
    ClockBehind {
        /// The present.
        now: Time,
        /// The date of the build: of its newest image, or as it was told.
        built: Time,
    },
    /// Nothing keeps two publishers apart.
    #[error(
        "{} cannot be locked ({source}), as on NFS, so nothing would keep two publishers apart: \
         publish into a directory on this computer, then copy it, metadata/timestamp.json last",
        path.display()
    )]
    NoLocks {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The metadata cannot be signed.
    #[error(transparent)]
    Sign(#[from] WriteError),
    /// A document is damaged.
    #[error("{}: {source}", path.display())]
    Document {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: ReleaseError,
    },
    /// The document contradicts itself.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// What is published is not what was signed.
    #[error("{}: {reason}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No machine would believe the metadata.
    #[error("no machine would believe this directory: {0}")]
    Trust(#[from] berth_trust::Error),
    /// A version that was published with other content.
    #[error(
        "version {0} was published already with other content: machines that have it would never \
         take this one; raise version in [image]"
    )]
    SameVersion(String),
    /// A version that is older than what is published.
    #[error(
        "version {version} is older than version {newest}, which is published: machines never go \
         back to an older version; give the old content a higher version in [image]"
    )]
    Older {
        /// The build's version.
        version: String,
        /// What is published.
        newest: String,
    },
    /// A version that machines have been told never to take.
    #[error(
        "security_version is {offered}, and {newest} is published: machines that took that would \
         never take this; raise security_version in [image]"
    )]
    Unsafe {
        /// The build's.
        offered: u64,
        /// What is published.
        newest: u64,
    },
    /// There is nothing to try again.
    #[error(
        "version {0} was not published before, so no machine can have given it up: leave --again out"
    )]
    NeverPublished(String),
    /// There is no delta.
    #[error("cannot make a delta: {0}")]
    Delta(#[from] berth_delta::encode::Error),
}

impl PublishError {
    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }
}
