//! Trees as lists of lines, so that two can be compared and differences read.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use berth_oci::Digest;
use berth_tree::{Kind, NodeId, Spool, Tree};

/// One line for each name: type, mode, owner, and content or target.
pub(crate) fn of_tree(tree: &Tree, spool: &Spool) -> BTreeMap<String, String> {
    fn walk(
        tree: &Tree,
        spool: &Spool,
        at: NodeId,
        name: &str,
        out: &mut BTreeMap<String, String>,
    ) {
        let node = tree.node(at);
        let m = &node.metadata;
        let what = match &node.kind {
            Kind::Directory(_) => "dir".to_owned(),
            Kind::File(content) => file(&spool.read(content).expect("read")),
            Kind::Symlink(target) => format!("link {}", String::from_utf8_lossy(target)),
            Kind::CharDevice(d) => format!("char {}:{}", d.major, d.minor),
            Kind::BlockDevice(d) => format!("block {}:{}", d.major, d.minor),
            Kind::Fifo => "fifo".to_owned(),
            Kind::Socket => "socket".to_owned(),
        };
        let time = match &node.kind {
            Kind::Directory(_) => String::new(),
            _ => format!(" {}", m.mtime),
        };
        out.insert(
            name.to_owned(),
            format!("{what} {:o} {}:{}{time}", m.mode, m.uid, m.gid),
        );
        for (child, id) in tree.entries(at).into_iter().flatten() {
            let child = format!("{name}/{}", String::from_utf8_lossy(child));
            walk(tree, spool, *id, &child, out);
        }
    }
    let mut out = BTreeMap::new();
    walk(tree, spool, tree.root(), "", &mut out);
    out.remove("");
    out
}

fn file(bytes: &[u8]) -> String {
    format!("file {}", Digest::of(bytes))
}

/// The same for a directory on disk.
pub(crate) fn of_disk(root: &Path) -> BTreeMap<String, String> {
    fn walk(at: &Path, name: &str, out: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(at).expect("read dir") {
            let entry = entry.expect("entry");
            let m = entry.path().symlink_metadata().expect("metadata");
            let name = format!("{name}/{}", entry.file_name().to_string_lossy());
            let (what, time) = if m.is_dir() {
                walk(&entry.path(), &name, out);
                ("dir".to_owned(), String::new())
            } else if m.is_symlink() {
                let target = fs::read_link(entry.path()).expect("link");
                (
                    format!("link {}", target.display()),
                    format!(" {}", m.mtime()),
                )
            } else if m.is_file() {
                let bytes = fs::read(entry.path()).expect("read");
                (file(&bytes), format!(" {}", m.mtime()))
            } else {
                let (major, minor) = (
                    (m.rdev() >> 8) & 0xfff,
                    (m.rdev() & 0xff) | ((m.rdev() >> 12) & 0xfff00),
                );
                let kind = match m.mode() & 0o170_000 {
                    0o020_000 => format!("char {major}:{minor}"),
                    0o060_000 => format!("block {major}:{minor}"),
                    0o010_000 => "fifo".to_owned(),
                    _ => "socket".to_owned(),
                };
                (kind, format!(" {}", m.mtime()))
            };
            out.insert(
                name,
                format!(
                    "{what} {:o} {}:{}{time}",
                    m.mode() & 0o7777,
                    m.uid(),
                    m.gid()
                ),
            );
        }
    }
    let mut out = BTreeMap::new();
    walk(root, "", &mut out);
    out
}

pub(crate) fn assert_same(ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>) {
    let differing: Vec<_> = ours
        .keys()
        .chain(theirs.keys())
        .filter(|name| ours.get(*name) != theirs.get(*name))
        .map(|name| format!("{name}: {:?} / {:?}", ours.get(name), theirs.get(name)))
        .collect();
    assert!(
        differing.is_empty(),
        "ours / theirs:\n{}",
        differing.join("\n")
    );
}
