//! The arguments of the kernel's command line that belong to the kernel's hardening and not to
//! one machine: the image builder puts them before the root's.

/// One argument, with its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument {
    /// As it stands on the command line.
    pub text: &'static str,
    /// Why it is there.
    pub reason: &'static str,
}

/// What every machine's command line begins with. What the configuration already makes the
/// default is not repeated: the command line is signed, measured and copied, so each word counts.
pub const KERNEL_ARGUMENTS: &[Argument] = &[
    Argument {
        text: "mitigations=auto,nosmt",
        reason: "where a processor's threads leak into each other, only one of them is used; \
                 elsewhere nothing changes",
    },
    Argument {
        text: "oops=panic",
        reason: "stays true if a sysctl would say otherwise before PID 1 starts",
    },
];
