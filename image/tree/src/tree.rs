//! Nodes, names and paths. A node may have several names (hard links).
//!
//! Paths are bytes, split on `/`; `.` and empty parts are skipped, `..` is refused everywhere:
//! whoever accepts foreign paths decides what they mean before they come here.

use std::collections::BTreeMap;

use crate::spool::Content;

/// The index of a node in its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    /// The index as a number: nodes are counted from 0, the root, in the order of their making.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Most symbolic links followed for one path, as in Linux.
const MAX_SYMLINKS: usize = 40;

/// Owner, permissions, time and extended attributes of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits with set-id and sticky bits (07777).
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds since 1970.
    pub mtime: i64,
    /// Nanoseconds of the modification time.
    pub mtime_nsec: u32,
    /// Extended attributes by full name (`security.capability`).
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Metadata {
    /// Metadata of something that Berth itself puts into an image: root's, dated 1970.
    #[must_use]
    pub fn system(mode: u16) -> Self {
        Self {
            mode,
            uid: 0,
            gid: 0,
            mtime: 0,
            mtime_nsec: 0,
            xattrs: BTreeMap::new(),
        }
    }
}

/// Major and minor number of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceNumber {
    /// Major number, at most 4095.
    pub major: u32,
    /// Minor number, at most 1048575.
    pub minor: u32,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory: names in byte order.
    Directory(BTreeMap<Vec<u8>, NodeId>),
    /// A regular file.
    File(Content),
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// One inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Owner, permissions, time, attributes.
    pub metadata: Metadata,
    /// What it is.
    pub kind: Kind,
}

/// Why a path could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `..` has no meaning in a tree.
    #[error("path {0:?} contains '..'")]
    ParentComponent(String),
    /// A parent is not there.
    #[error("path {0:?}: a parent directory does not exist")]
    MissingParent(String),
    /// A parent is a file or a link.
    #[error("path {0:?}: a parent is not a directory")]
    NotADirectory(String),
    /// A name longer than Linux allows (255 bytes).
    #[error("path {0:?}: a name is longer than 255 bytes")]
    NameTooLong(String),
    /// Symbolic links lead in a circle.
    #[error("path {0:?}: more than 40 symbolic links; they lead in a circle")]
    SymlinkLoop(String),
    /// The root itself cannot be replaced or removed.
    #[error("the root directory cannot be replaced or removed")]
    IsRoot,
}

/// A whole file system tree.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// A tree with an empty root directory.
    #[must_use]
    pub fn new(root: Metadata) -> Self {
        Self {
            nodes: vec![Node {
                metadata: root,
                kind: Kind::Directory(BTreeMap::new()),
            }],
        }
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> NodeId {
        NodeId(0)
    }

    /// A node by its index.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// A node by its index, to be changed.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// The directory `id`'s entries; `None` when it is not a directory.
    #[must_use]
    pub fn entries(&self, id: NodeId) -> Option<&BTreeMap<Vec<u8>, NodeId>> {
        match &self.node(id).kind {
            Kind::Directory(entries) => Some(entries),
            _ => None,
        }
    }

    /// The node called `name` in directory `parent`.
    #[must_use]
    pub fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        self.entries(parent)?.get(name).copied()
    }

    /// Looks a path up without following symbolic links.
    #[must_use]
    pub fn lookup(&self, path: &[u8]) -> Option<NodeId> {
        split(path)
            .ok()?
            .into_iter()
            .try_fold(self.root(), |at, name| self.child(at, name))
    }

    /// Looks a path up as a process whose root this tree is would: symbolic links are followed,
    /// `..` goes up and stays at the root. `None` when nothing is there.
    ///
    /// # Errors
    /// When links lead in a circle, or a parent is not a directory.
    pub fn resolve(&self, path: &[u8]) -> Result<Option<NodeId>, PathError> {
        let mut above: Vec<NodeId> = Vec::new();
        let mut at = self.root();
        let mut links = 0;
        let mut rest: Vec<Vec<u8>> = components(path);
        while let Some(name) = rest.pop() {
            if self.entries(at).is_none() {
                return Err(PathError::NotADirectory(lossy(path)));
            }
            if name == b".." {
                at = above.pop().unwrap_or(at);
                continue;
            }
            let Some(next) = self.child(at, &name) else {
                return Ok(None);
            };
            let Kind::Symlink(target) = &self.node(next).kind else {
                above.push(at);
                at = next;
                continue;
            };
            links += 1;
            if links > MAX_SYMLINKS {
                return Err(PathError::SymlinkLoop(lossy(path)));
            }
            if target.starts_with(b"/") {
                above.clear();
                at = self.root();
            }
            rest.extend(components(target));
        }
        Ok(Some(at))
    }

    /// Puts `node` at `path`, replacing what has that name. The parent must be there.
    ///
    /// # Errors
    /// When the path cannot be used.
    pub fn insert(&mut self, path: &[u8], node: Node) -> Result<NodeId, PathError> {
        let (parent, name) = self.parent_of(path)?;
        Ok(self.insert_in(parent, &name, node))
    }

    /// Puts `node` into directory `parent` under `name`, replacing what has that name.
    /// `parent` must be a directory.
    pub fn insert_in(&mut self, parent: NodeId, name: &[u8], node: Node) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(node);
        self.link_in(parent, name, id);
        id
    }

    /// Gives the node `id` one more name (a hard link).
    pub fn link_in(&mut self, parent: NodeId, name: &[u8], id: NodeId) {
        if let Kind::Directory(entries) = &mut self.node_mut(parent).kind {
            entries.insert(name.to_vec(), id);
        }
    }

    /// Takes a name away; whether it was there.
    pub fn unlink_in(&mut self, parent: NodeId, name: &[u8]) -> bool {
        match &mut self.node_mut(parent).kind {
            Kind::Directory(entries) => entries.remove(name).is_some(),
            _ => false,
        }
    }

    /// Makes `path` and its parents directories where they are missing, with `metadata`.
    ///
    /// # Errors
    /// When a part of the path is something else.
    pub fn create_dirs(&mut self, path: &[u8], metadata: &Metadata) -> Result<NodeId, PathError> {
        let mut at = self.root();
        for name in split(path)? {
            at = match self.child(at, name) {
                Some(next) if self.entries(next).is_some() => next,
                Some(_) => return Err(PathError::NotADirectory(lossy(path))),
                None => self.insert_in(
                    at,
                    name,
                    Node {
                        metadata: metadata.clone(),
                        kind: Kind::Directory(BTreeMap::new()),
                    },
                ),
            };
        }
        Ok(at)
    }

    /// Moves the whole of `other` into the directory `path`, which must exist: its entries, and
    /// its root's metadata.
    ///
    /// # Errors
    /// When `path` is not a directory here.
    pub fn graft(&mut self, path: &[u8], other: Tree) -> Result<(), PathError> {
        let at = self
            .lookup(path)
            .ok_or_else(|| PathError::MissingParent(lossy(path)))?;
        if self.entries(at).is_none() {
            return Err(PathError::NotADirectory(lossy(path)));
        }
        let base = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        for (index, mut node) in other.nodes.into_iter().enumerate() {
            if let Kind::Directory(entries) = &mut node.kind {
                for id in entries.values_mut() {
                    id.0 = id.0.saturating_add(base);
                }
            }
            if index == 0 {
                *self.node_mut(at) = node.clone();
            }
            self.nodes.push(node);
        }
        Ok(())
    }

    fn parent_of(&self, path: &[u8]) -> Result<(NodeId, Vec<u8>), PathError> {
        let parts = split(path)?;
        let Some((name, parents)) = parts.split_last() else {
            return Err(PathError::IsRoot);
        };
        let mut at = self.root();
        for part in parents {
            at = self
                .child(at, part)
                .ok_or_else(|| PathError::MissingParent(lossy(path)))?;
        }
        if self.entries(at).is_none() {
            return Err(PathError::NotADirectory(lossy(path)));
        }
        Ok((at, name.to_vec()))
    }
}

/// The parts of a path, last one first; `..` is kept.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !matches!(*part, b"" | b"."))
        .rev()
        .map(<[u8]>::to_vec)
        .collect()
}

fn split(path: &[u8]) -> Result<Vec<&[u8]>, PathError> {
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(PathError::ParentComponent(lossy(path))),
            part if part.len() > 255 => return Err(PathError::NameTooLong(lossy(path))),
            part => parts.push(part),
        }
    }
    Ok(parts)
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> Node {
        Node {
            metadata: Metadata::system(0o755),
            kind: Kind::Directory(BTreeMap::new()),
        }
    }

    #[test]
    fn hard_links_share_a_node_and_survive_the_first_name() {
        let mut tree = Tree::new(Metadata::system(0o755));
        let file = tree
            .insert(
                b"/a",
                Node {
                    metadata: Metadata::system(0o644),
                    kind: Kind::Fifo,
                },
            )
            .expect("insert");
        tree.link_in(tree.root(), b"b", file);
        assert!(tree.unlink_in(tree.root(), b"a"));
        assert_eq!(tree.lookup(b"b"), Some(file));
        assert_eq!(tree.lookup(b"a"), None);
    }

    #[test]
    fn paths_that_leave_the_tree_are_refused() {
        let mut tree = Tree::new(Metadata::system(0o755));
        assert!(matches!(
            tree.insert(b"../x", dir()),
            Err(PathError::ParentComponent(_))
        ));
        assert!(matches!(
            tree.insert(b"no/x", dir()),
            Err(PathError::MissingParent(_))
        ));
        assert_eq!(tree.insert(b"/", dir()), Err(PathError::IsRoot));
        tree.insert(
            b"f",
            Node {
                metadata: Metadata::system(0o644),
                kind: Kind::Fifo,
            },
        )
        .expect("f");
        assert!(matches!(
            tree.insert(b"f/x", dir()),
            Err(PathError::NotADirectory(_))
        ));
    }

    #[test]
    fn links_are_followed_inside_the_tree_only() {
        let link = |target: &[u8]| Node {
            metadata: Metadata::system(0o777),
            kind: Kind::Symlink(target.to_vec()),
        };
        let mut tree = Tree::new(Metadata::system(0o755));
        let file = tree.create_dirs(b"usr/lib", &Metadata::system(0o755));
        let file = tree.insert_in(
            file.expect("dirs"),
            b"passwd",
            Node {
                metadata: Metadata::system(0o644),
                kind: Kind::Fifo,
            },
        );
        for (path, target) in [
            (&b"etc"[..], &b"../../../usr/./lib"[..]),
            (b"abs", b"/etc/passwd"),
            (b"a", b"b"),
            (b"b", b"a"),
            (b"dangling", b"nowhere/at/all"),
        ] {
            tree.insert(path, link(target)).expect("link");
        }
        assert_eq!(tree.resolve(b"/etc/passwd"), Ok(Some(file)));
        assert_eq!(tree.resolve(b"abs"), Ok(Some(file)));
        assert_eq!(tree.resolve(b"usr/../../etc/passwd"), Ok(Some(file)));
        assert_eq!(tree.resolve(b"dangling"), Ok(None));
        assert!(matches!(tree.resolve(b"a"), Err(PathError::SymlinkLoop(_))));
        assert!(matches!(
            tree.resolve(b"abs/x"),
            Err(PathError::NotADirectory(_))
        ));
    }

    #[test]
    fn a_grafted_tree_keeps_its_links() {
        let mut inner = Tree::new(Metadata::system(0o711));
        let file = inner
            .insert(
                b"a",
                Node {
                    metadata: Metadata::system(0o600),
                    kind: Kind::Fifo,
                },
            )
            .expect("a");
        inner.link_in(inner.root(), b"b", file);
        let mut outer = Tree::new(Metadata::system(0o755));
        outer
            .create_dirs(b"images/x", &Metadata::system(0o755))
            .expect("dirs");
        outer.graft(b"images/x", inner).expect("graft");
        assert_eq!(outer.lookup(b"images/x/a"), outer.lookup(b"images/x/b"));
        let top = outer.lookup(b"images/x").expect("x");
        assert_eq!(outer.node(top).metadata.mode, 0o711);
    }
}
