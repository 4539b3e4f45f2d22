//! Capabilities: the names of capabilities(7) as bit sets, and how a process takes its sets.

use crate::plan::Refused;
use crate::spec;
use crate::sys::{Errno, process};

/// Every capability of Linux 6.12, at the position that is its number.
pub const NAMES: [&str; 41] = [
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

/// A set of capabilities; bit n is capability n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set(u64);

impl Set {
    /// Reads names; an unknown or repeated one is refused.
    pub(crate) fn parse(names: &[String], key: &str) -> Result<Self, Refused> {
        names.iter().try_fold(Self(0), |set, name| {
            let number = NAMES
                .iter()
                .position(|known| known == name)
                .ok_or_else(|| {
                    Refused::new(key, format!("{name:?} is not a capability of this kernel"))
                })?;
            Ok(Self(set.0 | 1 << number))
        })
    }

    /// Whether a capability is in the set.
    pub(crate) fn has(self, number: u32) -> bool {
        self.0.checked_shr(number).unwrap_or(0) & 1 == 1
    }

    /// Whether everything in this set is in another.
    fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }
}

/// The five sets of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sets {
    pub(crate) bounding: Set,
    effective: Set,
    inheritable: Set,
    permitted: Set,
    ambient: Set,
}

impl Sets {
    /// Reads the five lists, and refuses combinations that the kernel would refuse later.
    pub(crate) fn parse(lists: &spec::Capabilities) -> Result<Self, Refused> {
        let set = |names: &[String], list: &str| {
            Set::parse(names, &format!("process.capabilities.{list}"))
        };
        let sets = Self {
            bounding: set(&lists.bounding, "bounding")?,
            effective: set(&lists.effective, "effective")?,
            inheritable: set(&lists.inheritable, "inheritable")?,
            permitted: set(&lists.permitted, "permitted")?,
            ambient: set(&lists.ambient, "ambient")?,
        };
        let rules = [
            (sets.effective, sets.permitted, "effective", "permitted"),
            (sets.permitted, sets.bounding, "permitted", "bounding"),
            (sets.inheritable, sets.bounding, "inheritable", "bounding"),
            (sets.ambient, sets.permitted, "ambient", "permitted"),
            (sets.ambient, sets.inheritable, "ambient", "inheritable"),
        ];
        for (inner, outer, inner_name, outer_name) in rules {
            if !inner.within(outer) {
                return Err(Refused::new(
                    &format!("process.capabilities.{inner_name}"),
                    format!("it has a capability that {outer_name} lacks"),
                ));
            }
        }
        Ok(sets)
    }

    /// Bounds what the process and its children can ever have. Needs CAP_SETPCAP, so it comes
    /// before the change of user.
    pub(crate) fn bound(&self) -> Result<(), Errno> {
        for number in (0..64).filter(|number| !self.bounding.has(*number)) {
            match process::drop_bounding(number) {
                // Past the last capability of this kernel.
                Err(Errno(libc::EINVAL)) => break,
                other => other?,
            }
        }
        process::keep_capabilities()
    }

    /// Takes the other four sets, after the change of user.
    pub(crate) fn take(&self) -> Result<(), Errno> {
        process::set_capabilities(self.effective.0, self.permitted.0, self.inheritable.0)?;
        process::clear_ambient()?;
        for number in (0..64).filter(|number| self.ambient.has(*number)) {
            process::raise_ambient(number)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_at_its_number() {
        // capability.h of 6.12: a few fixed points along the list.
        for (name, number) in [
            ("CAP_CHOWN", 0),
            ("CAP_NET_BIND_SERVICE", 10),
            ("CAP_SYS_ADMIN", 21),
            ("CAP_MKNOD", 27),
            ("CAP_SYSLOG", 34),
            ("CAP_CHECKPOINT_RESTORE", 40),
        ] {
            let set = Set::parse(&[name.to_owned()], "x").expect("known");
            assert_eq!(set, Set(1 << number), "{name}");
        }
    }

    #[test]
    fn a_set_that_the_kernel_would_refuse_is_refused_with_its_key() {
        let lists = spec::Capabilities {
            effective: vec!["CAP_KILL".into()],
            ..Default::default()
        };
        let refused = Sets::parse(&lists).expect_err("effective beyond permitted");
        assert_eq!(
            refused.to_string(),
            "process.capabilities.effective: it has a capability that permitted lacks"
        );
        let refused = Set::parse(&["CAP_ROOT".into()], "k").expect_err("no such capability");
        assert_eq!(
            refused.to_string(),
            "k: \"CAP_ROOT\" is not a capability of this kernel"
        );
    }
}
