//! The names of Linux capabilities, by number (capabilities(7)).

/// Every capability, in the kernel's order.
pub(crate) const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The number of a capability by its full name.
pub(crate) fn number(name: &str) -> Option<usize> {
    ALL.iter().position(|known| *known == name)
}

/// `NET_BIND_SERVICE` or `CAP_NET_BIND_SERVICE` as the kernel's full name.
///
/// # Errors
/// A clause that says what was expected.
pub(crate) fn full_name(text: &str) -> Result<String, String> {
    let upper = text.to_ascii_uppercase();
    if upper == "ALL" {
        return Err("name each capability; privileged = true gives all of them".to_owned());
    }
    let full = if upper.starts_with("CAP_") {
        upper
    } else {
        format!("CAP_{upper}")
    };
    if number(&full).is_some() {
        return Ok(full);
    }
    let known = ALL.iter().filter_map(|name| name.strip_prefix("CAP_"));
    Err(
        match crate::config::nearest(full.trim_start_matches("CAP_"), known) {
            Some(near) => format!("{text:?} is no capability; did you mean {near:?}?"),
            None => format!("{text:?} is no capability (see capabilities(7))"),
        },
    )
}
