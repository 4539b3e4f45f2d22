//! The memory of the role while it fills a slot with a root of 2 GiB: by a patch, and of the blocks
//! that the machine holds. Two processes, so that only the role's own is counted: the first makes
//! disk, release and files, the second is the machine.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_chance::{Random, peak_kib};
use berth_delta::{Limits, Prefix, encode};
use berth_release::{
    ARCHITECTURE, CHUNK, Delta, Hash, Part, Patch, Release, Rollout, Root, SCHEMA, blocks,
};
use berth_slots::SECTOR;
use berth_slots::gpt::{self, Action};
use berth_slots::layout::{Image, STATE, first_boot};
use berth_slots::session::Session;
use berth_slots::state::Booted;
use berth_slots::sys::{BlockDevice, EfiVarFs, RecordFiles};
use berth_slots::target::{Target, Version};
use berth_slots::verity::{BLOCK, Builder, Geometry, HashSink, RootHash};

use super::publisher::{NOW, sha256};
use crate::role::Places;
use crate::server::Server;
use crate::staging::Stage;
use crate::telling::Teller;

const ROOT_BYTES: u64 = 2 << 30;
const BOOT_BYTES: usize = 3 << 20;
/// What is not zeros at the start of a root.
const CONTENT_CHUNKS: usize = 24;
const DISK_SECTORS: u64 = 10 << 21;
/// Of the whole process, this test's own program included.
const MOST_KIB: u64 = 16 << 10;
/// Output for each second of processor time, MB: the slot read back and its tree made, too.
const LEAST_MB: u64 = 50;
/// Of `utime` and `stime` in proc_pid_stat(5), on every Linux that programs see.
const TICKS_PER_S: u64 = 100;
/// Where the second process finds what the first has made.
const PLACE: &str = "BERTH_MEMORY_CHILD";

#[test]
fn a_root_of_2_gib_is_staged_by_a_patch_in_16_mib() {
    staged_in_16_mib(
        "memory::a_root_of_2_gib_is_staged_by_a_patch_in_16_mib",
        true,
    );
}

#[test]
fn a_root_of_2_gib_is_staged_of_blocks_that_are_there_in_16_mib() {
    let name = "memory::a_root_of_2_gib_is_staged_of_blocks_that_are_there_in_16_mib";
    staged_in_16_mib(name, false);
}

fn staged_in_16_mib(name: &str, by_patch: bool) {
    if let Some(directory) = std::env::var_os(PLACE) {
        return stage(Path::new(&directory));
    }
    let directory = tempfile::tempdir().expect("a directory");
    prepare(directory.path(), by_patch);
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", &format!("tests::{name}"), "--nocapture"])
        .env(PLACE, directory.path())
        .output()
        .expect("a process");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}{complaint}");
    let lines = |key: &'static str| text.lines().find_map(move |line| line.strip_prefix(key));
    let most: u64 = lines("most KiB: ")
        .and_then(|kib| kib.parse().ok())
        .expect("a figure");
    let sentence = lines("sentence: ").expect("a sentence");
    let ticks: u64 = lines("ticks: ")
        .and_then(|ticks| ticks.parse().ok())
        .expect("a figure");
    let speed = ROOT_BYTES / 1_000_000 * TICKS_PER_S / ticks.max(1);
    println!("2 GiB staged in {most} KiB, {speed} MB for each second of a core: {sentence}");
    assert!(most <= MOST_KIB, "{most} KiB");
    // What is not optimised says nothing about a machine.
    assert!(cfg!(debug_assertions) || speed >= LEAST_MB, "{speed} MB/s");
}

// The first process.

/// A part of a root: `CONTENT_CHUNKS` and a bit; version 2 has changes and lies a block further on.
fn content(version: usize) -> Vec<u8> {
    let mut random = Random::from_seed(7);
    let words = CONTENT_CHUNKS * (CHUNK as usize / 8) + 100;
    let mut bytes = vec![version as u8; (version - 1) * BLOCK];
    bytes.extend((0..words).flat_map(|_| random.next_u64().to_le_bytes()));
    bytes.truncate(words * 8);
    if version > 1 {
        bytes.iter_mut().step_by(99_991).for_each(|byte| *byte ^= 1);
    }
    bytes
}

/// Writes a root of that content, and zeros; its hash.
fn write_root(path: &Path, content: &[u8]) -> RootHash {
    struct Nowhere;
    impl HashSink for Nowhere {
        fn write_hash_block(&mut self, _: u64, _: &[u8; BLOCK]) -> io::Result<()> {
            Ok(())
        }
    }
    let file = File::create(path).expect("a root");
    let content = &content[..CONTENT_CHUNKS * CHUNK as usize];
    file.write_all_at(content, 0).expect("its content");
    file.set_len(ROOT_BYTES).expect("its size");
    let geometry = Geometry::new(ROOT_BYTES / BLOCK as u64).expect("a geometry");
    let mut tree = Builder::new(geometry, Nowhere);
    for block in content.as_chunks().0 {
        tree.push(block).expect("a block");
    }
    for _ in content.len() / BLOCK..(ROOT_BYTES as usize) / BLOCK {
        tree.push(&[0; BLOCK]).expect("a block of zeros");
    }
    tree.finish().expect("a tree").0
}

fn write_file(directory: &Path, path: &str, bytes: &[u8]) {
    let path = directory.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    fs::write(path, bytes).expect("a file");
}

/// A disk with version 1, and what is published of version 2.
fn prepare(directory: &Path, by_patch: bool) {
    let (old, new) = (content(1), content(2));
    let old_hash = write_root(&directory.join("root"), &old);
    fs::create_dir(directory.join("images")).expect("a directory");
    let image = directory.join("images/new.img");
    let new_hash = write_root(&image, &new);
    let boot = content(1)[..BOOT_BYTES].to_vec();
    write_disk(&directory.join("disk"), old_hash, &old);

    let zeros = Hash(sha256(&vec![0; CHUNK as usize]));
    let mut chunks: Vec<Hash> = new
        .chunks_exact(CHUNK as usize)
        .map(|chunk| Hash(sha256(chunk)))
        .collect();
    chunks.resize((ROOT_BYTES / CHUNK) as usize, zeros);
    let patch = encode::create(&old, &new).expect("a patch");
    let patch = encode::damage::extended(&patch, ROOT_BYTES).expect("a longer patch");
    let prefix = Prefix::parse(&patch[..Prefix::BYTES], &Limits::default()).expect("a prefix");
    let patch_of_root = Patch {
        bytes: patch.len() as u64,
        sha256: Hash(sha256(&patch)),
        head_sha256: Hash(prefix.head_hash.0),
    };
    // The patch names the content that it was made from.
    let mut root = Part {
        bytes: ROOT_BYTES,
        sha256: Hash(sha256(&new)),
        chunks,
        packed: None,
        blocks: Vec::new(),
    };
    fs::rename(&image, directory.join(root.path())).expect("a name");
    let boot_part = Part {
        bytes: boot.len() as u64,
        sha256: Hash(sha256(&boot)),
        chunks: boot
            .chunks(CHUNK as usize)
            .map(|chunk| Hash(sha256(chunk)))
            .collect(),
        packed: None,
        blocks: Vec::new(),
    };
    write_file(directory, &boot_part.path(), &boot);
    let mut deltas = Vec::new();
    if by_patch {
        write_file(directory, &patch_of_root.path(), &patch);
        deltas.push(Delta {
            version: "1".into(),
            root_hash: Hash(old_hash.0),
            boot: patch_of_root,
            root: patch_of_root,
        });
    } else {
        let file = File::open(directory.join(root.path())).expect("the root");
        for start in (0..ROOT_BYTES).step_by(blocks::SPAN as usize) {
            let mut span = vec![0; blocks::SPAN as usize];
            file.read_exact_at(&mut span, start).expect("a GiB");
            for index in blocks::index(&span) {
                root.blocks.push(Hash(sha256(&index)));
                let at = (start / blocks::SPAN) as usize;
                let (path, ..) = root.block_index(at).expect("an index");
                write_file(directory, &path, &index);
            }
        }
    }
    let release = Release {
        schema: SCHEMA,
        product: "edge".into(),
        version: "2".into(),
        security_version: 0,
        attempt: 0,
        profile: "cloud".into(),
        architecture: ARCHITECTURE.into(),
        built: NOW - 1,
        published: NOW,
        kernel: "6.12.117".into(),
        boot: boot_part,
        root: Root {
            part: root,
            root_hash: Hash(new_hash.0),
        },
        deltas,
        rollout: Rollout::at_once(0),
    };
    write_file(directory, "release.json", &release.text().expect("text"));
    write_file(directory, "old-hash", &old_hash.0);
}

/// A disk of a machine that runs a version with such a root.
fn write_disk(path: &Path, root: RootHash, content: &[u8]) {
    let geometry = Geometry::new(ROOT_BYTES / BLOCK as u64).expect("a geometry");
    let image = Image::new(BOOT_BYTES as u64, geometry.total_bytes(), &root).expect("an image");
    let plan = first_boot(&image.table, DISK_SECTORS).expect("a plan");
    assert!(plan.missing.is_empty(), "the disk is too small");
    let disk = File::create(path).expect("a disk");
    disk.set_len(DISK_SECTORS * SECTOR).expect("its size");
    disk.write_all_at(&gpt::protective_mbr(), 0)
        .expect("an MBR");
    for action in gpt::write_actions(&plan.table.without(STATE), DISK_SECTORS) {
        if let Action::Write { sector, bytes } = action {
            disk.write_all_at(&bytes, sector * SECTOR).expect("a table");
        }
    }
    let content = &content[..CONTENT_CHUNKS * CHUNK as usize];
    let start = image.root.first() * SECTOR;
    disk.write_all_at(content, start).expect("a root");
}

// The second process.

/// Published files in a directory.
struct Directory(PathBuf);

impl Server for Directory {
    fn who(&self) -> &str {
        "the directory"
    }

    fn whole(&mut self, path: &str, _: u64) -> Result<Option<Vec<u8>>, String> {
        Ok(fs::read(self.0.join(path)).ok())
    }

    fn range<'a>(
        &'a mut self,
        path: &str,
        range: Range<u64>,
    ) -> Result<Option<Box<dyn Read + 'a>>, String> {
        let Ok(mut file) = File::open(self.0.join(path)) else {
            return Ok(None);
        };
        io::Seek::seek(&mut file, io::SeekFrom::Start(range.start))
            .map_err(|why| why.to_string())?;
        Ok(Some(Box::new(file.take(range.end - range.start))))
    }
}

fn stage(directory: &Path) {
    let at = |name: &str| directory.join(name);
    let release = Release::parse(&fs::read(at("release.json")).expect("a document"));
    let release = release.expect("a release");
    let old_hash = RootHash(
        fs::read(at("old-hash"))
            .expect("a hash")
            .try_into()
            .expect("a hash"),
    );
    for name in ["state", "variables"] {
        fs::create_dir(at(name)).expect("a directory");
    }
    let booted = Booted {
        root: old_hash,
        boot_id: [1; 16],
        version: Version::new("1").expect("a version"),
        security_version: 0,
    };
    let mut slots = Session::open(
        BlockDevice::open(&at("disk")).expect("the disk"),
        EfiVarFs::at(&at("variables")),
        RecordFiles::in_directory(&at("state")).expect("records"),
        &booted,
    )
    .expect("the slots");
    let target = Target {
        version: Version::new("2").expect("a version"),
        security_version: 0,
        attempt: 0,
        manifest: [2; 32],
        boot_bytes: release.boot.bytes,
        boot_sha256: release.boot.sha256.0,
        root_bytes: ROOT_BYTES,
        root_hash: RootHash(release.root.root_hash.0),
    };
    let places = Places {
        disk: at("disk"),
        state: at("state"),
        status: at("status.json"),
        certificates: at("ca.pem"),
    };
    let mut teller = Teller::by(File::create(at("said")).expect("the pipe"));
    let filled = Stage {
        server: &mut Directory(directory.to_owned()),
        teller: &mut teller,
        places: &places,
        running_root: old_hash,
    }
    .fill(&mut slots, &release, target);
    assert_eq!(filled, Ok(()));
    println!("ticks: {}", ticks());
    println!("most KiB: {}", peak_kib());
    let said = super::world::records(&at("said"));
    println!("sentence: {}", said.last().expect("a record").sentence);
}

/// Processor time of this process.
fn ticks() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("the process");
    // The name may hold anything; behind its parenthesis comes the third field.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let fields = fields.split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<u64>().ok()).sum()
}
