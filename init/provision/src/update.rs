//! How the machine updates itself: `[update]` of the user's file, resolved.

use serde::{Deserialize, Serialize};

/// Where the root of trust is in the verified root: the first `root.json` of the metadata.
pub const TRUST_ROOT_PATH: &str = "/etc/berth/update/root.json";

/// Where the certificates are that vouch for the server, when the file names some.
pub const CA_PATH: &str = "/etc/berth/update/ca.pem";

/// Where newer versions come from, and what the machine does about them by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// The published directory, `http://` or `https://`, without a slash at the end. Without it
    /// versions come by bundles only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Versions are also taken from bundles on disks that are plugged in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bundles: bool,
    /// How far the machine goes by itself.
    pub policy: UpdatePolicy,
    /// When it may restart for an update; at any time when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Pause between two looks at the server, milliseconds.
    pub every_ms: u64,
    /// The wave that the machine is in whatever its seed says, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<u32>,
    /// Containers that must be good before a new version is kept, healthy when they have a check
    /// and running when they have none; when absent, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<Vec<String>>,
    /// How long all of it must have been so without a break, milliseconds.
    pub hold_ms: u64,
    /// How long a new version has for that, milliseconds.
    pub within_ms: u64,
    /// The proxy that requests go through, `HOST:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// The server's certificate is checked against [`CA_PATH`].
    #[serde(default)]
    pub ca: bool,
    /// Most bytes per second that a download takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// On firmware that cannot try a version, it is committed without a trial.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_trial: bool,
}

/// How far a machine goes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpdatePolicy {
    /// It does nothing until it is asked.
    Off,
    /// It puts a new version into the other slot, and the next restart tries it.
    Stage,
    /// It also restarts, within the window.
    Auto,
}

impl UpdatePolicy {
    /// As it stands in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Stage => "stage",
            Self::Auto => "auto",
        }
    }
}

/// A time of every day, UTC, in minutes since midnight; it may go over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// First minute.
    pub from: u16,
    /// The minute after the last.
    pub to: u16,
}

impl Window {
    /// Whether a time, seconds since 1970, is in it.
    #[must_use]
    pub fn contains(&self, unix_seconds: u64) -> bool {
        let minute = unix_seconds / 60 % (24 * 60);
        let (from, to) = (u64::from(self.from), u64::from(self.to));
        match from <= to {
            true => (from..to).contains(&minute),
            false => minute >= from || minute < to,
        }
    }

    /// Seconds until it opens; 0 when it is open.
    #[must_use]
    pub fn opens_in(&self, unix_seconds: u64) -> u64 {
        const DAY: u64 = 24 * 3600;
        if self.contains(unix_seconds) {
            return 0;
        }
        let from = u64::from(self.from).saturating_mul(60);
        (from + DAY).saturating_sub(unix_seconds % DAY) % DAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDNIGHT: u64 = 20_000 * 24 * 3600;

    #[test]
    fn a_window_may_go_over_midnight() {
        let window = Window {
            from: 23 * 60,
            to: 60,
        };
        assert!(window.contains(MIDNIGHT));
        assert!(window.contains(MIDNIGHT + 59 * 60 + 59));
        assert!(!window.contains(MIDNIGHT + 3600));
        assert!(window.contains(MIDNIGHT - 3600));
        assert!(!window.contains(MIDNIGHT - 3601));
    }

    #[test]
    fn a_closed_window_says_when_it_opens() {
        let window = Window { from: 120, to: 300 };
        assert_eq!(window.opens_in(MIDNIGHT), 7200);
        assert_eq!(window.opens_in(MIDNIGHT + 7200), 0);
        assert_eq!(window.opens_in(MIDNIGHT + 5 * 3600), 21 * 3600);
    }
}
