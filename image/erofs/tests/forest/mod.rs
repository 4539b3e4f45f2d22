//! Random trees with everything a file system can hold, and what a mount must show of them.
#![allow(dead_code, reason = "each test uses a part")]

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use berth_chance::Random;
use berth_tree::{DeviceNumber, Kind, Metadata, Node, NodeId, Spool, Tree};

/// A tree of up to 400 nodes with sizes around every boundary of the format.
pub(crate) fn random_tree(random: &mut Random, spool: &mut Spool) -> Tree {
    let mut tree = Tree::new(metadata(random));
    let mut directories = vec![tree.root()];
    let mut files: Vec<NodeId> = Vec::new();
    for _ in 0..20 + random.below(380) {
        let parent = directories[random.below(directories.len())];
        let name = name(random);
        if tree.child(parent, &name).is_some() {
            continue;
        }
        if random.below(12) == 0 && !files.is_empty() {
            let target = files[random.below(files.len())];
            tree.link_in(parent, &name, target);
            continue;
        }
        let kind = kind(random, spool);
        let node = Node {
            metadata: metadata(random),
            kind,
        };
        let is_directory = matches!(node.kind, Kind::Directory(_));
        let id = tree.insert_in(parent, &name, node);
        if is_directory {
            directories.push(id);
        } else {
            files.push(id);
        }
    }
    tree
}

fn kind(random: &mut Random, spool: &mut Spool) -> Kind {
    match random.below(16) {
        0..=3 => Kind::Directory(BTreeMap::new()),
        4..=5 => {
            let len = [1, 20, 59, 100, 2560, 2561, 4000, 4095][random.below(8)];
            let target = random
                .bytes(len)
                .iter()
                .map(|byte| b'a' + byte % 26)
                .collect();
            Kind::Symlink(target)
        }
        6 => Kind::CharDevice(DeviceNumber {
            major: random.below(4096) as u32,
            minor: random.below(1 << 20) as u32,
        }),
        7 => Kind::BlockDevice(DeviceNumber {
            major: 8,
            minor: random.below(16) as u32,
        }),
        8 => Kind::Fifo,
        9 => Kind::Socket,
        _ => {
            let around = [0, 64, 2560, 4032, 4096, 6656, 8192, 65_536, 1 << 20];
            let len = around[random.below(9)] + random.below(66);
            let len = len.saturating_sub(33);
            // A few contents again and again, so that some are shared.
            let seed = if random.below(3) == 0 {
                random.within(4)
            } else {
                random.next_u64()
            };
            let data = Random::from_seed(seed).bytes(len);
            Kind::File(spool.store(&data).expect("store"))
        }
    }
}

fn name(random: &mut Random) -> Vec<u8> {
    let len = match random.below(10) {
        0 => 255,
        1 => 1,
        _ => 1 + random.below(30),
    };
    let name: Vec<u8> = random
        .bytes(len)
        .into_iter()
        .map(|byte| {
            if byte == 0 || byte == b'/' {
                b'!'
            } else {
                byte
            }
        })
        .collect();
    if name == b"." || name == b".." {
        b"-".to_vec()
    } else {
        name
    }
}

fn metadata(random: &mut Random) -> Metadata {
    let mut xattrs = BTreeMap::new();
    if random.below(3) == 0 {
        xattrs.insert(
            b"trusted.common".to_vec(),
            b"the same value everywhere".to_vec(),
        );
    }
    if random.below(4) == 0 {
        for n in 0..random.below(5) {
            let len = [0, 1, 3, 40, 5000][random.below(5)];
            xattrs.insert(format!("trusted.own.{n}").into_bytes(), random.bytes(len));
        }
    }
    Metadata {
        mode: random.below(0o10000) as u16,
        uid: [0, 1000, 65_536, 4_000_000_000][random.below(4)],
        gid: [0, 100, 70_000][random.below(3)],
        mtime: random.below(4_000_000_000) as i64,
        mtime_nsec: random.below(1_000_000_000) as u32,
        xattrs,
    }
}

/// Compares the attributes and link counts under the mount `at` with `tree`.
pub(crate) fn assert_attributes_and_links(tree: &Tree, at: &Path) {
    let mut names: HashMap<NodeId, u64> = HashMap::new();
    let mut pending = vec![(at.to_owned(), tree.root())];
    let mut all = Vec::new();
    while let Some((path, id)) = pending.pop() {
        *names.entry(id).or_default() += 1;
        if let Some(entries) = tree.entries(id) {
            for (name, child) in entries {
                pending.push((path.join(std::ffi::OsStr::from_bytes(name)), *child));
            }
        }
        all.push((path, id));
    }
    for (path, id) in all {
        let links = match tree.entries(id) {
            None => names[&id],
            Some(entries) => {
                2 + entries
                    .values()
                    .filter(|c| tree.entries(**c).is_some())
                    .count() as u64
            }
        };
        let stat = std::fs::symlink_metadata(&path).expect("lstat");
        assert_eq!(stat.nlink(), links, "links of {path:?}");
        for (name, value) in &tree.node(id).metadata.xattrs {
            let name = String::from_utf8_lossy(name);
            let mut found = vec![0; value.len() + 1];
            let len = rustix::fs::lgetxattr(&path, &*name, &mut found[..])
                .unwrap_or_else(|error| panic!("{name} of {path:?}: {error}"));
            assert!(
                found[..len] == *value,
                "{name} of {path:?} has another value"
            );
        }
    }
}
