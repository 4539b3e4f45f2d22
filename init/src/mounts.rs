//! The machine's own mounts, made before anything else.
//!
//! None of these can block: they are the kernel's own file systems and memory.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::failure::{Doing, Failure};

/// One mount of the machine.
struct MachineMount {
    kind: &'static str,
    target: &'static str,
    flags: MsFlags,
    options: Option<&'static str>,
}

const PLAIN: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);

/// In order. A kernel with CONFIG_DEVTMPFS_MOUNT has mounted /dev already.
const MOUNTS: [MachineMount; 6] = [
    MachineMount {
        kind: "proc",
        target: "/proc",
        flags: PLAIN,
        options: None,
    },
    MachineMount {
        kind: "sysfs",
        target: "/sys",
        flags: PLAIN,
        options: None,
    },
    MachineMount {
        kind: "devtmpfs",
        target: "/dev",
        flags: MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
        options: Some("mode=0755"),
    },
    MachineMount {
        kind: "tmpfs",
        target: "/run",
        flags: PLAIN,
        options: Some("mode=0755"),
    },
    MachineMount {
        kind: "tmpfs",
        target: "/tmp",
        flags: PLAIN,
        options: Some("mode=1777"),
    },
    // nsdelegate: a container's cgroup namespace is a delegation boundary.
    // memory_recursiveprot: memory.min of /system protects what is below it.
    MachineMount {
        kind: "cgroup2",
        target: "/sys/fs/cgroup",
        flags: PLAIN,
        options: Some("nsdelegate,memory_recursiveprot"),
    },
];

/// Directories under /run that roles and containers expect.
const RUN_DIRECTORIES: [&str; 4] = [
    "/run/berth",
    RUN_ETC,
    "/run/berth/status",
    berth_containers::log::DIRECTORY,
];

/// What the links in /etc of the verified root point into.
pub(crate) const RUN_ETC: &str = "/run/berth/etc";

/// Mounts the machine's own file systems and makes what must exist in them.
pub(crate) fn mount_all() -> Result<(), Failure> {
    for one in &MOUNTS {
        match mount(
            Some(one.kind),
            one.target,
            Some(one.kind),
            one.flags,
            one.options,
        ) {
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(why) => {
                return Err(Failure::new(format!(
                    "cannot mount {} on {}: {why}",
                    one.kind, one.target
                )));
            }
        }
    }
    for path in RUN_DIRECTORIES {
        DirBuilder::new()
            .mode(0o755)
            .recursive(true)
            .create(path)
            .doing(|| format!("make {path}"))?;
    }
    Ok(())
}

/// Writes `text` into a file of /proc, /sys or a cgroup in one call, as these expect it.
pub(crate) fn write_kernel_file(path: &str, text: &str) -> Result<(), Failure> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .doing(|| format!("write {text:?} to {path}"))
}
