//! What Debian ships, fetched through the system's own package manager and kept in the user's
//! cache: its cloud kernel, and a machine with systemd and containerd.

use std::path::{Path, PathBuf};
use std::process::Command;

use berth_qemu_tests::{Builder, Disk, Error, Files, Machine, files, guest, process, within};
use serde_json::json;
use tempfile::TempDir;

use crate::guest_lines;
use crate::kernel_start::LATE_TIMERS;

/// The package that always depends on the newest cloud kernel.
const KERNEL: &str = "linux-image-cloud-amd64";

/// A kernel as Debian ships it.
pub(crate) struct Kernel {
    /// The package's name, version included.
    pub(crate) name: String,
    /// The image.
    pub(crate) image: PathBuf,
}

/// Where downloads and built machines are kept.
pub(crate) fn cache() -> Result<PathBuf, Error> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(base) => PathBuf::from(base),
        None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
    };
    let cache = base.join("berth").join("bench");
    std::fs::create_dir_all(&cache).map_err(Error::file("creating", &cache))?;
    Ok(cache)
}

/// The newest cloud kernel that the package manager knows.
pub(crate) fn kernel() -> Result<Kernel, Error> {
    let mut depends = Command::new("apt-cache");
    let depends = process::run(depends.args(["depends", KERNEL]))?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
        .map(|rest| format!("linux-image-{rest}"))
        .ok_or_else(|| Error::broken(format!("apt knows no {KERNEL}: run apt-get update")))?;
    let version = version(&package)?;
    let name = format!("{package}_{version}");
    let image = cache()?.join(&name);
    if !image.exists() {
        fetch_kernel(&package, &image)?;
    }
    Ok(Kernel { name, image })
}

/// The version that the package manager would install.
fn version(package: &str) -> Result<String, Error> {
    let mut policy = Command::new("apt-cache");
    let policy = process::run(policy.args(["policy", package]))?;
    policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))
        .map(str::to_owned)
        .ok_or_else(|| Error::broken(format!("apt knows no version of {package}:\n{policy}")))
}

/// Fetches the kernel that a package holds.
pub(crate) fn fetch_kernel(package: &str, image: &Path) -> Result<(), Error> {
    let scratch = TempDir::new().map_err(Error::file("creating", "a scratch directory"))?;
    let archive = scratch.path().join("package.deb");
    fetch_package(package, &archive)?;
    let tree = scratch.path().join("tree");
    process::run(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&tree))?;
    let boot = tree.join("boot");
    let found = entries(&boot)?
        .into_iter()
        .find(|path| path.to_string_lossy().contains("/vmlinuz-"));
    let found = found.ok_or_else(|| Error::broken(format!("{package} holds no kernel")))?;
    keep(&found, image)
}

/// Fetches a package; `NAME=VERSION` is another version than the newest.
pub(crate) fn fetch_package(package: &str, to: &Path) -> Result<(), Error> {
    let scratch = TempDir::new().map_err(Error::file("creating", "a scratch directory"))?;
    let mut download = Command::new("apt-get");
    process::run(
        download
            .args(["download", package])
            .current_dir(scratch.path()),
    )?;
    keep(&only_entry(scratch.path())?, to)
}

/// Where something is made before it gets its name.
fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Copies a file to where it is kept, whole or not at all.
pub(crate) fn keep(from: &Path, to: &Path) -> Result<(), Error> {
    let partial = partial(to);
    std::fs::copy(from, &partial).map_err(Error::file("copying", from))?;
    std::fs::rename(&partial, to).map_err(Error::file("keeping", to))
}

/// Debian with systemd and containerd, on a disk, the container's image already imported; starts
/// the container from a unit, then powers off.
pub(crate) fn machine() -> Result<Builder, Error> {
    let mut name = String::from("machine");
    for package in [KERNEL, "systemd", "containerd"] {
        name.push('_');
        name.push_str(&version(package)?.replace(['/', ':'], "-"));
    }
    let directory = cache()?.join(name);
    if !directory.exists() {
        let partial = partial(&directory);
        if partial.exists() {
            std::fs::remove_dir_all(&partial).map_err(Error::file("removing", &partial))?;
        }
        std::fs::create_dir_all(&partial).map_err(Error::file("creating", &partial))?;
        build_machine(&partial)?;
        std::fs::rename(&partial, &directory).map_err(Error::file("keeping", &directory))?;
    }
    Ok(boot_machine("bench-debian", &directory))
}

/// Makes the disk with mmdebstrap, and imports the image in a first boot of its own.
fn build_machine(directory: &Path) -> Result<(), Error> {
    eprintln!("bench: making the Debian machine (mmdebstrap, once)");
    let scratch = TempDir::new().map_err(Error::file("creating", "a scratch directory"))?;
    let layout = scratch.path().join("layout");
    let program = guest::program()?;
    Files::default()
        .program_from("guest", &program)?
        // What `ctr run --net-host` mounts over must be there.
        .file("etc/hosts", 0o644, "")
        .file("etc/resolv.conf", 0o644, "")
        .write_oci_layout(&layout, "docker.io/library/guest:latest", &json!({}))?;
    let archive = scratch.path().join("image.tar");
    let mut tar = Command::new("tar");
    process::run(tar.arg("-C").arg(&layout).arg("-cf").arg(&archive).arg("."))?;
    let additions = scratch.path().join("additions");
    std::fs::create_dir(&additions).map_err(Error::file("creating", &additions))?;
    Files::default()
        .program_from("usr/local/bin/guest", &program)?
        .file("var/lib/image.tar", 0o644, read(&archive)?)
        .file("etc/hosts", 0o644, "127.0.0.1 localhost\n")
        .file("etc/resolv.conf", 0o644, "")
        .file("etc/systemd/system/import.service", 0o644, IMPORT)
        .file("etc/systemd/system/container.service", 0o644, CONTAINER)
        .link(
            "etc/systemd/system/multi-user.target.wants/import.service",
            "../import.service",
        )
        .link(
            "etc/systemd/system/multi-user.target.wants/container.service",
            "../container.service",
        )
        // It would hang up the line that the container speaks on.
        .link("etc/systemd/system/serial-getty@ttyS0.service", "/dev/null")
        .write_below(&additions)?;
    let root = scratch.path().join("root.tar");
    let mut bootstrap = Command::new("mmdebstrap");
    bootstrap
        .args(["--quiet", "--variant=minbase", "--format=tar"])
        .args(["--include=systemd-sysv,containerd,initramfs-tools"])
        .arg(format!("--include={KERNEL}"))
        .arg("--dpkgopt=path-exclude=/usr/share/doc/*")
        .arg("--dpkgopt=path-exclude=/usr/share/locale/*")
        .arg(format!(
            "--customize-hook=sync-in {} /",
            additions.display()
        ))
        .arg("bookworm")
        .arg(&root);
    process::run(&mut bootstrap)?;
    let tree = scratch.path().join("tree");
    std::fs::create_dir(&tree).map_err(Error::file("creating", &tree))?;
    let mut unpack = Command::new("tar");
    unpack.args(["--exclude=./dev/*", "-C"]).arg(&tree);
    process::run(unpack.arg("-xf").arg(&root))?;
    for path in entries(&tree.join("boot"))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        for kind in ["vmlinuz", "initrd.img"] {
            if name.starts_with(kind) {
                keep(&path, &directory.join(kind))?;
            }
        }
    }
    let disk = directory.join("disk.qcow2");
    let raw = scratch.path().join("disk.raw");
    let mut format = Command::new(files::which("mke2fs")?);
    format.args(["-q", "-t", "ext4", "-d"]).arg(&tree);
    process::run(format.arg(&raw).arg("2G"))?;
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-O", "qcow2"]);
    process::run(convert.arg(&raw).arg(&disk))?;
    // The first boot imports and powers off; its overlay becomes the disk.
    let importing = boot_machine("bench-debian-import", directory).start()?;
    importing.ended(within(120))?;
    if !importing.console().text().contains("guest: imported") {
        return Err(importing.broken("the container's image was not imported"));
    }
    let imported = scratch.path().join("imported.qcow2");
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-O", "qcow2"]);
    process::run(convert.arg(importing.overlay(0)).arg(&imported))?;
    std::fs::copy(&imported, &disk)
        .map(drop)
        .map_err(Error::file("keeping", &disk))
}

/// Imports the image at the first boot, then powers off.
const IMPORT: &str = "[Unit]\n\
    Requires=containerd.service\n\
    After=containerd.service\n\
    ConditionPathExists=/var/lib/image.tar\n\
    [Service]\n\
    Type=oneshot\n\
    ExecStart=/usr/bin/ctr image import /var/lib/image.tar\n\
    ExecStart=/bin/rm /var/lib/image.tar\n\
    ExecStart=/bin/sh -c 'echo \"guest: imported\" > /dev/ttyS0'\n\
    ExecStart=/usr/bin/systemctl poweroff\n";

/// Runs the container once the image is there, then powers off.
const CONTAINER: &str = "[Unit]\n\
    Requires=containerd.service\n\
    After=containerd.service\n\
    ConditionPathExists=!/var/lib/image.tar\n\
    [Service]\n\
    Type=oneshot\n\
    ExecStart=-/usr/bin/ctr run --rm --net-host docker.io/library/guest:latest one /guest say container\n\
    ExecStart=/usr/bin/systemctl poweroff\n\
    StandardOutput=file:/dev/ttyS0\n\
    StandardError=file:/dev/ttyS0\n";

fn boot_machine(name: &str, directory: &Path) -> Builder {
    Machine::named(name)
        .headless()
        .memory(1024)
        .direct(
            directory.join("vmlinuz"),
            format!(
                "console=ttyS0 root=/dev/vda rw systemd.show_status=0 loglevel=7 {LATE_TIMERS}"
            ),
        )
        .initrd(directory.join("initrd.img"))
        .disk(Disk::of(directory.join("disk.qcow2")))
}

/// Nanoseconds from the kernel's start to systemd's first line and to the container's first
/// instruction.
pub(crate) fn systemd_to_container() -> Result<(u64, u64), Error> {
    let text = guest_lines::run(machine()?, within(120))?;
    let arrived = guest_lines::first(&text, "container")?.ns;
    let started = text.lines().find_map(|line| {
        // [    4.512345] systemd[1]: systemd 252.x running in system mode …
        let line = line.split_once("systemd[1]: systemd ")?.0;
        let stamp = line.split_once('[')?.1.split_once(']')?.0.trim();
        Some((stamp.parse::<f64>().ok()? * 1e9) as u64)
    });
    let started = started
        .ok_or_else(|| Error::broken(format!("systemd did not say when it started:\n{text}")))?;
    Ok((started, arrived))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(Error::file("reading", path))
}

fn only_entry(directory: &Path) -> Result<PathBuf, Error> {
    let all = entries(directory)?;
    all.into_iter()
        .next()
        .ok_or_else(|| Error::broken(format!("{} is empty", directory.display())))
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(directory)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect()
    };
    read().map_err(Error::file("listing", directory))
}
