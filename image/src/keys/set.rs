//! A complete set of keys, and the first root that names them.

use std::path::{Path, PathBuf};

use berth_trust::write::{KeyRecord, Role, RootDraft, RootStatus, SigningKey, sign};

use super::error::KeysError;
use super::files::{
    make_directory, public_path, read_private, read_public_half, refuse_existing, write_key,
    write_new,
};
use super::root::{draft_path, root_path};
use super::{ONLINE, ROOT, in_days};

/// The roles whose keys are used at each publication.
const ONLINE_ROLES: [Role; 3] = [Role::Targets, Role::Snapshot, Role::Timestamp];

/// What a new set should be.
#[derive(Clone, Debug)]
pub struct NewSet {
    /// Names of holders whose root keys are made here.
    pub holders: Vec<String>,
    /// Public halves of root keys that were made elsewhere.
    pub public: Vec<PathBuf>,
    /// How many holders have to sign a new root; more than half of them when absent.
    pub threshold: Option<u32>,
    /// For how many days the first root is good.
    pub good_for_days: u32,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Set {
    /// The private keys of root holders, which do not belong on this computer.
    pub root_keys: Vec<PathBuf>,
    /// The private keys that publishing needs.
    pub online_keys: Vec<PathBuf>,
    /// The root's file; a draft when holders elsewhere have to sign it yet.
    pub root: PathBuf,
    /// Who has signed it.
    pub status: RootStatus,
}

/// Makes the keys and the first root.
///
/// # Errors
///
/// When a file is in the way, or the holders and the threshold make no sense. Nothing has been
/// written when it fails before the first file.
pub fn new_set(directory: &Path, wanted: &NewSet) -> Result<Set, KeysError> {
    let threshold = check(wanted)?;
    let private = |part: &str, name: &str| directory.join(part).join(format!("{name}.pem"));
    let root_keys: Vec<PathBuf> = wanted
        .holders
        .iter()
        .map(|name| private(ROOT, name))
        .collect();
    let online_keys: Vec<PathBuf> = ONLINE_ROLES
        .iter()
        .map(|role| private(ONLINE, role.name()))
        .collect();
    let mut paths = vec![root_path(directory, 1), draft_path(directory, 1)];
    for key in root_keys.iter().chain(&online_keys) {
        paths.extend([key.clone(), public_path(key)]);
    }
    refuse_existing(&paths)?;
    let mut holders: Vec<KeyRecord> = Vec::new();
    for path in &wanted.public {
        let key = read_public_half(path)?;
        if holders.contains(&key) {
            return Err(KeysError::Twice(path.display().to_string()));
        }
        holders.push(key);
    }

    make_directory(&directory.join(ROOT))?;
    make_directory(&directory.join(ONLINE))?;
    for path in &root_keys {
        holders.push(write_key(path)?);
    }
    let mut draft = RootDraft::new(in_days(wanted.good_for_days));
    for key in &holders {
        draft.add_key(Role::Root, key);
    }
    draft.set_threshold(Role::Root, threshold);
    for (role, path) in ONLINE_ROLES.iter().zip(&online_keys) {
        draft.add_key(*role, &write_key(path)?);
    }
    let (root, status) = signed(directory, draft, &root_keys)?;
    Ok(Set {
        root_keys,
        online_keys,
        root,
        status,
    })
}

/// Writes the root with the signatures of the holders whose keys are here.
fn signed(
    directory: &Path,
    draft: RootDraft,
    keys: &[PathBuf],
) -> Result<(PathBuf, RootStatus), KeysError> {
    let mut bytes = draft.finish().map_err(KeysError::NoKey)?;
    for path in keys {
        let key: SigningKey = read_private(path)?;
        bytes = sign(&bytes, &key).map_err(KeysError::NoKey)?;
    }
    let status = RootStatus::of(&bytes, None).map_err(KeysError::NoKey)?;
    let path = match status.complete() {
        true => root_path(directory, 1),
        false => draft_path(directory, 1),
    };
    write_new(&path, &bytes, 0o644)?;
    Ok((path, status))
}

/// The threshold, after the check that holders and threshold make sense.
fn check(wanted: &NewSet) -> Result<u32, KeysError> {
    for (at, name) in wanted.holders.iter().enumerate() {
        let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
            return Err(KeysError::Name(name.clone()));
        }
        if wanted.holders.iter().take(at).any(|other| other == name) {
            return Err(KeysError::Twice(name.clone()));
        }
    }
    let holders = wanted.holders.len() + wanted.public.len();
    let majority = u32::try_from(holders / 2 + 1).unwrap_or(u32::MAX);
    let threshold = wanted.threshold.unwrap_or(majority);
    if threshold == 0 || threshold as usize > holders {
        return Err(KeysError::Threshold { threshold, holders });
    }
    Ok(threshold)
}
