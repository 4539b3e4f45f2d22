//! Berth as a contestant: its kernels, its init and its container, taken from what `berth build`
//! makes of one configuration.

use std::fs;
use std::path::Path;

use berth_qemu_tests::image::{Image, Recipe};
use berth_qemu_tests::{Builder, Console, Disk, Error, Files, Machine, guest, within};
use serde_json::{Value, json};

use crate::guest_lines;
use crate::kernel_start::{LATE_TIMERS, MEMORY_MIB};

/// The command line in memory: EROFS mounts a file of ramfs, not of tmpfs.
const IN_MEMORY: &str = "console=ttyS0 quiet panic=1 rootfstype=ramfs";

/// The container: on the host's network, with every default restriction, and a serial line to
/// say on when it came.
const CONTAINER: &str = "[container.one]\n\
    image = \"oci:guest\"\n\
    command = [\"say\", \"container\", \"/dev/ttyS0\"]\n\
    network = \"host\"\n\
    devices = [\"/dev/ttyS0\"]\n\
    resources = { memory = \"256M\", pids = 200 }\n\
    restart = { policy = \"no\" }\n";

/// A built image with what the contestants need out of its root.
pub(crate) struct Berth {
    image: Image,
    init: Vec<u8>,
    machine: Value,
}

impl Berth {
    /// Builds it for a kernel profile.
    pub(crate) fn build(profile: &str, scratch: &Path) -> Result<Self, Error> {
        let recipe = Recipe::with_image("bench", &format!("profile = \"{profile}\""), CONTAINER);
        Self::of(
            recipe.guest()?.build()?,
            &scratch.join(format!("root-{profile}")),
        )
    }

    /// What an image holds, its root unpacked into a directory.
    pub(crate) fn of(image: Image, root: &Path) -> Result<Self, Error> {
        image.unpack_root(root)?;
        let read = |path: &str| {
            let path = root.join(path);
            fs::read(&path).map_err(Error::file("reading", path))
        };
        let machine = serde_json::from_slice(&read("etc/berth/machine.json")?)
            .map_err(|error| Error::broken(format!("machine.json: {error}")))?;
        let init = read("init")?;
        Ok(Self {
            image,
            init,
            machine,
        })
    }

    /// What was built.
    pub(crate) fn image(&self) -> &Image {
        &self.image
    }

    /// The container as the builder resolved it, without its device, running another program in
    /// another root, with the files that PID 1 makes for it (`/etc/hosts`) from a directory.
    pub(crate) fn container(
        &self,
        arguments: &[&str],
        root: &str,
        etc: &str,
    ) -> Result<Value, Error> {
        let mut container = self.machine["containers"][0].clone();
        let oci = &mut container["oci"];
        let Some(mounts) = oci["mounts"].as_array_mut() else {
            return Err(Error::broken("machine.json has no container"));
        };
        for mount in mounts {
            let source = mount["source"].as_str().unwrap_or_default();
            if let Some(name) = source.strip_prefix("/run/berth/etc/") {
                mount["source"] = json!(format!("{etc}/{name}"));
            }
        }
        oci["process"]["args"] = json!(arguments);
        oci["root"]["path"] = json!(root);
        if let Some(linux) = oci["linux"].as_object_mut() {
            linux.remove("devices");
        }
        Ok(container)
    }

    /// The machine in memory: its init and its root in an initial RAM file system, and what
    /// else is asked for.
    pub(crate) fn in_memory(&self, scratch: &Path, more: Files) -> Result<Builder, Error> {
        let ramdisk = scratch.join("berth.cpio");
        more.device("dev/console", 5, 1)
            .program_from("init", &guest::program()?)?
            .program("bench/init", self.init.clone())
            .program_from("root.erofs", &self.image.root())?
            .write_initramfs(&ramdisk)?;
        Ok(Machine::named("bench-berth-memory")
            .headless()
            .memory(MEMORY_MIB)
            .direct(self.image.kernel(), IN_MEMORY)
            .initrd(ramdisk))
    }

    /// Instructions from PID 1's first to the container's first.
    pub(crate) fn instructions(&self, scratch: &Path) -> Result<u64, Error> {
        let machine = self.in_memory(scratch, Files::default())?;
        let machine = machine.counted().without_network().start()?;
        machine
            .console()
            .wait_for_line("guest: container ", within(60))?;
        let text = machine.console().text();
        let from = guest_lines::gave_way(&text)?.ticks;
        let to = guest_lines::first(&text, "container")?.ticks;
        Ok(to.saturating_sub(from))
    }

    /// Nanoseconds from the kernel's start to PID 1's first words and to the container's first
    /// instruction, from disk.
    pub(crate) fn wall(&self) -> Result<(u64, u64), Error> {
        let command_line = format!("{} {LATE_TIMERS}", self.image.command_line()?);
        let machine = Machine::named("bench-berth-disk")
            .headless()
            .memory(MEMORY_MIB)
            .direct(self.image.kernel(), command_line)
            .disk(Disk::of(self.image.disk()).grown_to(1 << 30))
            .start()?;
        machine
            .console()
            .wait_for_line("guest: container ", within(60))?;
        machine.console().ready(within(60))?;
        let from = first_phase_us(machine.console())? * 1000;
        let to = guest_lines::first(&machine.console().text(), "container")?.ns;
        Ok((from, to))
    }
}

/// When PID 1 started its first phase, microseconds since the kernel's start.
fn first_phase_us(console: &Console) -> Result<u64, Error> {
    let lines = console.lines();
    let first = lines
        .iter()
        .find(|line| line.get("phase").is_some() && line.says("start"));
    first
        .and_then(|line| line.micros())
        .ok_or_else(|| Error::broken("PID 1 did not say when it started its first phase"))
}
