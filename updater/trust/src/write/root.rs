//! Root files: who may sign what. They are drafted on one computer and carried to the holders of
//! the root's keys, each of whom adds a signature.

use std::fmt;

use super::document::{Document, common, number};
use super::error::WriteError;
use super::signing::{KeyRecord, identifier};
use crate::error::Malformed;
use crate::json::{Map, Value};
use crate::limits::Limits;
use crate::roles::{Metadata, Root};
use crate::time::Time;
use crate::verify::{Authority, signers_of};

/// The four roles of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Says who may sign for the others, and for itself next time.
    Root,
    /// Says which files there are.
    Targets,
    /// Says which versions of the targets roles belong together.
    Snapshot,
    /// Says which snapshot is current.
    Timestamp,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Root, Self::Targets, Self::Snapshot, Self::Timestamp];

    /// Its name in metadata.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A root that nobody has signed yet.
#[derive(Clone, Debug)]
pub struct RootDraft {
    signed: Map,
}

impl RootDraft {
    /// The first root, without keys.
    #[must_use]
    pub fn new(expires: Time) -> Self {
        let mut signed = common(Root::TYPE, 1, expires);
        signed.set("consistent_snapshot", Value::Bool(true));
        signed.set("keys", Value::Map(Map::default()));
        let nobody = Map::from([
            ("keyids", Value::List(Vec::new())),
            ("threshold", Value::Int(1)),
        ]);
        let mut roles = Map::default();
        for role in Role::ALL {
            roles.set(role.name(), Value::Map(nobody.clone()));
        }
        signed.set("roles", Value::Map(roles));
        Self { signed }
    }

    /// The root after the one in `bytes`, which it equals but for version and expiry.
    ///
    /// # Errors
    ///
    /// When the bytes are not a root.
    pub fn after(bytes: &[u8], expires: Time) -> Result<Self, WriteError> {
        let mut signed = Document::parse(bytes)?.signed;
        let root = Root::read(signed.clone())?;
        signed.set("version", number(root.version.saturating_add(1)));
        signed.set("expires", Value::from(expires.to_string().as_str()));
        Ok(Self { signed })
    }

    /// Changes when it expires.
    pub fn set_expiry(&mut self, expires: Time) {
        self.signed
            .set("expires", Value::from(expires.to_string().as_str()));
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> u64 {
        let version = self.signed.get("version").and_then(Value::as_int);
        version.map_or(0, i64::unsigned_abs)
    }

    /// Lets `key` sign for `role`.
    pub fn add_key(&mut self, role: Role, key: &KeyRecord) {
        if let Some(Value::Map(keys)) = self.signed.get_mut("keys") {
            keys.set(key.id(), key.value().clone());
        }
        if let Some(keyids) = self.keyids(role) {
            let id = Value::from(key.id());
            if !keyids.contains(&id) {
                keyids.push(id);
            }
        }
    }

    /// Lets `keyid` sign for `role` no longer.
    ///
    /// # Errors
    ///
    /// When it is not one of the role's keys.
    pub fn remove_key(&mut self, role: Role, keyid: &str) -> Result<(), WriteError> {
        let id = Value::from(keyid);
        let place = self.keyids(role).and_then(|keyids| {
            let at = keyids.iter().position(|known| *known == id)?;
            Some(keyids.remove(at))
        });
        place.map(|_| ()).ok_or_else(|| WriteError::UnknownKey {
            keyid: keyid.to_owned(),
            role: role.to_string(),
        })
    }

    /// The identifiers of the role's keys.
    #[must_use]
    pub fn key_ids(&self, role: Role) -> Vec<String> {
        let roles = self.signed.get("roles").and_then(Value::as_map);
        let role = roles.and_then(|roles| roles.get(role.name())?.as_map());
        let keyids = role.and_then(|role| role.get("keyids")?.as_list());
        let texts = keyids.unwrap_or_default().iter().filter_map(Value::as_text);
        texts.map(str::to_owned).collect()
    }

    /// How many of the role's keys have to sign.
    pub fn set_threshold(&mut self, role: Role, threshold: u32) {
        if let Some(role) = self.role(role) {
            role.set("threshold", Value::Int(i64::from(threshold)));
        }
    }

    /// The file, without signatures. Keys that no role uses are left out.
    ///
    /// # Errors
    ///
    /// When a role has fewer keys than have to sign.
    pub fn finish(mut self) -> Result<Vec<u8>, WriteError> {
        let used: Vec<_> = Role::ALL
            .iter()
            .flat_map(|role| self.key_ids(*role))
            .collect();
        if let Some(Value::Map(keys)) = self.signed.get_mut("keys") {
            keys.retain(|keyid| used.iter().any(|used| used == keyid));
        }
        let root = Root::read(self.signed.clone())?;
        for (role, authority) in [
            (Role::Root, &root.root),
            (Role::Targets, &root.targets),
            (Role::Snapshot, &root.snapshot),
            (Role::Timestamp, &root.timestamp),
        ] {
            let keys = authority.keyids().count();
            if keys < usize::try_from(authority.threshold()).unwrap_or(usize::MAX) {
                return Err(WriteError::TooFewKeys {
                    role: role.to_string(),
                    keys,
                    threshold: authority.threshold(),
                });
            }
        }
        Ok(Document::new(self.signed).bytes())
    }

    fn role(&mut self, role: Role) -> Option<&mut Map> {
        match self.signed.get_mut("roles") {
            Some(Value::Map(roles)) => match roles.get_mut(role.name()) {
                Some(Value::Map(role)) => Some(role),
                _ => None,
            },
            _ => None,
        }
    }

    fn keyids(&mut self, role: Role) -> Option<&mut Vec<Value>> {
        match self.role(role)?.get_mut("keyids") {
            Some(Value::List(keyids)) => Some(keyids),
            _ => None,
        }
    }
}

/// How far a root is on its way through its holders' hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootStatus {
    /// Its version.
    pub version: u64,
    /// When it expires.
    pub expires: Time,
    /// Its own keys that have signed it.
    pub signed_by: Vec<String>,
    /// Its own keys that have not.
    pub unsigned_by: Vec<String>,
    /// How many of its own keys have to sign.
    pub threshold: u32,
    /// The same for the root before it, whose keys have to sign as well.
    pub previous: Option<PreviousStatus>,
}

/// What the keys of the root before say to a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviousStatus {
    /// Its keys that have signed.
    pub signed_by: Vec<String>,
    /// Its keys that have not.
    pub unsigned_by: Vec<String>,
    /// How many of its keys have to sign.
    pub threshold: u32,
}

impl RootStatus {
    /// Looks at a root, and at the one before it if there is one.
    ///
    /// # Errors
    ///
    /// When one of them is not a root, or they do not follow one another.
    pub fn of(bytes: &[u8], previous: Option<&[u8]>) -> Result<Self, WriteError> {
        let root = Root::read(Document::parse(bytes)?.signed)?;
        let (signed_by, unsigned_by) = split(bytes, &root.root)?;
        let previous = previous.map(|previous| {
            let old = Root::read(Document::parse(previous)?.signed)?;
            if old.version.checked_add(1) != Some(root.version) {
                return Err(WriteError::Malformed(Malformed {
                    field: "version",
                    expected: "one more than that of the root before",
                }));
            }
            let (signed_by, unsigned_by) = split(bytes, &old.root)?;
            Ok(PreviousStatus {
                signed_by,
                unsigned_by,
                threshold: old.root.threshold(),
            })
        });
        Ok(Self {
            version: root.version,
            expires: root.expires,
            signed_by,
            unsigned_by,
            threshold: root.root.threshold(),
            previous: previous.transpose()?,
        })
    }

    /// Whether clients would accept it.
    #[must_use]
    pub fn complete(&self) -> bool {
        let enough =
            |signed: &[String], threshold: u32| signed.len() as u64 >= u64::from(threshold);
        let previous = self.previous.as_ref();
        enough(&self.signed_by, self.threshold)
            && previous.is_none_or(|old| enough(&old.signed_by, old.threshold))
    }
}

/// Whether two files are the same root, whoever has signed them.
#[must_use]
pub fn same_root(one: &[u8], other: &[u8]) -> bool {
    match (Document::parse(one), Document::parse(other)) {
        (Ok(one), Ok(other)) => one.signed == other.signed,
        _ => false,
    }
}

/// No key in a root goes by the hash of another: holders know keys by their identifiers. Clients do
/// not care, so this is for whoever is about to sign.
///
/// # Errors
///
/// When one does, or it is no file of metadata.
pub fn check_identifiers(root: &[u8]) -> Result<(), WriteError> {
    let signed = Document::parse(root)?.signed;
    let keys = signed.get("keys").and_then(Value::as_map);
    for (keyid, key) in keys.into_iter().flat_map(Map::iter) {
        let is_hash = keyid.len() == 64 && keyid.bytes().all(|byte| byte.is_ascii_hexdigit());
        // Other tools leave further fields out of the hash, or give names of their own.
        let is = KeyRecord::from_record(key);
        if is_hash && is.id() != keyid && identifier(key) != keyid {
            return Err(WriteError::MisnamedKey {
                keyid: keyid.to_owned(),
                is: is.id().to_owned(),
            });
        }
    }
    Ok(())
}

/// The keys of `authority` that have signed the file, and those that have not.
fn split(bytes: &[u8], authority: &Authority) -> Result<(Vec<String>, Vec<String>), WriteError> {
    let signed = signers_of(Root::TYPE, bytes, authority, &Limits::default())?;
    let all = authority.keyids().map(str::to_owned);
    Ok(all.partition(|keyid| signed.contains(keyid)))
}
