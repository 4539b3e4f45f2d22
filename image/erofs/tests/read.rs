//! What was written is read back, and a damaged image is refused or read, and nothing else.

mod forest;

use std::collections::BTreeMap;

use berth_chance::Random;
use berth_erofs::{Entry, Options, entries, write};
use berth_tree::{Kind, Metadata, Spool, Tree};
use forest::random_tree;

fn spool() -> Spool {
    Spool::new_in(&std::env::temp_dir()).expect("spool")
}

fn image(tree: &Tree, spool: &Spool) -> Vec<u8> {
    let mut image = Vec::new();
    write(tree, spool, &mut image, &Options::default()).expect("write");
    image
}

/// Every path of a tree, and what the reader should say about it.
fn expected(tree: &Tree, spool: &Spool) -> BTreeMap<Vec<u8>, (u16, Metadata, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut open = vec![(b"/".to_vec(), tree.root())];
    while let Some((path, id)) = open.pop() {
        let node = tree.node(id);
        let (kind, data) = match &node.kind {
            Kind::Directory(entries) => {
                for (name, child) in entries {
                    let slash: &[u8] = if path.len() > 1 { b"/" } else { b"" };
                    open.push(([&path, slash, name].concat(), *child));
                }
                (0o040_000, Vec::new())
            }
            Kind::File(content) => (0o100_000, spool.read(content).expect("data")),
            Kind::Symlink(target) => (0o120_000, target.clone()),
            Kind::CharDevice(_) => (0o020_000, Vec::new()),
            Kind::BlockDevice(_) => (0o060_000, Vec::new()),
            Kind::Fifo => (0o010_000, Vec::new()),
            Kind::Socket => (0o140_000, Vec::new()),
        };
        found.insert(path, (kind, node.metadata.clone(), data));
    }
    found
}

#[test]
fn every_path_is_read_back_with_its_owner_attributes_and_bytes() {
    for seed in 0..20 {
        let mut random = Random::from_seed(seed);
        let mut spool = spool();
        let tree = random_tree(&mut random, &mut spool);
        let image = image(&tree, &spool);
        let read = entries(&image).expect("our image");
        let expected = expected(&tree, &spool);
        assert!(read.keys().eq(expected.keys()), "seed {seed}");
        for (path, (kind, metadata, data)) in expected {
            let Entry {
                mode,
                uid,
                gid,
                xattrs,
                data: found,
                ..
            } = &read[&path];
            let shown = String::from_utf8_lossy(&path);
            assert_eq!(mode & 0o170_000, kind, "seed {seed}: {shown}");
            if kind != 0o120_000 {
                assert_eq!(mode & 0o7777, metadata.mode, "seed {seed}: {shown}");
            }
            assert_eq!((*uid, *gid), (metadata.uid, metadata.gid), "{shown}");
            assert_eq!(*xattrs, metadata.xattrs, "seed {seed}: {shown}");
            if kind != 0o040_000 {
                assert!(found.concat() == data, "seed {seed}: {shown}");
            }
        }
    }
}

#[test]
fn damage_ends_in_a_sentence_and_never_in_a_circle() {
    let mut random = Random::from_seed(7);
    let mut spool = spool();
    let tree = random_tree(&mut random, &mut spool);
    let whole = image(&tree, &spool);
    assert!(entries(&[]).is_err());
    for _ in 0..200 {
        let mut damaged = whole.clone();
        for _ in 0..1 + random.below(4) {
            let at = random.below(damaged.len());
            damaged[at] = random.below(256) as u8;
        }
        if random.below(4) == 0 {
            damaged.truncate(random.below(damaged.len()));
        }
        if let Err(why) = entries(&damaged) {
            assert!(!why.to_string().is_empty());
        }
    }
}
