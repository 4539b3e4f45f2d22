//! Where distributions keep UEFI firmware for QEMU.

use std::path::{Path, PathBuf};

use super::Error;

/// `(code, variables)`, most wanted first: Debian and Ubuntu, Arch, Fedora, openSUSE.
const KNOWN: [(&str, &str); 5] = [
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
    (
        "/usr/share/qemu/ovmf-x86_64-code.bin",
        "/usr/share/qemu/ovmf-x86_64-vars.bin",
    ),
];

/// Firmware for one machine.
#[derive(Clone, Debug)]
pub(crate) struct Firmware {
    /// Shared and read-only.
    pub(crate) code: PathBuf,
    /// The machine's own copy.
    pub(crate) variables: PathBuf,
}

/// Finds firmware and copies its variables into `directory`.
pub(crate) fn prepare(directory: &Path) -> Result<Firmware, Error> {
    let (code, template) = KNOWN
        .into_iter()
        .find(|(code, variables)| Path::new(code).exists() && Path::new(variables).exists())
        .ok_or(Error::Missing {
            program: "UEFI firmware for QEMU (OVMF)",
            package: "ovmf",
        })?;
    let variables = directory.join("variables.fd");
    // A machine that was started here before finds what its firmware kept.
    if !variables.exists() {
        std::fs::copy(template, &variables).map_err(Error::file("copy", template))?;
    }
    Ok(Firmware {
        code: code.into(),
        variables,
    })
}
