//! What a container may do beyond the safe defaults, in words.

use berth_containers::capabilities::NAMES;
use berth_containers::spec::{Container, NamespaceKind, Seccomp};

/// Namespaces whose absence opens something, and what.
const NAMESPACES: [(NamespaceKind, &str); 6] = [
    (NamespaceKind::User, "no user namespace"),
    (NamespaceKind::Network, "the machine's network"),
    (NamespaceKind::Pid, "the machine's processes"),
    (NamespaceKind::Ipc, "the machine's IPC"),
    (NamespaceKind::Uts, "the machine's host name"),
    (NamespaceKind::Cgroup, "the machine's cgroups"),
];

/// Whether a container has a namespace of its own.
pub(crate) fn owns(container: &Container, kind: NamespaceKind) -> bool {
    let mut own = container.oci.linux.namespaces.iter();
    own.any(|namespace| namespace.kind == kind)
}

/// Names of the capabilities that it may ever have, without `CAP_`.
pub(crate) fn capabilities(container: &Container) -> impl Iterator<Item = &str> {
    let granted = container.oci.process.capabilities.bounding.iter();
    granted.map(|name| name.strip_prefix("CAP_").unwrap_or(name))
}

/// Whether it may have every capability.
pub(crate) fn has_every_capability(container: &Container) -> bool {
    container.oci.process.capabilities.bounding.len() == NAMES.len()
}

/// What else is less strict than the default, but for devices.
pub(crate) fn opened(container: &Container) -> Vec<&'static str> {
    let oci = &container.oci;
    let shared = NAMESPACES
        .iter()
        .filter(|(kind, _)| !owns(container, *kind));
    let mut list: Vec<&str> = shared.map(|(_, what)| *what).collect();
    let others = [
        (
            oci.linux.seccomp == Seccomp::Unconfined,
            "every system call",
        ),
        (
            !oci.process.no_new_privileges,
            "may gain privileges at exec",
        ),
        (oci.linux.masked_paths.is_empty(), "all of /proc and /sys"),
        (!oci.root.readonly, "writable root"),
    ];
    let others = others.into_iter().filter(|(yes, _)| *yes);
    list.extend(others.map(|(_, what)| what));
    list
}
