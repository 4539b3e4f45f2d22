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

impl MachineMount {
    fn make(&self) -> Result<(), Failure> {
        let kind = Some(self.kind);
        match mount(kind, self.target, kind, self.flags, self.options) {
            Ok(()) | Err(Errno::EBUSY) => Ok(()),
            Err(why) => Err(Failure::new(format!(
                "cannot mount {} on {}: {why}",
                self.kind, self.target
            ))),
        }
    }
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

/// A file system of their own for what containers write, so that it never takes the room of the
/// status and the leases in /run. A quarter of the memory: on 256 MB six containers keep the 8 MB
/// each that are the default, and no flood of output takes what containers run in.
const LOGS: MachineMount = MachineMount {
    kind: "tmpfs",
    target: berth_containers::log::DIRECTORY,
    flags: PLAIN,
    options: Some("mode=0755,size=25%"),
};

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
    MOUNTS.iter().try_for_each(MachineMount::make)?;
    for path in RUN_DIRECTORIES {
        DirBuilder::new()
            .mode(0o755)
            .recursive(true)
            .create(path)
            .doing(|| format!("make {path}"))?;
    }
    LOGS.make()
}

/// Writes `text` into a file of /proc, /sys or a cgroup in one call, as these expect it.
pub(crate) fn write_kernel_file(path: &str, text: &str) -> Result<(), Failure> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .doing(|| format!("write {text:?} to {path}"))
}
