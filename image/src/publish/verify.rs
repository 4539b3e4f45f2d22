//! `berth verify`: reads a published directory as a machine would, and every file that it names.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use berth_release::{Hash, Part, Patch, Release, TARGETS, limits};
use berth_trust::Target;
use berth_trust::write::RootStatus;
use sha2::{Digest, Sha256};

use super::PublishError;
use super::look::Look;

/// A published directory, all of it checked.
#[derive(Clone, Debug)]
pub struct Verified {
    /// What it offers.
    pub releases: Vec<Release>,
    /// Until when machines believe it, unless it is signed again.
    pub good_until: String,
}

/// Reads and checks a published directory.
///
/// # Errors
/// The first thing that a machine would not take.
pub fn verify(directory: &Path, trust: &Path) -> Result<Verified, PublishError> {
    let root = fs::read(trust).map_err(PublishError::read(trust))?;
    if let Err(why) = RootStatus::of(&root, None) {
        let reason = format!("not a root file, where trust begins: {why}");
        let path = trust.to_owned();
        return Err(PublishError::Key { path, reason });
    }
    let look = Look::new(directory, &root)?;
    let releases = look.targets.iter();
    let releases = releases.map(|target| release(directory, target));
    Ok(Verified {
        releases: releases.collect::<Result<_, _>>()?,
        good_until: look.good_until(),
    })
}

fn release(directory: &Path, target: &Target) -> Result<Release, PublishError> {
    let path = directory.join(TARGETS).join(target.url());
    let wrong = |reason: String| PublishError::Wrong {
        path: path.clone(),
        reason,
    };
    let length = fs::metadata(&path)
        .map_err(PublishError::read(&path))?
        .len();
    if length != target.length() || length > limits::DOCUMENT_BYTES {
        return Err(wrong("it has another length than was signed".into()));
    }
    let text = fs::read(&path).map_err(PublishError::read(&path))?;
    target.verify(&text).map_err(|why| wrong(why.to_string()))?;
    let release = Release::parse(&text)?;
    for part in [&release.boot, &release.root.part] {
        whole(directory, part)?;
    }
    let packed = [release.boot.packed, release.root.part.packed];
    let deltas = release
        .deltas
        .iter()
        .flat_map(|delta| [delta.boot, delta.root]);
    for patch in packed.into_iter().flatten().chain(deltas) {
        self::patch(directory, &patch)?;
    }
    Ok(release)
}

fn whole(directory: &Path, part: &Part) -> Result<(), PublishError> {
    same(directory.join(part.path()), part.bytes, &part.sha256)?;
    (0..part.blocks.len())
        .filter_map(|span| part.block_index(span))
        .try_for_each(|(path, hash, bytes)| same(directory.join(path), bytes, &hash))
}

fn patch(directory: &Path, patch: &Patch) -> Result<(), PublishError> {
    same(directory.join(patch.path()), patch.bytes, &patch.sha256)
}

/// A file has the length and the hash that were signed.
fn same(path: PathBuf, bytes: u64, sha256: &Hash) -> Result<(), PublishError> {
    let mut hash = Sha256::new();
    let copied = File::open(&path)
        .and_then(|file| io::copy(&mut BufReader::with_capacity(1 << 20, file), &mut hash));
    let copied = copied.map_err(PublishError::read(&path))?;
    if copied == bytes && Hash(hash.finalize().into()) == *sha256 {
        return Ok(());
    }
    Err(PublishError::Wrong {
        path,
        reason: "it is not what was signed".into(),
    })
}
