//! What a machine says about itself: `/run/berth/status/status.json`.
//!
//! PID 1 writes it and replaces it as a whole; containers that ask for it, and later the API,
//! read it. Times are microseconds since the kernel started unless a name says otherwise.

use serde::{Deserialize, Serialize};

/// Where PID 1 keeps it.
pub const STATUS_PATH: &str = "/run/berth/status/status.json";

/// The machine as it is now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Name of the image.
    pub name: String,
    /// Version of the image.
    pub version: String,
    /// Host name.
    pub hostname: String,
    /// Identity of the machine, 32 hexadecimal digits, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// The kernel's release.
    pub kernel: String,
    /// Slot that was started, when there are slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    /// Root hash of the verified root, when it is verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_hash: Option<String>,
    /// When this was written.
    pub uptime_us: u64,
    /// The same moment, seconds since 1970.
    pub unix_time: u64,
    /// When every container that should run had started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_us: Option<u64>,
    /// Boot phases in their order.
    pub phases: Vec<PhaseStatus>,
    /// Networks in the order of the file.
    pub networks: Vec<NetworkStatus>,
    /// Memory of the machine.
    pub memory: Memory,
    /// Containers in the order of the file.
    pub containers: Vec<ContainerStatus>,
    /// How updates stand, on a machine that has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateStatus>,
    /// The last thing that went wrong, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// One of the two places that a system lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

/// One boot phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseStatus {
    /// Its name.
    pub name: String,
    /// When it started.
    pub start_us: u64,
    /// When it ended.
    pub end_us: u64,
    /// How it ended.
    pub result: PhaseResult,
}

/// How a phase ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PhaseResult {
    /// It did its work.
    Ok,
    /// It did not, and the machine goes on without.
    Degraded,
    /// It did not; it runs again, or the machine cannot go on.
    Failed,
}

impl PhaseResult {
    /// As it stands in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}

/// One network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkStatus {
    /// Name in the file.
    pub name: String,
    /// Interface that fits, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// How it stands: `absent`, `no-carrier`, `asking`, `up`, `failed`.
    pub state: String,
    /// Hardware address, when there is an interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<String>,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<String>,
    /// Next hop of the default route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
}

/// How updates stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateStatus {
    /// `off`, `current`, `waiting`, `staging`, `staged`, `trying`, `committed`, `rejected`,
    /// `trouble`; empty until the updater has said something.
    pub state: String,
    /// The version that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The same as a sentence.
    pub sentence: String,
    /// When the server last answered, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<u64>,
    /// Versions that failed and are not tried again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<RejectedVersion>,
}

/// A version that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejectedVersion {
    /// Its name.
    pub version: String,
    /// Why.
    pub reason: String,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// What the kernel manages.
    pub total: u64,
    /// What programs can still get.
    pub available: u64,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// The reference that was asked for.
    pub image: String,
    /// How it stands: `waiting`, `starting`, `running`, `backoff`, `stopping`, `ended`, `failed`.
    pub state: String,
    /// Process id of its first process on the machine, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// How often it was started again since the machine started.
    pub restarts: u32,
    /// When it last started, while it has a process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_us: Option<u64>,
    /// Its health, when it has a check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthStatus>,
    /// How it last ended: `status 1`, `signal 9`, or why it could not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// Bytes of memory that it holds, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
}

/// The health of a container that has a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthStatus {
    /// Where it stands.
    pub state: HealthState,
    /// Since when.
    pub since_us: u64,
    /// Failed probes in a row that count.
    pub fails: u32,
    /// Why the last probe failed, while the last one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentence: Option<String>,
}

/// Where a container's health stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// It does not run.
    Down,
    /// It runs, and no probe was good yet.
    Starting,
    /// It does its work.
    Healthy,
    /// Too many probes failed in a row.
    Unhealthy,
}

impl HealthState {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}
