//! What was published before, from the documents that are still in the directory.

use std::fs;
use std::path::{Path, PathBuf};

use berth_release::{Hash, Release, TARGETS};

use super::PublishError;

/// Earlier versions of one product, the newest first.
#[derive(Debug)]
pub(crate) struct History(Vec<Release>);

/// A document's path among the targets, as consistent snapshots name it: the hash goes before the
/// file's name.
pub(super) fn document_path(target: &str, hash: &Hash) -> PathBuf {
    let target = Path::new(target);
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!("{hash}.{name}"))
}

impl History {
    /// Reads the documents of the product that `target` describes.
    pub(crate) fn read(directory: &Path, target: &str) -> Result<Self, PublishError> {
        let target = directory.join(TARGETS).join(target);
        let folder = target.parent().unwrap_or(directory);
        let mut releases = Vec::new();
        let listed = match fs::read_dir(folder) {
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(Self(releases)),
            other => other.map_err(PublishError::read(folder))?,
        };
        for entry in listed {
            let path = entry.map_err(PublishError::read(folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_document = name.split_once('.').is_some_and(|(hash, rest)| {
                Hash::from_hex(hash).is_some() && rest == "release.json"
            });
            if !is_document {
                continue;
            }
            let text = fs::read(&path).map_err(PublishError::read(&path))?;
            let release = Release::parse(&text);
            releases.push(release.map_err(|source| PublishError::Document { path, source })?);
        }
        releases.sort_by_key(|release| std::cmp::Reverse(release.published));
        Ok(Self(releases))
    }

    /// All of them, the newest first; a version that was published again is there again.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Release> {
        self.0.iter()
    }

    /// The version is new, or the same content.
    pub(super) fn check(&self, version: &str, root_hash: &Hash) -> Result<(), PublishError> {
        let other = |one: &&Release| one.version == version && one.root.root_hash != *root_hash;
        match self.0.iter().find(other) {
            Some(_) => Err(PublishError::SameVersion(version.to_owned())),
            None => Ok(()),
        }
    }

    /// The same content, published before: with another rollout, perhaps.
    pub(super) fn same(&self, root_hash: &Hash) -> Option<&Release> {
        self.0.iter().find(|one| one.root.root_hash == *root_hash)
    }

    /// Versions before this one, each once, the newest first.
    pub(super) fn before(&self, root_hash: &Hash) -> impl Iterator<Item = &Release> {
        let mut seen = vec![*root_hash];
        self.0.iter().filter(move |one| {
            let new = !seen.contains(&one.root.root_hash);
            if new {
                seen.push(one.root.root_hash);
            }
            new
        })
    }
}
