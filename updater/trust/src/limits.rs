//! Every cap on what a repository may make a client read, hold or do.

/// Keys that one role may have.
pub(crate) const KEYS_PER_ROLE: usize = 256;
/// Letters of one public key: an RSA key of 8192 bits in PEM has about 1,500.
pub(crate) const KEY_TEXT: usize = 2_048;
/// Bytes of a delegated role's name. It becomes part of a file's name, where each may take three.
pub(crate) const ROLE_NAME: usize = 64;

/// The caps; [`Limits::default`] is what the machine uses.
///
/// One file is held at a time. With these caps the worst one takes 8 MiB besides its own bytes
/// (`tests/memory.rs`), most of it for very small maps: `values` bounds it, and the length the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Length of a root file, bytes.
    pub root_bytes: u64,
    /// Length of the timestamp file, bytes.
    pub timestamp_bytes: u64,
    /// Length of the snapshot file, bytes.
    pub snapshot_bytes: u64,
    /// Length of the file of `targets` or of a delegated role, bytes.
    pub targets_bytes: u64,
    /// Root files that one refresh follows.
    pub root_rotations: u32,
    /// Roles that the search for one target visits.
    pub delegations: usize,
    /// Values (numbers, strings, lists, maps) in one file.
    pub values: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            root_bytes: 256 << 10,
            timestamp_bytes: 16 << 10,
            snapshot_bytes: 512 << 10,
            targets_bytes: 1 << 20,
            root_rotations: 256,
            delegations: 32,
            values: 1 << 14,
        }
    }
}
