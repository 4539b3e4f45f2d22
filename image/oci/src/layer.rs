//! Applying layers to a tree: OCI image specification, "Image Layer Filesystem Changeset".
//!
//! Nothing here touches the host's file system: names only ever lead from node to node of the
//! tree, so there is no outside to escape to. Still, `..` and absolute names are refused, since
//! nobody who means well writes them; an absolute *target* of a hard link is taken from the
//! image's root, as container engines do.

mod entries;
mod stream;
mod walk;

pub(crate) use stream::{Blob, Compression, check};

use std::collections::HashSet;

use berth_tree::{Metadata, NodeId, Spool, Tree};

use crate::limits::Limits;

/// Which layer the nodes of a tree came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attribution(Vec<u16>);

impl Attribution {
    /// The layer, from 0, of a node of the tree that this came with (before it is grafted
    /// elsewhere).
    #[must_use]
    pub fn layer_of(&self, node: NodeId) -> usize {
        self.0
            .get(node.index())
            .map_or(0, |layer| usize::from(*layer))
    }
}

/// A tree under construction.
pub(crate) struct Applier<'a> {
    tree: Tree,
    spool: &'a mut Spool,
    limits: &'a Limits,
    /// The layer being applied, from 0.
    layer: u16,
    made_by: Attribution,
    /// Names that the layer being applied has set: whiteouts only hide what is below.
    upper: HashSet<(NodeId, Vec<u8>)>,
    entries: u64,
    unpacked: u64,
}

/// What one layer held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Entries of its tar file.
    pub(crate) entries: u64,
    /// Bytes of its tar file.
    pub(crate) tar_bytes: u64,
    /// Bytes of its files.
    pub(crate) file_bytes: u64,
}

impl<'a> Applier<'a> {
    pub(crate) fn new(spool: &'a mut Spool, limits: &'a Limits) -> Self {
        Self {
            tree: Tree::new(Metadata::system(0o755)),
            spool,
            limits,
            layer: 0,
            made_by: Attribution(vec![0]),
            upper: HashSet::new(),
            entries: 0,
            unpacked: 0,
        }
    }

    pub(crate) fn finish(self) -> (Tree, Attribution) {
        (self.tree, self.made_by)
    }
}
