//! Whether guests run on the hardware: found out by starting one.
//!
//! `/dev/kvm` exists on many machines where no guest starts (nested virtualisation that is
//! announced and not there), so the proof is a guest that ran.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Error;
use super::qemu::PROGRAM;

/// How long the probe guest may take; it needs milliseconds.
const DEADLINE: Duration = Duration::from_secs(5);

/// The I/O port at which QEMU's isa-debug-exit listens.
const EXIT_PORT: u8 = 0xf4;

/// QEMU's exit status for the value 1 at that port: `(value << 1) | 1`.
const RAN: i32 = 3;

/// What executes the machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU's translator: about ten times slower.
    Tcg,
}

impl Accelerator {
    /// In words.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Tcg => "emulation (no guest starts with KVM here)",
        }
    }
}

/// Starts a boot sector with KVM and sees whether it runs.
pub(crate) fn probe() -> Result<Accelerator, Error> {
    if !Path::new("/dev/kvm").exists() {
        return Ok(Accelerator::Tcg);
    }
    let sector = tempfile::NamedTempFile::new()
        .map_err(Error::system("make a temporary file for the KVM probe"))?;
    std::fs::write(sector.path(), boot_sector()).map_err(Error::file("write", sector.path()))?;
    let guest = Command::new(PROGRAM)
        .args([
            "-accel",
            "kvm",
            // As the machine will have it: some hosts start only guests with a lesser one.
            "-cpu",
            "host",
            "-nodefaults",
            "-display",
            "none",
            "-m",
            "16",
        ])
        .args([
            "-device",
            &format!("isa-debug-exit,iobase={EXIT_PORT},iosize=1"),
        ])
        .arg("-drive")
        .arg(format!(
            "if=floppy,format=raw,readonly=on,file={}",
            super::qemu::escape(sector.path())
        ))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut guest = match guest {
        Ok(guest) => guest,
        Err(error) => return Err(super::qemu::not_started(error)),
    };
    let end = Instant::now() + DEADLINE;
    loop {
        match guest.try_wait() {
            Ok(Some(status)) if status.code() == Some(RAN) => return Ok(Accelerator::Kvm),
            Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(5)),
            _ => {
                // Ended otherwise, or too slow to be hardware; already dead is as good.
                let _ = guest.kill();
                let _ = guest.wait();
                return Ok(Accelerator::Tcg);
            }
        }
    }
}

/// A boot sector that writes 1 to the exit port.
fn boot_sector() -> [u8; 512] {
    let mut sector = [0; 512];
    let code = [
        0xb0, 0x01, // mov al, 1
        0xe6, EXIT_PORT, // out EXIT_PORT, al
        0xf4,      // hlt
        0xeb, 0xfd, // jmp to hlt
    ];
    sector[..code.len()].copy_from_slice(&code);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}
