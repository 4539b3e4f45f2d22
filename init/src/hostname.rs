//! The host name: the configured text with `{serial}` and `{machine-id}` replaced, and the files
//! in /etc that carry it.

use std::fs;

use crate::failure::{Doing, Failure};
use crate::machine_id;
use crate::mounts::RUN_ETC;

/// The longest name that Linux keeps (HOST_NAME_MAX).
const NAME_BYTES: usize = 64;
/// The longest label of a name (RFC 1035, 2.3.4).
const LABEL_BYTES: usize = 63;
/// Firmware and configuration files that hold a serial number are read up to here.
const SERIAL_BYTES: usize = 256;
/// Where a serial number may be, best first: SMBIOS, then QEMU's `-fw_cfg name=opt/berth/serial`.
const SERIAL_FILES: [&str; 3] = [
    "/sys/class/dmi/id/product_serial",
    "/sys/class/dmi/id/board_serial",
    "/sys/firmware/qemu_fw_cfg/by_name/opt/berth/serial/raw",
];
/// What vendors write into the field that they forgot.
const NOT_A_SERIAL: [&str; 8] = [
    "none",
    "0",
    "not specified",
    "not applicable",
    "default string",
    "system serial number",
    "to be filled by o.e.m.",
    "chassis serial number",
];
const FALLBACK: &str = "berth";

/// Sets the host name and writes the files in /etc that carry it; gives the name.
pub(crate) fn set(configured: &str) -> Result<String, Failure> {
    let serial = || SERIAL_FILES.iter().find_map(|path| serial_in(path));
    let name = resolve(configured, serial, machine_id::current);
    make_empty_etc()?;
    nix::unistd::sethostname(&name).doing(|| format!("set the host name to {name:?}"))?;
    write_etc("hostname", &format!("{name}\n"))?;
    write_etc(
        "hosts",
        &format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n"),
    )?;
    Ok(name)
}

/// Makes the files that the network agent and the state partition fill later, so that a
/// container which binds them early gets something to read. What is there stays.
fn make_empty_etc() -> Result<(), Failure> {
    for name in ["resolv.conf", "machine-id"] {
        let path = format!("{RUN_ETC}/{name}");
        let made = fs::OpenOptions::new().append(true).create(true).open(&path);
        made.doing(|| format!("make {path}"))?;
    }
    Ok(())
}

/// Writes a file that a link in /etc of the verified root points to. In place, so that a
/// container which has it bound sees the change.
pub(crate) fn write_etc(name: &str, text: &str) -> Result<(), Failure> {
    let path = format!("{RUN_ETC}/{name}");
    fs::write(&path, text).doing(|| format!("write {path}"))
}

/// The name that `configured` stands for: DNS labels joined by dots. What is put in for a
/// placeholder is one label or a part of one, whatever the firmware says.
fn resolve(
    configured: &str,
    serial: impl Fn() -> Option<String>,
    machine_id: impl Fn() -> Option<String>,
) -> String {
    let id = || machine_id().unwrap_or_default();
    let mut text = configured.to_owned();
    if text.contains("{serial}") {
        // A machine without a serial number still has an identity of its own.
        let instead = || id().chars().take(12).collect();
        let serial = as_label(&serial().unwrap_or_else(instead));
        text = text.replace("{serial}", &serial);
    }
    if text.contains("{machine-id}") {
        text = text.replace("{machine-id}", &id());
    }
    let mut name = String::with_capacity(NAME_BYTES);
    for label in text.split('.').map(as_label).filter(|it| !it.is_empty()) {
        let dot = usize::from(!name.is_empty());
        let room = NAME_BYTES.saturating_sub(name.len() + dot);
        let label = label.get(..room).unwrap_or(&label).trim_end_matches('-');
        if label.is_empty() {
            break;
        }
        name.extend(std::iter::repeat_n('.', dot));
        name.push_str(label);
    }
    if name.is_empty() {
        FALLBACK.to_owned()
    } else {
        name
    }
}

/// `text` as one DNS label: lower-case letters, digits and inner hyphens; may be empty.
fn as_label(text: &str) -> String {
    let mut label = String::with_capacity(LABEL_BYTES);
    for character in text.chars() {
        if label.len() == LABEL_BYTES {
            break;
        }
        let plain = character.to_ascii_lowercase();
        if plain.is_ascii_alphanumeric() {
            label.push(plain);
        } else if !label.is_empty() && !label.ends_with('-') {
            label.push('-');
        }
    }
    label.truncate(label.trim_end_matches('-').len());
    label
}

fn serial_in(path: &str) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let text = std::str::from_utf8(bytes.get(..bytes.len().min(SERIAL_BYTES))?).ok()?;
    let serial = text.trim_matches(['\0', '\n', ' ']);
    let known_filler = NOT_A_SERIAL.contains(&serial.to_ascii_lowercase().as_str());
    (!serial.is_empty() && !known_filler).then(|| serial.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Option<String> {
        None
    }

    #[test]
    fn placeholders_are_replaced() {
        let serial = || Some("ABC 123".to_owned());
        let id = || Some("0123456789abcdef0123456789abcdef".to_owned());
        assert_eq!(resolve("edge-{serial}", serial, id), "edge-abc-123");
        assert_eq!(resolve("{machine-id}", serial, id), id().unwrap());
        assert_eq!(resolve("edge-{serial}", none, id), "edge-0123456789ab");
        let dotted = || Some("1.2".to_owned());
        assert_eq!(
            resolve("a-{serial}.example.org", dotted, none),
            "a-1-2.example.org"
        );
    }

    #[test]
    fn whatever_the_firmware_says_the_name_is_one_of_dns() {
        assert_eq!(resolve("edge-{serial}", none, none), "edge");
        assert_eq!(resolve("{serial}", none, none), FALLBACK);
        let wild = || Some("../Ünï/\n".repeat(50));
        let name = resolve("a-{serial}", wild, none);
        assert!(name.len() <= NAME_BYTES);
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        assert!(!name.ends_with('-'));
    }
}
