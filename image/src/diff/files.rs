//! Files of two roots.

use std::collections::BTreeMap;

use berth_containers::spec::Container;
use berth_erofs::Entry;
use serde::Serialize;

use super::UpdateCost;

/// A file that is new, gone or different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Its path in the root; in an image `CONTAINER:PATH`.
    pub path: String,
    /// Bytes before; nothing for a new one.
    pub old_bytes: Option<u64>,
    /// Bytes now; nothing for one that is gone.
    pub new_bytes: Option<u64>,
    /// What differs besides the content: type, permissions, owner, attributes.
    pub notes: Vec<String>,
    /// Bytes of the update for it.
    pub patch_bytes: Option<u64>,
}

/// A root by the paths that people know: an image's files are those of its containers, not of a
/// digest that changes with every version.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    entries: BTreeMap<String, Entry<'a>>,
    images: Vec<Image>,
}

#[derive(Debug)]
struct Image {
    /// Its directory in the root.
    directory: String,
    /// The first container that runs it.
    name: String,
    /// Whether a program in it may gain privileges when it is started.
    may_gain: bool,
}

impl<'a> Tree<'a> {
    pub(super) fn new(entries: BTreeMap<Vec<u8>, Entry<'a>>, containers: &[Container]) -> Self {
        let mut images: Vec<Image> = Vec::new();
        for container in containers {
            let directory = &container.oci.root.path;
            let may_gain = !container.oci.process.no_new_privileges;
            match images.iter_mut().find(|one| one.directory == *directory) {
                Some(image) => image.may_gain |= may_gain,
                None => images.push(Image {
                    directory: directory.clone(),
                    name: container.name.clone(),
                    may_gain,
                }),
            }
        }
        let mut tree = Self {
            entries: BTreeMap::new(),
            images,
        };
        let shown = entries
            .into_iter()
            .map(|(path, entry)| (tree.shown(&String::from_utf8_lossy(&path)), entry));
        tree.entries = shown.collect();
        tree
    }

    /// A path of the root as people know it.
    pub(super) fn shown(&self, path: &str) -> String {
        let inside = |image: &Image| {
            let rest = path.strip_prefix(&image.directory)?;
            let is_inside = rest.is_empty() || rest.starts_with('/');
            let rest = if rest.is_empty() { "/" } else { rest };
            is_inside.then(|| format!("{}:{rest}", image.name))
        };
        let shown = self.images.iter().find_map(inside);
        shown.unwrap_or_else(|| path.to_owned())
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Entry<'a>)> {
        self.entries
            .iter()
            .map(|(path, entry)| (path.as_str(), entry))
    }

    /// Whether what is at `path` may give privileges to who starts it.
    pub(super) fn may_gain_privileges(&self, path: &str) -> bool {
        let image = path.split_once(':').map(|(name, _)| name);
        self.images
            .iter()
            .any(|one| one.may_gain && Some(one.name.as_str()) == image)
    }

    /// A file's content.
    pub(super) fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        self.entries.get(path).map(|entry| entry.data.concat())
    }
}

/// What differs: what costs most first, then by path.
pub(super) fn changes(
    old: &Tree<'_>,
    new: &Tree<'_>,
    update: Option<&UpdateCost>,
) -> Vec<FileChange> {
    let costs: BTreeMap<&str, u64> = update
        .into_iter()
        .flat_map(|update| &update.root.by)
        .map(|cost| (cost.name.as_str(), cost.patch_bytes))
        .collect();
    let mut changes = Vec::new();
    for (path, now) in &new.entries {
        let before = old.entries.get(path);
        let notes = before.map(|before| notes(before, now)).unwrap_or_default();
        let same = before.is_some_and(|before| same_content(before, now));
        if same && notes.is_empty() {
            continue;
        }
        changes.push(FileChange {
            path: path.clone(),
            old_bytes: before.map(content_bytes),
            new_bytes: Some(content_bytes(now)),
            notes,
            patch_bytes: costs.get(path.as_str()).copied(),
        });
    }
    let gone = old.entries.iter();
    let gone = gone.filter(|(path, _)| !new.entries.contains_key(*path));
    changes.extend(gone.map(|(path, before)| FileChange {
        path: path.clone(),
        old_bytes: Some(content_bytes(before)),
        new_bytes: None,
        notes: Vec::new(),
        patch_bytes: None,
    }));
    changes.sort_by_key(|change| std::cmp::Reverse(change.patch_bytes));
    changes
}

/// A directory's own bytes are no content.
fn content_bytes(entry: &Entry<'_>) -> u64 {
    if entry.is_directory() {
        0
    } else {
        entry.bytes()
    }
}

fn same_content(old: &Entry<'_>, new: &Entry<'_>) -> bool {
    if old.is_directory() && new.is_directory() {
        return true;
    }
    if old.mode >> 12 != new.mode >> 12 || old.device != new.device || old.bytes() != new.bytes() {
        return false;
    }
    // Whole blocks and the rest are cut at the same place when the size is the same, or a file of
    // one side has its tail in a block.
    old.data == new.data || old.data.concat() == new.data.concat()
}

fn notes(old: &Entry<'_>, new: &Entry<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let kind = |entry: &Entry<'_>| match entry.mode >> 12 {
        0o04 => "directory",
        0o10 => "file",
        0o12 => "link",
        0o02 | 0o06 => "device",
        _ => "special file",
    };
    if kind(old) != kind(new) {
        notes.push(format!("{} -> {}", kind(old), kind(new)));
    }
    let (before, now) = (old.mode & 0o7777, new.mode & 0o7777);
    if before != now {
        notes.push(format!("permissions {before:04o} -> {now:04o}"));
    }
    if (old.uid, old.gid) != (new.uid, new.gid) {
        notes.push(format!(
            "owner {}:{} -> {}:{}",
            old.uid, old.gid, new.uid, new.gid
        ));
    }
    if old.is_link() && new.is_link() && old.data != new.data {
        let target = |entry: &Entry<'_>| String::from_utf8_lossy(&entry.data.concat()).into_owned();
        notes.push(format!("leads to {} -> {}", target(old), target(new)));
    }
    if old.xattrs != new.xattrs {
        notes.push("other attributes".to_owned());
    }
    notes
}
