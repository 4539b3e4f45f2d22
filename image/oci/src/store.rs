//! Where blobs are: a layout directory, an archive, a registry. Each says how a descriptor's
//! bytes are opened; what they must be is checked here or while a layer streams.

pub(crate) mod archive;
pub(crate) mod cache;
pub(crate) mod docker;
pub(crate) mod layout;

use std::io::Read;

use crate::digest::Hasher;
use crate::error::Error;
use crate::layer::{Blob, check};
use crate::limits::Limits;
use crate::manifest::{self, Descriptor, Document, Manifest};
use crate::options::Platform;

/// A file of a layout or an archive, and its size.
pub(crate) type StoredFile = (Box<dyn Read>, u64);

/// Something that holds blobs.
pub(crate) trait Store: std::fmt::Debug {
    /// Its name for errors.
    fn place(&self) -> &str;

    /// Opens an index or a manifest.
    fn manifest(&self, descriptor: &Descriptor) -> Result<Blob, Error>;

    /// Opens a configuration or a layer.
    fn blob(&self, descriptor: &Descriptor) -> Result<Blob, Error>;
}

/// Reads a small blob whole, with its cap and its digest checked.
pub(crate) fn read(
    blob: Blob,
    descriptor: &Descriptor,
    what: &str,
    limit: u64,
) -> Result<Vec<u8>, Error> {
    let place = blob.place;
    if descriptor.size > limit {
        return Err(Error::TooLarge {
            place,
            what: what.to_owned(),
            limit: format!("{limit} bytes"),
        });
    }
    let mut bytes = Vec::new();
    blob.reader
        .take(descriptor.size + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::io(format!("{place}: cannot read {what}"), source))?;
    let mut hasher = Hasher::new(descriptor.digest.algorithm());
    hasher.update(&bytes);
    let (actual, count) = (hasher.finish(), bytes.len() as u64);
    check(
        &place,
        what,
        &descriptor.digest,
        descriptor.size,
        &actual,
        count,
    )?;
    Ok(bytes)
}

/// The manifest that `start` leads to, through as many indexes as there may be: its own
/// descriptor and content.
pub(crate) fn find_manifest(
    store: &dyn Store,
    start: Descriptor,
    platform: &Platform,
    limits: &Limits,
) -> Result<(Descriptor, Manifest), Error> {
    let mut at = start;
    for _ in 0..=limits.index_depth {
        let what = format!("manifest {}", at.digest);
        let bytes = read(store.manifest(&at)?, &at, &what, limits.manifest_bytes)?;
        match manifest::parse(&bytes, store.place(), &what, limits)? {
            Document::Manifest(manifest) => return Ok((at, manifest)),
            Document::Index(index) => {
                at = manifest::select(&index, platform, store.place())?.clone();
            }
        }
    }
    Err(Error::TooLarge {
        place: store.place().to_owned(),
        what: "the nesting of indexes".to_owned(),
        limit: format!("{} levels", limits.index_depth),
    })
}
