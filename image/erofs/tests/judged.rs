//! Images judged by others: `fsck.erofs` of erofs-utils checks and extracts them, and the host's
//! kernel mounts them where the test may (root, loop devices, EROFS in the kernel).

mod forest;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_chance::Random;
use berth_erofs::{Image, Options, Summary, write};
use berth_tree::{Content, DeviceNumber, Kind, Metadata, Node, Spool, Tree};
use forest::random_tree;
use sha2::{Digest, Sha256};

const INSTALL: &str = "install it with: apt-get install erofs-utils";

struct Written {
    dir: tempfile::TempDir,
    path: PathBuf,
    summary: Summary,
}

fn spool() -> Spool {
    Spool::new_in(&std::env::temp_dir()).expect("spool")
}

fn image(tree: &Tree, spool: &Spool) -> Written {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("image");
    let mut file = fs::File::create(&path).expect("create");
    let options = Options {
        volume_name: "berth".to_owned(),
        build_time: 1_700_000_000,
        uuid: None,
    };
    let summary = write(tree, spool, &mut file, &options).expect("write");
    assert_eq!(file.metadata().expect("size").len(), summary.bytes);
    Written { dir, path, summary }
}

/// Runs `fsck.erofs --extract` and returns where the files are.
fn extracted(image: &Written) -> PathBuf {
    let to = image.dir.path().join("extracted");
    let output = Command::new("fsck.erofs")
        .arg(format!("--extract={}", to.display()))
        .arg(&image.path)
        .output()
        .unwrap_or_else(|error| panic!("cannot run fsck.erofs ({error}): {INSTALL}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "fsck.erofs: {said}");
    assert!(!said.contains("<E>"), "fsck.erofs: {said}");
    to
}

/// What a path is: type and data, permissions, owner.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    what: String,
    mode: u32,
    owner: (u32, u32),
}

type Listing = BTreeMap<Vec<u8>, Seen>;

/// Every path of `tree`.
fn listing(tree: &Tree, spool: &Spool) -> Listing {
    let mut lines = BTreeMap::new();
    let mut pending = vec![(Vec::new(), tree.root())];
    while let Some((path, id)) = pending.pop() {
        let node = tree.node(id);
        let Metadata {
            mode,
            uid,
            gid,
            mtime,
            mtime_nsec,
            ..
        } = node.metadata;
        let what = match &node.kind {
            Kind::Directory(entries) => {
                for (name, child) in entries {
                    let mut path = path.clone();
                    path.push(b'/');
                    path.extend(name);
                    pending.push((path, *child));
                }
                "dir".to_owned()
            }
            Kind::File(content) => {
                let data = spool.read(content).expect("data");
                format!("file {} {mtime}.{mtime_nsec} {}", data.len(), digest(&data))
            }
            Kind::Symlink(target) => format!("link {}", String::from_utf8_lossy(target)),
            Kind::CharDevice(n) => format!("device char {}:{}", n.major, n.minor),
            Kind::BlockDevice(n) => format!("device block {}:{}", n.major, n.minor),
            Kind::Fifo => "fifo".to_owned(),
            Kind::Socket => "socket".to_owned(),
        };
        let mode = if matches!(node.kind, Kind::Symlink(_)) {
            0o777
        } else {
            mode
        };
        lines.insert(
            path,
            Seen {
                what,
                mode: mode.into(),
                owner: (uid, gid),
            },
        );
    }
    lines
}

/// The same of a directory of the host.
fn listing_of_host(root: &Path) -> Listing {
    let mut lines = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let stat = fs::symlink_metadata(&path).expect("lstat");
        let file_type = stat.file_type();
        let (major, minor) = (
            (stat.rdev() >> 8) & 0xfff,
            (stat.rdev() & 0xff) | ((stat.rdev() >> 12) & 0xfff00),
        );
        let what = if file_type.is_dir() {
            pending.extend(
                fs::read_dir(&path)
                    .expect("read")
                    .map(|e| e.expect("entry").path()),
            );
            "dir".to_owned()
        } else if file_type.is_file() {
            let data = fs::read(&path).expect("data");
            let (mtime, nsec) = (stat.mtime(), stat.mtime_nsec());
            format!("file {} {mtime}.{nsec} {}", data.len(), digest(&data))
        } else if file_type.is_symlink() {
            format!(
                "link {}",
                fs::read_link(&path).expect("link").to_string_lossy()
            )
        } else if file_type.is_char_device() {
            format!("device char {major}:{minor}")
        } else if file_type.is_block_device() {
            format!("device block {major}:{minor}")
        } else if file_type.is_fifo() {
            "fifo".to_owned()
        } else {
            "socket".to_owned()
        };
        let key = path.as_os_str().as_bytes()[root.as_os_str().len()..].to_vec();
        let mode = if file_type.is_symlink() {
            0o777
        } else {
            stat.mode() & 0o7777
        };
        lines.insert(
            key,
            Seen {
                what,
                mode,
                owner: (stat.uid(), stat.gid()),
            },
        );
    }
    lines
}

fn digest(data: &[u8]) -> String {
    format!("{:x}", Sha256::digest(data))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|stat| stat.uid() == 0)
}

/// What an extraction can keep: without root no owners and no devices, and never set-id bits
/// (fsck.erofs sets a file's owner after its permissions, and Linux drops them then).
fn extractable(listing: Listing) -> Listing {
    let mut listing = listing;
    let root = is_root();
    listing.retain(|_, seen| root || !seen.what.starts_with("device"));
    for seen in listing.values_mut() {
        seen.mode &= 0o1777;
        if !root {
            seen.owner = (0, 0);
        }
    }
    listing
}

fn assert_extracts_to(tree: &Tree, spool: &Spool, image: &Written) {
    let expected = extractable(listing(tree, spool));
    let found = extractable(listing_of_host(&extracted(image)));
    for (path, line) in &expected {
        let path_text = String::from_utf8_lossy(path);
        assert_eq!(found.get(path), Some(line), "at {path_text:?}");
    }
    assert_eq!(
        found.len(),
        expected.len(),
        "paths that are not in the tree"
    );
}

#[test]
fn random_trees_extract_to_themselves() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let rounds = if seed.is_some() { 1 } else { 12 };
    for round in 0..rounds {
        let seed: u64 = seed.unwrap_or(0x5eed_0000 + round);
        println!("SEED={seed}");
        let mut spool = spool();
        let tree = random_tree(&mut Random::from_seed(seed), &mut spool);
        let image = image(&tree, &spool);
        assert_extracts_to(&tree, &spool, &image);
    }
}

#[test]
fn a_directory_of_a_hundred_thousand_names_extracts_to_itself() {
    let mut spool = spool();
    let mut tree = Tree::new(Metadata::system(0o755));
    let dir = tree
        .create_dirs(b"d", &Metadata::system(0o755))
        .expect("dir");
    let content = spool.store(b"").expect("empty");
    for n in 0..100_100 {
        // Before `.`, between `.` and `..`, and after both.
        let name = match n % 3 {
            0 => format!("+{n}"),
            1 => format!(".-{n}"),
            _ => format!("file with a longer name {n}"),
        };
        let node = Node {
            metadata: Metadata::system(0o644),
            kind: Kind::File(content),
        };
        tree.insert_in(dir, name.as_bytes(), node);
    }
    let image = image(&tree, &spool);
    assert_extracts_to(&tree, &spool, &image);
}

#[test]
fn equal_contents_share_blocks() {
    let mut random = Random::from_seed(1);
    let data = random.bytes(245 * 4096);
    let build = |copies: usize| {
        let mut spool = spool();
        let mut tree = Tree::new(Metadata::system(0o755));
        for copy in 0..copies {
            let content = spool.store(&data).expect("store");
            let node = Node {
                metadata: Metadata::system(0o644),
                kind: Kind::File(content),
            };
            tree.insert(format!("copy{copy}").as_bytes(), node)
                .expect("insert");
        }
        let image = image(&tree, &spool);
        assert_extracts_to(&tree, &spool, &image);
        image.summary
    };
    let (one, nine) = (build(1), build(9));
    assert_eq!(nine.data_bytes, one.data_bytes);
    assert_eq!(nine.shared_bytes, 8 * one.data_bytes);
}

/// Only laid out: nobody's test should write ten gigabytes.
#[test]
fn files_beyond_four_gib_have_all_their_blocks() {
    let mut tree = Tree::new(Metadata::system(0o755));
    for at in 0..2_u8 {
        let content = Content {
            offset: u64::from(at) * (5 << 30),
            len: (5 << 30) + 1,
            sha256: [at; 32],
        };
        let node = Node {
            metadata: Metadata::system(0o644),
            kind: Kind::File(content),
        };
        tree.insert(&[b'a' + at], node).expect("insert");
    }
    let image = Image::of(&tree, &Options::default()).expect("plan");
    assert_eq!(image.summary().data_bytes, 10 << 30);
    assert_eq!(image.summary().metadata_bytes, 4096);
}

#[test]
fn the_same_tree_gives_the_same_bytes_and_another_tree_another_uuid() {
    let build = |seed| {
        let mut spool = spool();
        let tree = random_tree(&mut Random::from_seed(seed), &mut spool);
        let image = image(&tree, &spool);
        (fs::read(&image.path).expect("image"), image.summary.uuid)
    };
    let (first, again, other) = (build(7), build(7), build(8));
    assert!(first == again, "two writes of one tree differ");
    assert_ne!(first.1, other.1);
}

#[test]
fn what_linux_cannot_hold_is_refused_with_its_path() {
    let spool = spool();
    let refuse = |name: &[u8], kind| {
        let mut tree = Tree::new(Metadata::system(0o755));
        let dir = tree
            .create_dirs(b"a/b", &Metadata::system(0o755))
            .expect("dirs");
        tree.insert_in(
            dir,
            name,
            Node {
                metadata: Metadata::system(0o644),
                kind,
            },
        );
        let mut out = Vec::new();
        let error = write(&tree, &spool, &mut out, &Options::default()).expect_err("refusal");
        assert!(out.is_empty(), "something was written");
        error.to_string()
    };
    let long = refuse(b"link", Kind::Symlink(vec![b'x'; 4096]));
    assert!(long.contains("/a/b/link"), "{long}");
    assert!(refuse(b"..", Kind::Fifo).contains("\"..\" is not a file name"));
    assert!(refuse(b"x/y", Kind::Fifo).contains("\"/a/b\""));
    let device = Kind::CharDevice(DeviceNumber {
        major: 4096,
        minor: 0,
    });
    assert!(refuse(b"dev", device).contains("4096:0"));
}

#[test]
fn directories_nested_deeper_than_a_stack_are_written() {
    let spool = spool();
    let mut tree = Tree::new(Metadata::system(0o755));
    let mut at = tree.root();
    for _ in 0..200_000 {
        let node = Node {
            metadata: Metadata::system(0o755),
            kind: Kind::Directory(BTreeMap::new()),
        };
        at = tree.insert_in(at, b"d", node);
    }
    let summary = write(&tree, &spool, &mut std::io::sink(), &Options::default());
    assert_eq!(summary.expect("write").inodes, 200_001);
}

/// What only a mount shows: attributes, link counts, and that the kernel takes the image at all.
#[test]
fn the_kernel_mounts_it_and_sees_attributes_and_link_counts() {
    let knows_erofs = fs::read_to_string("/proc/filesystems").is_ok_and(|t| t.contains("erofs"));
    if !is_root() || !knows_erofs {
        eprintln!("SKIPPED: mounting needs root and a kernel with EROFS");
        return;
    }
    for seed in [21, 22] {
        println!("SEED={seed}");
        let mut spool = spool();
        let tree = random_tree(&mut Random::from_seed(seed), &mut spool);
        let image = image(&tree, &spool);
        let at = image.dir.path().join("mounted");
        fs::create_dir(&at).expect("mount point");
        let _mount = Mounted::new(&image.path, &at);
        let found = listing_of_host(&at);
        let expected = listing(&tree, &spool);
        for (path, line) in &expected {
            let text = String::from_utf8_lossy(path);
            assert_eq!(found.get(path), Some(line), "at {text:?}");
        }
        assert_eq!(found.len(), expected.len());
        forest::assert_attributes_and_links(&tree, &at);
    }
}

struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(image: &Path, at: &'a Path) -> Self {
        let status = Command::new("mount")
            .args(["-t", "erofs", "-o", "ro,loop"])
            .arg(image)
            .arg(at)
            .status()
            .expect("mount");
        assert!(status.success(), "the kernel refused the image");
        Self(at)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "umount failed");
    }
}
