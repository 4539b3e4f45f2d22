//! Namespaces, capabilities, limits and hidden paths: closed unless the file opens them.

use std::collections::BTreeMap;

use berth_containers::capabilities::NAMES;
use berth_containers::spec::{
    Capabilities, Device, IdMapping, Linux, Namespace, NamespaceKind, Resources, Rlimit, Seccomp,
};

use crate::config::{ContainerConfig, NetworkMode};

/// User ids of one container with a user namespace.
pub(super) const IDS_PER_CONTAINER: u32 = 65_536;

/// The period of CPU limits, microseconds (the kernel's default).
const CPU_PERIOD_US: u64 = 100_000;

/// Paths that read as empty: what the kernel shows there is about the machine, not the
/// container (the list that Docker and Podman use).
const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that cannot be written (the same origin).
const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The `linux` part of the runtime configuration.
pub(super) fn of(config: &ContainerConfig, first_id: u32) -> Linux {
    let mapping = IdMapping {
        container_id: 0,
        host_id: first_id,
        size: IDS_PER_CONTAINER,
    };
    let mappings = if config.user_namespace {
        vec![mapping]
    } else {
        Vec::new()
    };
    let hidden = |paths: &[&str]| {
        let shown = if config.privileged { &[] } else { paths };
        shown.iter().map(|path| (*path).to_owned()).collect()
    };
    Linux {
        namespaces: namespaces(config),
        uid_mappings: mappings.clone(),
        gid_mappings: mappings,
        devices: config
            .devices
            .iter()
            .map(|path| Device { path: path.clone() })
            .collect(),
        resources: Some(resources(config)),
        masked_paths: hidden(&MASKED_PATHS),
        readonly_paths: hidden(&READONLY_PATHS),
        seccomp: if config.privileged {
            Seccomp::Unconfined
        } else {
            Seccomp::Default
        },
    }
}

fn namespaces(config: &ContainerConfig) -> Vec<Namespace> {
    use NamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};

    let own_network = config.network == NetworkMode::None;
    [
        (User, config.user_namespace),
        (Mount, true),
        (Pid, true),
        (Ipc, true),
        (Uts, true),
        (Cgroup, true),
        (Network, own_network),
    ]
    .into_iter()
    .filter(|(_, own)| *own)
    .map(|(kind, _)| Namespace { kind })
    .collect()
}

fn resources(config: &ContainerConfig) -> Resources {
    let mut unified = BTreeMap::new();
    unified.insert("pids.max".to_owned(), config.pids.to_string());
    // A container that has lost one process to a lack of memory is not what it was: it ends as a
    // whole and starts again.
    unified.insert("memory.oom.group".to_owned(), "1".to_owned());
    if let Some(bytes) = config.memory_bytes {
        unified.insert("memory.max".to_owned(), bytes.to_string());
    }
    if let Some(millis) = config.cpu_millis {
        // The kernel refuses less than a millisecond.
        let quota = (millis * CPU_PERIOD_US / 1000).max(1000);
        unified.insert("cpu.max".to_owned(), format!("{quota} {CPU_PERIOD_US}"));
    }
    Resources { unified }
}

/// The capability sets. For root what is added can be used at once; for anybody else it is
/// ambient too, or it would be lost at exec.
pub(super) fn capability_sets(config: &ContainerConfig, uid: u32) -> Capabilities {
    let granted: Vec<String> = if config.privileged {
        NAMES.map(str::to_owned).to_vec()
    } else {
        config.cap_add.clone()
    };
    let ambient = uid != 0 && !config.privileged;
    Capabilities {
        bounding: granted.clone(),
        effective: granted.clone(),
        permitted: granted.clone(),
        inheritable: if ambient { granted.clone() } else { Vec::new() },
        ambient: if ambient { granted } else { Vec::new() },
    }
}

/// Limits of the first process. A soft limit of 1024 descriptors keeps select(2) programs right
/// and programs that close every possible descriptor fast; who needs more raises it.
pub(super) fn rlimits() -> Vec<Rlimit> {
    [
        ("RLIMIT_CORE", 0, 0),
        ("RLIMIT_NOFILE", 1024, 524_288),
        ("RLIMIT_MEMLOCK", 8 << 20, 8 << 20),
    ]
    .into_iter()
    .map(|(kind, soft, hard)| Rlimit {
        kind: kind.to_owned(),
        soft,
        hard,
    })
    .collect()
}

/// What a person should know before this runs.
pub(super) fn notes(config: &ContainerConfig, ports: &[u16]) -> Vec<String> {
    let mut notes = Vec::new();
    if config.privileged {
        notes.push(
            "is privileged: it can do everything the machine can, and nothing confines it"
                .to_owned(),
        );
    }
    if config.network == NetworkMode::None && !ports.is_empty() {
        let list: Vec<String> = ports.iter().map(u16::to_string).collect();
        notes.push(format!(
            "listens on port {} and has no network; network = \"host\" gives it the machine's",
            list.join(", ")
        ));
    }
    notes
}
