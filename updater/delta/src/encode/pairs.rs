//! Which file of the old image is the older self of which file of the new one: the one with the
//! same path, or with the same path but for numbers and digests, which versions are made of.

use std::collections::HashMap;

use crate::encode::erofs::Found;
use crate::encode::{erofs, frames};
use crate::extents::Extents;

/// Hexadecimal names at least this long are digests.
const DIGEST_MIN: usize = 32;

/// Two versions of a file.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) old: Extents,
    pub(crate) new: Extents,
}

/// The pairs of files of two images.
pub(crate) fn find(old: &[u8], new: &[u8]) -> Vec<Pair> {
    if let (Some(old), Some(new)) = (erofs::files(old), erofs::files(new)) {
        return by_path(&old, new);
    }
    let (old, new) = (frames::find(old), frames::find(new));
    old.into_iter()
        .zip(new)
        .map(|(old, new)| Pair { old, new })
        .collect()
}

fn by_path(old: &[Found], new: Vec<Found>) -> Vec<Pair> {
    let mut paths = HashMap::new();
    let mut keys: HashMap<Vec<u8>, Vec<&Found>> = HashMap::new();
    for file in old {
        paths.insert(file.path.as_slice(), file);
        keys.entry(key(&file.path)).or_default().push(file);
    }
    let mut pairs = Vec::new();
    for file in new {
        let same_key = || {
            let alike = keys.get(&key(&file.path))?;
            let far = |other: &Found| other.extents.bytes().abs_diff(file.extents.bytes());
            alike.iter().copied().min_by_key(|other| far(other))
        };
        if let Some(other) = paths.get(file.path.as_slice()).copied().or_else(same_key) {
            pairs.push(Pair {
                old: other.extents.clone(),
                new: file.extents,
            });
        }
    }
    pairs
}

/// A path without its numbers and digests.
fn key(path: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(path.len());
    for name in path.split(|byte| *byte == b'/') {
        let is_digest = name.len() >= DIGEST_MIN && name.iter().all(u8::is_ascii_hexdigit);
        if !is_digest {
            key.extend(name.iter().filter(|byte| !byte.is_ascii_digit()));
        }
        key.push(b'/');
    }
    key
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn versions_and_digests_do_not_tell_files_apart() {
        let image = b"/images/0123456789abcdef0123456789abcdef/lib/libz.so.1.2";
        let next = b"/images/fedcba9876543210fedcba9876543210/lib/libz.so.1.13";
        assert_eq!(key(image), key(next));
        assert_ne!(key(b"/lib/liba.so.1"), key(b"/lib/libb.so.1"));
    }
}
