//! Blobs from registries, kept by digest. Safe to delete at any time and to share between
//! processes: a file appears under its name only when it is complete and checked, and is checked
//! again before each use.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use crate::digest::{Algorithm, Digest, Hasher, digest_of};
use crate::error::Error;
use crate::layer::check;
use crate::manifest::Descriptor;
use crate::options::Options;

/// The cache directory; without one, blobs live in unlinked files.
#[derive(Debug)]
pub(crate) struct Cache {
    directory: Option<PathBuf>,
    temp_dir: PathBuf,
}

impl Cache {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            directory: options.registry.cache.clone(),
            temp_dir: options.temp_dir.clone(),
        }
    }

    /// A blob, at its start, and its size; `None` when it is not there, or no longer what it was:
    /// then it is removed.
    pub(crate) fn open(&self, digest: &Digest) -> Result<Option<(File, u64)>, Error> {
        let Some(path) = self.path(digest) else {
            return Ok(None);
        };
        let failed = |source| Error::io(format!("cannot read {}", path.display()), source);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let (actual, size) = digest_of(&file, digest.algorithm()).map_err(failed)?;
        if actual != *digest {
            // Someone else may have removed it already.
            drop(fs::remove_file(&path));
            return Ok(None);
        }
        let mut file = file;
        file.rewind().map_err(failed)?;
        Ok(Some((file, size)))
    }

    /// Starts a blob.
    pub(crate) fn begin(&self) -> Result<Download, Error> {
        let directory = self.directory.as_deref().unwrap_or(&self.temp_dir);
        let make = || {
            fs::create_dir_all(directory)?;
            tempfile::Builder::new()
                .prefix(".incomplete-")
                .tempfile_in(directory)
        };
        let file = make().map_err(|source| {
            let shown = directory.display();
            Error::io(format!("cannot make a file in {shown}"), source)
        })?;
        Ok(Download {
            file,
            directory: self.directory.clone(),
            hasher: None,
            len: 0,
        })
    }

    fn path(&self, digest: &Digest) -> Option<PathBuf> {
        Some(path_in(self.directory.as_deref()?, digest))
    }
}

fn path_in(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join(digest.algorithm().name()).join(digest.hex())
}

/// A blob on its way into the cache. Dropped before its end, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Download {
    file: tempfile::NamedTempFile,
    directory: Option<PathBuf>,
    hasher: Option<Hasher>,
    len: u64,
}

impl Download {
    /// Bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .write_all(bytes)
            .map_err(|source| self.error(source))?;
        self.hasher
            .get_or_insert_with(|| Hasher::new(Algorithm::Sha256))
            .update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Forgets what came so far.
    pub(crate) fn restart(&mut self) -> Result<(), Error> {
        let file = self.file.as_file_mut();
        let emptied = file.set_len(0).and_then(|()| file.rewind());
        emptied.map_err(|source| self.error(source))?;
        (self.hasher, self.len) = (None, 0);
        Ok(())
    }

    /// Checks the blob and gives it its name; returns it at its start.
    pub(crate) fn finish(
        mut self,
        expected: &Descriptor,
        place: &str,
        what: &str,
    ) -> Result<File, Error> {
        let actual = match (expected.digest.algorithm(), self.hasher.take()) {
            (Algorithm::Sha256, Some(hasher)) => hasher.finish(),
            (algorithm, _) => self.hash(algorithm)?,
        };
        check(
            place,
            what,
            &expected.digest,
            expected.size,
            &actual,
            self.len,
        )?;
        let mut file = match &self.directory {
            None => self.file.into_file(),
            Some(directory) => {
                let path = path_in(directory, &expected.digest);
                let failed = |source| Error::io(format!("cannot write {}", path.display()), source);
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent).map_err(failed)?;
                }
                self.file
                    .persist(&path)
                    .map_err(|error| failed(error.error))?
            }
        };
        file.rewind()
            .map_err(|source| Error::io(format!("{place}: cannot read {what}"), source))?;
        Ok(file)
    }

    /// For the rare algorithm that is not kept up while writing.
    fn hash(&mut self, algorithm: Algorithm) -> Result<Digest, Error> {
        let file = self.file.as_file_mut();
        let hash = file.rewind().and_then(|()| digest_of(&*file, algorithm));
        hash.map(|(digest, _)| digest)
            .map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> Error {
        Error::io(
            format!("cannot write {}", self.file.path().display()),
            source,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layout::descriptor;

    #[test]
    fn a_damaged_blob_is_thrown_away_and_an_unfinished_one_never_seen() {
        let directory = tempfile::tempdir().expect("dir");
        let options = Options {
            registry: crate::options::RegistryOptions {
                cache: Some(directory.path().to_owned()),
                ..Default::default()
            },
            ..Options::default()
        };
        let cache = Cache::new(&options);
        let wanted = descriptor(Digest::of(b"data"), 4);
        let mut download = cache.begin().expect("begin");
        download.write(b"dat").expect("write");
        assert!(download.finish(&wanted, "here", "blob").is_err());
        assert!(cache.open(&wanted.digest).expect("open").is_none());

        let mut download = cache.begin().expect("begin");
        download.write(b"data").expect("write");
        download.finish(&wanted, "here", "blob").expect("finish");
        assert_eq!(
            cache.open(&wanted.digest).expect("open").expect("blob").1,
            4
        );

        let path = path_in(directory.path(), &wanted.digest);
        fs::write(&path, b"dama").expect("damage");
        assert!(cache.open(&wanted.digest).expect("open").is_none());
        assert!(!path.exists());
        let left = fs::read_dir(directory.path()).expect("read").count();
        assert_eq!(left, 1, "only the directory of the algorithm");
    }
}
