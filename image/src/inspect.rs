//! `berth inspect`: where the bytes of a build went, and what is privileged in it.

use std::path::{Path, PathBuf};

use crate::lines;
use crate::manifest::{FILE_NAME, Group, Manifest, Part, SCHEMA};
use crate::svg;

/// The largest manifest that is read.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// Why a build cannot be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// There is none.
    #[error("cannot read {}: {source}; `berth build --out DIR` writes it", path.display())]
    Read {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is something else, or of another version.
    #[error("{}: not the manifest of a build of this version: {why}", path.display())]
    Malformed {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// Reads the manifest of an output directory, of a file in one, or the manifest itself.
///
/// # Errors
/// When there is none or it is not one.
pub fn load(path: &Path) -> Result<Manifest, InspectError> {
    use std::io::Read;

    let path = manifest_path(path);
    let failed = |source| InspectError::Read {
        path: path.clone(),
        source,
    };
    let mut bytes = Vec::new();
    std::fs::File::open(&path)
        .map_err(failed)?
        .take(MAX_MANIFEST_BYTES)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let malformed = |why: String| InspectError::Malformed {
        path: path.clone(),
        why,
    };
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    if manifest.schema != SCHEMA {
        return Err(malformed(format!("its schema is {}", manifest.schema)));
    }
    Ok(manifest)
}

/// Where the manifest for `path` is.
#[must_use]
pub fn manifest_path(path: &Path) -> PathBuf {
    if path.is_dir() || !path.exists() {
        path.join(FILE_NAME)
    } else if path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        path.to_owned()
    } else {
        path.with_file_name(FILE_NAME)
    }
}

/// The tables for people.
#[must_use]
pub fn table(manifest: &Manifest) -> String {
    let mut text = String::new();
    let mut line = |line: String| lines::push(&mut text, &line);
    line(format!(
        "{} {}, kernel {} ({})",
        manifest.name, manifest.version, manifest.kernel.version, manifest.kernel.profile
    ));
    line(format!("root hash {}", manifest.root_hash));
    line(String::new());
    let row = |bytes: &str, compressed: &str, name: &str| {
        format!("{bytes:>10}  {compressed:>10}  {name}")
    };
    line(row("bytes", &manifest.compression, "part"));
    let mut total = (0, 0);
    for part in &manifest.parts {
        total.0 += part.bytes;
        total.1 += part.compressed_bytes;
        line(row(
            &svg::bytes(part.bytes),
            &svg::bytes(part.compressed_bytes),
            &describe(manifest, part),
        ));
    }
    line(row(&svg::bytes(total.0), &svg::bytes(total.1), "all"));
    line(String::new());
    for container in &manifest.containers {
        line(format!("container {}: {}", container.name, container.image));
        line(format!("  {}", container.digest));
        line(format!(
            "  user {}, network {}, ports {}",
            container.user,
            container.network,
            list(container.ports.iter().map(u16::to_string))
        ));
        line(format!(
            "  beyond the defaults: {}",
            list(container.privileges.iter().cloned())
        ));
    }
    text
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

/// A part in words.
pub(crate) fn describe(manifest: &Manifest, part: &Part) -> String {
    match &part.group {
        Group::Boot => format!("boot: {}", part.name),
        Group::Kernel => "kernel".to_owned(),
        Group::Userland => format!("userland: {}", part.name),
        Group::Verity => part.name.clone(),
        Group::Image(digest) => {
            let users: Vec<&str> = manifest
                .containers
                .iter()
                .filter(|container| container.digest == *digest)
                .map(|container| container.name.as_str())
                .collect();
            let made = match part.detail.as_str() {
                "" => String::new(),
                detail => format!(" ({})", detail.chars().take(60).collect::<String>()),
            };
            let name: String = part.name.chars().take(19).collect();
            format!("container {}: layer {name}{made}", users.join(" and "))
        }
    }
}
