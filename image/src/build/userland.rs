//! The machine's root but for the images: the one executable, its configuration, mount points.

use std::collections::BTreeMap;
use std::path::PathBuf;

use berth_provision::{MACHINE_PATH, Machine};
use berth_slots::state_template;
use berth_tree::{Kind, Metadata, Node, PathError, Spool, Tree};

/// Where the images are.
pub(super) const IMAGES: &str = "/images";

/// Mount points, with the permissions that show when nothing is mounted.
const MOUNT_POINTS: [&str; 6] = ["/dev", "/proc", "/run", "/state", "/sys", "/tmp"];

/// Files of /etc that are known only on the machine.
const ETC_LINKS: [&str; 4] = ["hostname", "hosts", "machine-id", "resolv.conf"];

/// Why the userland cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum UserlandError {
    /// The spool cannot be written.
    #[error(
        "cannot write temporary data in {}: {source}; make room there", directory.display()
    )]
    Spool {
        /// Where it is.
        directory: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A path of ours is not one: never, unless the tree is not empty.
    #[error("cannot put the userland together: {0}")]
    Path(#[from] PathError),
    /// The machine's configuration cannot be written as JSON.
    #[error("cannot write the machine's configuration: {0}")]
    Json(#[from] serde_json::Error),
}

/// What the root consists of, besides the images.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) init: &'a [u8],
    pub(super) state_template: &'a [u8],
    pub(super) machine: &'a Machine,
    /// What it needs to trust its updates, by path.
    pub(super) update: Vec<(&'static str, Vec<u8>)>,
}

/// A root with everything but the images, whose directory is empty.
pub(super) fn tree(parts: &Parts<'_>, spool: &mut Spool) -> Result<Tree, UserlandError> {
    let directory = Metadata::system(0o755);
    let mut tree = Tree::new(directory.clone());
    for path in MOUNT_POINTS {
        tree.create_dirs(path.as_bytes(), &directory)?;
    }
    tree.create_dirs(IMAGES.as_bytes(), &directory)?;
    let mut json = serde_json::to_vec_pretty(parts.machine)?;
    json.push(b'\n');
    file(&mut tree, spool, "/init", 0o755, parts.init)?;
    file(&mut tree, spool, MACHINE_PATH, 0o644, &json)?;
    file(
        &mut tree,
        spool,
        state_template::PATH,
        0o644,
        parts.state_template,
    )?;
    for (path, bytes) in &parts.update {
        file(&mut tree, spool, path, 0o644, bytes)?;
    }
    for name in ETC_LINKS {
        let target = format!("/run/berth/etc/{name}").into_bytes();
        tree.insert(
            format!("/etc/{name}").as_bytes(),
            Node {
                metadata: Metadata::system(0o777),
                kind: Kind::Symlink(target),
            },
        )?;
    }
    Ok(tree)
}

/// Puts a file and its directories into the tree.
fn file(
    tree: &mut Tree,
    spool: &mut Spool,
    path: &str,
    mode: u16,
    bytes: &[u8],
) -> Result<(), UserlandError> {
    let content = spool.store(bytes).map_err(spool_error(spool.directory()))?;
    if let Some((parent, _)) = path.rsplit_once('/') {
        tree.create_dirs(parent.as_bytes(), &Metadata::system(0o755))?;
    }
    tree.insert(
        path.as_bytes(),
        Node {
            metadata: Metadata::system(mode),
            kind: Kind::File(content),
        },
    )?;
    Ok(())
}

/// The spool could not be written: most often its file system is full.
pub(super) fn spool_error(
    directory: impl Into<PathBuf>,
) -> impl FnOnce(std::io::Error) -> UserlandError {
    let directory = directory.into();
    move |source| UserlandError::Spool { directory, source }
}

/// A directory node with nothing in it.
pub(super) fn empty_directory() -> Node {
    Node {
        metadata: Metadata::system(0o755),
        kind: Kind::Directory(BTreeMap::new()),
    }
}
