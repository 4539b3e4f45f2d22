//! What an update costs a machine, and which file is to blame: the patches themselves, made as
//! `berth publish` makes them.

use berth_delta::Limits;
use berth_delta::encode::{Cost, What, create_with_costs};
use serde::Serialize;

use super::files::Tree;
use super::{DiffError, Side};
use crate::build::Progress;
use crate::publish::PublishError;

/// What a machine downloads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpdateCost {
    /// All of it.
    pub bytes: u64,
    /// Kernel and boot image.
    pub boot: PartCost,
    /// The root.
    pub root: PartCost,
}

/// The patch of one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartCost {
    /// Its bytes.
    pub bytes: u64,
    /// What they are for, the most expensive first; nothing that costs nothing.
    pub by: Vec<CostOf>,
}

/// What one file costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CostOf {
    /// A path, a section of the kernel, or what else there is.
    pub name: String,
    /// Its bytes in the new version.
    pub new_bytes: u64,
    /// Bytes of the patch.
    pub patch_bytes: u64,
}

pub(super) fn of(
    old: &Side,
    new: &Side,
    new_tree: &Tree<'_>,
    limits: &Limits,
    progress: &Progress,
) -> Result<UpdateCost, DiffError> {
    // The root first: it is what may be too large.
    let what = "the patch of the root";
    let root = part(
        [&old.root, &new.root],
        limits,
        (progress, what),
        |what| match what {
            What::File(path) => new_tree.shown(&path),
            What::Section(name) => name,
            What::Around => "directories and inodes".to_owned(),
            What::Head => HEAD.to_owned(),
        },
    )?;
    let what = "the patch of kernel and boot";
    let boot = part(
        [&old.boot, &new.boot],
        limits,
        (progress, what),
        |what| match what {
            What::File(path) => path,
            What::Section(name) => format!("kernel {name}"),
            What::Around => "around the kernel".to_owned(),
            What::Head => HEAD.to_owned(),
        },
    )?;
    Ok(UpdateCost {
        bytes: boot.bytes + root.bytes,
        boot,
        root,
    })
}

/// A patch's own bytes.
const HEAD: &str = "hashes of the chunks";

fn part(
    [old, new]: [&[u8]; 2],
    limits: &Limits,
    (progress, step): (&Progress, &str),
    name: impl Fn(What) -> String,
) -> Result<PartCost, DiffError> {
    progress.step(step);
    let mut done = progress.percent(step, new.len() as u64);
    let made = create_with_costs(old, new, limits, &mut done);
    let (patch, costs) = made.map_err(PublishError::from)?;
    let dear = costs.into_iter().filter(|cost| cost.patch_bytes > 0);
    let named = dear.map(|cost: Cost| CostOf {
        name: name(cost.what),
        new_bytes: cost.new_bytes,
        patch_bytes: cost.patch_bytes,
    });
    Ok(PartCost {
        bytes: patch.len() as u64,
        by: named.collect(),
    })
}
