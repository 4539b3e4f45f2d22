//! The pinned sources, and how one gets here: from the cache, from a file that the user gives, or
//! by `apt-get download` as an ordinary user. Whatever the way, it counts only with its hash.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::{Error, io as io_error};
use crate::progress::Progress;

/// The pins, inside the tool.
const PINS: &str = include_str!("../sources.toml");

/// One source that may be built.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The kernel's version.
    pub version: String,
    /// The Debian package that carries it.
    pub package: String,
    /// The package's version.
    pub release: String,
    /// The package file's size in bytes.
    pub size: u64,
    /// The package file's SHA-256 in hexadecimal.
    pub sha256: String,
    /// The package's day, `YYYY-MM-DD`: the kernel's build date.
    pub date: String,
}

/// The pinned sources, newest first.
pub fn versions() -> &'static [Source] {
    static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            source: Vec<Source>,
        }
        toml::from_str::<File>(PINS)
            .expect("a test reads sources.toml")
            .source
    });
    &SOURCES
}

/// The source of that version, or the newest.
pub(crate) fn find(version: Option<&str>) -> Result<&'static Source, Error> {
    let Some(wanted) = version else {
        return Ok(&versions()[0]);
    };
    versions()
        .iter()
        .find(|source| source.version == wanted)
        .ok_or_else(|| {
            let pinned: Vec<_> = versions()
                .iter()
                .map(|source| source.version.as_str())
                .collect();
            Error::UnknownVersion {
                wanted: wanted.to_owned(),
                pinned: pinned.join(", "),
            }
        })
}

/// Returns the checked package file of `source`.
pub(crate) fn obtain(
    source: &Source,
    given: Option<&Path>,
    cache: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, Error> {
    if let Some(path) = given {
        verify(source, path)?;
        return Ok(path.to_owned());
    }
    let directory = cache.join("sources");
    let kept = directory.join(format!("{}_{}.deb", source.package, source.release));
    if kept.is_file() {
        match verify(source, &kept) {
            // A cache may be damaged; what is not the source is fetched again.
            Err(Error::WrongSource { .. }) => {}
            other => return other.map(|()| kept),
        }
    }
    fs::create_dir_all(&directory).map_err(io_error("creating", &directory))?;
    let package = format!("{}={}", source.package, source.release);
    progress(Progress::Fetching {
        package: package.clone(),
    });
    let arrival = tempfile::tempdir_in(&directory).map_err(io_error("writing in", &directory))?;
    let fetched = download(&package, arrival.path())?;
    verify(source, &fetched)?;
    fs::rename(&fetched, &kept).map_err(io_error("writing", &kept))?;
    Ok(kept)
}

fn download(package: &str, directory: &Path) -> Result<PathBuf, Error> {
    let failed = |why: String| Error::Fetch {
        package: package.to_owned(),
        why,
    };
    let output = Command::new("apt-get")
        // Root's apt-get would hand the file to a user who may not write here.
        .args(["-qq", "-o", "APT::Sandbox::User=", "download", package])
        .env("LC_ALL", "C")
        .current_dir(directory)
        .output()
        .map_err(|error| failed(format!("apt-get could not be started: {error}")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let said: Vec<_> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        return Err(failed(if said.is_empty() {
            output.status.to_string()
        } else {
            said.join(" ")
        }));
    }
    fs::read_dir(directory)
        .and_then(|mut entries| entries.next().transpose())
        .map_err(io_error("reading", directory))?
        .map(|entry| entry.path())
        .ok_or_else(|| failed("it wrote no file".to_owned()))
}

fn verify(source: &Source, path: &Path) -> Result<(), Error> {
    let found = sha256_of(path)?;
    if found == source.sha256 {
        return Ok(());
    }
    Err(Error::WrongSource {
        path: path.to_owned(),
        version: source.version.clone(),
        found,
        pinned: source.sha256.clone(),
    })
}

/// A file's SHA-256 in hexadecimal.
pub(crate) fn sha256_of(path: &Path) -> Result<String, Error> {
    let mut file = File::open(path).map_err(io_error("opening", path))?;
    let mut hash = Sha256::new();
    io::copy(&mut file, &mut hash).map_err(io_error("reading", path))?;
    Ok(format!("{:x}", hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_several_sources_for_update_pairs_and_the_newest_is_first() {
        let numbers: Vec<Vec<u32>> = versions()
            .iter()
            .map(|it| {
                it.version
                    .split('.')
                    .map(|part| part.parse().unwrap())
                    .collect()
            })
            .collect();
        assert!(numbers.len() >= 2);
        assert!(numbers.is_sorted_by(|newer, older| newer > older));
        for source in versions() {
            assert_eq!(source.sha256.len(), 64);
            assert!(source.release.starts_with(&source.version), "{source:?}");
            assert_eq!(source.date.len(), 10);
        }
    }

    #[test]
    fn an_unknown_version_is_answered_with_the_known_ones() {
        let message = find(Some("5.0")).unwrap_err().to_string();
        assert!(
            message.contains("\"5.0\"") && message.contains("6.12.117"),
            "{message}"
        );
    }

    #[test]
    fn a_file_with_another_hash_is_refused_with_both_hashes() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("linux.deb");
        fs::write(&file, "not a kernel").unwrap();
        let source = &versions()[0];
        let error = obtain(source, Some(&file), directory.path(), &mut |_| {}).unwrap_err();
        let message = error.to_string();
        let found = sha256_of(&file).unwrap();
        assert!(
            message.contains(&source.sha256) && message.contains(&found),
            "{message}"
        );
    }
}
