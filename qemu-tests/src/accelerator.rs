//! Whether guests run on the hardware or by emulation, found out by starting one.
//!
//! The guest is a boot sector's worth of kernel: `/dev/kvm` exists on machines where no guest
//! starts, or only with a lesser processor than the host's, so only a guest that has run as the
//! tests' guests do is proof. The same guest reads the time stamp counter
//! first, which under `-icount` says how many instructions the firmware took (see the bench).

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::Error;

/// How long the probe guest may take.
const PROBE: Duration = Duration::from_secs(10);
/// QEMU's exit status when the probe guest writes 0x10 to isa-debug-exit: `(value << 1) | 1`.
pub const PROBE_EXIT: i32 = 0x21;
/// Where the probe guest's exit port is.
pub const PROBE_EXIT_DEVICE: &str = "isa-debug-exit,iobase=0xf4,iosize=0x01";

/// What runs the guests' instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The hardware.
    Kvm,
    /// Emulation.
    Tcg,
}

impl Accelerator {
    /// QEMU's arguments for it.
    pub(crate) fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg", "-cpu", "max"],
        }
    }
}

/// The accelerator of this computer. `BERTH_ACCELERATOR=tcg` skips the probe.
pub fn probed() -> Accelerator {
    static PROBED: OnceLock<Accelerator> = OnceLock::new();
    *PROBED.get_or_init(|| {
        let told = std::env::var("BERTH_ACCELERATOR").unwrap_or_default();
        if told != "tcg" && Path::new("/dev/kvm").exists() && kvm_runs_a_guest().unwrap_or(false) {
            Accelerator::Kvm
        } else {
            Accelerator::Tcg
        }
    })
}

fn kvm_runs_a_guest() -> Result<bool, Error> {
    let kernel = tempfile::NamedTempFile::new().map_err(Error::file("creating", "a probe"))?;
    std::fs::write(kernel.path(), probe_kernel()).map_err(Error::file("writing", kernel.path()))?;
    let mut guest = Command::new("qemu-system-x86_64")
        .args(Accelerator::Kvm.arguments())
        .args(["-nodefaults", "-display", "none"])
        .args(["-no-reboot", "-device", PROBE_EXIT_DEVICE, "-kernel"])
        .arg(kernel.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| Error::Program {
            program: "qemu-system-x86_64".into(),
            source,
        })?;
    let until = Instant::now() + PROBE;
    let waiting = Error::file("waiting for", "the probe guest");
    loop {
        match guest.try_wait() {
            Ok(Some(status)) => return Ok(status.code() == Some(PROBE_EXIT)),
            Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(20)),
            outcome => {
                // Too late, or not to be waited for: either way it must not stay.
                let _ = guest.kill();
                let _ = guest.wait();
                return outcome.map(|_| false).map_err(waiting);
            }
        }
    }
}

/// A kernel by the Linux boot protocol (x86/boot.rst), loaded like any other, that never leaves
/// real mode. It writes the time stamp counter to the first serial port as 16 hexadecimal digits
/// and a line feed, then 0x10 to the exit port.
pub fn probe_kernel() -> Vec<u8> {
    const ENTRY: usize = 0x200;
    const CODE_AT: usize = 0x270;
    const CODE: [u8; 57] = [
        0x0f, 0x31, //                   rdtsc
        0x66, 0x50, //                   push eax
        0x66, 0x89, 0xd3, //             mov ebx, edx
        0xe8, 0x11, 0x00, //             call hex8
        0x66, 0x5b, //                   pop ebx
        0xe8, 0x0c, 0x00, //             call hex8
        0xb0, 0x0a, //                   mov al, '\n'
        0xe8, 0x20, 0x00, //             call put
        0xb0, 0x10, //                   mov al, 0x10
        0xe6, 0xf4, //                   out 0xf4, al
        0xf4, //                   stop: hlt
        0xeb, 0xfd, //                   jmp stop
        0xb9, 0x08, 0x00, //       hex8: mov cx, 8
        0x66, 0xc1, 0xc3, 0x04, // next: rol ebx, 4
        0x88, 0xd8, //                   mov al, bl
        0x24, 0x0f, //                   and al, 15
        0x3c, 0x0a, //                   cmp al, 10
        0x72, 0x02, //                   jb digit
        0x04, 0x27, //                   add al, 'a' - '9' - 1
        0x04, 0x30, //            digit: add al, '0'
        0xe8, 0x03, 0x00, //             call put
        0xe2, 0xeb, //                   loop next
        0xc3, //                         ret
        0xba, 0xf8, 0x03, //        put: mov dx, 0x3f8
        0xee, //                         out dx, al
        0xc3, //                         ret
    ];
    // Header fields: offset, bytes.
    let header: [(usize, &[u8]); 6] = [
        (0x1f1, &[1]),                      // one sector of setup
        (0x1fe, &[0x55, 0xaa]),             // boot sector
        (ENTRY, &[0xeb, 0x6e]),             // jmp CODE_AT
        (0x202, b"HdrS\x06\x02"),           // protocol 2.06
        (0x211, &[1]),                      // the rest is loaded high
        (0x22c, &[0xff, 0xff, 0xff, 0x37]), // where an initial RAM disk may end
    ];
    let mut kernel = vec![0; ENTRY + 512 + 512];
    for (offset, bytes) in header {
        kernel[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
    kernel[CODE_AT..CODE_AT + CODE.len()].copy_from_slice(&CODE);
    kernel
}
