//! Mounts: what every container has, what the file adds, and their places in the image.

use std::collections::BTreeMap;

use berth_containers::spec::{Mount, Volume};
use berth_tree::{Kind, Metadata, Node, Spool, Tree};

use super::rootfs::{self, Found};
use super::{Image, Wrong};
use crate::config::{ContainerConfig, DEFAULT_TMPFS_BYTES, MountSource, NetworkMode};

/// Where PID 1 keeps the status that containers may see.
const STATUS_DIRECTORY: &str = "/run/berth/status";

/// Where volumes lie on the state partition.
const VOLUMES_DIRECTORY: &str = "/state/volumes";

/// The machine's own files that a container on its network sees.
const NETWORK_FILES: [(&str, &str); 2] = [
    ("/run/berth/etc/hosts", "/etc/hosts"),
    ("/run/berth/etc/resolv.conf", "/etc/resolv.conf"),
];

/// The mounts of a container, in order.
pub(super) fn of(
    config: &ContainerConfig,
    image: &Image<'_>,
    notes: &mut Vec<String>,
) -> Result<Vec<Mount>, Wrong> {
    let mut mounts = usual(config);
    if config.network == NetworkMode::Host {
        mounts.extend(NETWORK_FILES.map(|(source, target)| {
            bind(source, target, &["bind", "ro", "nosuid", "nodev", "noexec"])
        }));
    }
    for mount in &config.mounts {
        let access = if mount.read_only { "ro" } else { "rw" };
        mounts.push(match &mount.source {
            MountSource::Volume(name) => bind(
                &format!("{VOLUMES_DIRECTORY}/{name}"),
                &mount.target,
                &["bind", "idmap", access, "nosuid", "nodev"],
            ),
            MountSource::Tmpfs { size, mode } => tmpfs(&mount.target, *size, *mode),
            MountSource::Status => bind(
                STATUS_DIRECTORY,
                &mount.target,
                &["bind", "ro", "nosuid", "nodev", "noexec"],
            ),
        });
    }
    for volume in &image.execution.volumes {
        let path = volume.trim_end_matches('/');
        if !path.starts_with('/') || config.mounts.iter().any(|mount| mount.target == path) {
            continue;
        }
        let like = match rootfs::find(image.tree, path) {
            Found::Node(id) => image.tree.node(id).metadata.clone(),
            _ => Metadata::system(0o755),
        };
        let mut memory = tmpfs(path, DEFAULT_TMPFS_BYTES, like.mode);
        memory.options.push(format!("uid={}", like.uid));
        memory.options.push(format!("gid={}", like.gid));
        mounts.push(memory);
        notes.push(format!(
            "the image declares the volume {path} and no mount names it: it lies in memory, at \
             most {}, and is lost with the container; mounts = [{{ volume = \"NAME\", target = \
             \"{path}\" }}] keeps it",
            crate::config::write_size(DEFAULT_TMPFS_BYTES)
        ));
    }
    Ok(mounts)
}

/// The volumes that the machine makes. A new one gets owner and permissions of the directory of
/// the image that it hides, as Docker does it: the image's program expects them.
pub(super) fn volumes(config: &ContainerConfig, image: &Image<'_>) -> Vec<Volume> {
    let mut volumes: Vec<Volume> = Vec::new();
    for mount in &config.mounts {
        let MountSource::Volume(name) = &mount.source else {
            continue;
        };
        let path = format!("{VOLUMES_DIRECTORY}/{name}");
        if volumes.iter().any(|volume| volume.path == path) {
            continue;
        }
        let metadata = match rootfs::find(image.tree, &mount.target) {
            Found::Node(id) => image.tree.node(id).metadata.clone(),
            _ => Metadata::system(0o755),
        };
        volumes.push(Volume {
            path,
            uid: metadata.uid,
            gid: metadata.gid,
            mode: metadata.mode,
        });
    }
    volumes
}

/// What the OCI runtime specification asks of every Linux container ("Default Filesystems"),
/// with Docker's options.
fn usual(config: &ContainerConfig) -> Vec<Mount> {
    let access = if config.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        mount("proc", "proc", "/proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "tmpfs",
            "tmpfs",
            "/dev",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "devpts",
            "devpts",
            "/dev/pts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
    ];
    mounts.extend([
        mount(
            "sysfs",
            "sysfs",
            "/sys",
            &["nosuid", "noexec", "nodev", access],
        ),
        mount(
            "cgroup",
            "cgroup",
            "/sys/fs/cgroup",
            &["nosuid", "noexec", "nodev", "relatime", access],
        ),
        mount(
            "mqueue",
            "mqueue",
            "/dev/mqueue",
            &["nosuid", "noexec", "nodev"],
        ),
        mount(
            "tmpfs",
            "shm",
            "/dev/shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
    ]);
    mounts
}

fn mount(kind: &str, source: &str, destination: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: Some(kind.to_owned()),
        source: Some(source.to_owned()),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    }
}

fn bind(source: &str, destination: &str, options: &[&str]) -> Mount {
    mount("bind", source, destination, options)
}

fn tmpfs(destination: &str, size: u64, mode: u16) -> Mount {
    let mut tmpfs = mount("tmpfs", "tmpfs", destination, &["nosuid", "nodev"]);
    tmpfs.options.push(format!("mode={mode:o}"));
    tmpfs.options.push(format!("size={size}"));
    tmpfs
}

/// Makes the places of `mounts` in the image's tree where they are missing: the root is
/// read-only, so the machine cannot.
///
/// # Errors
/// A clause that says which place cannot be made and why.
pub fn make_mount_points(
    tree: &mut Tree,
    spool: &mut Spool,
    mounts: &[Mount],
) -> Result<(), String> {
    let mut covered: Vec<String> = Vec::new();
    for mount in mounts {
        let target = &mount.destination;
        // Inside a mount that the runtime makes, the runtime makes the place.
        let inside = |outer: &String| target.starts_with(&format!("{outer}/"));
        if !covered.iter().any(inside) {
            let is_file = NETWORK_FILES.iter().any(|(_, file)| file == target);
            make_place(tree, spool, target, is_file)?;
        }
        covered.push(target.clone());
    }
    Ok(())
}

/// Makes the working directory in the image's tree where it is missing and no mount covers it, as
/// other runtimes do when they start: the root is read-only, so the machine cannot.
///
/// # Errors
/// A clause that says why it cannot be one.
pub fn make_working_directory(
    tree: &mut Tree,
    spool: &mut Spool,
    path: &str,
    mounts: &[Mount],
) -> Result<(), String> {
    let is_covered = mounts.iter().any(|mount| {
        let inside = path.strip_prefix(mount.destination.as_str());
        inside.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    if is_covered {
        return Ok(());
    }
    match rootfs::find(tree, path) {
        Found::Node(id) if tree.entries(id).is_some() => Ok(()),
        Found::Node(_) => Err(format!(
            "the working directory {path} is not a directory in the image, so no program can \
             start there; name another with working_dir"
        )),
        _ => make_place(tree, spool, path, false).map_err(|why| {
            format!("the working directory cannot be made: {why}; name another with working_dir")
        }),
    }
}

fn make_place(tree: &mut Tree, spool: &mut Spool, path: &str, is_file: bool) -> Result<(), String> {
    let (parent, rest) = match rootfs::find(tree, path) {
        Found::Node(id) => {
            let is_directory = matches!(tree.node(id).kind, Kind::Directory(_));
            return if is_directory != is_file {
                Ok(())
            } else {
                Err(format!(
                    "{path} in the image is {}, so nothing can be mounted there",
                    if is_directory {
                        "a directory"
                    } else {
                        "not a directory"
                    }
                ))
            };
        }
        Found::Missing { parent, rest } => (parent, rest),
        Found::NotADirectory => {
            return Err(format!("a part of {path} in the image is not a directory"));
        }
        Found::TooManyLinks => {
            return Err(format!("{path} in the image is a circle of links"));
        }
    };
    let mut at = parent;
    let last = rest.len().saturating_sub(1);
    for (index, name) in rest.iter().enumerate() {
        let node = if is_file && index == last {
            let content = spool
                .store(b"")
                .map_err(|error| format!("the spool cannot be written: {error}"))?;
            Node {
                metadata: Metadata::system(0o644),
                kind: Kind::File(content),
            }
        } else {
            Node {
                metadata: Metadata::system(0o755),
                kind: Kind::Directory(BTreeMap::new()),
            }
        };
        at = tree.insert_in(at, name, node);
    }
    Ok(())
}
