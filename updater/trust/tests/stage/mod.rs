//! A publisher, a web server and a machine in memory, for the tests that attack one of them.
#![allow(dead_code)] // each test file uses its part

use std::collections::BTreeMap;

use berth_trust::json::{Map, Value};
use berth_trust::write::{
    Expiries, Plan, Repository, Role, RolePlan, RootDraft, Signers, SigningKey, TargetFile, sign,
};
use berth_trust::{Client, Clock, Entry, Error, FetchError, Limits, Store, Target, Time};

/// The present of all tests.
pub(crate) const NOW: Time = Time(1_800_000_000);
/// When the image of the machine was built.
pub(crate) const BUILT: Time = Time(NOW.0 - 30 * DAY_S);
pub(crate) const DAY_S: i64 = 86_400;

/// The content of the target that is always there.
pub(crate) const EDGE: &[u8] = b"the whole operating system";
pub(crate) const EDGE_PATH: &str = "edge/cloud.json";

/// What a web server has under `metadata/`.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

pub(crate) fn new_key() -> SigningKey {
    SigningKey::from_pem(&SigningKey::generate_pem().expect("a key")).expect("a key")
}

/// The publisher with all keys, and what it has published.
pub(crate) struct Publisher {
    pub(crate) root: Vec<SigningKey>,
    pub(crate) targets: SigningKey,
    pub(crate) snapshot: SigningKey,
    pub(crate) timestamp: SigningKey,
    pub(crate) files: Files,
}

impl Publisher {
    /// Two of three root keys sign; one target is published.
    pub(crate) fn new() -> Self {
        let mut publisher = Self {
            root: vec![new_key(), new_key(), new_key()],
            targets: new_key(),
            snapshot: new_key(),
            timestamp: new_key(),
            files: Files::new(),
        };
        let mut draft = RootDraft::new(in_days(365));
        for key in &publisher.root {
            draft.add_key(Role::Root, key.public());
        }
        draft.set_threshold(Role::Root, 2);
        draft.add_key(Role::Targets, publisher.targets.public());
        draft.add_key(Role::Snapshot, publisher.snapshot.public());
        draft.add_key(Role::Timestamp, publisher.timestamp.public());
        publisher.add_root(&draft.finish().expect("a root"), &[0, 1]);
        publisher.publish(&[edge()]);
        publisher
    }

    /// The root that the machine's image carries.
    pub(crate) fn first_root(&self) -> Vec<u8> {
        self.files["1.root.json"].clone()
    }

    pub(crate) fn newest_root(&self) -> &[u8] {
        let versions = (1..).map(|version| format!("{version}.root.json"));
        let roots = versions.map_while(|name| self.files.get(&name));
        roots.last().expect("a root")
    }

    /// Signs a root with some of the root's keys and publishes it.
    pub(crate) fn add_root(&mut self, unsigned: &[u8], holders: &[usize]) {
        let mut root = unsigned.to_vec();
        for &holder in holders {
            root = sign(&root, &self.root[holder]).expect("a signature");
        }
        let version = version_of(&root);
        self.files.insert(format!("{version}.root.json"), root);
    }

    /// Publishes a root that differs from the newest one.
    pub(crate) fn rotate(&mut self, change: impl FnOnce(&mut RootDraft)) {
        let mut draft = RootDraft::after(self.newest_root(), in_days(365)).expect("a root");
        change(&mut draft);
        let unsigned = draft.finish().expect("a root");
        self.add_root(&unsigned, &[0, 1]);
    }

    /// Gives a role a new key instead of its only one.
    pub(crate) fn replace_key(&mut self, role: Role) -> SigningKey {
        let new = new_key();
        let public = new.public().clone();
        self.rotate(|draft| {
            let old = draft.key_ids(role).remove(0);
            draft.remove_key(role, &old).expect("the old key");
            draft.add_key(role, &public);
        });
        let slot = match role {
            Role::Targets => &mut self.targets,
            Role::Snapshot => &mut self.snapshot,
            Role::Timestamp => &mut self.timestamp,
            Role::Root => panic!("root has several keys"),
        };
        std::mem::replace(slot, new)
    }

    /// Publishes the next version with exactly these targets.
    pub(crate) fn publish(&mut self, targets: &[TargetFile]) {
        self.publish_plan(&Plan {
            targets: Some(RolePlan {
                targets: targets.to_vec(),
                delegations: Vec::new(),
            }),
            delegated: Vec::new(),
        });
    }

    pub(crate) fn publish_plan(&mut self, plan: &Plan<'_>) {
        let files = &self.files;
        let repository = Repository::open(&mut |name| Ok(files.get(name).cloned()));
        let expiries = Expiries {
            targets: in_days(90),
            snapshot: in_days(30),
            timestamp: in_days(7),
        };
        let signers = self.signers();
        let new = repository.expect("a repository");
        let new = new.publish(plan, &signers, expiries, NOW).expect("a state");
        let new: Vec<_> = new
            .into_iter()
            .map(|file| (file.name, file.bytes))
            .collect();
        self.files.extend(new);
    }

    pub(crate) fn signers(&self) -> Signers<'_> {
        Signers {
            targets: vec![&self.targets],
            snapshot: vec![&self.snapshot],
            timestamp: vec![&self.timestamp],
        }
    }

    /// Replaces a published file by one with changed fields, signed by the role's own key.
    pub(crate) fn forge(&mut self, name: &str, role: Role, change: impl FnOnce(&mut Map)) {
        let key = match role {
            Role::Targets => &self.targets,
            Role::Snapshot => &self.snapshot,
            Role::Timestamp => &self.timestamp,
            Role::Root => &self.root[0],
        };
        let forged = changed(&self.files[name], key, change);
        self.files.insert(name.to_owned(), forged);
    }

    /// Makes a new `timestamp.json` name the snapshot with this version as it is published.
    pub(crate) fn point_to_snapshot(&mut self, version: u64) {
        let snapshot = meta_of(version, &self.files[&format!("{version}.snapshot.json")]);
        let next = version_of(&self.files["timestamp.json"]) + 1;
        self.forge("timestamp.json", Role::Timestamp, |signed| {
            signed.set("version", Value::Int(next));
            let meta = Map::from([("snapshot.json", snapshot)]);
            signed.set("meta", Value::Map(meta));
        });
    }
}

impl Publisher {
    /// Makes the newest snapshot, and a new timestamp, fit a role's file as it is published.
    pub(crate) fn list_again(&mut self, role: &str, version: u64) {
        let meta = meta_of(version, &self.files[&format!("{version}.{role}.json")]);
        let timestamp = parse(&self.files["timestamp.json"]);
        let named = ["signed", "meta", "snapshot.json", "version"];
        let mut value = &Value::Map(timestamp);
        for name in named {
            value = value.as_map().and_then(|map| map.get(name)).expect(name);
        }
        let snapshot = u64::try_from(value.as_int().expect("a version")).expect("a version");
        self.forge(
            &format!("{snapshot}.snapshot.json"),
            Role::Snapshot,
            |signed| {
                if let Some(Value::Map(files)) = signed.get_mut("meta") {
                    files.set(&format!("{role}.json"), meta);
                }
            },
        );
        self.point_to_snapshot(snapshot);
    }
}

/// A machine in the field.
pub(crate) struct Machine {
    root: Vec<u8>,
    pub(crate) kept: Kept,
    pub(crate) now: Time,
    pub(crate) limits: Limits,
    /// What it asked the server for.
    pub(crate) asked: Vec<String>,
}

impl Machine {
    /// With the root that its image carries.
    pub(crate) fn new(root: Vec<u8>) -> Self {
        Self {
            root,
            kept: Kept::default(),
            now: NOW,
            limits: Limits::default(),
            asked: Vec::new(),
        }
    }

    /// The same machine once more, as it is now.
    pub(crate) fn again(&self) -> Self {
        Self {
            kept: self.kept.clone(),
            ..Self::new(self.root.clone())
        }
    }

    /// Checks for updates on a server with these files.
    pub(crate) fn check(&mut self, files: &Files) -> Result<(), Error> {
        self.find(files, &[]).map(|_| ())
    }

    /// Checks for updates and looks for targets.
    pub(crate) fn find(&mut self, files: &Files, paths: &[&str]) -> Result<Vec<Target>, Error> {
        self.asked.clear();
        let asked = &mut self.asked;
        let mut transport = |name: &str, _: u64| -> Result<Option<Vec<u8>>, FetchError> {
            asked.push(name.to_owned());
            Ok(files.get(name).cloned())
        };
        let clock = Clock::new(self.now, BUILT);
        let limits = self.limits.clone();
        let mut client =
            Client::refresh(&self.root, &mut self.kept, &mut transport, clock, limits)?;
        paths.iter().map(|path| client.target(path)).collect()
    }

    /// The version of a role's file that it trusts.
    pub(crate) fn trusts(&self, role: &str) -> Option<i64> {
        let entry = Entry::Role(role.to_owned());
        self.kept.0.get(&entry).map(|bytes| version_of(bytes))
    }
}

/// A disk.
#[derive(Default, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Kept(pub(crate) BTreeMap<Entry, Vec<u8>>);

impl Store for Kept {
    fn load(&mut self, entry: &Entry) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.get(entry).cloned())
    }

    fn save(&mut self, entry: &Entry, bytes: &[u8]) -> Result<(), String> {
        self.0.insert(entry.clone(), bytes.to_vec());
        Ok(())
    }

    fn remove(&mut self, entry: &Entry) -> Result<(), String> {
        self.0.remove(entry);
        Ok(())
    }
}

pub(crate) fn in_days(days: i64) -> Time {
    Time(NOW.0 + days * DAY_S)
}

/// A target with this content.
pub(crate) fn target(path: &str, content: &[u8]) -> TargetFile {
    let hash = ring::digest::digest(&ring::digest::SHA256, content);
    TargetFile {
        path: path.to_owned(),
        length: content.len() as u64,
        sha256: hash.as_ref().try_into().expect("32 bytes"),
        custom: None,
    }
}

pub(crate) fn edge() -> TargetFile {
    target(EDGE_PATH, EDGE)
}

pub(crate) fn parse(bytes: &[u8]) -> Map {
    match Value::parse(bytes, &Limits::default()) {
        Ok(Value::Map(map)) => map,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn version_of(bytes: &[u8]) -> i64 {
    let file = parse(bytes);
    let signed = file.get("signed").and_then(Value::as_map).expect("signed");
    signed
        .get("version")
        .and_then(Value::as_int)
        .expect("version")
}

/// The file with changed fields, signed by `key` alone.
pub(crate) fn changed(bytes: &[u8], key: &SigningKey, change: impl FnOnce(&mut Map)) -> Vec<u8> {
    let mut file = parse(bytes);
    file.set("signatures", Value::List(Vec::new()));
    match file.get_mut("signed") {
        Some(Value::Map(signed)) => change(signed),
        other => panic!("{other:?}"),
    }
    sign(Value::Map(file).text().as_bytes(), key).expect("a signature")
}

/// What a snapshot or a timestamp says of a file.
pub(crate) fn meta_of(version: u64, bytes: &[u8]) -> Value {
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    let hash = berth_trust::encoding::hex(hash.as_ref());
    Value::Map(Map::from([
        (
            "version",
            Value::Int(i64::try_from(version).expect("a version")),
        ),
        (
            "length",
            Value::Int(i64::try_from(bytes.len()).expect("a length")),
        ),
        (
            "hashes",
            Value::Map(Map::from([("sha256", Value::from(hash.as_str()))])),
        ),
    ]))
}
