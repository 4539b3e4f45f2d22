//! Finding an entry's parent in the tree, through symbolic links of lower layers, as a process
//! inside the image would.

use std::collections::BTreeMap;

use berth_tree::{Kind, Metadata, Node, NodeId};

use super::Applier;
use crate::limits::Limits;

/// Why a path leads nowhere.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathProblem {
    #[error(
        "the name is absolute; names in a layer are relative to the image's root: make the image with a tool that writes them so"
    )]
    Absolute,
    #[error("the name contains '..', which could lead out of the image; it is refused")]
    Parent,
    #[error("the name is empty or contains NUL")]
    NotAName,
    #[error("a part of the name is longer than 255 bytes, which no Linux file system holds")]
    NameTooLong,
    #[error("the name is longer than {0} bytes, which Linux cannot open")]
    PathTooLong(usize),
    #[error("directories are nested deeper than {0}")]
    TooDeep(usize),
    #[error("a parent directory is reached by more than {0} symbolic links; they lead in a circle")]
    SymlinkLoop(usize),
    #[error("its parent {0} is a file, not a directory; the layers do not fit together")]
    ParentNotADirectory(String),
}

/// An entry's name, split; empty for the root itself.
pub(super) fn parts<'p>(path: &'p [u8], limits: &Limits) -> Result<Vec<&'p [u8]>, PathProblem> {
    // kaniko names the root "/".
    if path == b"/" {
        return Ok(Vec::new());
    }
    if path.is_empty() || path.contains(&0) {
        return Err(PathProblem::NotAName);
    }
    if path.starts_with(b"/") {
        return Err(PathProblem::Absolute);
    }
    relative_parts(path, limits)
}

/// The same for what may start with a slash, and then starts at the root.
pub(super) fn relative_parts<'p>(
    path: &'p [u8],
    limits: &Limits,
) -> Result<Vec<&'p [u8]>, PathProblem> {
    if path.len() > limits.path_bytes {
        return Err(PathProblem::PathTooLong(limits.path_bytes));
    }
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(PathProblem::Parent),
            part if part.len() > 255 => return Err(PathProblem::NameTooLong),
            part => parts.push(part),
        }
    }
    Ok(parts)
}

/// What happens to directories that are missing on the way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// They are made: root's, 0755.
    Make,
    /// The walk ends with nothing.
    Stop,
}

impl Applier<'_> {
    /// The directory that `parents` leads to. With [`Missing::Make`], the directories on the way
    /// count as set by the current layer.
    pub(super) fn directory(
        &mut self,
        parents: &[&[u8]],
        missing: Missing,
    ) -> Result<Option<NodeId>, PathProblem> {
        // Directories from the root down to here, and names still to walk, next one last.
        let mut above: Vec<NodeId> = Vec::new();
        let mut at = self.tree.root();
        let mut rest: Vec<Vec<u8>> = parents.iter().rev().map(|part| part.to_vec()).collect();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == b".." {
                at = above.pop().unwrap_or(at);
                continue;
            }
            if above.len() >= self.limits.depth {
                return Err(PathProblem::TooDeep(self.limits.depth));
            }
            let next = match self.tree.child(at, &name) {
                Some(next) => next,
                None if missing == Missing::Stop => return Ok(None),
                None if name.len() > 255 => return Err(PathProblem::NameTooLong),
                None => self.put(at, &name, empty_directory(Metadata::system(0o755))),
            };
            match &self.tree.node(next).kind {
                Kind::Directory(_) => {
                    if missing == Missing::Make {
                        self.mark(at, &name);
                    }
                    above.push(at);
                    at = next;
                }
                Kind::Symlink(target) => {
                    links += 1;
                    if links > self.limits.symlinks {
                        return Err(PathProblem::SymlinkLoop(self.limits.symlinks));
                    }
                    if target.starts_with(b"/") {
                        above.clear();
                        at = self.tree.root();
                    }
                    let target = target.split(|byte| *byte == b'/').rev();
                    rest.extend(
                        target
                            .filter(|part| !matches!(*part, b"" | b"."))
                            .map(<[u8]>::to_vec),
                    );
                }
                _ if missing == Missing::Stop => return Ok(None),
                _ => {
                    return Err(PathProblem::ParentNotADirectory(crate::error::printable(
                        &parents.join(&b'/'),
                    )));
                }
            }
        }
        Ok(Some(at))
    }

    /// Puts a node of the current layer under a name, replacing what has it.
    pub(super) fn put(&mut self, parent: NodeId, name: &[u8], node: Node) -> NodeId {
        let id = self.tree.insert_in(parent, name, node);
        self.made_by.0.resize(id.index() + 1, self.layer);
        self.mark(parent, name);
        id
    }

    /// Notes that the current layer has set a name.
    pub(super) fn mark(&mut self, parent: NodeId, name: &[u8]) {
        // The lowest layer has nothing below to hide.
        if self.layer > 0 {
            self.upper.insert((parent, name.to_vec()));
        }
    }

    /// Whiteout: takes away `name`, except what the current layer itself has put there.
    pub(super) fn hide(&mut self, parent: NodeId, name: &[u8]) {
        if !self.is_upper(parent, name) {
            self.tree.unlink_in(parent, name);
            return;
        }
        if let Some(child) = self.tree.child(parent, name) {
            self.hide_all(child);
        }
    }

    /// Opaque whiteout: the same for all entries of a directory.
    pub(super) fn hide_all(&mut self, directory: NodeId) {
        let mut waiting = vec![directory];
        while let Some(directory) = waiting.pop() {
            let names: Vec<(Vec<u8>, NodeId)> = match self.tree.entries(directory) {
                Some(entries) => entries.iter().map(|(n, id)| (n.clone(), *id)).collect(),
                None => continue,
            };
            for (name, child) in names {
                match self.is_upper(directory, &name) {
                    true => waiting.push(child),
                    false => drop(self.tree.unlink_in(directory, &name)),
                }
            }
        }
    }

    fn is_upper(&self, parent: NodeId, name: &[u8]) -> bool {
        self.upper.contains(&(parent, name.to_vec()))
    }
}

pub(super) fn empty_directory(metadata: Metadata) -> Node {
    Node {
        metadata,
        kind: Kind::Directory(BTreeMap::new()),
    }
}
