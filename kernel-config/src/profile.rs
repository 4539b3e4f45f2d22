//! The profiles: which fragments make the kernel of which kind of machine.

use std::fmt;
use std::str::FromStr;

use crate::fragment::{self, Setting};

/// What kind of machine a kernel is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// KVM, QEMU and Firecracker guests: virtio only, and containers that are no engines.
    Micro,
    /// Every hypervisor and cloud.
    Cloud,
    /// `cloud`, and the disks, cards and screens of ordinary servers.
    Metal,
}

/// Fragments that every profile has.
const COMMON: &[&str] = &[
    "processor",
    "core",
    "storage",
    "containers",
    "network",
    "virtio",
    "console",
    "watchdog",
    "hardening",
    "forbidden",
];

/// Fragments that every profile but the smallest has.
const FULL: &[&str] = &["scsi", "encryption", "engines", "large", "clouds", "iommu"];

impl Profile {
    /// All profiles, the smallest first.
    pub const ALL: [Profile; 3] = [Profile::Micro, Profile::Cloud, Profile::Metal];

    /// The name that `berth.toml` and the command line use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Profile::Micro => "micro",
            Profile::Cloud => "cloud",
            Profile::Metal => "metal",
        }
    }

    /// The names of the fragments, in the order in which they are read.
    #[must_use]
    pub fn fragments(self) -> Vec<&'static str> {
        let special: &[&[&str]] = match self {
            Profile::Micro => &[&["micro"]],
            Profile::Cloud => &[FULL, &["guest"]],
            Profile::Metal => &[FULL, &["servers"]],
        };
        [COMMON, &special.concat()].concat()
    }

    /// About how many steps the makefiles take: for progress only.
    pub(crate) fn build_steps(self) -> usize {
        match self {
            Profile::Micro => 2250,
            Profile::Cloud => 2700,
            Profile::Metal => 3400,
        }
    }

    /// Every symbol that the profile's fragments ask for.
    #[must_use]
    pub fn settings(self) -> Vec<Setting> {
        self.fragments()
            .into_iter()
            .flat_map(fragment::embedded)
            .collect()
    }
}

/// A name that is none of the profiles'.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no kernel profile {0:?}; the profiles are micro, cloud and metal")]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        Self::ALL
            .into_iter()
            .find(|profile| profile.name() == name)
            .ok_or_else(|| UnknownProfile(name.to_owned()))
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
