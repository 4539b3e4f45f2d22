//! A publisher, and the versions that it publishes.

use std::collections::BTreeMap;
use std::sync::Mutex;

use berth_chance::Random;
use berth_cuts::life;
use berth_delta::encode;
use berth_release::{
    CHUNK, Delta, Hash, Part, Patch, Release, Rollout, Root, SCHEMA, bundle, target_path,
};
use berth_slots::target::Version;
use berth_trust::Time;
use berth_trust::release::Release as Claims;
use berth_trust::write::{
    Expiries, Plan, Repository, Role as Signs, RolePlan, RootDraft, Signers, SigningKey,
    TargetFile, sign,
};
use sha2::{Digest, Sha256};

/// When everything happens, seconds since 1970.
pub(super) const NOW: u64 = 1_800_000_000;
pub(super) const DAY_S: u64 = 86_400;

const A_YEAR_ON: Time = Time((NOW + 365 * DAY_S) as i64);

/// A version with its content.
pub(super) type Content = life::Release;

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Version `number`: a small boot image and two chunks of root. Much of it is as in every other.
pub(super) fn content(number: u64) -> Content {
    let mut random = Random::from_seed(number);
    let mut common = Random::from_seed(0);
    let mut bytes = |kib: usize| -> Vec<u8> {
        let words = (0..kib * 128).map(|at| match at % 1024 {
            0..32 => common.next_u64(),
            32..48 => random.next_u64(),
            _ => at as u64 / 1024,
        });
        words.flat_map(u64::to_le_bytes).collect()
    };
    let version = Version::new(&number.to_string()).expect("a version");
    Content::new(version, 0, bytes(64), bytes(1100), sha256).expect("a release")
}

/// The publisher and what it has published, by path.
pub(super) struct Publisher {
    root: SigningKey,
    keys: [SigningKey; 3],
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// Whether parts are published with block indexes.
    pub(super) indexes: bool,
    /// Whose turn it is.
    pub(super) rollout: Rollout,
}

impl Publisher {
    pub(super) fn new() -> Self {
        let key = || SigningKey::from_pem(&SigningKey::generate_pem().expect("a key"));
        let [root, targets, snapshot, timestamp] = [(); 4].map(|()| key().expect("a key"));
        let mut draft = RootDraft::new(A_YEAR_ON);
        for (role, key) in [
            (Signs::Root, &root),
            (Signs::Targets, &targets),
            (Signs::Snapshot, &snapshot),
            (Signs::Timestamp, &timestamp),
        ] {
            draft.add_key(role, key.public());
        }
        let unsigned = draft.finish().expect("a root");
        let first = sign(&unsigned, &root).expect("a signature");
        Self {
            root,
            keys: [targets, snapshot, timestamp],
            files: BTreeMap::from([("metadata/1.root.json".to_owned(), first)]),
            indexes: false,
            rollout: Rollout::at_once(0),
        }
    }

    pub(super) fn trust(&self) -> Vec<u8> {
        self.files["metadata/1.root.json"].clone()
    }

    /// A second root, which machines have to learn.
    pub(super) fn renew_root(&mut self) {
        let draft = RootDraft::after(&self.trust(), A_YEAR_ON).expect("a draft");
        let second = sign(&draft.finish().expect("a root"), &self.root).expect("a signature");
        self.put("metadata/2.root.json", second);
    }

    /// Publishes `new` for `product`, with a delta from each of `olds`.
    pub(super) fn publish(&mut self, product: &str, new: &Content, olds: &[&Content]) {
        self.publish_again(product, new, olds, 0);
    }

    pub(super) fn publish_again(
        &mut self,
        product: &str,
        new: &Content,
        olds: &[&Content],
        attempt: u32,
    ) {
        let root_of = |one: &Content| one.root[..one.target.root_bytes as usize].to_vec();
        let deltas = olds
            .iter()
            .map(|old| Delta {
                version: old.target.version.to_string(),
                root_hash: Hash(old.target.root_hash.0),
                boot: self.patch(&old.boot, &new.boot),
                root: self.patch(&root_of(old), &root_of(new)),
            })
            .collect();
        let release = Release {
            schema: SCHEMA,
            product: product.to_owned(),
            version: new.target.version.to_string(),
            security_version: new.target.security_version,
            attempt,
            profile: "cloud".into(),
            architecture: berth_release::ARCHITECTURE.into(),
            built: NOW - DAY_S,
            published: NOW,
            kernel: "6.12.117".into(),
            boot: self.part(&new.boot),
            root: Root {
                part: self.part(&root_of(new)),
                root_hash: Hash(new.target.root_hash.0),
            },
            deltas,
            rollout: self.rollout.clone(),
        };
        let text = release.text().expect("text");
        let path = target_path(product, "cloud", berth_release::ARCHITECTURE);
        let hash = Hash(sha256(&text));
        let (folder, name) = path.rsplit_once('/').expect("a folder");
        let length = text.len() as u64;
        self.put(&format!("targets/{folder}/{hash}.{name}"), text);
        let claims = Claims {
            product: release.product,
            profile: release.profile,
            architecture: release.architecture,
            version: release.version,
            security_version: release.security_version,
        };
        self.sign(TargetFile {
            path,
            length,
            sha256: hash.0,
            custom: Some(claims.custom()),
        });
    }

    /// What is published of a product.
    pub(super) fn release(&self, product: &str) -> Release {
        let folder = format!("targets/{product}/");
        let document = self
            .files
            .iter()
            .find(|(path, _)| path.starts_with(&folder));
        Release::parse(document.expect("a document").1).expect("a release")
    }

    fn sign(&mut self, target: TargetFile) {
        let files = &self.files;
        let repository = Repository::open(&mut |name| {
            let name = format!("metadata/{name}");
            Ok(files.get(&name).cloned())
        });
        let repository = repository.expect("a repository");
        let mut targets = vec![target];
        for old in repository.targets() {
            if old.path() != targets[0].path {
                targets.extend(TargetFile::again(old));
            }
        }
        let plan = Plan {
            targets: Some(RolePlan {
                targets,
                delegations: Vec::new(),
            }),
            delegated: Vec::new(),
        };
        let [targets, snapshot, timestamp] = &self.keys;
        let signers = Signers {
            targets: vec![targets],
            snapshot: vec![snapshot],
            timestamp: vec![timestamp],
        };
        let until = Time((NOW + 30 * DAY_S) as i64);
        let expiries = Expiries {
            targets: until,
            snapshot: until,
            timestamp: until,
        };
        let new = repository.publish(&plan, &signers, expiries, Time(NOW as i64));
        for file in new.expect("a state") {
            self.put(&format!("metadata/{}", file.name), file.bytes);
        }
    }

    fn part(&mut self, bytes: &[u8]) -> Part {
        let mut part = Part {
            bytes: bytes.len() as u64,
            sha256: Hash(sha256(bytes)),
            chunks: bytes
                .chunks(CHUNK as usize)
                .map(|chunk| Hash(sha256(chunk)))
                .collect(),
            packed: Some(self.patch(&[], bytes)),
            blocks: Vec::new(),
        };
        let indexes = match self.indexes {
            true => berth_release::blocks::index(bytes),
            false => Vec::new(),
        };
        part.blocks = indexes.iter().map(|index| Hash(sha256(index))).collect();
        for (span, index) in indexes.into_iter().enumerate() {
            let (path, ..) = part.block_index(span).expect("an index");
            self.put(&path, index);
        }
        self.put(&part.path(), bytes.to_vec());
        part
    }

    fn patch(&mut self, old: &[u8], new: &[u8]) -> Patch {
        let bytes = made_once(old, new);
        let limits = berth_delta::Limits::default();
        let prefix = bytes.get(..berth_delta::Prefix::BYTES).expect("a prefix");
        let prefix = berth_delta::Prefix::parse(prefix, &limits).expect("a prefix");
        let patch = Patch {
            bytes: bytes.len() as u64,
            sha256: Hash(sha256(&bytes)),
            head_sha256: Hash(prefix.head_hash.0),
        };
        self.put(&patch.path(), bytes);
        patch
    }

    fn put(&mut self, path: &str, bytes: Vec<u8>) {
        self.files.insert(path.to_owned(), bytes);
    }

    /// What is published, but for the files that `without` says, as a bundle.
    pub(super) fn bundle(&self, without: impl Fn(&str) -> bool) -> Vec<u8> {
        let first = (bundle::FIRST.to_owned(), b"for people".to_vec());
        let files = self.files.iter().filter(|(path, _)| !without(path));
        let files = files.map(|(path, bytes)| (path.clone(), bytes.clone()));
        let mut out = Vec::new();
        for (name, bytes) in std::iter::once(first).chain(files) {
            out.extend(bundle::header(&name, bytes.len() as u64, NOW).expect("a header"));
            out.extend(bytes);
            out.resize(bundle::padded(out.len() as u64) as usize, 0);
        }
        out.resize(out.len() + 1024, 0);
        out
    }
}

/// The patch between two images: the tests share a few of them.
fn made_once(old: &[u8], new: &[u8]) -> Vec<u8> {
    type Made = BTreeMap<[[u8; 32]; 2], Vec<u8>>;
    static MADE: Mutex<Made> = Mutex::new(Made::new());
    let mut made = MADE.lock().expect("the patches");
    let made = made.entry([sha256(old), sha256(new)]);
    let made = made.or_insert_with(|| encode::create(old, new).expect("a patch"));
    made.clone()
}
