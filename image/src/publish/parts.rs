//! A build's two parts as files named by their content, and the patches between them.

use std::io::Write;
use std::path::Path;

use berth_delta::encode::create_with_costs;
use berth_delta::{Limits, Prefix};
use berth_disk::fat::Fat;
use berth_release::{CHUNK, Hash, Part, Patch};
use berth_slots::verity::BLOCK;
use sha2::{Digest, Sha256};

use super::PublishError;
use super::directory::write_new;
use crate::build::{Progress, ROOT_NAME, UKI_NAME};
use crate::manifest::Manifest;

/// A part and its bytes.
pub(super) struct PartFile {
    bytes: Vec<u8>,
    pub(super) sha256: Hash,
    chunks: Vec<Hash>,
    /// Its block indexes.
    indexes: Vec<Vec<u8>>,
}

impl PartFile {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self {
            sha256: hash_of(&bytes),
            chunks: bytes.chunks(CHUNK as usize).map(hash_of).collect(),
            indexes: berth_release::blocks::index(&bytes),
            bytes,
        }
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Puts it and its block indexes into a published directory.
    pub(super) fn write(&self, directory: &Path) -> Result<(), PublishError> {
        let part = self.published(None);
        write_new(&directory.join(part.path()), &self.bytes)?;
        for (span, index) in self.indexes.iter().enumerate() {
            if let Some((path, ..)) = part.block_index(span) {
                write_new(&directory.join(path), index)?;
            }
        }
        Ok(())
    }

    /// As the document describes it.
    pub(super) fn published(&self, packed: Option<Patch>) -> Part {
        Part {
            bytes: self.bytes.len() as u64,
            sha256: self.sha256,
            chunks: self.chunks.clone(),
            packed,
            blocks: self.indexes.iter().map(|index| hash_of(index)).collect(),
        }
    }
}

/// SHA-256 of bytes in memory.
pub(super) fn hash_of(bytes: &[u8]) -> Hash {
    Hash(Sha256::digest(bytes).into())
}

/// The boot partition's file system, made again around the UKI of a build.
pub(crate) fn boot_bytes(build: &Path, manifest: &Manifest) -> Result<Vec<u8>, PublishError> {
    let uki = built(build, UKI_NAME, manifest)?;
    let [a, b, c, d, ..] = root_hash(manifest)?.0;
    let fat = Fat::new(uki.len() as u64, u32::from_be_bytes([a, b, c, d]))
        .map_err(|why| PublishError::NotABuild(why.to_string()))?;
    let mut bytes = Vec::new();
    fat.write(&mut bytes, |file| file.write_all(&uki))
        .map_err(PublishError::read(build.join(UKI_NAME)))?;
    Ok(bytes)
}

/// The root's file system, without the hash tree that machines make themselves.
pub(crate) fn root_bytes(build: &Path, manifest: &Manifest) -> Result<Vec<u8>, PublishError> {
    let blocks = data_blocks(&manifest.command_line)
        .ok_or_else(|| PublishError::NotABuild("its command line has no verified root".into()))?;
    let mut bytes = built(build, ROOT_NAME, manifest)?;
    let length = blocks.saturating_mul(BLOCK as u64);
    if length > bytes.len() as u64 {
        let reason = format!("{ROOT_NAME} is shorter than its command line says");
        return Err(PublishError::NotABuild(reason));
    }
    bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    Ok(bytes)
}

/// dm-verity's root hash of a build.
pub(crate) fn root_hash(manifest: &Manifest) -> Result<Hash, PublishError> {
    Hash::from_hex(&manifest.root_hash)
        .ok_or_else(|| PublishError::NotABuild("its manifest has no root hash".into()))
}

/// A file of a build, which must be the one that its manifest lists.
pub(crate) fn built(
    build: &Path,
    name: &str,
    manifest: &Manifest,
) -> Result<Vec<u8>, PublishError> {
    let path = build.join(name);
    let bytes = std::fs::read(&path).map_err(PublishError::read(&path))?;
    let listed = manifest.files.get(name);
    match listed.is_some_and(|file| file.sha256 == hash_of(&bytes).to_string()) {
        true => Ok(bytes),
        false => {
            let reason = "it is not the file that manifest.json lists; build again".to_owned();
            Err(PublishError::Wrong { path, reason })
        }
    }
}

/// Blocks of data in the table of `dm-mod.create=`: `START SECTORS verity VERSION DATA HASH
/// DATA-BLOCK-SIZE HASH-BLOCK-SIZE BLOCKS …`.
fn data_blocks(command_line: &str) -> Option<u64> {
    let (_, table) = command_line.split_once(" verity ")?;
    table.split(' ').nth(5)?.parse().ok()
}

/// The bytes of a part that was published.
pub(crate) fn published_bytes(directory: &Path, part: &Part) -> Result<Vec<u8>, PublishError> {
    let path = directory.join(part.path());
    let bytes = std::fs::read(&path).map_err(PublishError::read(&path))?;
    if hash_of(&bytes) == part.sha256 {
        return Ok(bytes);
    }
    let reason = "it is not what was published under this name".to_owned();
    Err(PublishError::Wrong { path, reason })
}

/// A patch from a published part, or from nothing, in the directory.
pub(super) fn delta(
    old: Option<&Part>,
    new: &PartFile,
    (directory, limits): (&Path, &Limits),
    (progress, step): (&Progress, &str),
) -> Result<Patch, PublishError> {
    let old = match old {
        None => Vec::new(),
        Some(part) => published_bytes(directory, part)?,
    };
    progress.step(step);
    let mut done = progress.percent(step, new.bytes.len() as u64);
    let (bytes, _) = create_with_costs(&old, &new.bytes, limits, &mut done)?;
    let prefix = bytes.get(..Prefix::BYTES).unwrap_or(&bytes);
    let prefix = Prefix::parse(prefix, limits)
        .map_err(|why| PublishError::NotABuild(format!("the delta cannot be read: {why}")))?;
    let patch = Patch {
        bytes: bytes.len() as u64,
        sha256: hash_of(&bytes),
        head_sha256: Hash(prefix.head_hash.0),
    };
    write_new(&directory.join(patch.path()), &bytes)?;
    Ok(patch)
}
