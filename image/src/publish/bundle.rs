//! `berth bundle`: what one machine type needs of a published directory, in one file
//! (`berth_release::bundle`), for machines without a network.
//!
//! The metadata is read as a machine would read it, and what it asks for on the way is what goes
//! into the bundle. Every file is held against its signed hash while it is copied.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use berth_disk::pending::Pending;
use berth_release::bundle::{BLOCK, FIRST, ROUND, header, padded};
use berth_release::{Delta, Hash, METADATA, Part, Patch, Release, TARGETS};
use berth_trust::Target;
use sha2::{Digest, Sha256};

use super::PublishError;
use super::look::Look;

/// Bytes copied at a time.
const PIECE: usize = 1 << 20;
/// The root file that every bundle has; a machine carries this one or a later one.
const FIRST_ROOT: &str = "1.root.json";

/// What to pack.
#[derive(Clone, Debug)]
pub struct BundleRequest {
    /// The published directory.
    pub directory: PathBuf,
    /// The bundle.
    pub out: PathBuf,
    /// The product, when the directory has several.
    pub product: Option<String>,
    /// The profile, when the product has several.
    pub profile: Option<String>,
    /// Versions that the bundle leads from, by deltas; any version, by the whole image, when
    /// there are none.
    pub from: Vec<String>,
}

/// A finished bundle.
#[derive(Clone, Debug)]
pub struct Bundled {
    /// What it holds.
    pub release: Release,
    /// Its length.
    pub bytes: u64,
    /// Until when machines believe it.
    pub good_until: String,
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The directory is not what was published.
    #[error(transparent)]
    Published(#[from] PublishError),
    /// It is not clear what is meant.
    #[error("{0}")]
    Choice(String),
    /// Something has no place in a bundle.
    #[error(
        "{0} has no place in a bundle: its name or its size is beyond what a tar archive holds"
    )]
    NoPlace(String),
}

/// Packs a bundle.
///
/// # Errors
/// See [`BundleError`]; no file is left then.
pub fn bundle(request: &BundleRequest) -> Result<Bundled, BundleError> {
    let directory = &request.directory;
    let look = look(directory)?;
    let target = choose(request, &look.targets)?;
    let document = format!("{TARGETS}/{}", target.url());
    let path = directory.join(&document);
    let text = fs::read(&path).map_err(PublishError::read(&path))?;
    let wrong = |reason: String| PublishError::Wrong {
        path: path.clone(),
        reason,
    };
    target.verify(&text).map_err(|why| wrong(why.to_string()))?;
    let release = Release::parse(&text).map_err(PublishError::from)?;
    let good_until = look.good_until();

    let mut archive = Archive::create(&request.out, release.published)?;
    archive.entry(FIRST, about(&release, &good_until).as_bytes())?;
    for (name, bytes) in &look.files {
        archive.entry(&format!("{METADATA}/{name}"), bytes)?;
    }
    archive.entry(&document, &text)?;
    for file in files(&release, &request.from)? {
        archive.copy(directory, &file)?;
    }
    Ok(Bundled {
        bytes: archive.finish()?,
        release,
        good_until,
    })
}

/// What a machine finds that carries the first root or a later one.
fn look(directory: &Path) -> Result<Look, PublishError> {
    let path = directory.join(METADATA).join(FIRST_ROOT);
    let root = match fs::read(&path) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(PublishError::read(&path))?,
    };
    let mut look = Look::new(directory, &root)?;
    look.files.insert(FIRST_ROOT.to_owned(), root);
    Ok(look)
}

/// The one target that is meant.
fn choose<'a>(request: &BundleRequest, targets: &'a [Target]) -> Result<&'a Target, BundleError> {
    let fits = |part: Option<&str>, wanted: &Option<String>| {
        wanted.as_deref().is_none_or(|wanted| part == Some(wanted))
    };
    let meant = targets.iter().filter(|target| {
        let mut parts = target.path().split('/');
        fits(parts.next(), &request.product) && fits(parts.next(), &request.profile)
    });
    let meant: Vec<&Target> = meant.collect();
    let list = |targets: &mut dyn Iterator<Item = &Target>| {
        let paths: Vec<&str> = targets
            .map(|target| target.path().trim_end_matches("/release.json"))
            .collect();
        paths.join(", ")
    };
    match meant.as_slice() {
        [one] => Ok(one),
        [] => Err(BundleError::Choice(format!(
            "{} has no such machine; it has {}",
            request.directory.display(),
            list(&mut targets.iter())
        ))),
        several => Err(BundleError::Choice(format!(
            "{} has several machines, and a bundle is for one: choose by --product and --profile \
             among {}",
            request.directory.display(),
            list(&mut several.iter().copied())
        ))),
    }
}

/// A file to copy, and what it must be.
struct Wanted {
    path: String,
    bytes: u64,
    sha256: Hash,
}

/// The files that make the version from the versions in `from`, or from any.
fn files(release: &Release, from: &[String]) -> Result<Vec<Wanted>, BundleError> {
    let patch = |patch: &Patch| Wanted {
        path: patch.path(),
        bytes: patch.bytes,
        sha256: patch.sha256,
    };
    if from.is_empty() {
        let whole = |part: &Part| match &part.packed {
            Some(packed) => patch(packed),
            None => Wanted {
                path: part.path(),
                bytes: part.bytes,
                sha256: part.sha256,
            },
        };
        return Ok(vec![whole(&release.boot), whole(&release.root.part)]);
    }
    let mut files = Vec::new();
    for version in from {
        let delta = release.deltas.iter().find(|one| one.version == *version);
        let Some(Delta { boot, root, .. }) = delta else {
            let there: Vec<&str> = release.deltas.iter().map(|d| d.version.as_str()).collect();
            return Err(BundleError::Choice(format!(
                "there is no delta from version {version} to version {}; there are some from: \
                 {}. Without --from the bundle has the whole image, which needs none",
                release.version,
                there.join(", ")
            )));
        };
        // Parts that did not change share a patch.
        for patch in [boot, root].map(patch) {
            if files.iter().all(|file: &Wanted| file.path != patch.path) {
                files.push(patch);
            }
        }
    }
    Ok(files)
}

/// The first entry: for people who wonder what this is.
fn about(release: &Release, good_until: &str) -> String {
    format!(
        "Version {} of {}, for machines of the profile {} on {}, made by berth bundle.\n\
         Machines with bundles = true in [update] take it until {good_until}.\n\
         Write the whole file onto a disk and plug it in: dd if=THIS of=/dev/DISK bs=1M\n",
        release.version, release.product, release.profile, release.architecture
    )
}

/// The archive that is written.
struct Archive {
    pending: Pending,
    length: u64,
    time: u64,
}

impl Archive {
    fn create(path: &Path, time: u64) -> Result<Self, PublishError> {
        Ok(Self {
            pending: Pending::create(path).map_err(PublishError::write(path))?,
            length: 0,
            time,
        })
    }

    fn entry(&mut self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        self.begin(name, bytes.len() as u64)?;
        self.put(bytes)?;
        Ok(self.fill(BLOCK)?)
    }

    fn copy(&mut self, directory: &Path, file: &Wanted) -> Result<(), BundleError> {
        let path = directory.join(&file.path);
        let mut from = File::open(&path).map_err(PublishError::read(&path))?;
        self.begin(&file.path, file.bytes)?;
        let mut hash = Sha256::new();
        let mut left = file.bytes;
        let mut piece = vec![0; PIECE];
        while left > 0 {
            let length = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            let piece = &mut piece[..length];
            from.read_exact(piece).map_err(PublishError::read(&path))?;
            hash.update(&*piece);
            self.put(piece)?;
            left -= length as u64;
        }
        if Hash(hash.finalize().into()) != file.sha256 {
            let reason = "it is not what was signed".into();
            return Err(PublishError::Wrong { path, reason }.into());
        }
        Ok(self.fill(BLOCK)?)
    }

    fn begin(&mut self, name: &str, bytes: u64) -> Result<(), BundleError> {
        let header = header(name, bytes, self.time);
        let header = header.ok_or_else(|| BundleError::NoPlace(name.to_owned()))?;
        Ok(self.put(&header)?)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), PublishError> {
        let written = self.pending.file().write_all(bytes);
        written.map_err(PublishError::write(self.pending.path()))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Zeros up to a multiple of `of`.
    fn fill(&mut self, of: u64) -> Result<(), PublishError> {
        let missing = self.length.next_multiple_of(of) - self.length;
        self.put(&vec![0; usize::try_from(missing).unwrap_or_default()])
    }

    fn finish(mut self) -> Result<u64, PublishError> {
        debug_assert_eq!(self.length, padded(self.length));
        self.put(&[0; 2 * BLOCK as usize])?;
        self.fill(ROUND)?;
        let path = self.pending.path().to_owned();
        self.pending.finish().map_err(PublishError::write(path))?;
        Ok(self.length)
    }
}
