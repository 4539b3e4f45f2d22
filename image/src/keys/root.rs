//! Root files: the next one is drafted, goes from holder to holder, and gets its real name when
//! enough of them have signed. Until then nothing that publishes can take it for a root.

use std::fs;
use std::path::{Path, PathBuf};

use berth_disk::pending;
use berth_trust::Time;
use berth_trust::write::{self, Role, RootDraft, RootStatus, WriteError, check_identifiers};

use super::error::KeysError;
use super::files::{
    cannot_write, read, read_private, read_public, read_public_half, refuse_existing, write_new,
};
use super::in_days;

/// What the next root changes.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Public keys that may sign for a role from now on.
    pub add: Vec<(Role, PathBuf)>,
    /// Identifiers of keys, or their beginnings, that may no longer.
    pub remove: Vec<(Role, String)>,
    /// How many holders have to sign the root.
    pub threshold: Option<u32>,
    /// For how many days it is good.
    pub good_for_days: u32,
}

/// A signature that was added.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Where the root is now.
    pub path: PathBuf,
    /// Who has signed it.
    pub status: RootStatus,
}

/// What a root says.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its version and end, and which of its own keys have signed it.
    pub status: RootStatus,
    /// The identifiers of each role's keys.
    pub roles: Vec<(Role, Vec<String>)>,
}

/// Where a root is.
pub(super) fn root_path(directory: &Path, version: u64) -> PathBuf {
    directory.join(format!("{version}.root.json"))
}

/// Where a root is until enough holders have signed it.
pub(super) fn draft_path(directory: &Path, version: u64) -> PathBuf {
    directory.join(format!("{version}.root.draft.json"))
}

/// Drafts the root after the one in `current`, beside it.
///
/// # Errors
///
/// When `current` is no root, a key is not there, or a draft or root of that version is.
pub fn next_root(current: &Path, change: &Change) -> Result<Signed, KeysError> {
    let content = |source| KeysError::Content {
        path: current.to_owned(),
        source,
    };
    let bytes = read(current)?;
    let mut draft = RootDraft::after(&bytes, in_days(change.good_for_days)).map_err(content)?;
    for (role, path) in &change.add {
        let key = match role {
            Role::Root => read_public_half(path)?,
            // Whoever drafts a root has these.
            Role::Targets | Role::Snapshot | Role::Timestamp => read_public(path)?,
        };
        draft.add_key(*role, &key);
    }
    for (role, beginning) in &change.remove {
        let known = draft.key_ids(*role);
        let mut fitting = known.iter().filter(|id| id.starts_with(beginning.as_str()));
        let id = match (fitting.next(), fitting.next()) {
            (Some(id), None) => id.as_str(),
            // None, or more than one: no key has this as its whole identifier.
            _ => beginning.as_str(),
        };
        draft.remove_key(*role, id).map_err(content)?;
    }
    if let Some(threshold) = change.threshold {
        draft.set_threshold(Role::Root, threshold);
    }
    let version = draft.version();
    let next = draft.finish().map_err(content)?;
    let directory = current.parent().unwrap_or(Path::new(""));
    let path = draft_path(directory, version);
    let newer = root_path(directory, version);
    if newer.symlink_metadata().is_ok() {
        return Err(KeysError::NotNewest {
            current: current.to_owned(),
            newer,
        });
    }
    refuse_existing(std::slice::from_ref(&path))?;
    write_new(&path, &next, 0o644)?;
    let status = RootStatus::of(&next, Some(&bytes)).map_err(content)?;
    Ok(Signed { path, status })
}

/// Adds a holder's signature to a root; the last one that is needed gives a draft its real name.
///
/// # Errors
///
/// When the key may not sign it, or a file cannot be read or written.
pub fn sign(root: &Path, key: &Path) -> Result<Signed, KeysError> {
    let content = |source: WriteError| KeysError::Content {
        path: root.to_owned(),
        source,
    };
    let bytes = read(root)?;
    let directory = root.parent().unwrap_or(Path::new(""));
    let version = RootStatus::of(&bytes, None).map_err(content)?.version;
    check_identifiers(&bytes).map_err(content)?;
    let before = version.saturating_sub(1);
    let previous = match before {
        0 => None,
        _ => Some(
            read(&root_path(directory, before)).map_err(|_| KeysError::NoPrevious {
                root: root.to_owned(),
                previous: root_path(directory, before),
            })?,
        ),
    };
    let signer = read_private(key)?;
    let status = RootStatus::of(&bytes, previous.as_deref()).map_err(content)?;
    let draft = draft_path(directory, version);
    let real = root_path(directory, version);
    if status.complete() && root == real {
        return Err(KeysError::Complete(root.to_owned()));
    }
    if !may_sign(&status, signer.public().id()) {
        return Err(KeysError::Stranger {
            key: key.to_owned(),
            root: root.to_owned(),
        });
    }
    let signed = write::sign(&bytes, &signer).map_err(content)?;
    let status = RootStatus::of(&signed, previous.as_deref()).map_err(content)?;
    let path = match status.complete() && root == draft {
        true => real,
        false => root.to_owned(),
    };
    if path != root {
        refuse_existing(std::slice::from_ref(&path))?;
    }
    pending::write_file(&path, &signed).map_err(|source| cannot_write(&path, source))?;
    if path != root {
        fs::remove_file(root).map_err(|source| cannot_write(root, source))?;
    }
    Ok(Signed { path, status })
}

fn may_sign(status: &RootStatus, id: &str) -> bool {
    let own = status.signed_by.iter().chain(&status.unsigned_by);
    let old = status.previous.iter();
    let old = old.flat_map(|old| old.signed_by.iter().chain(&old.unsigned_by));
    own.chain(old).any(|known| known == id)
}

/// The root in a file; `None` when the file is not one.
///
/// # Errors
///
/// When it cannot be read, or gives a key the identifier of another.
pub fn describe(path: &Path) -> Result<Option<Description>, KeysError> {
    let bytes = read(path)?;
    let Ok(status) = RootStatus::of(&bytes, None) else {
        return Ok(None);
    };
    check_identifiers(&bytes).map_err(|source| KeysError::Content {
        path: path.to_owned(),
        source,
    })?;
    let Ok(draft) = RootDraft::after(&bytes, Time(0)) else {
        return Ok(None);
    };
    let roles = Role::ALL.iter().map(|role| (*role, draft.key_ids(*role)));
    let roles = roles.collect();
    Ok(Some(Description { status, roles }))
}
