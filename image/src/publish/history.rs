//! What was published before, from the documents that are still in the directory and that signed
//! metadata names or named. A document that an interrupted publication left was never published:
//! no machine has seen it.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use berth_release::{Hash, METADATA, Release, TARGETS};
use berth_trust::Target;
use berth_trust::release::order;
use berth_trust::write::Repository;

use super::{PublishError, parts};

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
    pub(crate) fn read(
        directory: &Path,
        repository: &Repository,
        target: &str,
    ) -> Result<Self, PublishError> {
        let mut listed = repository.targets();
        let current = listed.find(|one| one.path() == target);
        let current = current.and_then(Target::sha256).map(Hash);
        let mut releases = Vec::new();
        for hash in signed(directory, repository, target) {
            let path = directory.join(TARGETS).join(document_path(target, &hash));
            let text = match fs::read(&path) {
                Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
                    // Old versions may be removed by hand.
                    if current != Some(hash) {
                        continue;
                    }
                    let reason = "it is not there, and what is signed names it: put it back";
                    let reason = reason.to_owned();
                    return Err(PublishError::Wrong { path, reason });
                }
                other => other.map_err(PublishError::read(&path))?,
            };
            if parts::hash_of(&text) != hash {
                let way_out = match current == Some(hash) {
                    true => "put it back",
                    false => "put it back, or remove it, and there is no delta from that version",
                };
                let reason = format!("it is not what was published under this name: {way_out}");
                return Err(PublishError::Wrong { path, reason });
            }
            let release = Release::parse(&text);
            releases.push(release.map_err(|source| PublishError::Document { path, source })?);
        }
        Ok(Self(releases))
    }

    /// All of them, the newest first; a version that was published again is there again.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Release> {
        self.0.iter()
    }

    /// Machines that have what is published now would take the new version: it is not older, and
    /// what has its name has its content.
    pub(super) fn check(
        &self,
        version: &str,
        security_version: u64,
        root_hash: &Hash,
        boot: &Hash,
    ) -> Result<(), PublishError> {
        let other = |one: &&Release| one.version == version && !is(one, root_hash, boot);
        if self.0.iter().any(|one| other(&one)) {
            return Err(PublishError::SameVersion(version.to_owned()));
        }
        let Some(newest) = self.0.first() else {
            return Ok(());
        };
        if order(version, &newest.version) == Ordering::Less {
            return Err(PublishError::Older {
                version: version.to_owned(),
                newest: newest.version.clone(),
            });
        }
        if security_version < newest.security_version {
            return Err(PublishError::Unsafe {
                offered: security_version,
                newest: newest.security_version,
            });
        }
        Ok(())
    }

    /// The same content, published before: with another rollout, perhaps.
    pub(super) fn same(&self, root_hash: &Hash, boot: &Hash) -> Option<&Release> {
        self.0.iter().find(|one| is(one, root_hash, boot))
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

fn is(release: &Release, root_hash: &Hash, boot: &Hash) -> bool {
    release.root.root_hash == *root_hash && release.boot.sha256 == *boot
}

/// Documents of `target` that published lists of targets name, the newest first.
fn signed(directory: &Path, repository: &Repository, target: &str) -> Vec<Hash> {
    let named = |version: u64| {
        let path = directory
            .join(METADATA)
            .join(format!("{version}.targets.json"));
        // A list that was removed by hand, or that nobody signed, says nothing.
        let list = repository.earlier_targets(&fs::read(path).ok()?).ok()?;
        let listed = list.targets().find(|one| one.path() == target);
        listed.and_then(Target::sha256).map(Hash)
    };
    let versions = (1..=repository.targets_version()).rev();
    let mut seen = HashSet::new();
    versions
        .filter_map(named)
        .filter(|hash| seen.insert(*hash))
        .collect()
}
