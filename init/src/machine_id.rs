//! The machine's identity: 32 hexadecimal digits, made once, kept in the state partition.
//!
//! Form and file as machine-id(5) of systemd, since programs in containers read it. The first
//! one comes from the hypervisor's or firmware's UUID, so that a machine whose state was wiped
//! is still the same machine; a machine without gets a random one.

use std::fs::{self, File};
use std::io::Read;

use crate::durable;
use crate::failure::{Doing, Failure};
use crate::hostname::write_etc;
use crate::mounts::RUN_ETC;
use crate::state;

const SAVED: &str = "machine-id";
const PRODUCT_UUID: &str = "/sys/class/dmi/id/product_uuid";
const DIGITS: usize = 32;

/// The identity, once [`settle`] has run.
pub(crate) fn current() -> Option<String> {
    fs::read_to_string(format!("{RUN_ETC}/machine-id"))
        .ok()
        .and_then(|text| parse(&text))
}

/// Reads the saved identity or makes and saves one, and shows it in /etc. May block on the disk.
pub(crate) fn settle() -> Result<(), Failure> {
    let path = state::own(SAVED);
    let saved = fs::read_to_string(&path).ok().and_then(|text| parse(&text));
    let id = match saved {
        Some(id) => id,
        None => {
            let uuid = fs::read_to_string(PRODUCT_UUID).ok();
            let id = match uuid.as_deref().and_then(parse) {
                Some(id) => id,
                None => random()?,
            };
            durable::replace(&path, format!("{id}\n").as_bytes())
                .doing(|| format!("save the machine's identity in {}", path.display()))?;
            id
        }
    };
    write_etc("machine-id", &format!("{id}\n"))
}

/// 32 digits, with or without a UUID's hyphens; nothing that stands for "no identity".
fn parse(text: &str) -> Option<String> {
    let id: String = text
        .trim()
        .chars()
        .filter(|character| *character != '-')
        .map(|character| character.to_ascii_lowercase())
        .collect();
    let digits = id.len() == DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let filler = id.bytes().all(|byte| byte == b'0') || id.bytes().all(|byte| byte == b'f');
    (digits && !filler).then_some(id)
}

/// A version 4 UUID, as machine-id(5) asks. Blocks until the kernel has gathered randomness.
fn random() -> Result<String, Failure> {
    let mut bytes = [0_u8; DIGITS / 2];
    File::open("/dev/random")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .doing(|| "read /dev/random for a machine identity".to_owned())?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_of_the_firmware_becomes_an_identity() {
        assert_eq!(
            parse("4C4C4544-0042-3510-8054-B7C04F4A4D32\n").as_deref(),
            Some("4c4c4544004235108054b7c04f4a4d32")
        );
    }

    #[test]
    fn fillers_and_rubbish_are_no_identity() {
        for text in [
            "",
            "uninitialized",
            "00000000-0000-0000-0000-000000000000",
            "ffffffffffffffffffffffffffffffff",
            "4c4c4544004235108054b7c04f4a4d3",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
