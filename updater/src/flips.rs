//! A published directory in which one bit is flipped, looked at and fetched by the code of the
//! machine: no byte that was not signed is ever written to the slot.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::rc::Rc;

use berth_cuts::{Memory, MemoryRecords, MemoryVariables, Random, life};
use berth_delta::{Prefix, Source, encode};
use berth_release::{
    ARCHITECTURE, CHUNK, Delta, Hash, METADATA, Part, Patch, Release, Rollout, Root, SCHEMA,
    TARGETS, target_path,
};
use berth_slots::SECTOR;
use berth_slots::block::Block;
use berth_slots::session::Session;
use berth_slots::staging;
use berth_slots::target::Version;
use berth_trust::release::Release as Claims;
use berth_trust::write::{
    Expiries, Plan, Repository, Role, RolePlan, RootDraft, Signers, SigningKey, TargetFile, sign,
};
use berth_trust::{Clock, Time};
use sha2::{Digest, Sha256};

use crate::metadata::{Identity, newest};
use crate::server::Server;
use crate::staging::target;
use crate::transfer::{Counted, Nothing, Transfer};

const NOW: Time = Time(1_800_000_000);

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A published directory in memory.
#[derive(Clone, Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Server for Files {
    fn who(&self) -> &str {
        "the directory"
    }

    fn whole(&mut self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
        match self.0.get(path) {
            Some(bytes) if bytes.len() as u64 > most => Err(format!("{path} is too long")),
            other => Ok(other.cloned()),
        }
    }

    fn range<'a>(
        &'a mut self,
        path: &str,
        range: Range<u64>,
    ) -> Result<Option<Box<dyn Read + 'a>>, String> {
        let Some(bytes) = self.0.get(path) else {
            return Ok(None);
        };
        let bytes = bytes.get(range.start as usize..range.end as usize);
        let bytes = bytes.ok_or_else(|| format!("{path} ends before {}", range.end))?;
        Ok(Some(Box::new(Cursor::new(bytes))))
    }
}

/// A disk on which nothing but the signed bytes may be written to the slot.
struct Guarded {
    disk: Memory,
    /// Where a part goes, and its signed bytes.
    slot: Vec<(u64, Vec<u8>)>,
    written: Rc<Cell<u64>>,
}

impl Block for Guarded {
    fn sectors(&mut self) -> io::Result<u64> {
        self.disk.sectors()
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        for (start, signed) in &self.slot {
            let end = start + signed.len() as u64;
            if offset < end && offset + bytes.len() as u64 > *start {
                let at = (offset - start) as usize;
                assert!(
                    signed.get(at..at + bytes.len()) == Some(bytes),
                    "other bytes than were signed, at {at}"
                );
                self.written.set(self.written.get() + bytes.len() as u64);
            }
        }
        self.disk.write_at(offset, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.disk.flush()
    }
}

/// Two versions of a machine, the second published with all that a machine can use.
struct World {
    old: life::Release,
    new: life::Release,
    files: Files,
    first_root: Vec<u8>,
    release: Release,
    disk: Memory,
}

fn versions() -> [life::Release; 2] {
    let mut random = Random::from_seed(6);
    let mut bytes = |count: usize| -> Vec<u8> {
        let words = (0..count / 8).map(|_| random.next_u64().to_le_bytes());
        words.flatten().collect()
    };
    let mib = CHUNK as usize;
    let (boot, root) = (bytes(mib + 8192), bytes(mib + 64 * 1024));
    let (mut new_boot, mut new_root) = (boot.clone(), root.clone());
    for image in [&mut new_boot, &mut new_root] {
        for at in [1000, mib / 2, mib + 4096] {
            image[at..at + 800].copy_from_slice(&bytes(800));
        }
        image.rotate_left(512);
    }
    let version = |name: &str| Version::new(name).expect("a version");
    let release = |name, boot, root| life::Release::new(version(name), 0, boot, root, sha256);
    [
        release("1", boot, root).expect("a root"),
        release("2", new_boot, new_root).expect("a root"),
    ]
}

impl World {
    fn new() -> Self {
        let [old, new] = versions();
        let mut files = Files::default();
        let release = document(&old, &new, &mut files);
        let first_root = sign_all(&release, &mut files);
        let disk = life::installed(&old, 100 << 11).expect("a machine");
        Self {
            old,
            new,
            files,
            first_root,
            release,
            disk,
        }
    }

    /// Looks at what is published and fetches it, with the first `ways` of: the delta, the packed
    /// image, the image. Gives the bytes that were written and whether the version is whole.
    fn update(&self, files: &mut Files, ways: Range<usize>) -> (u64, Result<(), String>) {
        let written = Rc::new(Cell::new(0));
        let outcome = self.look_and_fetch(files, ways, Rc::clone(&written));
        (written.get(), outcome)
    }

    fn look_and_fetch(
        &self,
        files: &mut Files,
        ways: Range<usize>,
        written: Rc<Cell<u64>>,
    ) -> Result<(), String> {
        let kept = tempfile::tempdir().expect("a directory");
        let identity = Identity {
            product: "edge".into(),
            profile: "cloud".into(),
            architecture: ARCHITECTURE.into(),
        };
        let clock = Clock::new(NOW, NOW);
        let offer = newest(files, &self.first_root, kept.path(), clock, &identity)?;
        assert_eq!(offer.release, self.release, "another version was believed");

        let booted = self.old.booted([1; 16]);
        let (mut variables, mut records) = <(MemoryVariables, MemoryRecords)>::default();
        let mut guarded = Guarded {
            disk: self.disk.clone(),
            slot: Vec::new(),
            written,
        };
        {
            let session = Session::open(&mut guarded, &mut variables, &mut records, &booted);
            let slot = session.expect("a session").other();
            let at = |extent: berth_slots::gpt::Extent| extent.first() * SECTOR;
            let root_bytes = self.new.target.root_bytes as usize;
            guarded.slot = vec![
                (at(slot.boot), self.new.boot.clone()),
                (at(slot.root), self.new.root[..root_bytes].to_vec()),
            ];
        }
        let mut session = Session::open(&mut guarded, &mut variables, &mut records, &booted)
            .map_err(|why| why.to_string())?;
        let staging = session.stage(target(&offer)?);
        let mut staging = staging.map_err(|why| why.to_string())?;
        let delta = offer.release.delta_from(&self.old.target.root_hash.0);
        let delta = delta.ok_or("no delta")?;
        let root_bytes = self.old.target.root_bytes as usize;
        let parts = [
            (
                staging::Part::Boot,
                &offer.release.boot,
                delta.boot,
                &self.old.boot[..],
            ),
            (
                staging::Part::Root,
                &offer.release.root.part,
                delta.root,
                &self.old.root[..root_bytes],
            ),
        ];
        for (part, published, patch, mut old) in parts {
            let mut nothing = Nothing;
            let packed = published.packed.ok_or("no packed image")?;
            let all: [(Patch, &mut dyn Source); 2] = [(patch, &mut old), (packed, &mut nothing)];
            let mut patches: Vec<_> = all
                .into_iter()
                .enumerate()
                .filter_map(|(way, patch)| ways.contains(&way).then_some(patch))
                .collect();
            let mut transfer = Transfer {
                server: files,
                staging: &mut staging,
                part,
                published,
                progress: &mut |_, _| (),
                counted: Counted::default(),
                unflushed: 0,
                held: None,
            };
            let run = transfer.run(&mut patches);
            run.map_err(|why| why.to_string())?;
        }
        staging.finish().map_err(|why| why.to_string())?;
        Ok(())
    }
}

/// The version's document, its images and patches.
fn document(old: &life::Release, new: &life::Release, files: &mut Files) -> Release {
    let mut patch = |old: &[u8], new: &[u8]| {
        let bytes = encode::create(old, new).expect("a patch");
        let prefix = Prefix::parse(&bytes, &berth_delta::Limits::default()).expect("a prefix");
        let patch = Patch {
            bytes: bytes.len() as u64,
            sha256: Hash(sha256(&bytes)),
            head_sha256: Hash(prefix.head_hash.0),
        };
        files.0.insert(patch.path(), bytes);
        patch
    };
    let root_of = |release: &life::Release| {
        let bytes = release.target.root_bytes as usize;
        release.root[..bytes].to_vec()
    };
    let (old_root, new_root) = (root_of(old), root_of(new));
    let delta = Delta {
        version: old.target.version.to_string(),
        root_hash: Hash(old.target.root_hash.0),
        boot: patch(&old.boot, &new.boot),
        root: patch(&old_root, &new_root),
    };
    let packed = [patch(&[], &new.boot), patch(&[], &new_root)];
    let mut part = |bytes: &[u8], packed| {
        let part = Part {
            bytes: bytes.len() as u64,
            sha256: Hash(sha256(bytes)),
            chunks: bytes
                .chunks(CHUNK as usize)
                .map(|chunk| Hash(sha256(chunk)))
                .collect(),
            packed: Some(packed),
            blocks: Vec::new(),
        };
        files.0.insert(part.path(), bytes.to_vec());
        part
    };
    Release {
        schema: SCHEMA,
        product: "edge".into(),
        version: new.target.version.to_string(),
        security_version: 0,
        attempt: 0,
        profile: "cloud".into(),
        architecture: ARCHITECTURE.into(),
        built: 1,
        published: 2,
        kernel: "6.12.117".into(),
        boot: part(&new.boot, packed[0]),
        root: Root {
            part: part(&new_root, packed[1]),
            root_hash: Hash(new.target.root_hash.0),
        },
        deltas: vec![delta],
        rollout: Rollout::at_once(0),
    }
}

/// Signs the document, after a first rotation of the root; gives the root that machines carry.
fn sign_all(release: &Release, files: &mut Files) -> Vec<u8> {
    let key = || SigningKey::from_pem(&SigningKey::generate_pem().expect("a key")).expect("a key");
    let [root, targets, snapshot, timestamp] = [key(), key(), key(), key()];
    let later = Time(NOW.0 + 86_400);
    let mut draft = RootDraft::new(later);
    let roles = [Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp];
    for (role, key) in roles
        .into_iter()
        .zip([&root, &targets, &snapshot, &timestamp])
    {
        draft.add_key(role, key.public());
    }
    let first = sign(&draft.finish().expect("a root"), &root).expect("a signature");
    let draft = RootDraft::after(&first, later).expect("a draft");
    let second = sign(&draft.finish().expect("a root"), &root).expect("a signature");
    let path = target_path(&release.product, &release.profile, &release.architecture);
    let text = release.text().expect("text");
    let claims = Claims {
        product: release.product.clone(),
        profile: release.profile.clone(),
        architecture: release.architecture.clone(),
        version: release.version.clone(),
        security_version: release.security_version,
    };
    let plan = Plan {
        targets: Some(RolePlan {
            targets: vec![TargetFile {
                path: path.clone(),
                length: text.len() as u64,
                sha256: sha256(&text),
                custom: Some(claims.custom()),
            }],
            delegations: Vec::new(),
        }),
        delegated: Vec::new(),
    };
    let signers = Signers {
        targets: vec![&targets],
        snapshot: vec![&snapshot],
        timestamp: vec![&timestamp],
    };
    let expiries = Expiries {
        targets: later,
        snapshot: later,
        timestamp: later,
    };
    let roots = [("1.root.json", &first), ("2.root.json", &second)];
    let repository = Repository::open(&mut |name| {
        let root = roots.iter().find(|(known, _)| *known == name);
        Ok(root.map(|(_, bytes)| (*bytes).clone()))
    });
    let signed = repository
        .expect("a repository")
        .publish(&plan, &signers, expiries, NOW);
    for file in signed.expect("metadata") {
        files
            .0
            .insert(format!("{METADATA}/{}", file.name), file.bytes);
    }
    files.0.insert(format!("{METADATA}/2.root.json"), second);
    let (folder, name) = path.rsplit_once('/').expect("folders");
    let name = format!("{TARGETS}/{folder}/{}.{name}", Hash(sha256(&text)));
    files.0.insert(name, text);
    first
}

/// Flips a bit, calls `check`, and flips it back.
fn flipped(files: &mut Files, path: &str, bit: usize, check: impl FnOnce(&mut Files)) {
    let flip = |files: &mut Files| {
        let file = files.0.get_mut(path).expect("the file");
        file[bit / 8] ^= 1 << (bit % 8);
    };
    flip(files);
    check(files);
    flip(files);
}

/// All ways to the new version.
const ALL: Range<usize> = 0..2;

#[test]
fn what_is_published_makes_the_new_version_by_every_way() {
    let world = World::new();
    let whole = world.new.target.boot_bytes + world.new.target.root_bytes;
    for ways in [ALL, 0..1, 1..2, 0..0] {
        let outcome = world.update(&mut world.files.clone(), ways.clone());
        assert_eq!(outcome, (whole, Ok(())), "{ways:?}");
    }
}

#[test]
fn a_flipped_bit_of_what_is_signed_is_refused_before_a_byte_is_written() {
    let world = World::new();
    let mut files = world.files.clone();
    // berth_trust's tests try every bit; here every place in a byte comes up, and all bits when
    // there is time.
    let step = match std::env::var_os("BERTH_TEST_LONG") {
        Some(_) => 1,
        None => 23,
    };
    let signed: Vec<String> = files.0.keys().cloned().collect();
    let signed = signed.iter().filter(|path| path.ends_with(".json"));
    let mut flips = 0;
    for path in signed {
        for bit in (0..files.0[path].len() * 8).step_by(step) {
            flipped(&mut files, path, bit, |files| {
                let (written, outcome) = world.update(files, ALL);
                assert!(outcome.is_err(), "bit {bit} of {path}");
                assert_eq!(written, 0, "bit {bit} of {path}");
            });
            flips += 1;
        }
    }
    eprintln!("{flips} flipped bits of signed files");
    assert!(flips > 1000);
}

#[test]
fn a_flipped_bit_of_an_image_or_a_patch_never_reaches_the_slot() {
    let world = World::new();
    let mut files = world.files.clone();
    let hashed: Vec<String> = files.0.keys().cloned().collect();
    let hashed = hashed.iter().filter(|path| !path.ends_with(".json"));
    let delta = &world.release.deltas[0];
    let (mut used, mut refused) = (0, 0);
    let mut random = Random::from_seed(7);
    for path in hashed {
        let bits = files.0[path].len() * 8;
        // The prefix and the start of the head, then anywhere.
        let places = (0..400)
            .step_by(37)
            .chain((0..30).map(|_| random.next_u64() as usize % bits));
        let is_delta = [delta.boot, delta.root]
            .iter()
            .any(|one| one.path() == *path);
        let is_image = path.starts_with("images/");
        for bit in places.filter(|bit| *bit < bits).collect::<Vec<_>>() {
            flipped(&mut files, path, bit, |files| {
                // Whatever is broken, the other ways make the version whole.
                let (_, outcome) = world.update(files, ALL);
                assert_eq!(outcome, Ok(()), "bit {bit} of {path}");
                // Alone, it gives an error or is replaced by chunks of the whole image.
                let ways = match (is_delta, is_image) {
                    (true, _) => 0..1,
                    (_, false) => 1..2,
                    (_, true) => 0..0,
                };
                let (_, outcome) = world.update(files, ways);
                assert_eq!(
                    outcome.is_err(),
                    is_image,
                    "bit {bit} of {path}: {outcome:?}"
                );
                match outcome {
                    Ok(()) => used += 1,
                    Err(why) => {
                        refused += 1;
                        assert!(why.contains("other bytes"), "{why}");
                    }
                }
            });
        }
    }
    eprintln!("{refused} flipped bits refused, {used} made up for by the whole image");
    assert!(used > 100 && refused > 60);
}
