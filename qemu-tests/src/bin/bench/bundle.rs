//! The OCI bundle that crun runs: what Berth confines a container to by default, in the OCI
//! runtime specification's terms, so that both start the same container.

use serde_json::{Value, json};

/// Paths that read as empty.
const MASKED: [&str; 9] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
];
/// Paths that cannot be written.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The configuration: host network, own everything else, a user namespace, no capabilities, no
/// new privileges, limits, and the filter.
pub(crate) fn config(arguments: &[&str], allowed_calls: &[&str]) -> Value {
    let namespaces: Vec<Value> = ["pid", "mount", "ipc", "uts", "user", "cgroup"]
        .iter()
        .map(|kind| json!({ "type": kind }))
        .collect();
    let ids = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": arguments,
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": [], "effective": [], "inheritable": [],
                "permitted": [], "ambient": [],
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "bench",
        "mounts": mounts(),
        "linux": {
            "namespaces": namespaces,
            "uidMappings": ids,
            "gidMappings": ids,
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "resources": {
                "pids": { "limit": 200 },
                "memory": { "limit": 268_435_456 },
            },
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{ "names": allowed_calls, "action": "SCMP_ACT_ALLOW" }],
            },
        },
    })
}

fn mounts() -> Value {
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc",
          "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
          "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
          "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
        { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
          "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
        { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
          "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/sys", "type": "none", "source": "/sys",
          "options": ["rbind", "nosuid", "noexec", "nodev", "ro"] },
        { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
          "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] },
    ])
}
