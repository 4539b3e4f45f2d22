//! `berth verify`: reads a published directory as a machine would, and every file that it names.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use berth_release::{Hash, METADATA, Part, Patch, Release, TARGETS, limits};
use berth_trust::write::RootStatus;
use berth_trust::{Client, Clock, Entry, FetchError, Limits, Store, Target, Time};
use sha2::{Digest, Sha256};

use super::{PublishError, now};

/// Remembers nothing: each look is a new machine's first.
pub(super) struct Nothing;

impl Store for Nothing {
    fn load(&mut self, _: &Entry) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }

    fn save(&mut self, _: &Entry, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn remove(&mut self, _: &Entry) -> Result<(), String> {
        Ok(())
    }
}

/// What a published directory offers, all of it checked.
///
/// # Errors
/// The first thing that a machine would not take.
pub fn verify(directory: &Path, trust: &Path) -> Result<Vec<Release>, PublishError> {
    let root = fs::read(trust).map_err(PublishError::read(trust))?;
    if let Err(why) = RootStatus::of(&root, None) {
        let reason = format!("not a root file, where trust begins: {why}");
        let path = trust.to_owned();
        return Err(PublishError::Key { path, reason });
    }
    let metadata = directory.join(METADATA);
    if !metadata.is_dir() {
        let reason = "nothing is published here: it has no metadata".to_owned();
        let path = directory.to_owned();
        return Err(PublishError::Wrong { path, reason });
    }
    let mut transport = |name: &str, most: u64| -> Result<Option<Vec<u8>>, FetchError> {
        match fs::read(metadata.join(name)) {
            Ok(bytes) if bytes.len() as u64 <= most => Ok(Some(bytes)),
            Ok(_) => Err(FetchError(format!("{name} is longer than it can be"))),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(FetchError(format!("cannot read {name}: {why}"))),
        }
    };
    let now = Time(i64::try_from(now()).unwrap_or(i64::MAX));
    let mut store = Nothing;
    let clock = Clock::new(now, now);
    let client = Client::refresh(&root, &mut store, &mut transport, clock, Limits::default())?;
    let targets: Vec<Target> = client.targets().collect();
    drop(client);
    targets
        .iter()
        .map(|target| release(directory, target))
        .collect()
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
    same(directory.join(part.path()), part.bytes, &part.sha256)
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
