//! Looking things up in an image's tree as a process with that root would: symbolic links are
//! followed and never leave it.

use berth_tree::{Kind, NodeId, Tree};

/// Most symbolic links that one path may go through (as in the kernel).
const MAX_LINKS: usize = 40;

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A node that is not a symbolic link.
    Node(NodeId),
    /// Nothing; what the path is without links, and how many of its parts exist.
    Missing {
        /// The last directory that exists.
        parent: NodeId,
        /// The names below it that do not.
        rest: Vec<Vec<u8>>,
    },
    /// A part of the path is neither a directory nor a link.
    NotADirectory,
    /// Links that lead to each other.
    TooManyLinks,
}

/// Follows `path` from the tree's root.
pub(super) fn find(tree: &Tree, path: &str) -> Found {
    let mut links = 0;
    // Parts still to go, the next one last.
    let mut open: Vec<Vec<u8>> = reversed_parts(path.as_bytes());
    let mut trail = vec![tree.root()];
    while let Some(name) = open.pop() {
        let at = *trail.last().unwrap_or(&tree.root());
        if name == b".." {
            if trail.len() > 1 {
                trail.pop();
            }
            continue;
        }
        if tree.entries(at).is_none() {
            return Found::NotADirectory;
        }
        let Some(next) = tree.child(at, &name) else {
            open.push(name);
            open.reverse();
            return if open.iter().any(|part| part == b"..") {
                Found::NotADirectory
            } else {
                Found::Missing {
                    parent: at,
                    rest: open,
                }
            };
        };
        let Kind::Symlink(target) = &tree.node(next).kind else {
            trail.push(next);
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return Found::TooManyLinks;
        }
        if target.starts_with(b"/") {
            trail.truncate(1);
        }
        open.extend(reversed_parts(target));
    }
    Found::Node(*trail.last().unwrap_or(&tree.root()))
}

fn reversed_parts(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .rev()
        .map(<[u8]>::to_vec)
        .collect()
}
