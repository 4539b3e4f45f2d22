//! What the file says and what the image says become one resolved container: nothing that PID 1
//! reads needs another look at either.
//!
//! Command, entry point, environment and user combine as Compose and Docker combine them; what
//! neither says gets the safe default.

mod confinement;
mod mounts;
mod process;
mod rootfs;

use berth_containers::spec::{Container, Oci, Root, Stop};
use berth_oci::Execution;
use berth_tree::{Spool, Tree};

use crate::config::{ContainerConfig, Mistakes, Place};
use crate::signals;

pub use mounts::{make_mount_points, make_working_directory};

/// Version of the OCI runtime specification whose terms are used.
const OCI_VERSION: &str = "1.1.0";

/// An image as it lies in the machine's root.
#[derive(Debug)]
pub struct Image<'a> {
    /// Its manifest's digest, `sha256:…`.
    pub digest: &'a str,
    /// What it says about how it is run.
    pub execution: &'a Execution,
    /// Its files.
    pub tree: &'a Tree,
    /// Where their bytes are.
    pub spool: &'a Spool,
}

/// A resolved container and what a person should know about it.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The container.
    pub container: Container,
    /// TCP ports that it listens on.
    pub ports: Vec<u16>,
    /// Sentences for the person who builds.
    pub notes: Vec<String>,
}

/// The directory of an image in the machine's root.
#[must_use]
pub fn image_directory(digest: &str) -> String {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    format!("/images/{hex}")
}

/// Resolves one container of `file`. `first_id` is the first of its 65,536 user ids.
///
/// # Errors
/// When the file and the image do not fit each other, with the place in the file.
pub fn container(
    file: &str,
    config: &ContainerConfig,
    image: &Image<'_>,
    first_id: u32,
) -> Result<Resolved, Mistakes> {
    let wrong = |place: Place, message: String| {
        Mistakes::one(
            file,
            place,
            format!("container {:?}: {message}", config.name),
        )
    };
    let mut notes = Vec::new();
    let mounts = mounts::of(config, image, &mut notes).map_err(|(place, why)| wrong(place, why))?;
    let process = process::of(config, image).map_err(|(place, why)| wrong(place, why))?;
    let signal = match (config.stop_signal, image.execution.stop_signal.as_str()) {
        (Some(signal), _) => signal,
        (None, "") => signals::TERM,
        (None, text) => signals::number(text)
            .map_err(|why| wrong(config.image.place, format!("the image's StopSignal: {why}")))?,
    };
    let ports = config
        .expose
        .clone()
        .unwrap_or_else(|| exposed_tcp(image.execution));
    notes.extend(confinement::notes(config, &ports));
    let container = Container {
        name: config.name.clone(),
        image: config.image.value.clone(),
        digest: image.digest.to_owned(),
        oci: Oci {
            oci_version: OCI_VERSION.to_owned(),
            process,
            root: Root {
                path: image_directory(image.digest),
                readonly: config.read_only,
            },
            hostname: Some(hostname(config)),
            mounts,
            linux: confinement::of(config, first_id),
        },
        after: config.after.clone(),
        after_healthy: config.after_healthy.clone(),
        after_network: config.after_network,
        volumes: mounts::volumes(config, image),
        health: config.health.as_ref().map(|health| health.value.clone()),
        restart: config.restart.clone(),
        stop: Stop {
            signal,
            timeout_ms: config.stop_timeout_ms,
        },
        log: config.log.clone(),
    };
    Ok(Resolved {
        container,
        ports,
        notes,
    })
}

/// TCP ports that the image says its program listens on (`80/tcp`, or `80`).
fn exposed_tcp(execution: &Execution) -> Vec<u16> {
    let mut ports: Vec<u16> = execution
        .exposed_ports
        .iter()
        .filter_map(|port| port.strip_suffix("/tcp").unwrap_or(port).parse().ok())
        .filter(|port| *port != 0)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The host name inside.
fn hostname(config: &ContainerConfig) -> String {
    config
        .hostname
        .clone()
        .unwrap_or_else(|| config.name.clone())
}

/// A failure with its place in the file.
type Wrong = (Place, String);

/// First user ids of the containers' ranges, in the order of `names`.
///
/// A range depends on the container's name and not on its position, so that a container that is
/// added to the file moves nobody else's ids.
#[must_use]
pub fn first_ids<'a>(names: impl Iterator<Item = &'a str>) -> Vec<u32> {
    /// Below this a machine's own and an image's ids could be meant.
    const FIRST: u32 = 1_000_000;
    const SIZE: u32 = confinement::IDS_PER_CONTAINER;
    const SLOTS: u32 = (u32::MAX - FIRST) / SIZE;
    let mut taken = std::collections::BTreeSet::new();
    names
        .map(|name| {
            let mut slot = fnv1a(name.as_bytes()) % SLOTS;
            while !taken.insert(slot) {
                slot = (slot + 1) % SLOTS;
            }
            FIRST + slot * SIZE
        })
        .collect()
}

/// The 32-bit FNV-1a hash: short, and the same for ever.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests;
