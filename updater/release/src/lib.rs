//! What a published version of a machine is: one signed document, and the files that it names.
//!
//! The document is a target of the TUF metadata, so it is read only after its hash was checked;
//! everything that it names is checked against a hash in it. Files are named by their content and
//! never change, so a cache may keep them for ever and an interrupted publication leaves nothing
//! that could be misread.
//!
//! ```text
//! URL/metadata/                         TUF metadata; timestamp.json is what machines poll
//! URL/targets/PRODUCT/PROFILE/ARCHITECTURE/HASH.release.json    this document
//! URL/images/SHA256.img                 a part, whole: chunk N is bytes [N MiB, (N+1) MiB)
//! URL/images/SHA256.blocks              6 bytes for each block of 4 KiB of 1 GiB of a part
//! URL/deltas/SHA256.delta               a patch from one part to another (berth-delta)
//! ```
//!
//! A field that is not known is ignored: older machines must be able to read what newer tools
//! publish. What they must understand raises `schema`.

pub mod blocks;
pub mod bundle;
mod document;
mod hash;
mod rollout;

pub use document::{Delta, Part, Patch, Release, ReleaseError, Root};
pub use hash::Hash;
pub use rollout::{Place, Rollout, Wave};

/// The version of the format.
pub const SCHEMA: u32 = 1;

/// Bytes in a chunk of a part; the last one may be shorter.
pub const CHUNK: u64 = 1 << 20;

/// The only architecture yet.
pub const ARCHITECTURE: &str = "x86_64";

/// Every bound on a document.
pub mod limits {
    /// Bytes of the document.
    pub const DOCUMENT_BYTES: u64 = 4 << 20;
    /// Bytes of a part.
    pub const PART_BYTES: u64 = 16 << 30;
    /// Deltas of one release.
    pub const DELTAS: usize = 64;
    /// Waves of one rollout.
    pub const WAVES: usize = 100;
}

/// The metadata's directory below the URL.
pub const METADATA: &str = "metadata";
/// The targets' directory below the URL.
pub const TARGETS: &str = "targets";

/// The name of the document among the targets.
#[must_use]
pub fn target_path(product: &str, profile: &str, architecture: &str) -> String {
    format!("{product}/{profile}/{architecture}/release.json")
}
