//! Why metadata is not accepted, in sentences that name the role and what to do about it.

use crate::json::JsonError;
use crate::time::Time;

/// A field that is missing or not what the specification says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is missing or is not {expected}")]
pub struct Malformed {
    /// The field's name.
    pub field: &'static str,
    /// What it has to be.
    pub expected: &'static str,
}

/// Why a refresh or a search stopped. What had been verified before stays trusted and stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are not an object with signatures and a signed part.
    #[error("the metadata of {role} cannot be read: {source}")]
    NotJson {
        /// Whose metadata.
        role: String,
        /// Why.
        source: JsonError,
    },
    /// A field is missing or wrong.
    #[error("the metadata of {role} is wrong: {source}")]
    Malformed {
        /// Whose metadata.
        role: String,
        /// Which field.
        source: Malformed,
    },
    /// Too few of the role's keys have signed.
    #[error(
        "the metadata of {role} has {valid} valid signatures of the {threshold} that are needed"
    )]
    TooFewSignatures {
        /// Whose metadata.
        role: String,
        /// Signatures that count.
        valid: u32,
        /// Signatures that are needed.
        threshold: u32,
    },
    /// The version is not the one that was asked for.
    #[error("the metadata of {role} is version {found}, where version {expected} was announced")]
    WrongVersion {
        /// Whose metadata.
        role: String,
        /// The version announced.
        expected: u64,
        /// The version inside.
        found: u64,
    },
    /// The version is older than one that was trusted before.
    #[error(
        "version {offered} of {role} is older than version {trusted}, which this machine has \
         seen: refused as a rollback"
    )]
    Rollback {
        /// Whose metadata.
        role: String,
        /// The version trusted before.
        trusted: u64,
        /// The version offered now.
        offered: u64,
    },
    /// A new snapshot does not list a role that an older one listed.
    #[error("the new snapshot does not list {role}, which the trusted one lists")]
    Removed {
        /// The role's file.
        role: String,
    },
    /// The metadata has expired.
    #[error(
        "the metadata of {role} expired at {expires}: the repository needs to sign it anew, or this \
         machine's clock is wrong"
    )]
    Expired {
        /// Whose metadata.
        role: String,
        /// When it expired.
        expires: Time,
        /// The present.
        now: Time,
    },
    /// Length or hash differ from what the timestamp or the snapshot says.
    #[error("the metadata of {role} does not have the length and hashes that were announced")]
    WrongContent {
        /// Whose metadata.
        role: String,
    },
    /// The file is longer than its cap.
    #[error("{name} is longer than the {limit} bytes that are allowed")]
    TooLong {
        /// The file.
        name: String,
        /// The cap.
        limit: u64,
    },
    /// The repository does not have a file that it must have.
    #[error("the repository does not have {name}")]
    Missing {
        /// The file.
        name: String,
    },
    /// A delegated role is not in the snapshot.
    #[error("the role {role} is delegated to, but the snapshot does not list it")]
    NotInSnapshot {
        /// The role.
        role: String,
    },
    /// A file could not be fetched.
    #[error("{name} cannot be fetched: {reason}")]
    Fetch {
        /// The file.
        name: String,
        /// Why.
        reason: String,
    },
    /// Trusted metadata could not be kept.
    #[error("{name} cannot be kept: {reason}")]
    Store {
        /// The file.
        name: String,
        /// Why.
        reason: String,
    },
    /// No role that may speak for the path lists it.
    #[error("no role that may speak for {path} lists it")]
    NoSuchTarget {
        /// The target's path.
        path: String,
    },
    /// The search was given up.
    #[error("{path} was not found in the {visited} roles that one search may visit")]
    TooManyDelegations {
        /// The target's path.
        path: String,
        /// How many roles were visited.
        visited: usize,
    },
}
