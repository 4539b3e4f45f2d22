//! The bare contestant: a BusyBox shell script as init, which mounts what a container needs and
//! starts it with Debian's crun.

use std::path::Path;
use std::process::Command;

use berth_qemu_tests::files::{self, Files};
use berth_qemu_tests::{Builder, Disk, Error, Machine, guest, process};
use serde_json::Value;

use crate::berth::Berth;
use crate::bundle;
use crate::kernel_start::{COMMAND_LINE, LATE_TIMERS, MEMORY_MIB};

/// Where the bundle is in the guest.
const BUNDLE: &str = "bench/bundle";
/// Where the files are that a container gets from its machine.
const ETC: &str = "bench/etc";
/// How often each way of starting one more container is measured.
pub(crate) const TIMES: usize = 15;
/// Size of the disk, bytes.
const DISK: u64 = 64 << 20;

/// Leaves the initial RAM file system for one that pivot_root works in.
const MOVE: &str = "#!/bin/sh\n\
    mkdir /new\n\
    mount -t tmpfs new /new\n\
    cp -a /init /guest /bench /bin /lib /lib64 /usr /dev /proc /sys /run /tmp /new 2>/dev/null\n\
    exec switch_root /new /bench/work\n";

/// What the script does once the machine is set up.
pub(crate) enum Work {
    /// Starts the container once.
    StartOne,
    /// Starts and ends a container several times, by crun, by Berth's runtime and by the
    /// bare system calls, and
    /// says how long each took.
    StartMany,
}

impl Work {
    fn container(&self, berth: &Berth) -> Result<Value, Error> {
        let arguments: &[&str] = match self {
            Self::StartOne => &["/guest", "say", "container"],
            Self::StartMany => &["/guest", "true"],
        };
        berth.container(arguments, &format!("/{BUNDLE}/rootfs"), &format!("/{ETC}"))
    }

    fn script(&self, crun_options: &str) -> String {
        let crun =
            format!("/usr/bin/crun --cgroup-manager=cgroupfs run {crun_options} -b /{BUNDLE}");
        let mut script = String::from(
            "#!/bin/sh\n\
             mount -t proc proc /proc\n\
             mount -t sysfs sysfs /sys\n\
             mount -t devtmpfs dev /dev\n\
             mkdir -p /dev/pts /dev/shm\n\
             mount -t devpts devpts /dev/pts\n\
             mount -t tmpfs shm /dev/shm\n\
             mount -t tmpfs run /run\n\
             mount -t tmpfs tmp /tmp\n\
             mount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
             echo +cpu +memory +pids > /sys/fs/cgroup/cgroup.subtree_control\n\
             hostname bench\n\
             ip link set lo up\n",
        );
        match self {
            Self::StartOne => script.push_str(&format!("{crun} one\n")),
            Self::StartMany => {
                script.push_str(&format!("/guest launch /bench/container.json {TIMES}\n"));
                for number in 0..TIMES {
                    script.push_str(&format!("/guest time crun {crun} many{number}\n"));
                    script.push_str(&format!("/guest bare /{BUNDLE}/rootfs /guest true\n"));
                }
            }
        }
        script.push_str("/guest restart\n");
        script
    }

    /// Everything on the machine, `init` being the script that PID 1 goes on with.
    fn files(&self, berth: &Berth, init: String) -> Result<Files, Error> {
        let guest = guest::program()?;
        let container = self.container(berth)?;
        let mut tree = Files::default()
            .program_from("init", &guest)?
            .program_from("guest", &guest)?
            .program_from(&format!("{BUNDLE}/rootfs/guest"), &guest)?
            .file(
                &format!("{BUNDLE}/config.json"),
                0o644,
                bundle::config(&container)?.to_string(),
            )
            .file("bench/container.json", 0o644, container.to_string())
            .program("bench/init", init)
            .program_from("bin/busybox", &files::which("busybox")?)?;
        for applet in [
            "cp",
            "hostname",
            "ip",
            "mkdir",
            "mount",
            "sh",
            "switch_root",
        ] {
            tree = tree.link(&format!("bin/{applet}"), "busybox");
        }
        for name in ["hosts", "resolv.conf"] {
            tree = tree
                .file(&format!("{ETC}/{name}"), 0o644, "127.0.0.1 localhost\n")
                .file(&format!("{BUNDLE}/rootfs/etc/{name}"), 0o644, "");
        }
        for inside in ["dev", "proc", "sys", "run", "tmp", "etc"] {
            tree = tree
                .directory(inside)
                .directory(&format!("{BUNDLE}/rootfs/{inside}"));
        }
        files::with_libraries(tree, &files::which("crun")?)
    }
}

/// The machine in memory, instructions counted.
pub(crate) fn in_memory(
    kernel: &Path,
    work: &Work,
    berth: &Berth,
    scratch: &Path,
) -> Result<Builder, Error> {
    let ramdisk = scratch.join("bare.cpio");
    let files = match work {
        // pivot_root is impossible from the root that an initial RAM file system is unpacked to.
        Work::StartOne => work.files(berth, work.script("--no-pivot"))?,
        Work::StartMany => work
            .files(berth, MOVE.to_owned())?
            .program("bench/work", work.script("")),
    };
    files
        .device("dev/console", 5, 1)
        .write_initramfs(&ramdisk)?;
    Ok(Machine::named("bench-bare-memory")
        .counted()
        .headless()
        .without_network()
        .memory(MEMORY_MIB)
        .direct(kernel, COMMAND_LINE)
        .initrd(ramdisk))
}

/// The machine on a disk.
pub(crate) fn on_disk(
    kernel: &Path,
    work: &Work,
    berth: &Berth,
    scratch: &Path,
) -> Result<Builder, Error> {
    let tree = scratch.join("bare-tree");
    let image = scratch.join("bare.img");
    work.files(berth, work.script(""))?.write_below(&tree)?;
    let mut format = Command::new(files::which("mke2fs")?);
    format
        .args(["-q", "-t", "ext4", "-E", "root_owner=0:0", "-d"])
        .arg(&tree)
        .arg(&image)
        .arg(format!("{}k", DISK >> 10));
    process::run(&mut format)?;
    let command_line = format!("{COMMAND_LINE} {LATE_TIMERS} root=/dev/vda rw init=/init");
    Ok(Machine::named("bench-bare-disk")
        .headless()
        .memory(MEMORY_MIB)
        .direct(kernel, command_line)
        .disk(Disk::of(image)))
}
