//! A version as its signed manifest describes it: what the other slot is to hold.

use std::fmt;

use crate::verity::{BLOCK, Geometry, RootHash};

/// Most bytes of a version's name.
pub const VERSION_BYTES: usize = 64;

/// A version's name: 1 to 64 printable ASCII characters without a space.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version(String);

impl Version {
    /// `None` for a text that is no name.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=VERSION_BYTES).contains(&text.len());
        (fits && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// What a slot is to hold. Whoever makes one has verified the manifest's signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The version's name.
    pub version: Version,
    /// Counts up whenever going back would bring a known hole back.
    pub security_version: u64,
    /// Which try of the same version this is: one that failed is tried again at a higher one.
    pub attempt: u32,
    /// SHA-256 of the manifest.
    pub manifest: [u8; 32],
    /// Bytes of the boot image.
    pub boot_bytes: u64,
    /// SHA-256 of the boot image.
    pub boot_sha256: [u8; 32],
    /// Bytes of the root file system without its hash tree, a multiple of 4096.
    pub root_bytes: u64,
    /// The root of its hash tree.
    pub root_hash: RootHash,
}

impl Target {
    /// The hash tree's shape; `None` when the root's size is not one of a root file system.
    #[must_use]
    pub fn geometry(&self) -> Option<Geometry> {
        let block = BLOCK as u64;
        let whole = self.root_bytes.is_multiple_of(block);
        whole.then(|| Geometry::new(self.root_bytes / block).ok())?
    }
}
