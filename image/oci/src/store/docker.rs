//! What `docker save` writes: `manifest.json` names the configuration and the layers. Current
//! versions put an OCI layout beside it; `manifest.json` is read all the same, since it lists
//! just what is in the archive.
//!
//! Such an archive has no image manifest. The one that it would have if it were pushed without
//! compression is made here, as skopeo does, so that its digest can name the image.

use std::io::Read;

use serde::{Deserialize, Serialize};

use super::Store;
use super::archive::Archive;
use super::layout::descriptor;
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::error::Error;
use crate::layer::Blob;
use crate::limits::Limits;
use crate::manifest::{DOCKER_CONFIG, DOCKER_LAYER_GZIP, DOCKER_MANIFEST, Descriptor, Manifest};
use crate::options::Options;
use crate::reference::RegistryName;

/// One image of the archive.
#[derive(Debug)]
pub(crate) struct DockerArchive {
    place: String,
    archive: Archive,
    /// Member names of the layers, lowest first, with the digests of what they unpack to.
    layers: Vec<(Digest, String)>,
    config: (Digest, String),
}

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// The manifest, in the form and key order in which skopeo and Docker write it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pushed {
    schema_version: u32,
    media_type: &'static str,
    config: PushedBlob,
    layers: Vec<PushedBlob>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PushedBlob {
    media_type: &'static str,
    size: u64,
    digest: Digest,
}

const MANIFEST: &str = "manifest.json";

impl DockerArchive {
    /// Whether the archive is one of these.
    pub(crate) fn is_in(archive: &Archive) -> Result<bool, Error> {
        Ok(archive.member(MANIFEST)?.is_some())
    }

    /// Opens the image called `name`, or the only one; with the manifest that stands for it.
    pub(crate) fn open(
        archive: Archive,
        place: &str,
        name: Option<&RegistryName>,
        options: &Options,
    ) -> Result<(Self, Descriptor, Manifest), Error> {
        let limits = &options.limits;
        let bytes = member(&archive, place, MANIFEST, limits.manifest_bytes)?;
        let items: Vec<Item> = serde_json::from_slice(&bytes)
            .map_err(|error| Error::malformed(place, MANIFEST, error))?;
        let item = choose(&items, place, name)?;
        let config_bytes = member(&archive, place, &item.config, limits.config_bytes)?;
        let config: ImageConfig = serde_json::from_slice(&config_bytes)
            .map_err(|error| Error::malformed(place, &item.config, error))?;
        let members = item.layers.as_deref().unwrap_or_default();
        check_layers(&config, members, place, limits)?;

        let store = Self {
            place: place.to_owned(),
            config: (Digest::of(&config_bytes), item.config.clone()),
            layers: config
                .rootfs
                .diff_ids
                .iter()
                .cloned()
                .zip(members.iter().cloned())
                .collect(),
            archive,
        };
        let (descriptor, manifest) = store.manifest_for(config_bytes.len() as u64)?;
        Ok((store, descriptor, manifest))
    }

    fn manifest_for(&self, config_size: u64) -> Result<(Descriptor, Manifest), Error> {
        let mut layers = Vec::new();
        for (diff_id, name) in &self.layers {
            let Some((_, size)) = self.archive.member(name)? else {
                let what = format!("layer {name:?} is missing; save the image again");
                return Err(Error::missing(&self.place, what));
            };
            layers.push(PushedBlob {
                media_type: DOCKER_LAYER_GZIP,
                size,
                digest: diff_id.clone(),
            });
        }
        let pushed = Pushed {
            schema_version: 2,
            media_type: DOCKER_MANIFEST,
            config: PushedBlob {
                media_type: DOCKER_CONFIG,
                size: config_size,
                digest: self.config.0.clone(),
            },
            layers,
        };
        let bytes = serde_json::to_vec(&pushed)
            .map_err(|error| Error::malformed(&self.place, MANIFEST, error))?;
        let described = |blob: &PushedBlob| Descriptor {
            media_type: blob.media_type.to_owned(),
            ..descriptor(blob.digest.clone(), blob.size)
        };
        let manifest = Manifest {
            config: described(&pushed.config),
            layers: pushed.layers.iter().map(described).collect(),
        };
        Ok((descriptor(Digest::of(&bytes), bytes.len() as u64), manifest))
    }

    fn reader(&self, name: &str) -> Result<Box<dyn Read>, Error> {
        match self.archive.member(name)? {
            Some((reader, _)) => Ok(reader),
            None => Err(Error::missing(
                &self.place,
                format!("member {name:?} is missing; save the image again"),
            )),
        }
    }
}

impl Store for DockerArchive {
    fn place(&self) -> &str {
        &self.place
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Blob, Error> {
        let what = format!("has no manifest {}", descriptor.digest);
        Err(Error::missing(&self.place, what))
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Blob, Error> {
        let (config, name) = &self.config;
        if *config == descriptor.digest {
            return Ok(Blob {
                reader: self.reader(name)?,
                expected: Some((config.clone(), descriptor.size)),
                place: self.place.clone(),
            });
        }
        let layer = self
            .layers
            .iter()
            .find(|(diff_id, _)| *diff_id == descriptor.digest);
        let Some((_, name)) = layer else {
            let what = format!("has no layer {}", descriptor.digest);
            return Err(Error::missing(&self.place, what));
        };
        // Layers are named by what they unpack to, which is checked while they are unpacked.
        Ok(Blob {
            reader: self.reader(name)?,
            expected: None,
            place: self.place.clone(),
        })
    }
}

fn choose<'i>(
    items: &'i [Item],
    place: &str,
    name: Option<&RegistryName>,
) -> Result<&'i Item, Error> {
    let tags = |item: &Item| item.repo_tags.clone().unwrap_or_default();
    let all: Vec<String> = items.iter().flat_map(tags).take(20).collect();
    let Some(name) = name else {
        return match items {
            [only] => Ok(only),
            [] => Err(Error::missing(place, "holds no image")),
            _ => Err(Error::Ambiguous {
                place: place.to_owned(),
                found: all.join(", "),
            }),
        };
    };
    let is_meant = |tag: &String| tag.parse::<RegistryName>().as_ref() == Ok(name);
    items
        .iter()
        .find(|item| tags(item).iter().any(is_meant))
        .ok_or_else(|| {
            let found = match all.is_empty() {
                true => "its images have no names".to_owned(),
                false => format!("only {}", all.join(", ")),
            };
            Error::missing(place, format!("has no image named {name}; {found}"))
        })
}

fn check_layers(
    config: &ImageConfig,
    members: &[String],
    place: &str,
    limits: &Limits,
) -> Result<(), Error> {
    if members.len() > limits.layers {
        return Err(Error::TooLarge {
            place: place.to_owned(),
            what: format!("the list of layers in {MANIFEST}"),
            limit: format!("{} layers", limits.layers),
        });
    }
    let diff_ids = config.rootfs.diff_ids.len();
    if members.len() != diff_ids {
        let why = format!(
            "it has {} layers, its configuration {diff_ids}",
            members.len()
        );
        return Err(Error::malformed(place, MANIFEST, why));
    }
    Ok(())
}

fn member(archive: &Archive, place: &str, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
    let Some((reader, size)) = archive.member(name)? else {
        let what = format!("is not what docker save writes: {name:?} is missing");
        return Err(Error::missing(place, what));
    };
    if size > limit {
        return Err(Error::TooLarge {
            place: place.to_owned(),
            what: name.to_owned(),
            limit: format!("{limit} bytes"),
        });
    }
    let mut bytes = Vec::new();
    reader
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::io(format!("{place}: cannot read {name}"), source))?;
    Ok(bytes)
}
