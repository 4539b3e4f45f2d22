//! One side of a comparison: a build's directory, or a version in a published directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use berth_provision::{MACHINE_PATH, Machine};
use berth_release::{ARCHITECTURE, METADATA, Release, TARGETS, target_path};

use super::files::Tree;
use super::{DiffError, Version};
use crate::build::KERNEL_CONFIG_NAME;
use crate::inspect;
use crate::manifest::{FILE_NAME, Group, Manifest};
use crate::publish::PublishError;
use crate::publish::history::History;
use crate::publish::{parts, signing};

/// A version as machines get it, and what else is known about it.
#[derive(Debug)]
pub struct Side {
    /// What it is.
    pub version: Version,
    /// The boot part.
    pub(super) boot: Vec<u8>,
    /// The root's file system.
    pub(super) root: Vec<u8>,
    /// The text of the kernel's configuration.
    pub(super) kernel_config: Option<String>,
    /// Sizes of a build's parts, by what they are called for people.
    pub(super) sizes: Vec<(String, u64)>,
}

impl Side {
    /// Reads two sides, each a build's directory, a published directory (its newest version), or
    /// `DIRECTORY@VERSION`. A build says which of several products of a published directory is
    /// meant.
    ///
    /// # Errors
    /// See [`DiffError`].
    pub fn load_both(old: &Path, new: &Path) -> Result<[Self; 2], DiffError> {
        if is_build(new) {
            let new = Self::load(new, None)?;
            return Ok([Self::load(old, Some(&new.version))?, new]);
        }
        let old = Self::load(old, None)?;
        let new = Self::load(new, Some(&old.version))?;
        Ok([old, new])
    }

    fn load(what: &Path, like: Option<&Version>) -> Result<Self, DiffError> {
        if is_build(what) {
            return Self::of_build(what);
        }
        if what.join(METADATA).is_dir() {
            return Self::of_published(what, None, like);
        }
        let text = what.to_string_lossy();
        if let Some((directory, version)) = text.rsplit_once('@') {
            let directory = Path::new(directory);
            if directory.join(METADATA).is_dir() {
                return Self::of_published(directory, Some(version), like);
            }
        }
        Err(DiffError::Neither(what.to_owned()))
    }

    fn of_build(path: &Path) -> Result<Self, DiffError> {
        let manifest = inspect::load(path).map_err(PublishError::from)?;
        let manifest_path = inspect::manifest_path(path);
        let directory = manifest_path.parent().unwrap_or(Path::new(""));
        Ok(Self {
            boot: parts::boot_bytes(directory, &manifest)?,
            root: parts::root_bytes(directory, &manifest)?,
            kernel_config: kernel_config(directory, &manifest)?,
            sizes: sizes(&manifest),
            version: Version {
                name: manifest.name,
                version: manifest.version,
                security_version: manifest.security_version,
                kernel: manifest.kernel.version,
                profile: manifest.kernel.profile,
            },
        })
    }

    fn of_published(
        directory: &Path,
        version: Option<&str>,
        like: Option<&Version>,
    ) -> Result<Self, DiffError> {
        let which = |reason: String| DiffError::Which {
            path: directory.to_owned(),
            reason,
        };
        let mut products = products(directory).map_err(PublishError::read(directory))?;
        if let Some(like) = like {
            let wanted = (like.name.clone(), like.profile.clone());
            if products.contains(&wanted) {
                products = vec![wanted];
            }
        }
        let (name, profile) = match products.as_slice() {
            [one] => one,
            [] => return Err(which("nothing is published in it".to_owned())),
            several => {
                let names: Vec<_> = several.iter().map(|(a, b)| format!("{a} ({b})")).collect();
                let names = names.join(", ");
                return Err(which(format!("it has several products: {names}")));
            }
        };
        let repository = signing::open(directory, None)?;
        let path = target_path(name, profile, ARCHITECTURE);
        let history = History::read(directory, &repository, &path)?;
        let mut releases = history.all();
        let found = match version {
            Some(version) => releases.find(|one| one.version == version),
            None => releases.next(),
        };
        let Some(release) = found else {
            let mut known: Vec<_> = history.all().map(|one| one.version.as_str()).collect();
            known.dedup();
            let known = known.join(", ");
            return Err(which(format!("that version is not in it; it has {known}")));
        };
        Ok(Self::of_release(directory, release)?)
    }

    fn of_release(directory: &Path, release: &Release) -> Result<Self, PublishError> {
        Ok(Self {
            boot: parts::published_bytes(directory, &release.boot)?,
            root: parts::published_bytes(directory, &release.root.part)?,
            kernel_config: None,
            sizes: Vec::new(),
            version: Version {
                name: release.product.clone(),
                version: release.version.clone(),
                security_version: release.security_version,
                kernel: release.kernel.clone(),
                profile: release.profile.clone(),
            },
        })
    }

    /// The files of its root.
    pub(super) fn files(&self) -> Result<Tree<'_>, DiffError> {
        let entries = berth_erofs::entries(&self.root);
        let entries = entries.map_err(|why| self.unreadable(why.to_string()))?;
        let machine = machine_in(&entries).map_err(|why| self.unreadable(why))?;
        Ok(Tree::new(entries, &machine.containers))
    }

    /// The resolved configuration in its root.
    pub(super) fn machine(&self) -> Result<Machine, DiffError> {
        let entries = berth_erofs::entries(&self.root);
        let entries = entries.map_err(|why| self.unreadable(why.to_string()))?;
        machine_in(&entries).map_err(|why| self.unreadable(why))
    }

    fn unreadable(&self, reason: String) -> DiffError {
        let what = format!("{} {}", self.version.name, self.version.version);
        DiffError::Root { what, reason }
    }
}

fn machine_in(entries: &BTreeMap<Vec<u8>, berth_erofs::Entry<'_>>) -> Result<Machine, String> {
    let file = entries.get(MACHINE_PATH.as_bytes());
    let file = file.ok_or_else(|| format!("it has no {MACHINE_PATH}"))?;
    serde_json::from_slice(&file.data.concat())
        .map_err(|why| format!("{MACHINE_PATH} is of another version of berth: {why}"))
}

fn is_build(what: &Path) -> bool {
    what.join(FILE_NAME).is_file() || what.is_file()
}

/// The text of the kernel's configuration, when the build has one.
fn kernel_config(build: &Path, manifest: &Manifest) -> Result<Option<String>, PublishError> {
    if !manifest.files.contains_key(KERNEL_CONFIG_NAME) {
        return Ok(None);
    }
    let bytes = parts::built(build, KERNEL_CONFIG_NAME, manifest)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Name and profile of everything that is published in a directory.
fn products(directory: &Path) -> std::io::Result<Vec<(String, String)>> {
    let names = |path: PathBuf| -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    };
    let targets = directory.join(TARGETS);
    let mut products = Vec::new();
    for name in names(targets.clone())? {
        for profile in names(targets.join(&name))? {
            products.push((name.clone(), profile));
        }
    }
    Ok(products)
}

/// An image's layers are one part here: their digests say nothing to people.
fn sizes(manifest: &Manifest) -> Vec<(String, u64)> {
    let name = |part: &crate::manifest::Part| match &part.group {
        Group::Image(digest) => {
            let users = manifest.containers.iter();
            let users = users.filter(|one| one.digest == *digest);
            let users: Vec<_> = users.map(|one| one.name.as_str()).collect();
            format!("container {}", users.join(" and "))
        }
        _ => inspect::describe(manifest, part),
    };
    let parts = manifest.parts.iter();
    parts.map(|part| (name(part), part.bytes)).collect()
}
