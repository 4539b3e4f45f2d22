//! The document: text in, checked values out.

use serde::{Deserialize, Serialize};

use crate::hash::{self, Hash};
use crate::rollout::Rollout;
use crate::{CHUNK, SCHEMA, blocks, limits};

/// Blocks of a verified root.
const BLOCK: u64 = 4096;

/// One version of one product.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// Must be [`SCHEMA`].
    pub schema: u32,
    /// The image's name.
    pub product: String,
    /// The image's version.
    pub version: String,
    /// Never followed by a smaller one.
    pub security_version: u64,
    /// Raised to have machines try this version again that have given it up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempt: u32,
    /// Kernel profile.
    pub profile: String,
    /// Processor architecture.
    pub architecture: String,
    /// The newest date of anything in it, seconds since 1970.
    pub built: u64,
    /// When this document was made, seconds since 1970.
    pub published: u64,
    /// The kernel's version, for people.
    pub kernel: String,
    /// The boot partition's file system.
    pub boot: Part,
    /// The root file system.
    pub root: Root,
    /// From which other versions there are patches.
    #[serde(default)]
    pub deltas: Vec<Delta>,
    /// Who takes it when.
    pub rollout: Rollout,
}

/// A part of a version: bytes of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its size.
    pub bytes: u64,
    /// Its hash.
    pub sha256: Hash,
    /// The hashes of its chunks.
    #[serde(with = "hash::list")]
    pub chunks: Vec<Hash>,
    /// The whole part, packed: a patch from nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<Patch>,
    /// The hashes of its block indexes ([`crate::blocks`]), one for each GiB; none when it has none.
    #[serde(default, with = "hash::list", skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<Hash>,
}

/// The root: its file system's bytes. The hash tree behind them is made on the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The file system.
    #[serde(flatten)]
    pub part: Part,
    /// dm-verity's root hash.
    pub root_hash: Hash,
}

/// Patches from one other version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// That version, for people.
    pub version: String,
    /// Its root hash: what a machine knows about itself.
    pub root_hash: Hash,
    /// For the boot part.
    pub boot: Patch,
    /// For the root.
    pub root: Patch,
}

/// A patch file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// Its size.
    pub bytes: u64,
    /// Its hash, which is its name.
    pub sha256: Hash,
    /// The hash of its head, which has the hashes of the rest.
    pub head_sha256: Hash,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes it so
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Why a document is none.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// It is too long.
    #[error("the description of the version is longer than it can be")]
    TooLong,
    /// It cannot be read.
    #[error("the description of the version is damaged: {0}")]
    Json(#[from] serde_json::Error),
    /// It is of another time.
    #[error("the version is described in format {0}, which this machine is too old for")]
    Schema(u32),
    /// It contradicts itself.
    #[error("the description of the version contradicts itself: {0}")]
    Contradiction(&'static str),
}

impl Release {
    /// Reads a document whose hash was checked.
    ///
    /// # Errors
    /// See [`ReleaseError`].
    pub fn parse(text: &[u8]) -> Result<Self, ReleaseError> {
        /// Read first, since the rest may be anything in another format.
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        if text.len() as u64 > limits::DOCUMENT_BYTES {
            return Err(ReleaseError::TooLong);
        }
        let Version { schema } = serde_json::from_slice(text)?;
        if schema != SCHEMA {
            return Err(ReleaseError::Schema(schema));
        }
        let release: Self = serde_json::from_slice(text)?;
        match release.contradiction() {
            None => Ok(release),
            Some(what) => Err(ReleaseError::Contradiction(what)),
        }
    }

    /// The document's text.
    ///
    /// # Errors
    /// Never, but for memory.
    pub fn text(&self) -> Result<Vec<u8>, ReleaseError> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        Ok(text)
    }

    /// The patches for a machine whose root has this hash.
    #[must_use]
    pub fn delta_from(&self, root_hash: &[u8; 32]) -> Option<&Delta> {
        self.deltas
            .iter()
            .find(|delta| delta.root_hash.0 == *root_hash)
    }

    fn contradiction(&self) -> Option<&'static str> {
        let text_fits = |text: &str, most| {
            (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let names = [
            &self.product,
            &self.version,
            &self.profile,
            &self.architecture,
        ];
        if !names.iter().all(|name| text_fits(name, 64)) || self.kernel.len() > 64 {
            return Some("a name is no name");
        }
        for part in [&self.boot, &self.root.part] {
            let chunks = part.bytes.div_ceil(CHUNK);
            if part.bytes == 0 || part.bytes > limits::PART_BYTES {
                return Some("a part has an impossible size");
            }
            if u64::try_from(part.chunks.len()) != Ok(chunks) {
                return Some("a part has more or fewer chunks than its size says");
            }
            let spans = part.bytes.div_ceil(blocks::SPAN);
            if !part.blocks.is_empty() && u64::try_from(part.blocks.len()) != Ok(spans) {
                return Some("a part has more or fewer block indexes than its size says");
            }
        }
        if !self.root.part.bytes.is_multiple_of(BLOCK) {
            return Some("the root is not made of whole blocks");
        }
        if self.deltas.len() > limits::DELTAS {
            return Some("it has too many deltas");
        }
        self.rollout.contradiction()
    }
}

impl Part {
    /// Where the whole part is, below the URL.
    #[must_use]
    pub fn path(&self) -> String {
        format!("images/{}.img", self.sha256)
    }

    /// Where the block index of GiB `span` is, below the URL, with its hash and how long it is.
    #[must_use]
    pub fn block_index(&self, span: usize) -> Option<(String, Hash, u64)> {
        let hash = *self.blocks.get(span)?;
        let start = u64::try_from(span).ok()?.checked_mul(blocks::SPAN)?;
        let bytes = self.bytes.checked_sub(start)?.min(blocks::SPAN);
        let length = bytes.div_ceil(blocks::BLOCK as u64) * blocks::SHORT as u64;
        Some((format!("images/{hash}.blocks"), hash, length))
    }

    /// The bytes of chunk `index`, as a range of the part.
    #[must_use]
    pub fn chunk_range(&self, index: usize) -> Option<std::ops::Range<u64>> {
        let start = u64::try_from(index).ok()?.checked_mul(CHUNK)?;
        let end = start.checked_add(CHUNK)?.min(self.bytes);
        (start < end).then_some(start..end)
    }
}

impl Patch {
    /// Where it is, below the URL.
    #[must_use]
    pub fn path(&self) -> String {
        format!("deltas/{}.delta", self.sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> Release {
        let part = |bytes: u64| Part {
            bytes,
            sha256: Hash([7; 32]),
            chunks: vec![Hash([9; 32]); bytes.div_ceil(CHUNK) as usize],
            packed: None,
            blocks: Vec::new(),
        };
        Release {
            schema: SCHEMA,
            product: "edge".into(),
            version: "1.4.0".into(),
            security_version: 3,
            attempt: 0,
            profile: "cloud".into(),
            architecture: "x86_64".into(),
            built: 1,
            published: 2,
            kernel: "6.12.117".into(),
            boot: part(CHUNK + 1),
            root: Root {
                part: part(8192),
                root_hash: Hash([1; 32]),
            },
            deltas: Vec::new(),
            rollout: Rollout::at_once(0),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let release = release();
        let text = release.text().expect("text");
        assert_eq!(Release::parse(&text).expect("the same"), release);
        let newer = String::from_utf8(text)
            .expect("text")
            .replacen('{', "{\"later\":1,", 1);
        assert_eq!(Release::parse(newer.as_bytes()).expect("the same"), release);
    }

    #[test]
    fn a_document_that_contradicts_itself_is_refused() {
        let wrong: [fn(&mut Release); 7] = [
            |release| release.boot.blocks = vec![Hash([1; 32]); 2],
            |release| release.boot.chunks.truncate(1),
            |release| release.boot.bytes = 0,
            |release| release.root.part.bytes = 8191,
            |release| release.product = "a/b c".into(),
            |release| release.rollout.waves.clear(),
            |release| release.boot.bytes = u64::MAX,
        ];
        for change in wrong {
            let mut release = release();
            change(&mut release);
            let text = release.text().expect("text");
            let read = Release::parse(&text);
            assert!(
                matches!(read, Err(ReleaseError::Contradiction(_))),
                "{read:?}"
            );
        }
    }

    #[test]
    fn another_format_is_told_apart_from_damage() {
        let read = Release::parse(b"{\"schema\":2,\"new\":[]}");
        assert!(matches!(read, Err(ReleaseError::Schema(2))));
        assert!(matches!(Release::parse(b"{"), Err(ReleaseError::Json(_))));
    }

    #[test]
    fn chunks_cover_a_part() {
        let part = release().boot;
        assert_eq!(part.chunk_range(0), Some(0..CHUNK));
        assert_eq!(part.chunk_range(1), Some(CHUNK..CHUNK + 1));
        assert_eq!(part.chunk_range(2), None);
    }
}
