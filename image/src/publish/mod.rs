//! `berth publish`: a build becomes a version that machines can update to, in a directory of files
//! that any web server can serve.
//!
//! Machines may read the directory at any moment, and a publication may be cut off at any moment.
//! So files whose names are their content's hash come first, each under its name only when it is
//! whole and on the medium; the metadata that names them follows in the order that
//! `berth_trust::write` gives, `timestamp.json` last. Until that one file is replaced the
//! directory is what it was.

mod error;
pub(crate) mod history;
pub(crate) mod parts;
mod signing;
mod verify;
mod waves;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use berth_disk::pending;
use berth_release::{Delta, Hash, Patch, Release, Rollout, Root, SCHEMA, TARGETS, target_path};
use berth_trust::write::TargetFile;

use crate::build::Progress;
use crate::inspect;

pub use error::PublishError;
pub use signing::Keys;
pub use verify::verify;
pub use waves::{Waves, parse_waves};

use history::History;
use parts::PartFile;

/// Deltas are made from this many versions when the user does not say.
pub const DEFAULT_DELTAS: usize = 3;

/// What is published, where, how.
#[derive(Clone, Debug)]
pub struct Request {
    /// A build's output directory.
    pub build: PathBuf,
    /// The directory that the web server serves.
    pub directory: PathBuf,
    /// The directory with the keys.
    pub keys: PathBuf,
    /// From how many earlier versions there are deltas.
    pub deltas: usize,
    /// Who takes it when.
    pub rollout: Rollout,
    /// How long machines may believe what is published, seconds: targets, snapshot, timestamp.
    pub good_for_s: [u64; 3],
}

/// A finished publication.
#[derive(Clone, Debug)]
pub struct Published {
    /// The version's document.
    pub release: Release,
    /// Version of the metadata.
    pub metadata_version: u64,
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

/// Publishes a build.
///
/// # Errors
/// See [`PublishError`]; machines see the directory as it was then.
pub fn publish(request: &Request, progress: &Progress) -> Result<Published, PublishError> {
    let manifest = inspect::load(&request.build)?;
    let keys = Keys::read(&request.keys)?;
    let directory = &request.directory;
    for name in [berth_release::METADATA, TARGETS, "images", "deltas"] {
        let path = directory.join(name);
        std::fs::create_dir_all(&path).map_err(PublishError::write(&path))?;
    }
    let path = target_path(
        &manifest.name,
        &manifest.kernel.profile,
        berth_release::ARCHITECTURE,
    );
    let history = History::read(directory, &path)?;

    progress.step("images");
    let root_hash = Hash::from_hex(&manifest.root_hash)
        .ok_or_else(|| PublishError::NotABuild("its manifest has no root hash".into()))?;
    let boot = parts::boot(&request.build, &root_hash, directory)?;
    let root = parts::root(&request.build, &manifest.command_line, directory)?;
    history.check(&manifest.version, &root_hash)?;

    let known = history.same(&root_hash);
    progress.step("packed images");
    let packed_boot = packed(&boot, known.and_then(|one| one.boot.packed), directory)?;
    let packed_root = packed(&root, known.and_then(|one| one.root.part.packed), directory)?;
    let mut deltas = Vec::new();
    for old in history.before(&root_hash).take(request.deltas) {
        let made = known.and_then(|known| known.delta_from(&old.root.root_hash.0));
        let delta = match made.filter(|delta| on_disk(directory, delta)) {
            Some(delta) => delta.clone(),
            None => {
                progress.step(&format!("delta from {}", old.version));
                Delta {
                    version: old.version.clone(),
                    root_hash: old.root.root_hash,
                    boot: parts::delta(Some(&old.boot), &boot, directory)?,
                    root: parts::delta(Some(&old.root.part), &root, directory)?,
                }
            }
        };
        deltas.push(delta);
    }

    progress.step("metadata");
    let release = Release {
        schema: SCHEMA,
        product: manifest.name.clone(),
        version: manifest.version.clone(),
        security_version: manifest.security_version,
        profile: manifest.kernel.profile.clone(),
        architecture: berth_release::ARCHITECTURE.to_owned(),
        built: manifest.built,
        published: now(),
        kernel: manifest.kernel.version.clone(),
        boot: boot.published(Some(packed_boot)),
        root: Root {
            part: root.published(Some(packed_root)),
            root_hash,
        },
        deltas,
        rollout: request.rollout.clone(),
    };
    let text = release.text()?;
    // What a machine would not read must not be published.
    Release::parse(&text)?;
    let document = parts::hash_of(&text);
    let target = TargetFile {
        path: path.clone(),
        length: text.len() as u64,
        sha256: document.0,
        custom: Some(signing::custom(&release)),
    };
    let name = directory
        .join(TARGETS)
        .join(history::document_path(&path, &document));
    write_new(&name, &text)?;
    let metadata_version = signing::sign(directory, &keys, target, request.good_for_s)?;
    Ok(Published {
        release,
        metadata_version,
    })
}

/// What an update costs a machine, in lines for people.
#[must_use]
pub fn costs(release: &Release) -> Vec<String> {
    let packed = |part: &berth_release::Part| part.packed.map_or(part.bytes, |packed| packed.bytes);
    let whole = packed(&release.boot) + packed(&release.root.part);
    let mut lines = vec![format!("from any version: {whole} bytes")];
    lines.extend(release.deltas.iter().map(|delta| {
        format!(
            "from {}: {} bytes ({} for kernel and boot, {} for the root)",
            delta.version,
            delta.boot.bytes + delta.root.bytes,
            delta.boot.bytes,
            delta.root.bytes
        )
    }));
    lines
}

fn packed(part: &PartFile, known: Option<Patch>, directory: &Path) -> Result<Patch, PublishError> {
    match known.filter(|patch| directory.join(patch.path()).is_file()) {
        Some(patch) => Ok(patch),
        None => parts::delta(None, part, directory),
    }
}

fn on_disk(directory: &Path, delta: &Delta) -> bool {
    let mut patches = [delta.boot, delta.root].into_iter();
    patches.all(|patch| directory.join(patch.path()).is_file())
}

/// Writes a file that is named by its content: one that is there is the same.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), PublishError> {
    if path.is_file() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(PublishError::write(parent))?;
    }
    pending::write_file(path, bytes).map_err(PublishError::write(path))
}
