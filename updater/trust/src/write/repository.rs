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
use crate::error::Error;
use crate::json::{Map, Value};
use crate::limits::Limits;
use crate::roles::{FileMeta, Metadata, Root, Snapshot, Targets, Timestamp};
use crate::target::Target;
use crate::time::{Clock, Time};
use crate::verify::{Verified, verify};
use crate::workflow::Roots;

/// Nobody publishes so often: a file with a higher version was made by a thief of its key, who
/// wants clients to take no honest one any more.
const MOST_VERSIONS: u64 = 1 << 40;

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
    /// The root files, from the first on.
    roots: Vec<File>,
    /// What they say.
    trusted: Vec<Root>,
    root: Root,
    /// Whether the newest root's keys signed the list of targets.
    targets_are_vouched_for: bool,
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
    /// Reads what is published, from `1.root.json` on, and believes of it what a client would that
    /// has never seen it, because it is signed again: expiry aside, and by the keys of an older
    /// root where those of the newest have signed nothing yet. With roots only it is a new
    /// repository.
    ///
    /// # Errors
    ///
    /// When a file is missing, damaged or not signed.
    pub fn open(read: &mut Read<'_>) -> Result<Self, WriteError> {
        let name = root_name(1);
        let bytes = must(read, &name)?;
        let mut roots = trusted(&bytes)?;
        let mut files = vec![File { name, bytes }];
        let mut all = vec![roots.root().clone()];
        loop {
            let name = root_name(roots.root().version.saturating_add(1));
            let Some(bytes) = optional(read, &name)? else {
                break;
            };
            roots.update(&bytes)?;
            files.push(File { name, bytes });
            all.push(roots.root().clone());
        }
        let mut repository = Self {
            roots: files,
            targets_are_vouched_for: true,
            root: roots.root().clone(),
            trusted: all,
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

    /// Whether the keys that the newest root names for targets signed what [`Self::targets`] gives.
    /// If not, those of an older root did, and whoever has them now may have written it.
    #[must_use]
    pub fn targets_are_vouched_for(&self) -> bool {
        self.targets_are_vouched_for
    }

    /// What an earlier targets role said, from its file: one that keys of this repository signed,
    /// today's or those of an older root.
    ///
    /// # Errors
    ///
    /// When they did not, or it is no such file.
    pub fn earlier_targets(&self, bytes: &[u8]) -> Result<Targets, WriteError> {
        let mut refused = None;
        for root in self.trusted.iter().rev() {
            let authority = &root.targets;
            match verify::<Targets>(Targets::TYPE, bytes, authority, &Limits::default()) {
                Ok(targets) => return Ok((*targets).clone()),
                Err(why) => refused = refused.or(Some(why)),
            }
        }
        Err(refused.map_or_else(|| missing(&root_name(1)), WriteError::Published))
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
            Client::refresh(self.first_root(), &mut store, &mut transport, clock, limits)
                .map_err(WriteError::Unacceptable)?;
        for (_, role, _) in &plan.delegated {
            for target in &role.targets {
                let found = client.target(&target.path);
                found.map_err(WriteError::Unacceptable)?;
            }
        }
        Ok(())
    }

    fn first_root(&self) -> &[u8] {
        self.roots.first().map_or(&[], |root| &root.bytes)
    }

    /// Reads the files besides the roots. They are signed by the keys of the newest root, or all
    /// of them by those of an older one: keys are exchanged by publishing once more.
    fn read_current(&mut self, read: &mut Read<'_>) -> Result<(), WriteError> {
        let Some(timestamp) = optional(read, "timestamp.json")? else {
            // The second snapshot comes after the first timestamp.
            return match optional(read, "2.snapshot.json")? {
                Some(_) => Err(missing("timestamp.json")),
                None => Ok(()),
            };
        };
        let mut refused = None;
        for root in self.roots.iter().rev() {
            match Current::read(&root.bytes, &timestamp, read) {
                Ok(current) => {
                    let list = self.root.targets.vouches_for(&current.list)?;
                    self.targets_are_vouched_for = list;
                    self.timestamp_version = current.timestamp_version;
                    self.snapshot_version = current.snapshot.version;
                    let files = current.snapshot.files();
                    self.files = files
                        .map(|(name, meta)| (name.to_owned(), meta.clone()))
                        .collect();
                    self.targets = Some((*current.targets).clone());
                    self.current = current.files;
                    return Ok(());
                }
                Err(why @ WriteError::Published(Error::TooFewSignatures { .. })) => {
                    refused = refused.or(Some(why));
                }
                Err(why) => return Err(why),
            }
        }
        Err(refused.unwrap_or_else(|| missing(&root_name(1))))
    }
}

/// What is published besides the roots, as a client that trusts one of them takes it.
struct Current {
    timestamp_version: u64,
    snapshot: Verified<Snapshot>,
    targets: Verified<Targets>,
    /// The file that they are in.
    list: Vec<u8>,
    /// The files of all targets roles.
    files: Vec<File>,
}

impl Current {
    fn read(root: &[u8], timestamp: &[u8], read: &mut Read<'_>) -> Result<Self, WriteError> {
        let roots = trusted(root)?;
        let mut timestamps = roots.finish()?;
        timestamps.update(timestamp)?;
        let mut snapshots = timestamps.finish()?;
        let timestamp_version = reached(Timestamp::TYPE, snapshots.timestamp().version)?;
        let file = read_file(read, Snapshot::TYPE, &snapshots.timestamp().snapshot)?;
        snapshots.update(&file.bytes)?;
        let ready = snapshots.finish()?;
        reached(Snapshot::TYPE, ready.snapshot().version)?;
        let mut targets = None;
        let mut files = Vec::new();
        for (name, meta) in ready.snapshot().files() {
            let role = name.strip_suffix(".json").unwrap_or(name);
            let file = read_file(read, role, meta)?;
            // Delegated roles are published again as they are; their delegators' clients judge.
            if role == Targets::TYPE {
                targets = Some((ready.targets(&file.bytes)?, file.bytes.clone()));
            }
            reached(role, meta.version)?;
            files.push(file);
        }
        let not_listed = || {
            WriteError::Published(Error::NotInSnapshot {
                role: Targets::TYPE.to_owned(),
            })
        };
        let (targets, list) = targets.ok_or_else(not_listed)?;
        Ok(Self {
            timestamp_version,
            targets,
            list,
            snapshot: ready.into_snapshot(),
            files,
        })
    }
}

/// The version of a file, if somebody can have got there by publishing.
fn reached(role: &str, version: u64) -> Result<u64, WriteError> {
    match version <= MOST_VERSIONS {
        true => Ok(version),
        false => Err(WriteError::Enormous {
            role: role.to_owned(),
            version,
        }),
    }
}

/// A role's file, which is the one that another file names.
fn read_file(read: &mut Read<'_>, role: &str, meta: &FileMeta) -> Result<File, WriteError> {
    let name = format!("{}.{}.json", meta.version, percent(role));
    let bytes = must(read, &name)?;
    if meta.fits(&bytes) {
        return Ok(File { name, bytes });
    }
    Err(WriteError::Published(Error::WrongContent {
        role: role.to_owned(),
    }))
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

/// Trusts a root of the publisher's own. Expiry is no error: an expired repository is what
/// publishing cures.
fn trusted(root: &[u8]) -> Result<Roots, Error> {
    let long_ago = Clock::new(Time(i64::MIN), Time(i64::MIN));
    Roots::new(root, long_ago, Limits::default())
}

fn root_name(version: u64) -> String {
    format!("{version}.{}.json", Root::TYPE)
}

fn missing(name: &str) -> WriteError {
    WriteError::Missing {
        name: name.to_owned(),
    }
}

fn must(read: &mut Read<'_>, name: &str) -> Result<Vec<u8>, WriteError> {
    optional(read, name)?.ok_or_else(|| missing(name))
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
