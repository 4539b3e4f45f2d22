//! What a machine is made of, and how QEMU is told.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use serde_json::json;
use tempfile::TempDir;

use super::{Machine, Qemu};
use crate::observer::{self, Observer};
use crate::turn::Turn;
use crate::{Artifacts, Console, Error, accelerator, monitor::Monitor, process};

/// Where distributions keep the UEFI firmware (code, variables), most wanted first.
const FIRMWARE: [(&str, &str); 4] = [
    (
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
    ),
    (
        "/usr/share/OVMF/OVMF_CODE.fd",
        "/usr/share/OVMF/OVMF_VARS.fd",
    ),
    (
        "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
        "/usr/share/edk2/x64/OVMF_VARS.4m.fd",
    ),
    (
        "/usr/share/edk2/ovmf/OVMF_CODE.fd",
        "/usr/share/edk2/ovmf/OVMF_VARS.fd",
    ),
];

/// How a machine starts.
#[derive(Clone, Debug)]
enum Boot {
    /// SeaBIOS.
    Bios,
    /// OVMF with variables of its own, or with those in a file, which is made when it is missing.
    Uefi { variables: Option<PathBuf> },
    /// QEMU loads the kernel.
    Direct {
        kernel: PathBuf,
        initrd: Option<PathBuf>,
        command_line: String,
    },
}

/// A disk: an image that stays as it is, under an overlay.
#[derive(Clone, Debug)]
pub struct Disk {
    image: PathBuf,
    size: Option<u64>,
    kept: Option<PathBuf>,
}

impl Disk {
    /// A disk with the image's bytes, as large as the image.
    pub fn of(image: impl Into<PathBuf>) -> Self {
        Self {
            image: image.into(),
            size: None,
            kept: None,
        }
    }

    /// With what machines before this one wrote on it: the overlay is at `path` and stays there.
    pub fn kept_at(mut self, path: impl Into<PathBuf>) -> Self {
        self.kept = Some(path.into());
        self
    }

    /// The same image on a larger disk.
    pub fn grown_to(mut self, bytes: u64) -> Self {
        self.size = Some(bytes);
        self
    }
}

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    boot: Boot,
    memory_mib: u32,
    cpus: u32,
    disks: Vec<Disk>,
    ports: Vec<u16>,
    network: bool,
    counted: bool,
    reboots: bool,
    screen: bool,
    observed: bool,
    extra: Vec<String>,
}

impl Builder {
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            boot: Boot::Bios,
            memory_mib: 256,
            cpus: 1,
            disks: Vec::new(),
            ports: Vec::new(),
            network: true,
            counted: false,
            reboots: false,
            screen: true,
            observed: false,
            extra: Vec::new(),
        }
    }

    /// Started by OVMF.
    pub fn uefi(mut self) -> Self {
        self.boot = Boot::Uefi { variables: None };
        self
    }

    /// Started by OVMF with the variables that machines before this one left in the file at
    /// `path`. Without the file the firmware knows nothing, as on a copied disk.
    pub fn uefi_with(mut self, path: impl Into<PathBuf>) -> Self {
        self.boot = Boot::Uefi {
            variables: Some(path.into()),
        };
        self
    }

    /// Started by QEMU's kernel loader.
    pub fn direct(mut self, kernel: impl Into<PathBuf>, command_line: impl Into<String>) -> Self {
        self.boot = Boot::Direct {
            kernel: kernel.into(),
            initrd: None,
            command_line: command_line.into(),
        };
        self
    }

    /// An initial RAM file system for direct boot.
    pub fn initrd(mut self, path: impl Into<PathBuf>) -> Self {
        if let Boot::Direct { initrd, .. } = &mut self.boot {
            *initrd = Some(path.into());
        }
        self
    }

    /// Memory, MiB.
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Virtual processors.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// One more disk (virtio-blk, in order).
    pub fn disk(mut self, disk: Disk) -> Self {
        self.disks.push(disk);
        self
    }

    /// A guest's TCP port that [`Machine::port`] reaches.
    pub fn forward(mut self, port: u16) -> Self {
        self.ports.push(port);
        self
    }

    /// Without a network card.
    pub fn without_network(mut self) -> Self {
        self.network = false;
        self
    }

    /// Time passes by instructions, one nanosecond each (`-icount shift=0`): what the guest's
    /// time stamp counter and clock say is how much work was done. Emulated, whatever the
    /// hardware offers; an idle processor skips to its next timer.
    pub fn counted(mut self) -> Self {
        self.counted = true;
        self
    }

    /// A restart starts the machine again; without this it ends QEMU.
    pub fn reboots(mut self) -> Self {
        self.reboots = true;
        self
    }

    /// Without a graphics card.
    pub fn headless(mut self) -> Self {
        self.screen = false;
        self
    }

    /// With an observer beside PID 1, for [`Machine::ask`]. Only a direct boot has one.
    pub fn observed(mut self) -> Self {
        self.observed = true;
        self
    }

    /// Arguments for QEMU that have no name here.
    pub fn with<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.extra.extend(arguments.into_iter().map(str::to_owned));
        self
    }

    /// Waits for a turn and starts the machine.
    pub fn start(self) -> Result<Machine, Error> {
        let turn = Turn::take()?;
        let artifacts = Artifacts::new(&self.name)?;
        let sockets = TempDir::new().map_err(Error::file("creating", "a socket's directory"))?;
        let socket = sockets.path().join("qmp");
        let label = format!("{} ({})", self.name, artifacts.directory().display());
        let mut overlays = Vec::new();
        for (number, disk) in self.disks.iter().enumerate() {
            let own = artifacts.path(&format!("disk{number}.qcow2"));
            let path = disk.kept.clone().unwrap_or(own);
            if disk.kept.is_none() || !path.exists() {
                overlay(disk, &path)?;
            }
            overlays.push(path);
        }
        let mut command = self.command(&artifacts, &overlays)?;
        let questions = sockets.path().join("observer");
        if self.observed {
            command.args(observer::port(&questions));
        }
        command
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", socket.display()));
        let complaints = artifacts.path("qemu.log");
        let errors = std::fs::File::create(&complaints);
        let errors = errors.map_err(Error::file("creating", &complaints))?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors);
        let started = Instant::now();
        let mut qemu = Qemu(process::start_tied(command)?);
        let output = qemu.0.stdout.take().ok_or_else(|| {
            Error::broken("QEMU was started without a pipe for the guest's console")
        })?;
        let log = artifacts.path("console.log");
        let console = Console::read(label.clone(), artifacts.failure_flag(), output, &log)?;
        let monitor = Monitor::connect(label.clone(), &socket).map_err(|error| {
            let said = std::fs::read_to_string(&complaints).unwrap_or_default();
            Error::broken(format!("{error}; QEMU said: {said}"))
        })?;
        let machine = Machine {
            observer: Mutex::new(Observer::new(label.clone(), questions)),
            label,
            console,
            monitor: Mutex::new(monitor),
            qemu: Mutex::new(qemu),
            overlays,
            started,
            screen: self.screen,
            artifacts,
            _sockets: sockets,
            _turn: turn,
        };
        // Everything is connected: now let it run.
        machine.monitor().execute("cont", json!({}))?;
        Ok(machine)
    }

    fn command(&self, artifacts: &Artifacts, overlays: &[PathBuf]) -> Result<Command, Error> {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-S"]);
        command.args(["-machine", "q35", "-rtc", "base=utc"]);
        command.args(["-m", &self.memory_mib.to_string()]);
        command.args(["-smp", &self.cpus.to_string()]);
        if self.counted {
            command.args(["-accel", "tcg", "-cpu", "max"]);
            command.args(["-icount", "shift=0,sleep=off"]);
        } else {
            command.args(accelerator::probed().arguments());
        }
        command.args(["-chardev", "stdio,id=console,signal=off"]);
        command.args(["-serial", "chardev:console"]);
        command.args(["-device", "virtio-rng-pci"]);
        command.args(["-device", "i6300esb", "-action", "watchdog=reset"]);
        if self.screen {
            command.args(["-vga", "std"]);
        }
        if !self.reboots {
            command.arg("-no-reboot");
        }
        self.boot_arguments(&mut command, artifacts)?;
        for (number, path) in overlays.iter().enumerate() {
            let drive = format!(
                "if=none,id=disk{number},format=qcow2,discard=unmap,file={}",
                path.display()
            );
            command.args(["-drive", &drive]);
            let device = format!("virtio-blk-pci,drive=disk{number}");
            command.args(["-device", &device]);
        }
        if self.network {
            let mut user = String::from("user,id=net0");
            for port in &self.ports {
                user.push_str(&format!(",hostfwd=tcp:127.0.0.1:0-:{port}"));
            }
            command.args(["-netdev", &user]);
            command.args(["-device", "virtio-net-pci,netdev=net0,romfile="]);
        }
        command.args(&self.extra);
        Ok(command)
    }

    fn boot_arguments(&self, command: &mut Command, artifacts: &Artifacts) -> Result<(), Error> {
        match &self.boot {
            Boot::Bios => {}
            Boot::Uefi { variables: kept } => {
                let (code, variables) = firmware()?;
                let own = kept.clone().unwrap_or(artifacts.path("variables.fd"));
                if kept.is_none() || !own.exists() {
                    std::fs::copy(variables, &own).map_err(Error::file("copying", variables))?;
                }
                for (path, readonly) in [(Path::new(code), "on"), (own.as_path(), "off")] {
                    let flash = format!(
                        "if=pflash,format=raw,readonly={readonly},file={}",
                        path.display()
                    );
                    command.args(["-drive", &flash]);
                }
            }
            Boot::Direct {
                kernel,
                command_line,
                ..
            } if self.observed => {
                let own = artifacts.path("observer.cpio");
                observer::write_initramfs(&own)?;
                let command_line = format!("{command_line} {}", observer::ARGUMENTS);
                command.arg("-kernel").arg(kernel).arg("-initrd").arg(own);
                command.args(["-append", &command_line]);
            }
            Boot::Direct {
                kernel,
                initrd,
                command_line,
            } => {
                command.arg("-kernel").arg(kernel);
                command.args(["-append", command_line]);
                if let Some(initrd) = initrd {
                    command.arg("-initrd").arg(initrd);
                }
            }
        }
        Ok(())
    }
}

/// The first firmware that is installed: code and variables.
fn firmware() -> Result<(&'static str, &'static str), Error> {
    let installed = |(code, variables): &(&str, &str)| {
        Path::new(code).exists() && Path::new(variables).exists()
    };
    FIRMWARE.into_iter().find(installed).ok_or_else(|| {
        Error::broken("no UEFI firmware found: install the package ovmf (Debian, Ubuntu)")
    })
}

/// Makes the overlay of a disk.
fn overlay(disk: &Disk, path: &Path) -> Result<(), Error> {
    let format = match disk.image.extension() {
        Some(extension) if extension == "qcow2" => "qcow2",
        _ => "raw",
    };
    let image = disk
        .image
        .canonicalize()
        .map_err(Error::file("finding", &disk.image))?;
    let mut create = Command::new("qemu-img");
    create.args(["create", "-q", "-f", "qcow2", "-F", format, "-b"]);
    create.arg(image).arg(path);
    if let Some(size) = disk.size {
        create.arg(size.to_string());
    }
    process::run(&mut create).map(drop)
}
