//! Every cap on what a repository may make a client read, hold or do.

/// Keys that one role may have.
pub(crate) const KEYS_PER_ROLE: usize = 256;
/// Letters of one public key: an RSA key of 8192 bits in PEM has about 1,500.
pub(crate) const KEY_TEXT: usize = 2_048;
/// Bytes of a delegated role's name. It becomes part of a file's name, where each may take three.
pub(crate) const ROLE_NAME: usize = 64;

/// The caps; [`Limits::default`] is what the machine uses.
///
/// A file of the largest size is held once as bytes and once as values, of which each takes at
/// most 100 bytes besides its text: `targets_bytes` and `values` bound the memory of a check.
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
    /// How deep values lie in one another.
    pub depth: usize,
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
            values: 1 << 16,
            depth: 32,
        }
    }
}
