//! OCI image layouts (OCI image specification, "Image Layout"), in a directory or an archive.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::archive::Archive;
use super::{Store, StoredFile};
use crate::digest::Digest;
use crate::error::Error;
use crate::layer::Blob;
use crate::manifest::{self, Descriptor, Document, Index};
use crate::options::Options;

/// A layout.
#[derive(Debug)]
pub(crate) struct Layout {
    place: String,
    files: Files,
}

#[derive(Debug)]
enum Files {
    Directory(PathBuf),
    Archive(Archive),
}

/// The name that containerd and Docker give an image in `index.json`.
const IMAGE_NAME: &str = "io.containerd.image.name";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutFile {
    image_layout_version: String,
}

impl Layout {
    pub(crate) fn directory(path: &Path, place: &str, options: &Options) -> Result<Self, Error> {
        let layout = Self {
            place: place.to_owned(),
            files: Files::Directory(path.to_owned()),
        };
        if !path.is_dir() {
            let why = match path.exists() {
                true => "it is not a directory; for a file, use oci-archive: or docker-archive:",
                false => "there is no such directory",
            };
            return Err(Error::missing(place, why));
        }
        layout.check_version(options)?;
        Ok(layout)
    }

    pub(crate) fn archive(archive: Archive, place: &str, options: &Options) -> Result<Self, Error> {
        let layout = Self {
            place: place.to_owned(),
            files: Files::Archive(archive),
        };
        layout.check_version(options)?;
        Ok(layout)
    }

    /// The descriptor that the lock file, or else the tag, leads to.
    pub(crate) fn find(
        &self,
        tag: Option<&str>,
        locked: Option<&Digest>,
        options: &Options,
    ) -> Result<Descriptor, Error> {
        if let Some(digest) = locked
            && let Some((_, size)) = self.open(&blob_name(digest))?
        {
            return Ok(descriptor(digest.clone(), size));
        }
        let bytes = self.small_file("index.json", options)?;
        let what = "index.json";
        let index = match manifest::parse(&bytes, &self.place, what, &options.limits)? {
            Document::Index(index) => index,
            Document::Manifest(_) => {
                return Err(Error::malformed(&self.place, what, "it is not an index"));
            }
        };
        self.choose(index, tag, options)
    }

    fn choose(
        &self,
        index: Index,
        tag: Option<&str>,
        options: &Options,
    ) -> Result<Descriptor, Error> {
        let named = |entry: &Descriptor, tag: &str| {
            let full = entry.annotations.as_ref().and_then(|a| a.get(IMAGE_NAME));
            entry.ref_name() == Some(tag) || full.is_some_and(|name| name == tag)
        };
        let mut names: Vec<&str> = index
            .manifests
            .iter()
            .filter_map(Descriptor::ref_name)
            .collect();
        names.sort_unstable();
        names.dedup();
        let found = names
            .iter()
            .take(20)
            .copied()
            .collect::<Vec<_>>()
            .join(", ");
        let fitting: Vec<Descriptor> = match tag {
            Some(tag) => index
                .manifests
                .iter()
                .filter(|entry| named(entry, tag))
                .cloned()
                .collect(),
            None if names.len() > 1 => {
                return Err(Error::Ambiguous {
                    place: self.place.clone(),
                    found,
                });
            }
            None => index.manifests.clone(),
        };
        match (fitting.as_slice(), tag) {
            ([only], _) => Ok(only.clone()),
            ([], Some(tag)) => Err(Error::missing(
                &self.place,
                match found.as_str() {
                    "" => format!("has no image named {tag:?}; its images have no names"),
                    found => format!("has no image named {tag:?}, only {found}"),
                },
            )),
            ([], None) => Err(Error::missing(&self.place, "holds no image")),
            // One name for several platforms.
            _ => {
                let index = Index { manifests: fitting };
                manifest::select(&index, &options.platform, &self.place).cloned()
            }
        }
    }

    fn check_version(&self, options: &Options) -> Result<(), Error> {
        let bytes = self.small_file("oci-layout", options)?;
        let file: LayoutFile = serde_json::from_slice(&bytes)
            .map_err(|error| Error::malformed(&self.place, "oci-layout", error))?;
        match file.image_layout_version.starts_with("1.") {
            true => Ok(()),
            false => Err(Error::unsupported(
                &self.place,
                format!(
                    "the image layout has version {:?}; this tool knows 1.x",
                    file.image_layout_version
                ),
            )),
        }
    }

    fn small_file(&self, name: &str, options: &Options) -> Result<Vec<u8>, Error> {
        let Some((reader, size)) = self.open(name)? else {
            let hint = match (&self.files, self.open("manifest.json")?) {
                (Files::Archive(_), Some(_)) => {
                    "; it looks like docker save's: use docker-archive:"
                }
                _ => "",
            };
            let what = format!("is not an OCI image layout: {name} is missing{hint}");
            return Err(Error::missing(&self.place, what));
        };
        let limit = options.limits.manifest_bytes;
        if size > limit {
            return Err(Error::TooLarge {
                place: self.place.clone(),
                what: name.to_owned(),
                limit: format!("{limit} bytes"),
            });
        }
        let mut bytes = Vec::new();
        reader
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(|source| Error::io(format!("{}: cannot read {name}", self.place), source))?;
        Ok(bytes)
    }

    fn open(&self, name: &str) -> Result<Option<StoredFile>, Error> {
        let directory = match &self.files {
            Files::Archive(archive) => return archive.member(name),
            Files::Directory(path) => path,
        };
        let failed = |source| Error::io(format!("{}: cannot open {name}", self.place), source);
        let file = match File::open(directory.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::other("it is not a file")));
        }
        Ok(Some((Box::new(file), metadata.len())))
    }
}

impl Store for Layout {
    fn place(&self) -> &str {
        &self.place
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Blob, Error> {
        self.blob(descriptor)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Blob, Error> {
        let Some((reader, _)) = self.open(&blob_name(&descriptor.digest))? else {
            return Err(Error::missing(
                &self.place,
                format!(
                    "blob {} is missing; copy the image again",
                    descriptor.digest
                ),
            ));
        };
        Ok(Blob {
            reader,
            expected: Some((descriptor.digest.clone(), descriptor.size)),
            place: self.place.clone(),
        })
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// A descriptor of which only the digest is known.
pub(crate) fn descriptor(digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: String::new(),
        digest,
        size,
        platform: None,
        annotations: None,
    }
}
