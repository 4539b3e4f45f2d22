//! A plan: a specification read completely, with nothing left to decide, allocate or refuse.
//!
//! The child between clone and exec only walks through it. Whatever the specification asks for
//! that is not done exactly as asked is refused here, with its key.

use std::ffi::CString;

use crate::devices::{self, Device};
use crate::mounts::{self, Mount};
use crate::namespaces::Namespaces;
use crate::process::Process;
use crate::rlimits::{self, Limit};
use crate::rootfs::Root;
use crate::seccomp::Filter;
use crate::spec::{self, Container};

/// Most masked or read-only paths.
const MOST_PATHS: usize = 256;

/// A container that can be launched, again and again.
#[derive(Debug)]
pub struct Plan {
    pub(crate) name: String,
    pub(crate) namespaces: Namespaces,
    pub(crate) root: Root,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) devices: Vec<Device>,
    pub(crate) masked: Vec<CString>,
    pub(crate) protected: Vec<CString>,
    pub(crate) host_name: Option<CString>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) oom_score_adj: i32,
    pub(crate) process: Process,
    pub(crate) filter: Option<Filter>,
}

/// A specification that is not carried out.
#[derive(Debug, thiserror::Error)]
#[error("the specification of container {container} is refused: {refused}")]
pub struct PlanError {
    container: String,
    refused: Refused,
}

/// What in a specification is refused, and why.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {why}")]
pub(crate) struct Refused {
    key: String,
    why: String,
}

impl Refused {
    pub(crate) fn new(key: &str, why: String) -> Self {
        Self {
            key: key.to_owned(),
            why,
        }
    }
}

impl Plan {
    /// Reads a container's specification.
    ///
    /// # Errors
    /// Names the key that is refused and why.
    pub fn new(container: &Container) -> Result<Self, PlanError> {
        Self::parse(&container.name, &container.oci).map_err(|refused| PlanError {
            container: container.name.clone(),
            refused,
        })
    }

    /// The container's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// User and group, by the machine's numbers, that the container's first process runs as.
    #[must_use]
    pub fn owner(&self) -> (u32, u32) {
        // Checked to be mapped when the plan was made.
        let uid = self.namespaces.outer_uid(self.process.uid);
        let gid = self.namespaces.outer_gid(self.process.gid);
        uid.zip(gid).unwrap_or((self.process.uid, self.process.gid))
    }

    fn parse(name: &str, oci: &spec::Oci) -> Result<Self, Refused> {
        if !oci.oci_version.starts_with("1.") {
            return Err(Refused::new(
                "ociVersion",
                format!("{:?} is not version 1", oci.oci_version),
            ));
        }
        let namespaces = Namespaces::parse(&oci.linux)?;
        let process = Process::parse(&oci.process)?;
        let mapped = |id: Option<u32>, key: &str| {
            id.map(|_| ())
                .ok_or_else(|| Refused::new(key, "it has no mapping in the user namespace".into()))
        };
        mapped(namespaces.outer_uid(process.uid), "process.user.uid")?;
        mapped(namespaces.outer_gid(process.gid), "process.user.gid")?;
        for gid in &process.groups {
            mapped(namespaces.outer_gid(*gid), "process.user.additionalGids")?;
        }
        let oom_score_adj = oci.process.oom_score_adj.unwrap_or(0);
        if !(-1000..=1000).contains(&oom_score_adj) {
            return Err(Refused::new(
                "process.oomScoreAdj",
                "not between -1000 and 1000".into(),
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            root: Root {
                path: absolute(&oci.root.path, "root.path")?,
                read_only: oci.root.readonly,
            },
            mounts: mounts::parse(&oci.mounts, &namespaces)?,
            devices: devices::parse(&oci.linux.devices)?,
            masked: paths(&oci.linux.masked_paths, "linux.maskedPaths")?,
            protected: paths(&oci.linux.readonly_paths, "linux.readonlyPaths")?,
            host_name: host_name(oci.hostname.as_deref(), &namespaces)?,
            limits: rlimits::parse(&oci.process.rlimits)?,
            oom_score_adj,
            filter: match oci.linux.seccomp {
                spec::Seccomp::Default => {
                    Some(Filter::default_profile(process.capabilities.bounding))
                }
                spec::Seccomp::Unconfined => None,
            },
            namespaces,
            process,
        })
    }
}

fn host_name(name: Option<&str>, namespaces: &Namespaces) -> Result<Option<CString>, Refused> {
    // HOST_NAME_MAX of Linux.
    const LONGEST: usize = 64;
    let key = "hostname";
    let Some(name) = name else { return Ok(None) };
    if !namespaces.uts {
        return Err(Refused::new(
            key,
            "it needs the container's own uts namespace".into(),
        ));
    }
    if name.is_empty() || name.len() > LONGEST {
        return Err(Refused::new(key, format!("not 1 to {LONGEST} bytes long")));
    }
    CString::new(name)
        .map(Some)
        .map_err(|_| Refused::new(key, "it has a NUL byte".into()))
}

fn paths(list: &[String], key: &str) -> Result<Vec<CString>, Refused> {
    if list.len() > MOST_PATHS {
        return Err(Refused::new(key, format!("more than {MOST_PATHS}")));
    }
    list.iter().map(|path| absolute(path, key)).collect()
}

/// An absolute path with no empty, `.` or `..` component.
pub(crate) fn absolute(path: &str, key: &str) -> Result<CString, Refused> {
    // PATH_MAX of Linux, with its final NUL.
    const LONGEST: usize = 4095;
    let clean = path.strip_prefix('/').is_some_and(|rest| {
        rest.is_empty() || rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
    });
    if !clean || path.len() > LONGEST {
        return Err(Refused::new(
            key,
            format!("{path:?} is not an absolute path without empty, . and .. parts"),
        ));
    }
    CString::new(path).map_err(|_| Refused::new(key, "it has a NUL byte".into()))
}

/// The directories above a path, outermost first, without the root.
pub(crate) fn parents(path: &str) -> Vec<CString> {
    path.match_indices('/')
        .filter_map(|(at, _)| path.get(..at))
        .filter(|parent| !parent.is_empty())
        .filter_map(|parent| CString::new(parent).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clean_absolute_paths_are_taken() {
        for good in ["/", "/a", "/a/b.c", "/..a"] {
            assert!(absolute(good, "k").is_ok(), "{good}");
        }
        for bad in ["", "a", "//", "/a/", "/a//b", "/./a", "/a/..", "/a\0"] {
            assert!(absolute(bad, "k").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn parents_are_listed_from_the_outside() {
        assert_eq!(parents("/a/b/c"), [c"/a".into(), CString::from(c"/a/b")]);
        assert_eq!(parents("dri/card0"), [CString::from(c"dri")]);
        assert!(parents("/a").is_empty());
    }
}
