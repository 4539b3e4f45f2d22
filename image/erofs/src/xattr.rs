//! Extended attributes: behind the inode, or once in the shared area where several inodes have
//! the same name and value and a 4-byte reference is cheaper than a copy.

use std::collections::{BTreeMap, HashMap};

use crate::format::{XATTR_BODY_MAX, XATTR_ENTRY_SIZE, XATTR_HEADER_SIZE};
use crate::walk::{Unrepresentable, Walk};

type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// Name prefixes and their index on disk. The ACLs are whole names; what is left of them is empty.
const PREFIXES: [(&[u8], u8); 6] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"lustre.", 5),
    (b"security.", 6),
];

/// References per inode: `h_shared_count` is a byte.
const SHARED_PER_INODE: usize = 255;

/// The root inode lies behind the shared area and its number has 16 bits of 32-byte slots, so the
/// area stays below half of what that reaches.
const SHARED_AREA_MAX: usize = 1 << 20;

/// The attributes that are stored once.
#[derive(Debug, Default)]
pub(crate) struct Shared<'a> {
    /// Position of each in the area, in units of 4 bytes.
    ids: HashMap<(&'a [u8], &'a [u8]), u32>,
    /// The area's bytes.
    pub(crate) area: Vec<u8>,
}

impl<'a> Shared<'a> {
    /// Chooses what pays, in the order of name and value.
    pub(crate) fn of(walk: &Walk<'a>) -> Self {
        let mut uses: BTreeMap<(&[u8], &[u8]), usize> = BTreeMap::new();
        for inode in &walk.inodes {
            for (name, value) in &inode.node.metadata.xattrs {
                *uses.entry((name, value)).or_default() += 1;
            }
        }
        let mut shared = Self::default();
        for ((name, value), count) in uses {
            let size = entry_size(name, value);
            let pays = (count - 1) * size > count * XATTR_ENTRY_SIZE;
            if pays && shared.area.len() + size <= SHARED_AREA_MAX {
                let id = shared.area.len() / XATTR_ENTRY_SIZE;
                let id = u32::try_from(id).unwrap_or(u32::MAX);
                shared.ids.insert((name, value), id);
                encode_entry(name, value, &mut shared.area);
            }
        }
        shared
    }

    /// The attribute body behind an inode; empty when it has no attributes.
    pub(crate) fn body(&self, xattrs: &Attributes) -> Vec<u8> {
        if xattrs.is_empty() {
            return Vec::new();
        }
        let mut ids = Vec::new();
        let mut entries = Vec::new();
        for (name, value) in xattrs {
            match self.ids.get(&(name.as_slice(), value.as_slice())) {
                Some(id) if ids.len() < SHARED_PER_INODE => ids.push(*id),
                _ => encode_entry(name, value, &mut entries),
            }
        }
        let mut body = vec![0; XATTR_HEADER_SIZE];
        body[4] = u8::try_from(ids.len()).unwrap_or(u8::MAX);
        body.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        body.extend(entries);
        body
    }
}

/// Refuses what the format cannot hold.
pub(crate) fn check(xattrs: &Attributes) -> Result<(), Unrepresentable> {
    let shown = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let mut total = XATTR_HEADER_SIZE;
    for (name, value) in xattrs {
        let (_, rest) = split(name).ok_or_else(|| Unrepresentable::XattrName(shown(name)))?;
        if rest.len() > 255 || name.contains(&0) {
            return Err(Unrepresentable::XattrName(shown(name)));
        }
        if value.len() > usize::from(u16::MAX) {
            return Err(Unrepresentable::XattrValue(shown(name)));
        }
        total += entry_size(name, value);
    }
    match total > XATTR_BODY_MAX {
        true => Err(Unrepresentable::XattrTotal(total)),
        false => Ok(()),
    }
}

/// The prefix's index and what follows it.
fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|(prefix, index)| {
        let rest = name.strip_prefix(*prefix)?;
        let whole_name = !prefix.ends_with(b".");
        (rest.is_empty() == whole_name).then_some((*index, rest))
    })
}

fn entry_size(name: &[u8], value: &[u8]) -> usize {
    let rest = split(name).map_or(0, |(_, rest)| rest.len());
    (XATTR_ENTRY_SIZE + rest + value.len()).next_multiple_of(XATTR_ENTRY_SIZE)
}

/// `struct erofs_xattr_entry`; names and values have been checked.
fn encode_entry(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let Some((index, rest)) = split(name) else {
        return;
    };
    out.push(u8::try_from(rest.len()).unwrap_or(u8::MAX));
    out.push(index);
    out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend(rest);
    out.extend(value);
    out.resize(out.len().next_multiple_of(XATTR_ENTRY_SIZE), 0);
}

/// Reads one entry: name, value, and the bytes that both take.
pub(crate) fn decode_entry(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>, usize)> {
    let (header, rest) = bytes.split_first_chunk::<XATTR_ENTRY_SIZE>()?;
    let [name_bytes, index, low, high] = *header;
    let (prefix, _) = PREFIXES.iter().find(|(_, known)| *known == index)?;
    let (name, rest) = rest.split_at_checked(name_bytes.into())?;
    let value = rest.get(..u16::from_le_bytes([low, high]).into())?;
    let size = XATTR_ENTRY_SIZE + name.len() + value.len();
    let name = [*prefix, name].concat();
    Some((
        name,
        value.to_vec(),
        size.next_multiple_of(XATTR_ENTRY_SIZE),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_the_format_are_refused_by_name() {
        for name in [
            "btrfs.x",
            "user.",
            "system.posix_acl_accessx",
            "system.nfs4_acl",
        ] {
            let xattrs = Attributes::from([(name.into(), Vec::new())]);
            assert_eq!(
                check(&xattrs),
                Err(Unrepresentable::XattrName(name.to_owned()))
            );
        }
        let fine = Attributes::from([
            (b"system.posix_acl_access".to_vec(), vec![2, 0, 0, 0]),
            (b"security.capability".to_vec(), vec![0; 20]),
        ]);
        assert_eq!(check(&fine), Ok(()));
    }

    #[test]
    fn more_than_an_inode_can_have_is_refused() {
        let xattrs: Attributes = (0..5)
            .map(|n| (format!("user.{n}").into_bytes(), vec![0; 60_000]))
            .collect();
        assert!(matches!(
            check(&xattrs),
            Err(Unrepresentable::XattrTotal(_))
        ));
    }
}
