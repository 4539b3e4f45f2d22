//! One entry of a layer onto the tree: what it replaces, what it merges with, what it hides.

use std::io::Read;

use berth_tree::{DeviceNumber, Kind as NodeKind, Metadata, Node, NodeId, StoreError};

use super::Applier;
use super::walk::{Missing, PathProblem, empty_directory, parts, relative_parts};
use crate::error::printable;
use crate::tar::{Entry, Kind, Reader, TarError};

/// Why an entry cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error(transparent)]
    Path(#[from] PathProblem),
    #[error("{0}")]
    Tar(#[from] TarError),
    #[error("its data cannot be read: {0}")]
    Data(std::io::Error),
    /// No fault of the entry's.
    #[error("its data cannot be stored: {0}")]
    Spool(std::io::Error),
    #[error("hard link to {0}, which is not in the image; the layers do not fit together")]
    MissingTarget(String),
    #[error("hard link to the directory {0}")]
    DirectoryTarget(String),
    #[error("hard link to {target}: {why}")]
    Target { target: String, why: PathProblem },
    #[error("device number {major}:{minor} is out of range (4095:1048575)")]
    DeviceNumber { major: u32, minor: u32 },
    #[error("the symbolic link's target is empty, contains NUL, or is longer than Linux allows")]
    SymlinkTarget,
    #[error("{0} after the whiteout prefix .wh. is not a name")]
    Whiteout(String),
    #[error("its type {0:?} has no meaning in an image; make the image with a current tool")]
    Type(char),
    #[error("the root of an image must be a directory")]
    RootNotADirectory,
    #[error("the image has more than {0} entries; if that is meant, raise the limit")]
    TooManyEntries(u64),
    #[error("the image unpacks to more than {0} bytes; if that is meant, raise the limit")]
    TooManyBytes(u64),
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Read(source) => Self::Data(source),
            StoreError::Write(source) => Self::Spool(source),
        }
    }
}

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Names that aufs kept for itself.
const AUFS: &[u8] = b".wh..wh.";

impl Applier<'_> {
    /// Applies one entry; returns the bytes of its file.
    pub(super) fn entry<R: Read>(
        &mut self,
        entry: Entry,
        reader: &mut Reader<'_, R>,
    ) -> Result<u64, Problem> {
        self.count(entry.size)?;
        let parts = parts(&entry.path, self.limits)?;
        let Some((name, parents)) = parts.split_last() else {
            return self.root(entry).map(|()| 0);
        };
        if name.starts_with(WHITEOUT) {
            return self.whiteout(parents, name).map(|()| 0);
        }
        let found = self.directory(parents, Missing::Make)?;
        let parent = found.unwrap_or(self.tree.root());
        let mut metadata = entry.metadata;
        // What an overlay mount of the image's maker left behind would steer ours.
        metadata.xattrs.retain(|name, _| {
            !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay.")
        });
        let kind = match entry.kind {
            Kind::Directory => return self.make_directory(parent, name, metadata).map(|()| 0),
            Kind::HardLink(target) => return self.hard_link(parent, name, &target).map(|()| 0),
            Kind::File => NodeKind::File(self.spool.store_from(&mut reader.data())?),
            Kind::Symlink(target) => NodeKind::Symlink(self.symlink_target(target)?),
            Kind::CharDevice { major, minor } => NodeKind::CharDevice(device(major, minor)?),
            Kind::BlockDevice { major, minor } => NodeKind::BlockDevice(device(major, minor)?),
            Kind::Fifo => NodeKind::Fifo,
            Kind::Unknown(flag) => return Err(Problem::Type(char::from(flag))),
        };
        let bytes = match &kind {
            NodeKind::File(content) => content.len,
            _ => 0,
        };
        self.put(parent, name, Node { metadata, kind });
        Ok(bytes)
    }

    fn count(&mut self, size: u64) -> Result<(), Problem> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Problem::TooManyEntries(self.limits.entries));
        }
        // Holes count: they are written out.
        self.unpacked = self.unpacked.saturating_add(size);
        if self.unpacked > self.limits.unpacked_bytes {
            return Err(Problem::TooManyBytes(self.limits.unpacked_bytes));
        }
        Ok(())
    }

    fn root(&mut self, entry: Entry) -> Result<(), Problem> {
        if entry.kind != Kind::Directory {
            return Err(Problem::RootNotADirectory);
        }
        let root = self.tree.root();
        self.tree.node_mut(root).metadata = entry.metadata;
        self.set_layer(root);
        Ok(())
    }

    fn whiteout(&mut self, parents: &[&[u8]], name: &[u8]) -> Result<(), Problem> {
        if name != OPAQUE && name.starts_with(AUFS) {
            return Ok(());
        }
        let hidden = name.get(WHITEOUT.len()..).unwrap_or_default();
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Problem::Whiteout(printable(hidden)));
        }
        // Only what is below is hidden, and below the lowest layer is nothing.
        if self.layer == 0 {
            return Ok(());
        }
        let Some(parent) = self.directory(parents, Missing::Stop)? else {
            return Ok(());
        };
        match name == OPAQUE {
            true => self.hide_all(parent),
            false => self.hide(parent, hidden),
        }
        Ok(())
    }

    /// A directory keeps what it holds and takes the new metadata; anything else is replaced.
    fn make_directory(
        &mut self,
        parent: NodeId,
        name: &[u8],
        metadata: Metadata,
    ) -> Result<(), Problem> {
        match self.tree.child(parent, name) {
            Some(existing) if self.tree.entries(existing).is_some() => {
                self.tree.node_mut(existing).metadata = metadata;
                self.set_layer(existing);
                self.mark(parent, name);
            }
            _ => drop(self.put(parent, name, empty_directory(metadata))),
        }
        Ok(())
    }

    /// Owner, mode and times of a link's own header are not used: they belong to the file, which
    /// has its own.
    fn hard_link(&mut self, parent: NodeId, name: &[u8], target: &[u8]) -> Result<(), Problem> {
        let shown = || printable(target);
        let bad = |why| Problem::Target {
            target: shown(),
            why,
        };
        let parts = relative_parts(target, self.limits).map_err(bad)?;
        let (last, parents) = parts
            .split_last()
            .ok_or_else(|| Problem::DirectoryTarget(shown()))?;
        let directory = self.directory(parents, Missing::Stop).map_err(bad)?;
        let found = directory.and_then(|directory| self.tree.child(directory, last));
        let found = found.ok_or_else(|| Problem::MissingTarget(shown()))?;
        if self.tree.entries(found).is_some() {
            return Err(Problem::DirectoryTarget(shown()));
        }
        self.tree.link_in(parent, name, found);
        self.mark(parent, name);
        Ok(())
    }

    fn symlink_target(&self, target: Vec<u8>) -> Result<Vec<u8>, Problem> {
        match target.is_empty() || target.contains(&0) || target.len() >= self.limits.path_bytes {
            true => Err(Problem::SymlinkTarget),
            false => Ok(target),
        }
    }

    fn set_layer(&mut self, node: NodeId) {
        if let Some(layer) = self.made_by.0.get_mut(node.index()) {
            *layer = self.layer;
        }
    }
}

fn device(major: u32, minor: u32) -> Result<DeviceNumber, Problem> {
    if major > 4095 || minor > 1_048_575 {
        return Err(Problem::DeviceNumber { major, minor });
    }
    Ok(DeviceNumber { major, minor })
}
