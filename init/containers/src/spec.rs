//! A container, fully resolved: nothing here needs another look into an image or a network.
//!
//! What runs inside is the subset of the OCI runtime configuration (version 1.1) that Berth
//! knows, under the specification's own names; an unknown key is refused. What Berth adds
//! (health, restart, stop, logs) stands beside it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One container as the builder resolved it and PID 1 runs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Name in `berth.toml`: `[a-z0-9][a-z0-9-]{0,62}`.
    pub name: String,
    /// The reference that was asked for, for people.
    pub image: String,
    /// The image's manifest digest (`sha256:…`).
    pub digest: String,
    /// What runs inside, in the terms of the OCI runtime specification.
    pub oci: Oci,
    /// Names of containers that must have started before this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// Names of containers that must have been healthy once before this one; each has a check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after_healthy: Vec<String>,
    /// Whether the machine must have an address before this one starts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub after_network: bool,
    /// Directories on the state partition that are made before it starts where they are missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// How it is found out whether it does its work; nobody asks when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What happens when it ends.
    pub restart: Restart,
    /// How it is asked to end.
    pub stop: Stop,
    /// How much of its output is kept.
    pub log: Log,
}

impl Container {
    /// Whether it uses the state partition.
    #[must_use]
    pub fn needs_state(&self) -> bool {
        let sources = self
            .oci
            .mounts
            .iter()
            .filter_map(|mount| mount.source.as_deref());
        sources
            .into_iter()
            .any(|source| source == "/state" || source.starts_with("/state/"))
    }
}

/// A directory on the state partition that a container mounts. An existing one is left as it is:
/// its content and its owner belong to whoever used it before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Where: `/state/volumes/NAME`.
    pub path: String,
    /// Owner of a new one, as stored: the mount maps it (option `idmap`), so it is the number
    /// inside the container.
    pub uid: u32,
    /// Group of a new one, likewise.
    pub gid: u32,
    /// Permission bits of a new one.
    pub mode: u16,
}

/// How it is found out whether a container does its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// What is asked.
    pub probe: Probe,
    /// Milliseconds from one probe to the next.
    pub every_ms: u64,
    /// Milliseconds that one probe may take; at most `every_ms`.
    pub timeout_ms: u64,
    /// Failed probes in a row that make it unhealthy.
    pub fails: u32,
    /// Milliseconds after its start in which failed probes do not count.
    pub start_ms: u64,
}

/// What a probe asks. Addresses are those of the container's own network; without one the
/// loopback address, 127.0.0.1 before ::1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum Probe {
    /// A GET over plain HTTP that must be answered with a status from 200 to 399.
    Http {
        /// Where, when not on the loopback address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<IpAddr>,
        /// Port.
        port: u16,
        /// Path with its query: printable ASCII, a `/` in front.
        path: String,
    },
    /// A connection that must be accepted.
    Tcp {
        /// Where, when not on the loopback address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<IpAddr>,
        /// Port.
        port: u16,
    },
    /// A program inside the container that must exit with status 0: it and its arguments.
    Exec(Vec<String>),
}

/// What happens when a container's first process ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// When it is started again.
    pub policy: RestartPolicy,
    /// The first pause before a restart, milliseconds; doubled each time.
    pub backoff_min_ms: u64,
    /// The longest pause, milliseconds.
    pub backoff_max_ms: u64,
}

/// When a container is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Whatever its exit status.
    Always,
    /// Only when it failed (non-zero status or a signal).
    OnFailure,
    /// Never.
    No,
}

/// How a container is asked to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Signal number sent first (the image's StopSignal or SIGTERM).
    pub signal: i32,
    /// Milliseconds until everything in it is killed.
    pub timeout_ms: u64,
}

/// How much of a container's output is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Bytes kept on the machine, oldest dropped first.
    pub keep_bytes: u64,
}

/// The OCI runtime configuration, as far as Berth knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oci {
    /// Version of the specification this follows.
    #[serde(rename = "ociVersion")]
    pub oci_version: String,
    /// The first process.
    pub process: Process,
    /// The root file system.
    pub root: Root,
    /// Host name inside, when the container has its own UTS namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Mounts in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Namespaces, limits and confinement.
    pub linux: Linux,
}

/// The container's first process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Process {
    /// Must be false: no terminal is given.
    #[serde(default)]
    pub terminal: bool,
    /// Who it runs as.
    pub user: User,
    /// Program and arguments; the program is looked up in `PATH` of `env` when it has no slash.
    pub args: Vec<String>,
    /// `NAME=value` each.
    #[serde(default)]
    pub env: Vec<String>,
    /// Working directory, absolute.
    pub cwd: String,
    /// Capability sets.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// Resource limits of the process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// Whether set-id programs gain nothing.
    #[serde(default)]
    pub no_new_privileges: bool,
    /// OOM killer adjustment, -1000 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
}

/// User and groups of a process, as numbers inside the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Further groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
    /// File mode creation mask; 0022 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
}

/// The five capability sets, names as `CAP_NET_BIND_SERVICE`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capabilities {
    /// The most it may ever gain.
    pub bounding: Vec<String>,
    /// What it has.
    pub effective: Vec<String>,
    /// What a file with inheritable capabilities passes on.
    pub inheritable: Vec<String>,
    /// What it may switch on.
    pub permitted: Vec<String>,
    /// What survives exec for an ordinary user.
    pub ambient: Vec<String>,
}

/// One resource limit (`RLIMIT_NOFILE`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlimit {
    /// Name as in getrlimit(2).
    #[serde(rename = "type")]
    pub kind: String,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// The root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Directory in the machine's root: `/images/<name>`.
    pub path: String,
    /// False: a writable overlay in memory lies over it.
    #[serde(default)]
    pub readonly: bool,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Absolute path inside the container.
    pub destination: String,
    /// File system type, or `bind`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Source path or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Options as mount(8) writes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// Linux: namespaces, limits, confinement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Linux {
    /// Namespaces that are the container's own.
    pub namespaces: Vec<Namespace>,
    /// User ids inside to outside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// Group ids inside to outside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
    /// Devices besides the usual ones (null, zero, full, random, urandom, tty).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Paths that read as empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub masked_paths: Vec<String>,
    /// Paths that cannot be written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub readonly_paths: Vec<String>,
    /// System call filter: Berth's default profile, or none. (The OCI `seccomp` object is
    /// refused: filters are compiled at build time, not on the machine.)
    #[serde(rename = "berthSeccomp")]
    pub seccomp: Seccomp,
}

/// The system call filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seccomp {
    /// The default profile.
    #[default]
    Default,
    /// None at all.
    Unconfined,
}

/// One namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    /// Which kind.
    #[serde(rename = "type")]
    pub kind: NamespaceKind,
}

/// Kinds of namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    /// Process ids.
    Pid,
    /// Network; the host's when absent.
    Network,
    /// Mounts; always the container's own.
    Mount,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// Users and capabilities.
    User,
    /// Cgroup root.
    Cgroup,
}

/// One range of ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdMapping {
    /// First id inside.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

/// One device node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Device {
    /// Path on the machine and inside.
    pub path: String,
}

/// Limits by cgroup v2.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Values by cgroup v2 file name (`memory.max`, `cpu.max`, `pids.max`), as OCI `unified`.
    pub unified: std::collections::BTreeMap<String, String>,
}
