//! Kernel settings that the configuration cannot make, each with its reason.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};

use berth_containers::spec::{Container, NamespaceKind};

use crate::failure::Failure;

/// `(path below /proc/sys, value)`. Reviewed as a list: a line without a reason is refused.
const SYSCTLS: [(&str, &str); 13] = [
    // A kernel pointer in a log line is a map for an attacker.
    ("kernel/kptr_restrict", "2"),
    // The kernel log may hold addresses and container names; the status page is for people.
    ("kernel/dmesg_restrict", "1"),
    // Profiling interfaces have a long record of privilege bugs; nothing here needs them.
    ("kernel/perf_event_paranoid", "3"),
    // Loading BPF programs needs a capability.
    ("kernel/unprivileged_bpf_disabled", "1"),
    // Only an ancestor may trace a process.
    ("kernel/yama/ptrace_scope", "1"),
    // No kexec: a running kernel is the one that was verified.
    ("kernel/kexec_load_disabled", "1"),
    // Magic SysRq from a serial line would be a root shell of its own.
    ("kernel/sysrq", "0"),
    // A core dump would be written by, and as, whatever crashed.
    ("kernel/core_pattern", "|/bin/false"),
    // Link and FIFO attacks in shared directories.
    ("fs/protected_symlinks", "1"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_fifos", "2"),
    ("fs/protected_regular", "2"),
    // Databases map many files; the default of 65530 stops some of them (Elasticsearch, MongoDB).
    ("vm/max_map_count", "262144"),
];

/// The machine's network belongs to the machine's user namespace, so what a container has in its
/// own opens no low port there, whatever it was granted. Where one was granted that, low ports
/// need no privilege.
const LOW_PORTS: (&str, &str) = ("net/ipv4/ip_unprivileged_port_start", "0");

/// Applies the list; what the kernel does not know is told, not fatal.
pub(crate) fn apply(containers: &[Container]) -> Result<(), Failure> {
    let low_ports = containers.iter().any(may_open_low_ports);
    let mut refused = Vec::new();
    for (name, value) in SYSCTLS.iter().chain(low_ports.then_some(&LOW_PORTS)) {
        let path = format!("/proc/sys/{name}");
        match OpenOptions::new().write(true).open(&path) {
            Err(why) if why.kind() == ErrorKind::NotFound => {} // the kernel has it not
            opened => {
                let written = opened.and_then(|mut file| file.write_all(value.as_bytes()));
                if let Err(why) = written {
                    refused.push(format!("cannot set {name} to {value}: {why}"));
                }
            }
        }
    }
    if refused.is_empty() {
        return Ok(());
    }
    Err(Failure::new(refused.join("; ")))
}

/// Whether a container in a user namespace of its own may open low ports of the machine.
fn may_open_low_ports(container: &Container) -> bool {
    let has = |kind| {
        let mut namespaces = container.oci.linux.namespaces.iter();
        namespaces.any(|namespace| namespace.kind == kind)
    };
    let capabilities = &container.oci.process.capabilities.bounding;
    has(NamespaceKind::User)
        && !has(NamespaceKind::Network)
        && capabilities
            .iter()
            .any(|name| name == "CAP_NET_BIND_SERVICE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_setting_is_made_twice() {
        let mut paths: Vec<_> = SYSCTLS.iter().map(|(path, _)| path).collect();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), SYSCTLS.len());
    }
}
