//! What a target says of the version of the operating system that it is: the check that a signed
//! image is also the right one for this machine.
//!
//! The signature says that the publisher made it. It does not say for whom: a genuine image of
//! another product, for other hardware, or of last year would be just as genuine.

use std::cmp::Ordering;
use std::fmt;

use crate::error::Malformed;
use crate::json::{Map, Value};
use crate::roles::{natural, wrong};
use crate::target::Target;

/// A target's member that holds the release.
const MEMBER: &str = "berth";

/// A version of a product, as its target describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// `name` of `[image]`.
    pub product: String,
    /// `profile` of `[image]`: which hardware it is for.
    pub profile: String,
    /// The processor, as Rust names it: `x86_64`.
    pub architecture: String,
    /// `version` of `[image]`.
    pub version: String,
    /// Raised by the publisher when versions below it must never run again.
    pub security_version: u64,
}

/// What a machine runs, against which a release is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed<'a> {
    /// The product.
    pub product: &'a str,
    /// The profile.
    pub profile: &'a str,
    /// The processor.
    pub architecture: &'a str,
    /// The version that runs.
    pub version: &'a str,
    /// The highest security version that this machine has committed to.
    pub security_version: u64,
}

/// Why a genuine release is not for this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Another product.
    #[error("it is {offered}, and this machine runs {installed}")]
    Product {
        /// What the release is.
        offered: String,
        /// What the machine is.
        installed: String,
    },
    /// For other hardware.
    #[error("it is for the profile {offered}, and this machine has the profile {installed}")]
    Profile {
        /// What the release is for.
        offered: String,
        /// What the machine is.
        installed: String,
    },
    /// For another processor.
    #[error("it is for {offered} processors, and this machine has {installed}")]
    Architecture {
        /// What the release is for.
        offered: String,
        /// What the machine is.
        installed: String,
    },
    /// Older than what runs.
    #[error("version {offered} is older than version {installed}, which this machine runs")]
    Older {
        /// The release's version.
        offered: String,
        /// The machine's version.
        installed: String,
    },
    /// Known to be unsafe.
    #[error(
        "its security version is {offered}, and this machine has run {installed}: it must not \
         go back"
    )]
    Unsafe {
        /// The release's security version.
        offered: u64,
        /// The highest one that the machine has committed to.
        installed: u64,
    },
}

impl Release {
    /// Reads the description out of a verified target.
    ///
    /// # Errors
    ///
    /// When there is none, or a part of it is missing.
    pub fn of(target: &Target) -> Result<Self, Malformed> {
        let map = target.custom().and_then(Value::as_map);
        let map = map.and_then(|map| map.get(MEMBER)?.as_map());
        let map = map.ok_or(wrong("custom", "a map with the member berth"))?;
        let text = |field| {
            let text = map.get(field).and_then(Value::as_text);
            text.map(str::to_owned).ok_or(wrong(field, "a string"))
        };
        let security_version = map.get("security_version").unwrap_or(&Value::Null);
        Ok(Self {
            product: text("product")?,
            profile: text("profile")?,
            architecture: text("architecture")?,
            version: text("version")?,
            security_version: natural(security_version, "security_version")?,
        })
    }

    /// The description as a target's `custom` carries it. Further members may be added beside it.
    #[must_use]
    pub fn custom(&self) -> Map {
        let number = i64::try_from(self.security_version).unwrap_or(i64::MAX);
        let release = Map::from([
            ("product", Value::from(self.product.as_str())),
            ("profile", Value::from(self.profile.as_str())),
            ("architecture", Value::from(self.architecture.as_str())),
            ("version", Value::from(self.version.as_str())),
            ("security_version", Value::Int(number)),
        ]);
        Map::from([(MEMBER, Value::Map(release))])
    }

    /// Whether the machine may install it. The version that runs already is allowed: whether
    /// there is anything to do is another question.
    ///
    /// # Errors
    ///
    /// The first reason why not.
    pub fn fits(&self, installed: &Installed<'_>) -> Result<(), Misfit> {
        let pair = |offered: &str, installed: &str| (offered.to_owned(), installed.to_owned());
        if self.product != installed.product {
            let (offered, installed) = pair(&self.product, installed.product);
            return Err(Misfit::Product { offered, installed });
        }
        if self.profile != installed.profile {
            let (offered, installed) = pair(&self.profile, installed.profile);
            return Err(Misfit::Profile { offered, installed });
        }
        if self.architecture != installed.architecture {
            let (offered, installed) = pair(&self.architecture, installed.architecture);
            return Err(Misfit::Architecture { offered, installed });
        }
        if self.security_version < installed.security_version {
            return Err(Misfit::Unsafe {
                offered: self.security_version,
                installed: installed.security_version,
            });
        }
        if order(&self.version, installed.version) == Ordering::Less {
            let (offered, installed) = pair(&self.version, installed.version);
            return Err(Misfit::Older { offered, installed });
        }
        Ok(())
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.product, self.version)
    }
}

/// Which of two versions is older. They are compared part by part: runs of digits as numbers,
/// other runs as text. As in semantic versions a `-` starts a pre-release, which is older than
/// the same version without it, and what follows a `+` does not count.
#[must_use]
pub fn order(a: &str, b: &str) -> Ordering {
    let ((a, a_pre), (b, b_pre)) = (parts(a), parts(b));
    compare(a, b).then_with(|| match (a_pre, b_pre) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => compare(a, b),
    })
}

/// The version and its pre-release.
fn parts(version: &str) -> (&str, Option<&str>) {
    let version = version
        .split_once('+')
        .map_or(version, |(counts, _)| counts);
    match version.split_once('-') {
        Some((version, pre)) => (version, Some(pre)),
        None => (version, None),
    }
}

fn compare(mut a: &str, mut b: &str) -> Ordering {
    loop {
        let (a_run, b_run);
        (a_run, a) = run(a);
        (b_run, b) = run(b);
        let order = match (number(a_run), number(b_run)) {
            _ if a_run.is_empty() && b_run.is_empty() => return Ordering::Equal,
            // A longer number without leading zeros is a larger one.
            (Some(x), Some(y)) => x.len().cmp(&y.len()).then_with(|| x.cmp(y)),
            _ => a_run.cmp(b_run),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Splits off the digits, or what is not digits, at the start.
fn run(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digits);
    text.split_at(end.unwrap_or(text.len()))
}

/// A run of digits without leading zeros.
fn number(run: &str) -> Option<&str> {
    let digits = run.starts_with(|c: char| c.is_ascii_digit());
    digits.then(|| run.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_people_read_them() {
        let ascending = [
            "0",
            "0.9",
            "1",
            "1.0.0-alpha",
            "1.0.0-alpha.2",
            "1.0.0-alpha.10",
            "1.0.0-rc1",
            "1.0.0",
            "1.0.1",
            "1.2",
            "1.10",
            "1.10.1",
            "2",
            "10",
            "2026.01",
            "2026.2",
            "184467440737095516160",
        ];
        for (at, a) in ascending.iter().enumerate() {
            for (other, b) in ascending.iter().enumerate() {
                assert_eq!(order(a, b), at.cmp(&other), "{a} {b}");
            }
        }
        for (a, b) in [("1.0", "1.00"), ("1.0+linux", "1.0+bsd"), ("", "")] {
            assert_eq!(order(a, b), Ordering::Equal, "{a} {b}");
        }
    }
}
