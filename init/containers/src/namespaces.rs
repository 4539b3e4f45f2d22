//! Namespaces: which are the container's own, and the ids of its user namespace.

use crate::plan::Refused;
use crate::spec::{IdMapping, Linux, NamespaceKind};

/// The kernel allows 340 lines in an id map; containers have one or two.
const MOST_MAPPINGS: usize = 16;

/// The namespaces of a container.
#[derive(Clone, Debug)]
pub(crate) struct Namespaces {
    /// Flags for clone; without the cgroup namespace, whose root must be the container's cgroup
    /// and is therefore made by the child, which is already in it.
    pub(crate) flags: u64,
    /// Whether the cgroup namespace is its own.
    pub(crate) cgroup: bool,
    /// Whether the network namespace is its own.
    pub(crate) network: bool,
    /// Whether the IPC namespace is its own.
    pub(crate) ipc: bool,
    /// Whether the UTS namespace is its own.
    pub(crate) uts: bool,
    /// The ids of its own user namespace.
    pub(crate) ids: Option<IdMaps>,
}

/// Ids inside and outside of a user namespace.
#[derive(Clone, Debug)]
pub(crate) struct IdMaps {
    uids: Vec<IdMapping>,
    gids: Vec<IdMapping>,
}

impl Namespaces {
    /// Reads namespaces and id mappings.
    pub(crate) fn parse(linux: &Linux) -> Result<Self, Refused> {
        let key = "linux.namespaces";
        let mut own = Vec::new();
        for namespace in &linux.namespaces {
            if own.contains(&namespace.kind) {
                return Err(Refused::new(
                    key,
                    format!("{:?} is there twice", namespace.kind),
                ));
            }
            own.push(namespace.kind);
        }
        let has = |kind| own.contains(&kind);
        for (kind, name) in [(NamespaceKind::Mount, "mount"), (NamespaceKind::Pid, "pid")] {
            if !has(kind) {
                return Err(Refused::new(
                    key,
                    format!("{name} is missing: every container has its own"),
                ));
            }
        }
        let user = has(NamespaceKind::User);
        let ids = IdMaps {
            uids: mappings(&linux.uid_mappings, user, "linux.uidMappings")?,
            gids: mappings(&linux.gid_mappings, user, "linux.gidMappings")?,
        };
        let flag = |kind| match kind {
            NamespaceKind::Pid => libc::CLONE_NEWPID,
            NamespaceKind::Network => libc::CLONE_NEWNET,
            NamespaceKind::Mount => libc::CLONE_NEWNS,
            NamespaceKind::Ipc => libc::CLONE_NEWIPC,
            NamespaceKind::Uts => libc::CLONE_NEWUTS,
            NamespaceKind::User => libc::CLONE_NEWUSER,
            NamespaceKind::Cgroup => 0,
        };
        Ok(Self {
            flags: own.iter().fold(0, |flags, kind| flags | flag(*kind) as u64),
            cgroup: has(NamespaceKind::Cgroup),
            network: has(NamespaceKind::Network),
            ipc: has(NamespaceKind::Ipc),
            uts: has(NamespaceKind::Uts),
            ids: user.then_some(ids),
        })
    }

    /// Flags with which a further process joins those that are its own. The pid namespace is
    /// not among them: a process is in one from its birth.
    pub(crate) fn to_join(&self) -> u64 {
        let cgroup = match self.cgroup {
            true => libc::CLONE_NEWCGROUP as u64,
            false => 0,
        };
        self.flags & !(libc::CLONE_NEWPID as u64) | cgroup
    }

    /// The machine's user id of a container's.
    pub(crate) fn outer_uid(&self, uid: u32) -> Option<u32> {
        match &self.ids {
            Some(ids) => outer(&ids.uids, uid),
            None => Some(uid),
        }
    }

    /// The machine's group id of a container's.
    pub(crate) fn outer_gid(&self, gid: u32) -> Option<u32> {
        match &self.ids {
            Some(ids) => outer(&ids.gids, gid),
            None => Some(gid),
        }
    }
}

impl IdMaps {
    /// The text for `/proc/PID/uid_map`.
    pub(crate) fn uid_map(&self) -> String {
        text(&self.uids)
    }

    /// The text for `/proc/PID/gid_map`.
    pub(crate) fn gid_map(&self) -> String {
        text(&self.gids)
    }
}

fn mappings(list: &[IdMapping], user: bool, key: &str) -> Result<Vec<IdMapping>, Refused> {
    if list.is_empty() == user {
        return Err(Refused::new(
            key,
            "mappings and a user namespace need each other".into(),
        ));
    }
    if list.len() > MOST_MAPPINGS {
        return Err(Refused::new(key, format!("more than {MOST_MAPPINGS}")));
    }
    for mapping in list {
        let in_range = |first: u32| mapping.size > 0 && first.checked_add(mapping.size).is_some();
        if !in_range(mapping.container_id) || !in_range(mapping.host_id) {
            return Err(Refused::new(key, "a range is empty or too long".into()));
        }
        if mapping.host_id == 0 {
            return Err(Refused::new(
                key,
                "the machine's own root must not be mapped into a container".into(),
            ));
        }
    }
    if user && outer(list, 0).is_none() {
        return Err(Refused::new(
            key,
            "id 0 is not mapped: the container is set up as its root".into(),
        ));
    }
    Ok(list.to_vec())
}

fn outer(list: &[IdMapping], id: u32) -> Option<u32> {
    list.iter().find_map(|mapping| {
        let offset = id.checked_sub(mapping.container_id)?;
        (offset < mapping.size).then(|| mapping.host_id.checked_add(offset))?
    })
}

fn text(list: &[IdMapping]) -> String {
    use std::fmt::Write;
    list.iter().fold(String::new(), |mut text, mapping| {
        let IdMapping {
            container_id,
            host_id,
            size,
        } = mapping;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{container_id} {host_id} {size}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Namespace;

    fn linux(kinds: &[NamespaceKind], host_id: u32) -> Linux {
        let map = vec![IdMapping {
            container_id: 0,
            host_id,
            size: 65536,
        }];
        Linux {
            namespaces: kinds.iter().map(|kind| Namespace { kind: *kind }).collect(),
            uid_mappings: map.clone(),
            gid_mappings: map,
            ..Linux::default()
        }
    }

    const ALL: [NamespaceKind; 3] = [
        NamespaceKind::Pid,
        NamespaceKind::Mount,
        NamespaceKind::User,
    ];

    #[test]
    fn ids_are_found_inside_their_ranges_only() {
        let namespaces = Namespaces::parse(&linux(&ALL, 100_000)).expect("good");
        assert_eq!(namespaces.outer_uid(0), Some(100_000));
        assert_eq!(namespaces.outer_uid(65_535), Some(165_535));
        assert_eq!(namespaces.outer_gid(65_536), None);
        let maps = namespaces.ids.expect("its own");
        assert_eq!(maps.uid_map(), "0 100000 65536\n");
    }

    #[test]
    fn the_machines_root_is_never_mapped() {
        let refused = Namespaces::parse(&linux(&ALL, 0)).expect_err("host id 0");
        assert!(refused.to_string().starts_with("linux.uidMappings: "));
    }

    #[test]
    fn a_container_without_its_own_mounts_or_processes_is_refused() {
        for missing in 0..2 {
            let mut kinds = ALL.to_vec();
            kinds.remove(missing);
            assert!(Namespaces::parse(&linux(&kinds, 1000)).is_err());
        }
        let mut twice = ALL.to_vec();
        twice.push(NamespaceKind::Pid);
        assert!(Namespaces::parse(&linux(&twice, 1000)).is_err());
    }

    #[test]
    fn mappings_without_a_user_namespace_are_refused() {
        let kinds = [NamespaceKind::Pid, NamespaceKind::Mount];
        assert!(Namespaces::parse(&linux(&kinds, 1000)).is_err());
    }
}
