//! The keys of a publication and the metadata that is signed with them.

use std::fs;
use std::io::Write;
use std::path::Path;

use berth_disk::pending::Pending;
use berth_release::{METADATA, Release};
use berth_trust::json::Map;
use berth_trust::write::{
    self, Expiries, Plan, Repository, RolePlan, Signers, SigningKey, TargetFile, WriteError,
};
use berth_trust::{Target, Time, release};

use super::{PublishError, now};

/// Where the keys of a publication are, below the directory that `berth keys` made.
const ONLINE: &str = "online";
/// The end of every root file's name.
const ROOT: &str = "root.json";
/// Where trust begins.
const FIRST_ROOT: &str = "1.root.json";

/// The keys that sign each publication, and the root files that name them.
pub struct Keys {
    targets: SigningKey,
    snapshot: SigningKey,
    timestamp: SigningKey,
    roots: Vec<(String, Vec<u8>)>,
}

impl Keys {
    /// Reads a directory as `berth keys` makes it.
    ///
    /// # Errors
    /// When a key or the first root file is missing, or is none.
    pub fn read(directory: &Path) -> Result<Self, PublishError> {
        let key = |role: &str| {
            let path = directory.join(ONLINE).join(format!("{role}.pem"));
            let failed = |reason: String| PublishError::Key {
                path: path.clone(),
                reason,
            };
            let text = fs::read_to_string(&path).map_err(|why| failed(why.to_string()))?;
            SigningKey::from_pem(&text).map_err(|why| failed(why.to_string()))
        };
        let mut roots = Vec::new();
        for version in 1.. {
            let name = format!("{version}.{ROOT}");
            let path = directory.join(&name);
            match fs::read(&path) {
                Ok(bytes) => roots.push((name, bytes)),
                Err(why) if why.kind() == std::io::ErrorKind::NotFound && version > 1 => break,
                Err(why) => {
                    return Err(PublishError::Key {
                        path,
                        reason: format!("{why}; `berth keys new` makes a complete set of keys"),
                    });
                }
            }
        }
        Ok(Self {
            targets: key("targets")?,
            snapshot: key("snapshot")?,
            timestamp: key("timestamp")?,
            roots,
        })
    }

    /// Whether a root file is one of those that name these keys.
    pub(super) fn have_root(&self, root: &[u8]) -> bool {
        self.roots
            .iter()
            .any(|(_, known)| write::same_root(known, root))
    }
}

/// What the metadata itself says about a version, for machines that judge before they fetch.
pub(super) fn custom(release: &Release) -> Map {
    release::Release {
        product: release.product.clone(),
        profile: release.profile.clone(),
        architecture: release.architecture.clone(),
        version: release.version.clone(),
        security_version: release.security_version,
    }
    .custom()
}

/// What is published in a directory now; `keys` have the root files that are not in it yet.
pub(crate) fn open(directory: &Path, keys: Option<&Keys>) -> Result<Repository, PublishError> {
    let metadata = directory.join(METADATA);
    let roots = keys.map_or(&[][..], |keys| &keys.roots);
    let repository = Repository::open(&mut |name| match fs::read(metadata.join(name)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
            let root = roots.iter().find(|(known, _)| known == name);
            Ok(root.map(|(_, bytes)| bytes.clone()))
        }
        Err(why) => Err(why.to_string()),
    });
    Ok(repository?)
}

/// Whether these keys may sign what comes next in the directory.
///
/// # Errors
/// When they are others than the directory's.
pub(super) fn check(
    directory: &Path,
    repository: &Repository,
    keys: &Keys,
) -> Result<(), PublishError> {
    let other = |reason: String| PublishError::OtherKeys {
        directory: directory.to_owned(),
        reason,
    };
    let first = fs::read(directory.join(METADATA).join(FIRST_ROOT));
    if first.is_ok_and(|first| !keys.have_root(&first)) {
        return Err(other("its first root file is another one".to_owned()));
    }
    match next(repository, keys, None, [u64::from(u32::MAX); 3]) {
        Ok(_) => Ok(()),
        Err(WriteError::Unacceptable(berth_trust::Error::Expired { role, expires, now }))
            if role == "root" =>
        {
            Err(PublishError::RootEnded { expires, now })
        }
        Err(why) => Err(other(why.to_string())),
    }
}

/// What is signed again although it is not made anew was signed by keys that the newest root names.
///
/// # Errors
/// When older ones did, and there is something of this kind: other products than `target`, or what
/// was said before of this one.
pub(super) fn check_kept(
    repository: &Repository,
    target: &str,
    is_kept: bool,
) -> Result<(), PublishError> {
    let kept = repository.targets().map(Target::path);
    let kept: Vec<_> = kept.filter(|path| is_kept || *path != target).collect();
    if repository.targets_are_vouched_for() || kept.is_empty() {
        return Ok(());
    }
    Err(PublishError::OldKeys {
        kept: kept.join(", "),
        newest: repository.root().version,
    })
}

/// Adds a target to what is published, and writes the metadata so that machines see the old state
/// or the new; gives the new state's version.
///
/// A new root file comes right before the timestamp: it may take keys away that signed the old
/// state, and between the two renames a machine finds nothing that it can believe.
pub(super) fn sign(
    directory: &Path,
    repository: &Repository,
    keys: &Keys,
    target: TargetFile,
    good_for_s: [u64; 3],
) -> Result<u64, PublishError> {
    let files = next(repository, keys, Some(target), good_for_s)?;
    let metadata = directory.join(METADATA);
    let (timestamp, before) = match files.split_last() {
        Some((last, before)) => (Some(last), before),
        None => (None, &[][..]),
    };
    let roots = keys.roots.iter();
    let new_roots = roots.filter(|(name, _)| !metadata.join(name).is_file());
    let files = before.iter().map(|file| (&file.name, &file.bytes));
    let files = files.chain(new_roots.map(|(name, bytes)| (name, bytes)));
    let files = files.chain(timestamp.map(|file| (&file.name, &file.bytes)));
    // On the medium, all of them, before the first gets its name: a full disk is met here.
    let mut whole = Vec::new();
    for (name, bytes) in files {
        let path = metadata.join(name);
        let written = Pending::create(&path).and_then(|pending| {
            pending.file().write_all(bytes)?;
            pending.sync()?;
            Ok(pending)
        });
        whole.push(written.map_err(PublishError::write(&path))?);
    }
    for file in whole {
        let path = file.path().to_owned();
        file.finish().map_err(PublishError::write(path))?;
    }
    Ok(repository.version() + 1)
}

/// The next state's files, in the order in which they are written: all targets that there are, and
/// a new one.
fn next(
    repository: &Repository,
    keys: &Keys,
    target: Option<TargetFile>,
    good_for_s: [u64; 3],
) -> Result<Vec<write::File>, WriteError> {
    let is_replaced = |old: &Target| target.as_ref().is_some_and(|new| new.path == old.path());
    let mut targets: Vec<TargetFile> = repository
        .targets()
        .filter(|old| !is_replaced(old))
        .filter_map(TargetFile::again)
        .collect();
    targets.extend(target);
    let plan = Plan {
        targets: Some(RolePlan {
            targets,
            delegations: Vec::new(),
        }),
        delegated: Vec::new(),
    };
    let signers = Signers {
        targets: vec![&keys.targets],
        snapshot: vec![&keys.snapshot],
        timestamp: vec![&keys.timestamp],
    };
    let now = i64::try_from(now()).unwrap_or(i64::MAX);
    let [targets_s, snapshot_s, timestamp_s] =
        good_for_s.map(|seconds| Time(now.saturating_add_unsigned(seconds)));
    let expiries = Expiries {
        targets: targets_s,
        snapshot: snapshot_s,
        timestamp: timestamp_s,
    };
    repository.publish(&plan, &signers, expiries, Time(now))
}
