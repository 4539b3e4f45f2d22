//! The files of a repository: from what is published to what is published next.
//!
//! A client may read the directory at any moment. The files are therefore written in the order in
//! which [`Repository::publish`] returns them: names with versions first, which nobody asks for
//! yet, and `timestamp.json`, which makes them the current ones, last. After a cut in between the
//! directory is still in its old state.

use super::document::{Document, common, number};
use super::error::WriteError;
use super::signing::{KeyRecord, SigningKey};
use crate::client::{Client, Entry, FetchError, Store};
use crate::encoding::{hex, percent};
use crate::json::{Map, Value};
use crate::limits::Limits;
use crate::roles::{FileMeta, Metadata, Root, Snapshot, Targets, Timestamp};
use crate::target::Target;
use crate::time::{Clock, Time};
use crate::workflow::Roots;

/// A file that clients may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetFile {
    /// Its path.
    pub path: String,
    /// Its exact length, bytes.
    pub length: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// What clients are told of it besides.
    pub custom: Option<Map>,
}

/// What a targets role is to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolePlan {
    /// All its files: one that is not among them is withdrawn.
    pub targets: Vec<TargetFile>,
    /// All its delegations, in the order in which clients ask them.
    pub delegations: Vec<DelegationPlan>,
}

/// Trust in another role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegationPlan {
    /// The role's name.
    pub name: String,
    /// Its keys.
    pub keys: Vec<KeyRecord>,
    /// How many of them have to sign.
    pub threshold: u32,
    /// Whether clients ask nobody else for its paths.
    pub terminating: bool,
    /// What it may speak for.
    pub paths: Paths,
}

/// Which paths a role may speak for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Paths {
    /// Shell patterns.
    Patterns(Vec<String>),
    /// Beginnings of the SHA-256 of a path, in hexadecimal digits.
    HashPrefixes(Vec<String>),
}

/// What changes.
#[derive(Default)]
pub struct Plan<'a> {
    /// The targets role; `None` leaves it as it is.
    pub targets: Option<RolePlan>,
    /// Delegated roles that change, each with its signers.
    pub delegated: Vec<(String, RolePlan, Vec<&'a SigningKey>)>,
}

/// The keys of the roles that are signed at each publication.
pub struct Signers<'a> {
    /// For `targets`; may be empty when the role does not change.
    pub targets: Vec<&'a SigningKey>,
    /// For `snapshot`.
    pub snapshot: Vec<&'a SigningKey>,
    /// For `timestamp`.
    pub timestamp: Vec<&'a SigningKey>,
}

/// Until when the new files are good.
#[derive(Clone, Copy, Debug)]
pub struct Expiries {
    /// Targets roles.
    pub targets: Time,
    /// The snapshot.
    pub snapshot: Time,
    /// The timestamp: how long a machine can be kept from learning of something newer.
    pub timestamp: Time,
}

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name, relative to the metadata's directory.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// What is published.
pub struct Repository {
    first_root: Vec<u8>,
    roots: Vec<File>,
    root: Root,
    timestamp_version: u64,
    snapshot_version: u64,
    /// What the snapshot says of each role's file.
    files: Vec<(String, FileMeta)>,
    targets: Option<Targets>,
    /// Current files besides the roots, for the check of the new state.
    current: Vec<File>,
}

/// Reads a published file by its name; `None` when it is not there.
type Read<'r> = dyn FnMut(&str) -> Result<Option<Vec<u8>>, String> + 'r;

impl Repository {
    /// Reads what is published, from `1.root.json` on. With roots only it is a new repository.
    /// Expiry is no error: an expired repository is what publishing cures.
    ///
    /// # Errors
    ///
    /// When a file is missing, damaged or not signed.
    pub fn open(read: &mut Read<'_>) -> Result<Self, WriteError> {
        let long_ago = Clock::new(Time(i64::MIN), Time(i64::MIN));
        let first_root = must(read, "1.root.json")?;
        let mut roots = Roots::new(&first_root, long_ago, Limits::default())?;
        let mut files = Vec::new();
        loop {
            let name = format!("{}.root.json", roots.root().version.saturating_add(1));
            let Some(bytes) = optional(read, &name)? else {
                break;
            };
            roots.update(&bytes)?;
            files.push(File { name, bytes });
        }
        let mut repository = Self {
            first_root,
            roots: files,
            root: roots.root().clone(),
            timestamp_version: 0,
            snapshot_version: 0,
            files: Vec::new(),
            targets: None,
            current: Vec::new(),
        };
        repository.read_current(read)?;
        Ok(repository)
    }

    /// The newest root.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// What the targets role lists now.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().flat_map(Targets::targets)
    }

    /// The version of the timestamp that is published; 0 when there is none.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.timestamp_version
    }

    /// The version of the targets role that is published; 0 when there is none.
    #[must_use]
    pub fn targets_version(&self) -> u64 {
        let mut files = self.files.iter();
        let file = files.find(|(name, _)| *name == format!("{}.json", Targets::TYPE));
        file.map_or(0, |(_, meta)| meta.version)
    }

    /// Makes the next state: files to be written in this order.
    ///
    /// # Errors
    ///
    /// When keys are missing, or a client with the first root and the time `now` would not accept
    /// the new state. Nothing has changed then.
    pub fn publish(
        &self,
        plan: &Plan<'_>,
        signers: &Signers<'_>,
        expiries: Expiries,
        now: Time,
    ) -> Result<Vec<File>, WriteError> {
        let mut new = Vec::new();
        let mut listed = self.files.clone();
        let unchanged = RolePlan::default();
        let targets = plan.targets.as_ref();
        let targets = targets.or(self.targets.is_none().then_some(&unchanged));
        let roles = targets.map(|plan| ("targets", plan, signers.targets.as_slice()));
        let delegated = plan.delegated.iter();
        let delegated = delegated.map(|(name, plan, keys)| (name.as_str(), plan, keys.as_slice()));
        for (role, plan, keys) in roles.into_iter().chain(delegated) {
            let listing = format!("{role}.json");
            let old = listed.iter().position(|(name, _)| *name == listing);
            let version = old
                .and_then(|at| listed.get(at))
                .map_or(0, |(_, meta)| meta.version);
            let version = version.saturating_add(1);
            let bytes = signed(plan.signed(version, expiries.targets), keys);
            let meta = FileMeta::of(version, &bytes);
            match old.and_then(|at| listed.get_mut(at)) {
                Some(known) => known.1 = meta,
                None => listed.push((listing, meta)),
            }
            new.push(File {
                name: format!("{version}.{}.json", percent(role)),
                bytes,
            });
        }

        let version = self.snapshot_version.saturating_add(1);
        let mut snapshot = common(Snapshot::TYPE, version, expiries.snapshot);
        let mut meta = Map::default();
        for (name, file) in &listed {
            meta.set(name, file.value());
        }
        snapshot.set("meta", Value::Map(meta));
        let bytes = signed(snapshot, &signers.snapshot);
        let meta = FileMeta::of(version, &bytes);
        let name = format!("{version}.snapshot.json");
        new.push(File { name, bytes });

        let version = self.timestamp_version.saturating_add(1);
        let mut timestamp = common(Timestamp::TYPE, version, expiries.timestamp);
        let meta = Map::from([("snapshot.json", meta.value())]);
        timestamp.set("meta", Value::Map(meta));
        let bytes = signed(timestamp, &signers.timestamp);
        let name = "timestamp.json".to_owned();
        new.push(File { name, bytes });

        self.accepted(&new, plan, now)?;
        Ok(new)
    }

    /// Walks a client through the new state: nobody publishes what nobody can read.
    fn accepted(&self, new: &[File], plan: &Plan<'_>, now: Time) -> Result<(), WriteError> {
        let mut transport = |name: &str, _: u64| -> Result<Option<Vec<u8>>, FetchError> {
            let mut files = new.iter().chain(&self.roots).chain(&self.current);
            Ok(files
                .find(|file| file.name == name)
                .map(|file| file.bytes.clone()))
        };
        let mut store = FirstLook;
        let clock = Clock::new(now, now);
        let limits = Limits::default();
        let mut client =
            Client::refresh(&self.first_root, &mut store, &mut transport, clock, limits)
                .map_err(WriteError::Unacceptable)?;
        for (_, role, _) in &plan.delegated {
            for target in &role.targets {
                let found = client.target(&target.path);
                found.map_err(WriteError::Unacceptable)?;
            }
        }
        Ok(())
    }

    fn read_current(&mut self, read: &mut Read<'_>) -> Result<(), WriteError> {
        let Some(bytes) = optional(read, "timestamp.json")? else {
            return Ok(());
        };
        let timestamp: Timestamp = self.read_role(&bytes)?;
        self.timestamp_version = timestamp.version;
        self.snapshot_version = timestamp.snapshot.version;
        let snapshot = self.read_file(read, "snapshot", &timestamp.snapshot)?;
        let snapshot: Snapshot = self.read_role(&snapshot)?;
        for (name, meta) in snapshot.files() {
            self.files.push((name.to_owned(), meta.clone()));
            let role = name.strip_suffix(".json").unwrap_or(name);
            let bytes = self.read_file(read, role, meta)?;
            let targets: Targets = self.read_role(&bytes)?;
            if role == Targets::TYPE {
                self.targets = Some(targets);
            }
            self.current.push(File {
                name: format!("{}.{}.json", meta.version, percent(role)),
                bytes,
            });
        }
        Ok(())
    }

    fn read_file(
        &self,
        read: &mut Read<'_>,
        role: &str,
        meta: &FileMeta,
    ) -> Result<Vec<u8>, WriteError> {
        let bytes = must(read, &format!("{}.{}.json", meta.version, percent(role)))?;
        if meta.fits(&bytes) {
            return Ok(bytes);
        }
        Err(WriteError::Published(crate::Error::WrongContent {
            role: role.to_owned(),
        }))
    }

    /// The publisher's own files are taken as they are: after a rotation the old ones are signed
    /// by keys that no longer count, and only their versions matter.
    fn read_role<T: Metadata>(&self, bytes: &[u8]) -> Result<T, WriteError> {
        Ok(T::read(Document::parse(bytes)?.signed)?)
    }
}

impl RolePlan {
    fn signed(&self, version: u64, expires: Time) -> Map {
        let mut signed = common(Targets::TYPE, version, expires);
        let mut targets = Map::default();
        for target in &self.targets {
            targets.set(&target.path, target.value());
        }
        signed.set("targets", Value::Map(targets));
        if !self.delegations.is_empty() {
            let mut keys = Map::default();
            for key in self.delegations.iter().flat_map(|role| &role.keys) {
                keys.set(key.id(), key.value().clone());
            }
            let roles = self.delegations.iter().map(DelegationPlan::value);
            let delegations = Map::from([
                ("keys", Value::Map(keys)),
                ("roles", Value::List(roles.collect())),
            ]);
            signed.set("delegations", Value::Map(delegations));
        }
        signed
    }
}

impl DelegationPlan {
    fn value(&self) -> Value {
        let texts = |texts: &[String]| {
            Value::List(
                texts
                    .iter()
                    .map(|text| Value::from(text.as_str()))
                    .collect(),
            )
        };
        let (field, paths) = match &self.paths {
            Paths::Patterns(patterns) => ("paths", texts(patterns)),
            Paths::HashPrefixes(prefixes) => ("path_hash_prefixes", texts(prefixes)),
        };
        let keyids = self.keys.iter().map(|key| Value::from(key.id()));
        Value::Map(Map::from([
            ("name", Value::from(self.name.as_str())),
            ("keyids", Value::List(keyids.collect())),
            ("threshold", Value::Int(i64::from(self.threshold))),
            ("terminating", Value::Bool(self.terminating)),
            (field, paths),
        ]))
    }
}

impl TargetFile {
    /// A target as it is published, to be published again.
    #[must_use]
    pub fn again(target: &Target) -> Option<Self> {
        Some(Self {
            path: target.path().to_owned(),
            length: target.length(),
            sha256: target.sha256()?,
            custom: target.custom().and_then(Value::as_map).cloned(),
        })
    }

    fn value(&self) -> Value {
        let hash = Value::from(hex(&self.sha256).as_str());
        let mut map = Map::from([
            ("length", number(self.length)),
            ("hashes", Value::Map(Map::from([("sha256", hash)]))),
        ]);
        if let Some(custom) = &self.custom {
            map.set("custom", Value::Map(custom.clone()));
        }
        Value::Map(map)
    }
}

fn signed(part: Map, keys: &[&SigningKey]) -> Vec<u8> {
    let mut document = Document::new(part);
    for key in keys {
        document.sign(key);
    }
    document.bytes()
}

fn must(read: &mut Read<'_>, name: &str) -> Result<Vec<u8>, WriteError> {
    optional(read, name)?.ok_or_else(|| WriteError::Missing {
        name: name.to_owned(),
    })
}

fn optional(read: &mut Read<'_>, name: &str) -> Result<Option<Vec<u8>>, WriteError> {
    read(name).map_err(|reason| WriteError::Read {
        name: name.to_owned(),
        reason,
    })
}

/// Remembers nothing: each look is a new client's first.
#[derive(Clone, Copy, Debug)]
pub struct FirstLook;

impl Store for FirstLook {
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
