//! Registries, by the OCI distribution specification 1.1: manifests and blobs are fetched, never
//! listed or pushed. Blobs go through the cache, where they are checked before anyone reads them.

mod address;
mod agent;
mod answer;
mod auth;
mod challenge;
mod download;
mod error;
mod http;
mod retry;
mod token;

use std::io::Read;

pub use error::RegistryError;

use crate::digest::Digest;
use crate::error::Error;
use crate::layer::Blob;
use crate::manifest::{DOCKER_LIST, DOCKER_MANIFEST, Descriptor, OCI_INDEX, OCI_MANIFEST};
use crate::options::Options;
use crate::reference::RegistryName;
use crate::store::Store;
use crate::store::cache::Cache;
use crate::store::layout::descriptor;
use http::Client;

/// One repository of a registry.
#[derive(Debug)]
pub(crate) struct Registry {
    place: String,
    name: RegistryName,
    client: Client,
    cache: Cache,
    options: Options,
}

impl Registry {
    /// Prepares to talk to `name`'s registry; nothing is sent yet.
    pub(crate) fn open(name: &RegistryName, options: &Options) -> Result<Self, Error> {
        Ok(Self {
            place: name.to_string(),
            name: name.clone(),
            client: Client::new(name, options)?,
            cache: Cache::new(options),
            options: options.clone(),
        })
    }

    /// The descriptor that the lock file, the reference's digest, or else its tag, leads to.
    pub(crate) fn find(&self, locked: Option<&Digest>) -> Result<Descriptor, Error> {
        if let Some(digest) = locked.or(self.name.digest.as_ref()) {
            if let Some((_, size)) = self.cache.open(digest)? {
                return Ok(descriptor(digest.clone(), size));
            }
            let bytes = self.get_manifest(&digest.to_string())?;
            self.keep(digest, &bytes)?;
            return Ok(descriptor(digest.clone(), bytes.len() as u64));
        }
        let tag = self.name.tag.as_deref().unwrap_or("latest");
        let bytes = self.get_manifest(tag)?;
        let digest = Digest::of(&bytes);
        self.keep(&digest, &bytes)?;
        Ok(descriptor(digest, bytes.len() as u64))
    }

    fn get_manifest(&self, reference: &str) -> Result<Vec<u8>, Error> {
        let accept = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST].join(", ");
        let limit = self.options.limits.manifest_bytes;
        let what = format!("manifest {reference}");
        let bytes = self
            .client
            .get_small(&format!("manifests/{reference}"), &accept, limit)?;
        match bytes.len() as u64 > limit {
            true => Err(Error::TooLarge {
                place: self.place.clone(),
                what,
                limit: format!("{limit} bytes"),
            }),
            false => Ok(bytes),
        }
    }

    /// Puts a manifest into the cache, if it is what it should be.
    fn keep(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        let what = format!("manifest {digest}");
        let expected = descriptor(digest.clone(), bytes.len() as u64);
        let mut download = self.cache.begin()?;
        download.write(bytes)?;
        download.finish(&expected, &self.place, &what).map(drop)
    }
}

impl Store for Registry {
    fn place(&self) -> &str {
        &self.place
    }

    fn manifest(&self, wanted: &Descriptor) -> Result<Blob, Error> {
        let reader: Box<dyn Read> = match self.cache.open(&wanted.digest)? {
            Some((file, _)) => Box::new(file),
            None => {
                let bytes = self.get_manifest(&wanted.digest.to_string())?;
                self.keep(&wanted.digest, &bytes)?;
                Box::new(std::io::Cursor::new(bytes))
            }
        };
        Ok(Blob {
            reader,
            expected: Some((wanted.digest.clone(), wanted.size)),
            place: self.place.clone(),
        })
    }

    fn blob(&self, wanted: &Descriptor) -> Result<Blob, Error> {
        let file = match self.cache.open(&wanted.digest)? {
            Some((file, _)) => file,
            None => self.download(wanted)?,
        };
        Ok(Blob {
            reader: Box::new(file),
            expected: None,
            place: self.place.clone(),
        })
    }
}
