//! The containers' images: found (by digest, when the lock pins one), unpacked, each once.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use berth_oci::{Digest, Image, Reference};
use berth_tree::Spool;

use super::error::BuildError;
use super::{Progress, demo};
use crate::config::{Config, Mistakes};
use crate::lock::{self, Lock};

/// An image of the machine and the references that mean it.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) references: Vec<String>,
    pub(super) image: Image,
}

/// What decides where images come from.
#[derive(Debug)]
pub(super) struct Context<'a> {
    /// Relative paths start here.
    pub(super) base: &'a Path,
    /// What is pinned, and in which file.
    pub(super) lock: &'a Lock,
    pub(super) lock_path: &'a Path,
    /// Where temporary files may be.
    pub(super) temporary: &'a Path,
    pub(super) progress: &'a Progress,
}

/// Loads every image of `config`, in the order of the file; each digest once.
pub(super) fn load(
    config: &Config,
    context: &Context<'_>,
    spool: &mut Spool,
) -> Result<Vec<Loaded>, BuildError> {
    let mut loaded: Vec<Loaded> = Vec::new();
    for container in &config.containers {
        let text = &container.image.value;
        if loaded.iter().any(|image| image.references.contains(text)) {
            continue;
        }
        let reference = parse(config, text, container.image.place, context)?;
        let pinned = context.lock.images.get(text);
        let locked = pinned
            .map(|digest| digest.parse::<Digest>())
            .transpose()
            .map_err(|error| malformed(context.lock_path, error.to_string()))?;
        context.progress.step(&format!("image {text}"));
        let options = context.progress.image_options(context.temporary);
        // A local image is resolved without its pin, so that a change is told as such.
        let local = !matches!(reference, Reference::Registry(_));
        let asked = locked.as_ref().filter(|_| !local);
        let resolved = berth_oci::resolve(&reference, asked, &options)?;
        let digest = resolved.digest().to_string();
        lock::check(
            context.lock_path,
            || format!("image {text:?}"),
            pinned.map(String::as_str),
            &digest,
        )?;
        if let Some(same) = loaded
            .iter_mut()
            .find(|image| image.image.digest == *resolved.digest())
        {
            same.references.push(text.clone());
            continue;
        }
        loaded.push(Loaded {
            references: vec![text.clone()],
            image: resolved.unpack(spool)?,
        });
    }
    Ok(loaded)
}

/// What to pin.
pub(super) fn pins(loaded: &[Loaded]) -> BTreeMap<String, String> {
    loaded
        .iter()
        .flat_map(|image| {
            let digest = image.image.digest.to_string();
            let references = image.references.iter().cloned();
            references.map(move |reference| (reference, digest.clone()))
        })
        .collect()
}

fn parse(
    config: &Config,
    text: &str,
    place: crate::config::Place,
    context: &Context<'_>,
) -> Result<Reference, BuildError> {
    if text == demo::REFERENCE {
        let path = context.temporary.join(demo::ARCHIVE_NAME);
        let file = File::create(&path).map_err(BuildError::write(&path))?;
        demo::write_image(file, context.temporary)?;
        return Ok(Reference::OciArchive { path, tag: None });
    }
    let reference: Reference = text.parse().map_err(|error: berth_oci::ReferenceError| {
        Mistakes::one(&config.file, place, error.to_string())
    })?;
    Ok(reference.relative_to(context.base))
}

fn malformed(path: &Path, why: String) -> BuildError {
    let path = PathBuf::from(path);
    lock::LockError::Malformed { path, why }.into()
}
