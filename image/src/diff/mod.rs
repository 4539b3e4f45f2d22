//! `berth diff`: what is different in a new build or published version, what got more privileged,
//! and what the update costs a machine.
//!
//! Both sides are compared by what machines get: the root's files, `machine.json` in it, the boot
//! image. What only a build knows (sizes of its parts, the kernel's options) is compared when both
//! sides are builds.

mod cost;
mod files;
mod kernel;
mod keys;
mod privileges;
mod side;
mod text;

use std::collections::BTreeMap;
use std::path::PathBuf;

use berth_containers::spec::Container;
use berth_delta::{Limits, encode};
use serde::Serialize;

use crate::build::Progress;
use crate::publish::PublishError;

pub use cost::{CostOf, PartCost, UpdateCost};
pub use files::FileChange;
pub use kernel::OptionChange;
pub use keys::KeyChange;
pub use side::Side;
pub use text::{Shown, text};

/// Why two versions cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// A side cannot be read.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A side is neither a build nor a published directory.
    #[error(
        "{}: neither a build (it has no manifest.json) nor a published directory (it has no \
         metadata)", .0.display()
    )]
    Neither(PathBuf),
    /// A published directory does not have that version, or has several that are meant.
    #[error("{}: {reason}", path.display())]
    Which {
        /// The directory.
        path: PathBuf,
        /// What there is.
        reason: String,
    },
    /// A root is not one of ours.
    #[error("the root of {what}: {reason}")]
    Root {
        /// Which side.
        what: String,
        /// Why.
        reason: String,
    },
}

/// What a side is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// The image's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Never followed by a smaller one.
    pub security_version: u64,
    /// The kernel's version, empty when it came from a file.
    pub kernel: String,
    /// The kernel's profile.
    pub profile: String,
}

/// Everything that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Nothing does: machines would get the same bytes.
    pub same: bool,
    /// The old side.
    pub old: Version,
    /// The new side.
    pub new: Version,
    /// Sentences about what a person should look at before publishing.
    pub warnings: Vec<String>,
    /// What may do more than before, in words.
    pub more_privileged: Vec<String>,
    /// What may do less than before.
    pub less_privileged: Vec<String>,
    /// Options of the kernel; nothing when one side's are not known.
    pub kernel_options: Option<Vec<OptionChange>>,
    /// Keys of `machine.json` that belong to no container.
    pub machine: Vec<KeyChange>,
    /// Containers that are new, gone or different.
    pub containers: Vec<ContainerChange>,
    /// Files of the root.
    pub files: Vec<FileChange>,
    /// Sizes of a build's parts; empty when one side is not a build.
    pub sizes: Vec<SizeChange>,
    /// What a machine downloads for it; nothing when nobody asked, or an image is too large for a
    /// patch.
    pub update: Option<UpdateCost>,
}

/// A container that is not what it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ContainerChange {
    /// Its name.
    pub name: String,
    /// Image reference and digest before; nothing for a new one.
    pub old_image: Option<[String; 2]>,
    /// And now; nothing for one that is gone.
    pub new_image: Option<[String; 2]>,
    /// Keys that differ, for one that is on both sides.
    pub keys: Vec<KeyChange>,
}

/// A part of a build and its two sizes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SizeChange {
    /// What it is.
    pub name: String,
    /// Bytes before.
    pub old_bytes: u64,
    /// Bytes now.
    pub new_bytes: u64,
}

/// Compares two sides; with `costs`, what a patch may ask of a machine, also makes the patches that
/// an update would need, which takes as long as publishing it.
///
/// # Errors
/// See [`DiffError`].
pub fn compare(
    old: &Side,
    new: &Side,
    costs: Option<&Limits>,
    progress: &Progress,
) -> Result<Difference, DiffError> {
    let same = old.root == new.root && old.boot == new.boot;
    let (old_machine, new_machine) = (old.machine()?, new.machine()?);
    let containers = pairs(&old_machine.containers, &new_machine.containers);
    let (old_tree, new_tree) = (old.files()?, new.files()?);

    let mut privileges = privileges::Changes::default();
    for (_, [old, new]) in &containers {
        privileges.container(*old, *new);
    }
    privileges.files(&old_tree, &new_tree);

    let mut warnings = warnings(old, new, &old_tree, &new_tree);
    let costs = costs.filter(|_| !same);
    let update = match costs.map(|limits| cost::of(old, new, &new_tree, limits, progress)) {
        Some(Err(DiffError::Publish(PublishError::Delta(why @ encode::Error::TooLarge(_))))) => {
            warnings.push(format!(
                "what the update costs is not known: {why}; machines fetch what they do not hold \
                 from the whole image"
            ));
            None
        }
        other => other.transpose()?,
    };
    let changed = containers.iter().filter_map(|(name, [old, new])| {
        let image = |one: &Container| [one.image.clone(), one.digest.clone()];
        let change = ContainerChange {
            name: (*name).to_owned(),
            old_image: old.map(image),
            new_image: new.map(image),
            keys: match (old, new) {
                (Some(old), Some(new)) => keys::of_container(old, new),
                _ => Vec::new(),
            },
        };
        let differs = change.old_image != change.new_image || !change.keys.is_empty();
        differs.then_some(change)
    });
    Ok(Difference {
        same,
        old: old.version.clone(),
        new: new.version.clone(),
        warnings,
        more_privileged: privileges.more,
        less_privileged: privileges.less,
        kernel_options: kernel::options(old, new),
        machine: keys::of_machine(&old_machine, &new_machine),
        containers: changed.collect(),
        files: files::changes(&old_tree, &new_tree, update.as_ref()),
        sizes: sizes(old, new),
        update,
    })
}

/// Containers of both sides by name, in the new side's order, then those that are gone.
fn pairs<'a>(
    old: &'a [Container],
    new: &'a [Container],
) -> Vec<(&'a str, [Option<&'a Container>; 2])> {
    let named = |list: &'a [Container], name: &str| list.iter().find(|one| one.name == name);
    let here = new
        .iter()
        .map(|one| (one.name.as_str(), [named(old, &one.name), Some(one)]));
    let gone = old
        .iter()
        .filter(|one| named(new, &one.name).is_none())
        .map(|one| (one.name.as_str(), [Some(one), None]));
    here.chain(gone).collect()
}

/// What machines would not take, or what changes whom they believe.
fn warnings(
    old: &Side,
    new: &Side,
    old_tree: &files::Tree<'_>,
    new_tree: &files::Tree<'_>,
) -> Vec<String> {
    let mut list = Vec::new();
    let (one, next) = (&old.version, &new.version);
    if one.name != next.name || one.profile != next.profile {
        list.push(format!(
            "{} ({}) and {} ({}) are different products: no machine updates from one to the other",
            one.name, one.profile, next.name, next.profile
        ));
    }
    if next.security_version < one.security_version {
        list.push(format!(
            "the security version goes down from {} to {}: no machine that kept {} will take it",
            one.security_version, next.security_version, one.version
        ));
    }
    if one.version == next.version && old.root != new.root {
        list.push(format!(
            "both are called {}: raise version in [image] before publishing",
            one.version
        ));
    }
    let trust = |tree: &files::Tree<'_>| {
        let path = format!(
            "/{}",
            berth_provision::TRUST_ROOT_PATH.trim_start_matches('/')
        );
        tree.bytes(&path)
    };
    match (trust(old_tree), trust(new_tree)) {
        (Some(old), Some(new)) if old != new => list.push(
            "who may sign updates is different: the root of trust in the new one is another file"
                .to_owned(),
        ),
        (Some(_), None) => list.push(
            "machines of the new version have no [update] any more: they will take no later one"
                .to_owned(),
        ),
        _ => {}
    }
    list
}

/// Parts with the same name on both sides are one part.
fn sizes(old: &Side, new: &Side) -> Vec<SizeChange> {
    if old.sizes.is_empty() || new.sizes.is_empty() {
        return Vec::new();
    }
    let mut changes: Vec<SizeChange> = Vec::new();
    let mut place = BTreeMap::new();
    for (side, is_new) in [(old, false), (new, true)] {
        for (name, bytes) in &side.sizes {
            let index = *place.entry(name.as_str()).or_insert_with(|| {
                changes.push(SizeChange {
                    name: name.clone(),
                    old_bytes: 0,
                    new_bytes: 0,
                });
                changes.len() - 1
            });
            match is_new {
                true => changes[index].new_bytes += bytes,
                false => changes[index].old_bytes += bytes,
            }
        }
    }
    changes
}
