//! `manifest.json`: what a build consists of, for people and programs.

use std::collections::BTreeMap;

use berth_containers::spec::{Container, NamespaceKind};
use serde::{Deserialize, Serialize};

/// The version of the format.
pub const SCHEMA: u32 = 1;

/// The file's name in an output directory.
pub const FILE_NAME: &str = "manifest.json";

/// A finished build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Must be [`SCHEMA`].
    pub schema: u32,
    /// Name of the image.
    pub name: String,
    /// Version of the image.
    pub version: String,
    /// Raised by a version that must never be followed by an older one.
    #[serde(default)]
    pub security_version: u64,
    /// The newest date of anything in it, seconds since 1970.
    pub built: u64,
    /// The kernel.
    pub kernel: KernelInfo,
    /// SHA-256 of the UEFI stub, hexadecimal.
    pub stub_sha256: String,
    /// The kernel's arguments.
    pub command_line: String,
    /// dm-verity's root hash, hexadecimal.
    pub root_hash: String,
    /// What `compressed_bytes` of the parts were measured with.
    pub compression: String,
    /// Where the bytes went; the parts of one output in their order.
    pub parts: Vec<Part>,
    /// The files of the output directory by name.
    pub files: BTreeMap<String, FileInfo>,
    /// The containers in the order of the configuration.
    pub containers: Vec<ContainerInfo>,
}

/// The kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelInfo {
    /// Its version, empty when it came from a file.
    pub version: String,
    /// The profile it was built for.
    pub profile: String,
    /// SHA-256 of the image, hexadecimal.
    pub sha256: String,
}

/// A part of the machine and its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// What it belongs to.
    pub group: Group,
    /// Which one: a file's path, an image's reference, a layer's digest.
    pub name: String,
    /// More for people: what made a layer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Its bytes as they lie on the disk.
    pub bytes: u64,
    /// The same, compressed.
    pub compressed_bytes: u64,
}

/// What a part belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// The UKI but for the kernel.
    Boot,
    /// The kernel.
    Kernel,
    /// What Berth puts into the root.
    Userland,
    /// A layer of an image, by the image's digest.
    Image(String),
    /// Hashes and file system structures of the root.
    Verity,
}

/// One output file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileInfo {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerInfo {
    /// Its name.
    pub name: String,
    /// The image reference of the configuration.
    pub image: String,
    /// The image's manifest digest.
    pub digest: String,
    /// User and group of its first process, inside.
    pub user: String,
    /// Which network it sees: `none` or `host`.
    pub network: String,
    /// TCP ports it listens on.
    pub ports: Vec<u16>,
    /// What it may do beyond the safe defaults, in words; empty is best.
    pub privileges: Vec<String>,
}

impl ContainerInfo {
    /// What a person wants to know about `container`.
    #[must_use]
    pub fn of(container: &Container, ports: &[u16]) -> Self {
        let user = &container.oci.process.user;
        let own_network = crate::privileges::owns(container, NamespaceKind::Network);
        Self {
            name: container.name.clone(),
            image: container.image.clone(),
            digest: container.digest.clone(),
            user: format!("{}:{}", user.uid, user.gid),
            network: if own_network { "none" } else { "host" }.to_owned(),
            ports: ports.to_vec(),
            privileges: privileges(container),
        }
    }
}

/// Everything that is less strict than the default.
fn privileges(container: &Container) -> Vec<String> {
    let mut list = Vec::new();
    let granted: Vec<&str> = crate::privileges::capabilities(container).collect();
    if crate::privileges::has_every_capability(container) {
        list.push("every capability".to_owned());
    } else if !granted.is_empty() {
        list.push(format!("capabilities {}", granted.join(" ")));
    }
    let opened = crate::privileges::opened(container);
    list.extend(opened.into_iter().map(str::to_owned));
    let devices = container.oci.linux.devices.iter();
    let devices: Vec<&str> = devices.map(|device| device.path.as_str()).collect();
    if !devices.is_empty() {
        list.push(format!("devices {}", devices.join(" ")));
    }
    list
}
