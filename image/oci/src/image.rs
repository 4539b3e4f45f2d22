//! From a reference to an image in two steps: [`resolve`] finds out which image is meant and
//! reads manifest and configuration; [`Resolved::unpack`] applies the layers.

use berth_tree::{Spool, Tree};

use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::error::Error;
use crate::layer::{Applier, Attribution};
use crate::manifest::{Descriptor, Manifest};
use crate::options::{Options, Step};
use crate::reference::Reference;
use crate::registry::Registry;
use crate::store::archive::Archive;
use crate::store::docker::DockerArchive;
use crate::store::layout::Layout;
use crate::store::{self, Store};

/// An image that is known by digest, with its configuration; its layers are not read yet.
#[derive(Debug)]
pub struct Resolved {
    reference: Reference,
    digest: Digest,
    config_blob: Descriptor,
    layers: Vec<Descriptor>,
    config: ImageConfig,
    store: Box<dyn Store>,
    options: Options,
}

/// An unpacked image.
#[derive(Debug)]
pub struct Image {
    /// The manifest's digest, which names the image.
    pub digest: Digest,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its root file system; data is in the spool.
    pub tree: Tree,
    /// Its layers, lowest first.
    pub layers: Vec<LayerInfo>,
    /// Which layer each node of `tree` came from.
    pub attribution: Attribution,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerInfo {
    /// Digest as stored.
    pub digest: Digest,
    /// Digest of its tar file.
    pub diff_id: Digest,
    /// Bytes as stored.
    pub size: u64,
    /// Bytes of its tar file.
    pub tar_bytes: u64,
    /// Bytes of its files, hidden ones included.
    pub file_bytes: u64,
    /// Entries of its tar file.
    pub entries: u64,
    /// What made it, from the image's history; empty when that does not say.
    pub created_by: String,
}

/// Finds the image that `reference` means. With `locked`, a manifest digest from a lock file,
/// exactly that one: nobody is asked what a tag means.
///
/// # Errors
/// When it is not there, is not an image for the platform, or does not have its digest.
pub fn resolve(
    reference: &Reference,
    locked: Option<&Digest>,
    options: &Options,
) -> Result<Resolved, Error> {
    let place = reference.to_string();
    let archive_at = |path| Archive::open(path, &place, options);
    let (store, descriptor, manifest) = match reference {
        Reference::OciDir { path, tag } => {
            let layout = Layout::directory(path, &place, options)?;
            in_layout(layout, tag.as_deref(), locked, options)?
        }
        Reference::OciArchive { path, tag } => {
            let layout = Layout::archive(archive_at(path)?, &place, options)?;
            in_layout(layout, tag.as_deref(), locked, options)?
        }
        Reference::DockerArchive { path, name } => {
            let archive = archive_at(path)?;
            if DockerArchive::is_in(&archive)? {
                let (store, descriptor, manifest) =
                    DockerArchive::open(archive, &place, name.as_ref(), options)?;
                (Box::new(store) as Box<dyn Store>, descriptor, manifest)
            } else {
                let layout = Layout::archive(archive, &place, options)?;
                let tag = name.as_ref().map(ToString::to_string);
                in_layout(layout, tag.as_deref(), locked, options)?
            }
        }
        Reference::Registry(name) => {
            let registry = Registry::open(name, options)?;
            let start = registry.find(locked)?;
            let (descriptor, manifest) =
                store::find_manifest(&registry, start, &options.platform, &options.limits)?;
            (Box::new(registry) as Box<dyn Store>, descriptor, manifest)
        }
    };
    if let Some(locked) = locked
        && *locked != descriptor.digest
    {
        return Err(Error::NotTheLockedImage {
            reference: Box::new(reference.clone()),
            locked: locked.clone(),
            found: descriptor.digest,
        });
    }
    let config = read_config(store.as_ref(), &manifest, options)?;
    Ok(Resolved {
        reference: reference.clone(),
        digest: descriptor.digest,
        config_blob: manifest.config,
        layers: manifest.layers,
        config,
        store,
        options: options.clone(),
    })
}

type Found = (Box<dyn Store>, Descriptor, Manifest);

fn in_layout(
    layout: Layout,
    tag: Option<&str>,
    locked: Option<&Digest>,
    options: &Options,
) -> Result<Found, Error> {
    let start = layout.find(tag, locked, options)?;
    let (descriptor, manifest) =
        store::find_manifest(&layout, start, &options.platform, &options.limits)?;
    Ok((Box::new(layout), descriptor, manifest))
}

fn read_config(
    store: &dyn Store,
    manifest: &Manifest,
    options: &Options,
) -> Result<ImageConfig, Error> {
    let place = store.place();
    let what = format!("configuration {}", manifest.config.digest);
    let blob = store.blob(&manifest.config)?;
    let bytes = store::read(blob, &manifest.config, &what, options.limits.config_bytes)?;
    let config: ImageConfig =
        serde_json::from_slice(&bytes).map_err(|error| Error::malformed(place, &what, error))?;
    let wanted = &options.platform;
    let differs = |has: &str, wants: &str| !has.is_empty() && has != wants;
    if differs(&config.os, &wanted.os) || differs(&config.architecture, &wanted.architecture) {
        let why = format!(
            "the image is for {}/{}, but {wanted} is needed",
            config.os, config.architecture
        );
        return Err(Error::unsupported(place, why));
    }
    let (diff_ids, layers) = (config.rootfs.diff_ids.len(), manifest.layers.len());
    if diff_ids != layers {
        let why = format!("it lists {diff_ids} layers, the manifest {layers}");
        return Err(Error::malformed(place, what, why));
    }
    Ok(config)
}

impl Resolved {
    /// What was asked for.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The manifest's digest: what a lock file records and [`resolve`] takes as `locked`.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The configuration's digest and size.
    #[must_use]
    pub fn config_blob(&self) -> &Descriptor {
        &self.config_blob
    }

    /// The layers' digests and sizes, lowest first.
    #[must_use]
    pub fn layers(&self) -> &[Descriptor] {
        &self.layers
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Fetches the layers and applies them, with the files' data in `spool`.
    ///
    /// # Errors
    /// When a layer is not there, does not have its digests, or holds what is refused.
    pub fn unpack(&self, spool: &mut Spool) -> Result<Image, Error> {
        let mut applier = Applier::new(spool, &self.options.limits);
        let created_by = self.config.created_by();
        let mut layers = Vec::with_capacity(self.layers.len());
        let each = self
            .layers
            .iter()
            .zip(&self.config.rootfs.diff_ids)
            .zip(created_by);
        for (number, ((layer, diff_id), created_by)) in each.enumerate() {
            let blob = self.store.blob(layer)?;
            self.options.progress.tell(Step::Layer {
                number: number + 1,
                of: self.layers.len(),
                bytes: layer.size,
            });
            let applied = applier.apply(number, blob, &layer.digest, diff_id)?;
            layers.push(LayerInfo {
                digest: layer.digest.clone(),
                diff_id: diff_id.clone(),
                size: layer.size,
                tar_bytes: applied.tar_bytes,
                file_bytes: applied.file_bytes,
                entries: applied.entries,
                created_by,
            });
        }
        let (tree, attribution) = applier.finish();
        Ok(Image {
            digest: self.digest.clone(),
            config: self.config.clone(),
            tree,
            layers,
            attribution,
        })
    }
}
