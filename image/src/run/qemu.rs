//! The QEMU process: its arguments, its end.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use super::disk::Disk;
use super::ports::Forward;
use super::{Accelerator, Boot, Error, Options, firmware, monitor, sys};

pub(crate) const PROGRAM: &str = "qemu-system-x86_64";

/// A running QEMU; killed when dropped.
#[derive(Debug)]
pub(crate) struct Qemu {
    child: Child,
    monitor: PathBuf,
    errors: PathBuf,
}

/// Starts the machine.
pub(crate) fn start(
    options: &Options,
    accelerator: Accelerator,
    forwards: &[Forward],
    disk: &Disk,
    directory: &Path,
) -> Result<Qemu, Error> {
    let monitor = directory.join("monitor");
    let errors = directory.join("qemu.log");
    let mut command = Command::new(PROGRAM);
    command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
    command.args(["-machine", "q35", "-rtc", "base=utc"]);
    command.args(match accelerator {
        Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
        Accelerator::Tcg => ["-accel", "tcg", "-cpu", "max"],
    });
    command.args(["-m", &options.memory_mib.to_string()]);
    command.args(["-chardev", "stdio,id=console,signal=off"]);
    command.args(["-serial", "chardev:console"]);
    command
        .arg("-qmp")
        .arg(format!("unix:{},server=on,wait=off", escape(&monitor)));
    match &options.boot {
        Boot::Firmware => {
            let firmware = firmware::prepare(directory)?;
            for (path, readonly) in [(&firmware.code, "on"), (&firmware.variables, "off")] {
                command.arg("-drive").arg(format!(
                    "if=pflash,format=raw,readonly={readonly},file={}",
                    escape(path)
                ));
            }
        }
        Boot::Direct {
            kernel,
            command_line,
        } => {
            command.arg("-kernel").arg(kernel);
            command.args(["-append", command_line]);
        }
    }
    command.arg("-drive").arg(format!(
        "if=none,id=disk,discard=unmap,format={},file={}",
        disk.format,
        escape(&disk.path)
    ));
    command.args(["-device", "virtio-blk-pci,drive=disk,bootindex=1"]);
    let mut network = "user,id=network".to_owned();
    for Forward { here, there } in forwards {
        network.push_str(&format!(",hostfwd=tcp:127.0.0.1:{here}-:{there}"));
    }
    command.args(["-netdev", &network]);
    // Without its option ROM the firmware does not try to boot from the network.
    command.args(["-device", "virtio-net-pci,netdev=network,romfile="]);
    command.args(["-device", "virtio-rng-pci"]);
    command.args(["-device", "i6300esb", "-action", "watchdog=reset"]);
    let log = File::create(&errors).map_err(Error::file("create", &errors))?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    let child = sys::spawn_tied(&mut command).map_err(not_started)?;
    Ok(Qemu {
        child,
        monitor,
        errors,
    })
}

impl Qemu {
    /// The console's bytes. Once only.
    pub(crate) fn take_console(&mut self) -> Result<ChildStdout, Error> {
        self.child.stdout.take().ok_or_else(|| Error::System {
            doing: "read the console",
            source: io::ErrorKind::BrokenPipe.into(),
        })
    }

    /// Asks the machine to power off.
    pub(crate) fn press_power_button(&self) -> io::Result<()> {
        monitor::execute(&self.monitor, "system_powerdown")
    }

    /// Ends QEMU at once.
    pub(crate) fn kill(&mut self) {
        // Already ended is as good.
        let _ = self.child.kill();
    }

    /// Waits for the end of a QEMU that has closed its console or was killed.
    pub(crate) fn wait_after_console(&mut self) -> Result<ExitStatus, Error> {
        self.child.wait().map_err(Error::system("wait for QEMU"))
    }

    /// What QEMU said.
    pub(crate) fn errors(&self) -> String {
        let mut bytes = Vec::new();
        if let Ok(file) = File::open(&self.errors) {
            // What can be read is enough for a message.
            let _ = file.take(4096).read_to_end(&mut bytes);
        }
        match String::from_utf8_lossy(&bytes).trim() {
            "" => "it said nothing".to_owned(),
            text => text.to_owned(),
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.kill();
        // Nothing can be done about a failure, and nothing is left to be done.
        let _ = self.child.wait();
    }
}

/// Commas end an option's value; doubled they are part of it.
pub(crate) fn escape(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// QEMU could not be started.
pub(crate) fn not_started(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::NotFound {
        return Error::Missing {
            program: PROGRAM,
            package: "qemu-system-x86",
        };
    }
    Error::System {
        doing: "start QEMU",
        source: error,
    }
}
