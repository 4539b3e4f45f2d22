//! The tree's inodes in the order of the image: depth first, names in byte order, so an inode's
//! place follows from its path. Everything that the format or Linux cannot hold is refused here,
//! before a byte is written.

use std::collections::HashMap;

use berth_tree::{Kind, Metadata, Node, NodeId, Tree};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::xattr;

/// Why something cannot be in an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrepresentable {
    /// Empty, `.`, `..`, longer than 255 bytes, or with a slash or a zero byte.
    #[error("{0:?} is not a file name")]
    Name(String),
    /// A directory can have one name only.
    #[error("it is a directory that has a second name")]
    LinkedDirectory,
    /// Linux has no empty links and none with a zero byte, and none longer than a page.
    #[error("its link target of {0} bytes is empty, too long or contains a zero byte")]
    LinkTarget(usize),
    /// Permissions beyond 07777.
    #[error("its mode {0:o} has bits beyond 7777")]
    Mode(u16),
    /// A second has 10⁹ of them.
    #[error("its modification time has {0} nanoseconds")]
    Nanoseconds(u32),
    /// Linux has 12 bits of major and 20 of minor number.
    #[error("it is device {major}:{minor}, beyond what Linux can address")]
    Device {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// The format has no index for the prefix.
    #[error(
        "its extended attribute {0:?} is outside user, trusted, security and the POSIX ACLs of system"
    )]
    XattrName(String),
    /// A value longer than 65535 bytes.
    #[error("the value of its extended attribute {0:?} is longer than 65535 bytes")]
    XattrValue(String),
    /// All attributes of an inode together.
    #[error("its extended attributes take {0} bytes, more than an inode can have")]
    XattrTotal(usize),
    /// A file larger than a signed 64-bit offset.
    #[error("its size of {0} bytes is beyond what Linux can address")]
    Size(u64),
}

/// Linux's PATH_MAX with its zero byte: what `readlink` can return.
const LINK_TARGET_MAX: usize = 4095;

/// One inode of the image.
#[derive(Debug)]
pub(crate) struct Inode<'a> {
    pub(crate) node: &'a Node,
    /// Index of the directory that has its first name; the root's is itself.
    pub(crate) parent: usize,
    /// Its first name.
    name: &'a [u8],
    pub(crate) nlink: u32,
}

/// All inodes, the root first.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    pub(crate) inodes: Vec<Inode<'a>>,
    index: HashMap<NodeId, usize>,
}

impl<'a> Walk<'a> {
    pub(crate) fn of(tree: &'a Tree) -> Result<Self, Error> {
        let mut walk = Self {
            inodes: Vec::new(),
            index: HashMap::new(),
        };
        // Not recursive: a hostile layer may nest directories deeper than a stack.
        let mut pending: Vec<(NodeId, usize, &[u8])> = vec![(tree.root(), 0, b"")];
        while let Some((id, parent, name)) = pending.pop() {
            let node = tree.node(id);
            if let Some(&known) = walk.index.get(&id) {
                if matches!(node.kind, Kind::Directory(_)) {
                    return Err(walk.refuse(known, Unrepresentable::LinkedDirectory));
                }
                walk.inodes[known].nlink += 1;
                continue;
            }
            let at = walk.inodes.len();
            walk.index.insert(id, at);
            walk.inodes.push(Inode {
                node,
                parent,
                name,
                nlink: 1,
            });
            check(node).map_err(|reason| walk.refuse(at, reason))?;
            if let Kind::Directory(entries) = &node.kind {
                // Its own `.`, and `..` in its parent; the root's `..` is its own.
                walk.inodes[at].nlink = 2;
                if at != 0 {
                    walk.inodes[parent].nlink += 1;
                }
                for (name, child) in entries.iter().rev() {
                    check_name(name).map_err(|reason| walk.refuse(at, reason))?;
                    pending.push((*child, at, name));
                }
            }
        }
        Ok(walk)
    }

    /// The inode of a node that the tree's directories name.
    pub(crate) fn index_of(&self, id: NodeId) -> usize {
        self.index[&id]
    }

    /// The path of an inode's first name, for messages.
    pub(crate) fn path(&self, mut at: usize) -> String {
        let mut names = Vec::new();
        while at != 0 {
            names.push(String::from_utf8_lossy(self.inodes[at].name));
            at = self.inodes[at].parent;
        }
        names.push("".into());
        names.reverse();
        match names.len() {
            1 => "/".to_owned(),
            _ => names.join("/"),
        }
    }

    pub(crate) fn refuse(&self, at: usize, reason: Unrepresentable) -> Error {
        Error::Unrepresentable {
            path: self.path(at),
            reason,
        }
    }

    /// A UUID (version 8, RFC 9562) from all that the image will hold. Contents enter by their
    /// hash, so no data is read.
    pub(crate) fn uuid(&self) -> [u8; 16] {
        let mut hash = Sha256::new();
        for inode in &self.inodes {
            self.digest(inode, &mut hash);
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&hash.finalize()[..16]);
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        uuid
    }

    fn digest(&self, inode: &Inode<'_>, hash: &mut Sha256) {
        let Metadata {
            mode,
            uid,
            gid,
            mtime,
            mtime_nsec,
            xattrs,
        } = &inode.node.metadata;
        hash.update((mode | file_type(&inode.node.kind).mode()).to_le_bytes());
        hash.update(uid.to_le_bytes());
        hash.update(gid.to_le_bytes());
        hash.update(mtime.to_le_bytes());
        hash.update(mtime_nsec.to_le_bytes());
        hash.update(xattrs.len().to_le_bytes());
        for (name, value) in xattrs {
            digest_bytes(name, hash);
            digest_bytes(value, hash);
        }
        match &inode.node.kind {
            Kind::Directory(entries) => {
                hash.update(entries.len().to_le_bytes());
                for (name, child) in entries {
                    digest_bytes(name, hash);
                    hash.update(self.index_of(*child).to_le_bytes());
                }
            }
            Kind::File(content) => hash.update(content.sha256),
            Kind::Symlink(target) => digest_bytes(target, hash),
            Kind::CharDevice(number) | Kind::BlockDevice(number) => {
                hash.update(number.major.to_le_bytes());
                hash.update(number.minor.to_le_bytes());
            }
            Kind::Fifo | Kind::Socket => {}
        }
    }
}

fn digest_bytes(bytes: &[u8], hash: &mut Sha256) {
    hash.update(bytes.len().to_le_bytes());
    hash.update(bytes);
}

fn check_name(name: &[u8]) -> Result<(), Unrepresentable> {
    let is_name = (1..=255).contains(&name.len())
        && name != b"."
        && name != b".."
        && !name.contains(&b'/')
        && !name.contains(&0);
    match is_name {
        true => Ok(()),
        false => Err(Unrepresentable::Name(
            String::from_utf8_lossy(name).into_owned(),
        )),
    }
}

fn check(node: &Node) -> Result<(), Unrepresentable> {
    let metadata = &node.metadata;
    if metadata.mode > 0o7777 {
        return Err(Unrepresentable::Mode(metadata.mode));
    }
    if metadata.mtime_nsec >= 1_000_000_000 {
        return Err(Unrepresentable::Nanoseconds(metadata.mtime_nsec));
    }
    xattr::check(&metadata.xattrs)?;
    match &node.kind {
        Kind::Symlink(target)
            if target.is_empty() || target.len() > LINK_TARGET_MAX || target.contains(&0) =>
        {
            Err(Unrepresentable::LinkTarget(target.len()))
        }
        Kind::CharDevice(number) | Kind::BlockDevice(number)
            if number.major > 0xfff || number.minor > 0xf_ffff =>
        {
            Err(Unrepresentable::Device {
                major: number.major,
                minor: number.minor,
            })
        }
        Kind::File(content) if i64::try_from(content.len).is_err() => {
            Err(Unrepresentable::Size(content.len))
        }
        _ => Ok(()),
    }
}

/// A file type, as `st_mode` and directory entries name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileType {
    mode: u16,
    dirent: u8,
}

impl FileType {
    pub(crate) const DIRECTORY: Self = Self {
        mode: 0o040_000,
        dirent: 2,
    };

    /// The `S_IFMT` bits.
    pub(crate) fn mode(self) -> u16 {
        self.mode
    }

    /// The `FT_*` number of a directory entry.
    pub(crate) fn dirent(self) -> u8 {
        self.dirent
    }
}

pub(crate) fn file_type(kind: &Kind) -> FileType {
    let (mode, dirent) = match kind {
        Kind::Directory(_) => return FileType::DIRECTORY,
        Kind::File(_) => (0o100_000, 1),
        Kind::CharDevice(_) => (0o020_000, 3),
        Kind::BlockDevice(_) => (0o060_000, 4),
        Kind::Fifo => (0o010_000, 5),
        Kind::Socket => (0o140_000, 6),
        Kind::Symlink(_) => (0o120_000, 7),
    };
    FileType { mode, dirent }
}
