//! Every cap on what foreign bytes may make us read, hold or write.

/// Caps; the defaults fit every image that is meant to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest index or manifest, bytes (4 MiB is what registries accept).
    pub manifest_bytes: u64,
    /// Largest image configuration, bytes.
    pub config_bytes: u64,
    /// Most layers of an image.
    pub layers: usize,
    /// Deepest nesting of an index in an index.
    pub index_depth: usize,
    /// Most bytes that all layers of an image may unpack to, tar headers included.
    pub unpacked_bytes: u64,
    /// Most entries in all layers of an image.
    pub entries: u64,
    /// Deepest directory.
    pub depth: usize,
    /// Longest path and longest link target, bytes (PATH_MAX).
    pub path_bytes: usize,
    /// Most symbolic links followed for one path (what Linux allows).
    pub symlinks: usize,
    /// Largest extended header of a tar entry, bytes.
    pub tar_header_bytes: u64,
    /// Most data segments of a sparse file.
    pub sparse_segments: usize,
    /// Largest value of an extended attribute, bytes.
    pub xattr_bytes: usize,
    /// Most members of an image archive.
    pub archive_members: u64,
    /// Most bytes that a compressed image archive may unpack to.
    pub archive_bytes: u64,
    /// Largest answer of a token server, bytes.
    pub token_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_bytes: 4 << 20,
            config_bytes: 4 << 20,
            layers: 512,
            index_depth: 4,
            unpacked_bytes: 32 << 30,
            entries: 2_000_000,
            depth: 1024,
            path_bytes: 4096,
            symlinks: 40,
            tar_header_bytes: 1 << 20,
            sparse_segments: 65_536,
            xattr_bytes: 65_535,
            archive_members: 100_000,
            archive_bytes: 64 << 30,
            token_bytes: 1 << 20,
        }
    }
}
