//! Every cap on what a patch may ask for, in one place.
//!
//! With these, a decoder and its buffers stay below 12 MiB whatever the patch says and however
//! large the images are. A patch that asks for more is refused; its chunks then come from the
//! full image.

/// Bytes of output in a chunk: of a patch and of the grid of the full image.
pub const CHUNK: u64 = 1 << 20;
/// [`CHUNK`] as a length in memory.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// What a patch may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the head, which stays in memory.
    pub head_bytes: usize,
    /// Bytes of the index in the head, unpacked.
    pub index_bytes: usize,
    /// Bytes of source or target.
    pub image_bytes: u64,
    /// Files with a copy map.
    pub files: usize,
    /// Pieces of all files, in source and target together.
    pub extents: usize,
    /// Bytes of one file's copy map, unpacked.
    pub map_bytes: usize,
    /// Segments of one file's copy map.
    pub segments: usize,
    /// Tables of one file, and rows of its address spaces.
    pub tables: usize,
    /// Words of the list of absolute addresses in one file of the source.
    pub absolute: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 2 << 20,
            index_bytes: 512 << 10,
            image_bytes: 16 << 30,
            files: 4096,
            extents: 32_768,
            map_bytes: 512 << 10,
            segments: 65_536,
            tables: 4096,
            absolute: 131_072,
        }
    }
}

/// The most that one chunk's payload can take: a stored chunk, or streams that together are
/// hardly longer. A chunk whose delta would be longer is sent as it is.
pub const PAYLOAD_BYTES: usize = CHUNK_BYTES + 64;
