//! `berth publish`: a build becomes a version that machines can update to, in a directory of files
//! that any web server can serve.
//!
//! Machines may read the directory at any moment, and a publication may be cut off at any moment.
//! So files whose names are their content's hash come first, each under its name only when it is
//! whole and on the medium; the metadata that names them follows in the order that
//! `berth_trust::write` gives, `timestamp.json` last. Until that one file is replaced the
//! directory is what it was.

mod bundle;
mod directory;
mod error;
pub(crate) mod history;
mod look;
mod notes;
pub(crate) mod parts;
pub(crate) mod signing;
mod verify;
mod waves;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use berth_delta::{Limits, encode};
use berth_release::{
    Delta, Part, Patch, Release, Rollout, Root, SCHEMA, TARGETS, limits, target_path,
};
use berth_trust::Time;
use berth_trust::write::TargetFile;

use crate::build::Progress;
use crate::inspect;
use crate::svg::bytes;

pub use bundle::{BundleError, BundleRequest, Bundled, bundle};
pub use error::PublishError;
pub use signing::Keys;
pub use verify::{Verified, verify};
pub use waves::{Waves, parse_waves};

use directory::{Directory, write_new};
use history::History;
use parts::PartFile;

/// The parts of a version, for people.
const BOOT: &str = "kernel and boot";
const ROOT: &str = "the root";

/// Deltas are made from this many versions when the user does not say.
pub const DEFAULT_DELTAS: u8 = 3;

/// And from this many at the most.
pub const MOST_DELTAS: i64 = limits::DELTAS as i64;

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
    /// Who takes it when. Without it a build that was published before keeps its rollout, so that
    /// signing again changes nothing, and a new one is for all machines at once.
    pub rollout: Option<Rollout>,
    /// Machines that gave this version up are to try it again.
    pub again: bool,
    /// Sign again what is published, although a key signed it that the newest root file does not
    /// name any more.
    pub trust_old_keys: bool,
    /// What a patch may ask of a machine. An image that is too large for that, or for the encoder,
    /// is published without.
    pub limits: Limits,
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
    /// When machines stop believing it, unless it is signed again.
    pub good_until: Time,
    /// Sentences for whoever publishes.
    pub notes: Vec<String>,
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

fn time(seconds: u64) -> Time {
    Time(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// Publishes a build.
///
/// # Errors
/// See [`PublishError`]; machines see the directory as it was then.
pub fn publish(request: &Request, progress: &Progress) -> Result<Published, PublishError> {
    let manifest = inspect::load(&request.build)?;
    let keys = Keys::read(&request.keys)?;
    let path = target_path(
        &manifest.name,
        &manifest.kernel.profile,
        berth_release::ARCHITECTURE,
    );
    let locked = Directory::lock(&request.directory, &path, progress)?;
    let directory = locked.path();
    let repository = signing::open(directory, Some(&keys))?;
    signing::check(directory, &repository, &keys)?;
    let [.., timestamp_s] = request.good_for_s;
    if now().saturating_add(timestamp_s) <= manifest.built {
        let [now, built] = [now(), manifest.built].map(time);
        return Err(PublishError::ClockBehind { now, built });
    }
    let history = History::read(directory, &repository, &path)?;

    progress.step("images");
    let root_hash = parts::root_hash(&manifest)?;
    let boot = PartFile::of(parts::boot_bytes(&request.build, &manifest)?);
    let root = PartFile::of(parts::root_bytes(&request.build, &manifest)?);
    let (version, security_version) = (&manifest.version, manifest.security_version);
    history.check(version, security_version, &root_hash, &boot.sha256)?;
    let known = history.same(&root_hash, &boot.sha256);
    if !request.trust_old_keys {
        signing::check_kept(&repository, &path, known.is_some())?;
    }
    let attempt = match (known, request.again) {
        (Some(known), again) => known.attempt.saturating_add(u32::from(again)),
        (None, false) => 0,
        (None, true) => return Err(PublishError::NeverPublished(manifest.version)),
    };
    boot.write(directory)?;
    root.write(directory)?;

    let mut without = Vec::new();
    let within = (directory, &request.limits);
    let mut packed = |part: &PartFile, known: Option<Patch>, name: &str| {
        if let Some(patch) = known.filter(|patch| is_there(directory, patch)) {
            return Ok(Some(patch));
        }
        let step = format!("packing {name}");
        let made = parts::delta(None, part, within, (progress, &step));
        if_possible(made, &mut without, || format!("{name} is not packed"))
    };
    let packed_boot = packed(&boot, known.and_then(|one| one.boot.packed), BOOT)?;
    let packed_root = packed(&root, known.and_then(|one| one.root.part.packed), ROOT)?;
    let mut deltas = Vec::new();
    let before = history.before(&root_hash);
    for old in before
        .filter(|old| is_whole(directory, old))
        .take(request.deltas)
    {
        let made = known.and_then(|known| known.delta_from(&old.root.root_hash.0));
        if let Some(delta) = made.filter(|delta| on_disk(directory, delta)) {
            deltas.push(delta.clone());
            continue;
        }
        let delta = |old: &Part, new: &PartFile, name: &str, version: &str| {
            let step = format!("delta from {version} for {name}");
            parts::delta(Some(old), new, within, (progress, &step))
        };
        let version = &old.version;
        // The root first: it is what may be too large.
        let made = delta(&old.root.part, &root, ROOT, version)
            .and_then(|for_root| Ok([delta(&old.boot, &boot, BOOT, version)?, for_root]));
        let what = || format!("there is no delta from {version}");
        if let Some([boot, root]) = if_possible(made, &mut without, what)? {
            deltas.push(Delta {
                version: version.clone(),
                root_hash: old.root.root_hash,
                boot,
                root,
            });
        }
    }

    progress.step("metadata");
    // One that starts in the future was published with a wrong clock.
    let before = known.map(|known| Rollout {
        start: known.rollout.start.min(now()),
        ..known.rollout.clone()
    });
    let rollout = request.rollout.clone().or(before);
    let rollout = rollout.unwrap_or_else(|| Rollout::at_once(now()));
    let release = Release {
        schema: SCHEMA,
        product: manifest.name.clone(),
        version: manifest.version.clone(),
        security_version: manifest.security_version,
        attempt,
        profile: manifest.kernel.profile.clone(),
        architecture: berth_release::ARCHITECTURE.to_owned(),
        built: manifest.built,
        published: now(),
        kernel: manifest.kernel.version.clone(),
        boot: boot.published(packed_boot),
        root: Root {
            part: root.published(packed_root),
            root_hash,
        },
        deltas,
        rollout,
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
    let metadata_version =
        signing::sign(directory, &repository, &keys, target, request.good_for_s)?;
    let now = time(now());
    let mut notes = notes::of(root.bytes(), &keys, &repository, now);
    notes.extend(without);
    Ok(Published {
        release,
        metadata_version,
        good_until: Time(now.0.saturating_add_unsigned(timestamp_s)).min(repository.root().expires),
        notes,
    })
}

/// What an update costs a machine, and who takes it when, in lines for people.
#[must_use]
pub fn costs(release: &Release) -> Vec<String> {
    let packed = |part: &Part| part.packed.map_or(part.bytes, |packed| packed.bytes);
    let whole = packed(&release.boot) + packed(&release.root.part);
    let mut lines = vec![format!("from any version: {}", bytes(whole))];
    lines.extend(release.deltas.iter().map(|delta| {
        format!(
            "from {}: {} ({} for kernel and boot, {} for the root)",
            delta.version,
            bytes(delta.boot.bytes + delta.root.bytes),
            bytes(delta.boot.bytes),
            bytes(delta.root.bytes)
        )
    }));
    lines.extend(waves::told(&release.rollout));
    lines
}

/// Machines need no patch: what they do not hold they fetch from the images. So one that is too
/// large, or from an old image that is damaged, holds nothing up.
fn if_possible<T>(
    made: Result<T, PublishError>,
    without: &mut Vec<String>,
    what: impl FnOnce() -> String,
) -> Result<Option<T>, PublishError> {
    let why = match made {
        Err(PublishError::Delta(why @ encode::Error::TooLarge(_))) => why.to_string(),
        Err(why @ (PublishError::Wrong { .. } | PublishError::Read { .. })) => why.to_string(),
        other => return other.map(Some),
    };
    let what = what();
    without.push(format!(
        "{what}: {why}; machines fetch what they do not hold from the whole image"
    ));
    Ok(None)
}

fn on_disk(directory: &Path, delta: &Delta) -> bool {
    let mut patches = [delta.boot, delta.root].into_iter();
    patches.all(|patch| is_there(directory, &patch))
}

/// A version whose images were not removed.
fn is_whole(directory: &Path, release: &Release) -> bool {
    let mut parts = [&release.boot, &release.root.part].into_iter();
    parts.all(|part| directory.join(part.path()).is_file())
}

/// A patch that was made before, whole.
fn is_there(directory: &Path, patch: &Patch) -> bool {
    let bytes = std::fs::read(directory.join(patch.path()));
    bytes.is_ok_and(|bytes| parts::hash_of(&bytes) == patch.sha256)
}
