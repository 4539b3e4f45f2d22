//! The firmware's boot variables: a trial is one boot of entry 2, asked for by `BootNext`.
//!
//! Follows the UEFI Specification 2.10: 3.1.3 (load options), 3.3 (`Boot####`, `BootNext`,
//! `BootCurrent`, `BootOrder`), 10.3.5 (media device paths). `load_option` and `device_path` are
//! the bytes, [`trial`] arms, disarms and looks; the variables themselves are behind
//! [`Variables`].

mod device_path;
mod load_option;
pub mod trial;

use std::io;

pub use device_path::{HardDrive, boot_file_on};
pub use load_option::{LoadOption, OptionError};

/// The firmware's own variables (those of the EFI global GUID).
pub trait Variables {
    /// Their names.
    ///
    /// # Errors
    /// When the firmware has none that can be read.
    fn list(&mut self) -> io::Result<Vec<String>>;

    /// A variable's data, without its attributes; `None` when there is no such variable.
    ///
    /// # Errors
    /// When it is not known whether there is one.
    fn get(&mut self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Makes or replaces a variable that survives a restart.
    ///
    /// # Errors
    /// When the firmware does not take it.
    fn set(&mut self, name: &str, data: &[u8]) -> io::Result<()>;

    /// Removes a variable; one that does not exist is removed already.
    ///
    /// # Errors
    /// When the firmware keeps it.
    fn delete(&mut self, name: &str) -> io::Result<()>;
}

/// A machine whose firmware has no boot variables: it was not started by UEFI, or they are not
/// writable.
#[derive(Clone, Debug)]
pub struct NoVariables(
    /// Why, for people.
    pub String,
);

impl NoVariables {
    fn refuse<T>(&self) -> io::Result<T> {
        Err(io::Error::new(io::ErrorKind::Unsupported, self.0.clone()))
    }
}

impl Variables for NoVariables {
    fn list(&mut self) -> io::Result<Vec<String>> {
        self.refuse()
    }

    fn get(&mut self, _: &str) -> io::Result<Option<Vec<u8>>> {
        self.refuse()
    }

    fn set(&mut self, _: &str, _: &[u8]) -> io::Result<()> {
        self.refuse()
    }

    fn delete(&mut self, _: &str) -> io::Result<()> {
        self.refuse()
    }
}

impl<V: Variables + ?Sized> Variables for &mut V {
    fn list(&mut self) -> io::Result<Vec<String>> {
        (**self).list()
    }

    fn get(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        (**self).get(name)
    }

    fn set(&mut self, name: &str, data: &[u8]) -> io::Result<()> {
        (**self).set(name, data)
    }

    fn delete(&mut self, name: &str) -> io::Result<()> {
        (**self).delete(name)
    }
}

/// Attributes of a variable that survives a restart and is there for the system as for the
/// firmware: non-volatile, boot service access, runtime access (UEFI 2.10, 8.2.1).
const ATTRIBUTES: u32 = 0x7;

/// What efivarfs has in a variable's file: attributes, then data.
#[must_use]
pub fn to_efivarfs(data: &[u8]) -> Vec<u8> {
    let mut bytes = ATTRIBUTES.to_le_bytes().to_vec();
    bytes.extend(data);
    bytes
}

/// The data in a file of efivarfs; `None` when it is cut off.
#[must_use]
pub fn from_efivarfs(bytes: &[u8]) -> Option<&[u8]> {
    bytes.split_first_chunk::<4>().map(|(_, data)| data)
}

/// The number in the name of a `Boot####` variable: four upper-case hexadecimal digits.
#[must_use]
pub fn option_number(name: &str) -> Option<u16> {
    let digits = name.strip_prefix("Boot")?;
    let upper = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
    (digits.len() == 4 && digits.bytes().all(upper))
        .then(|| u16::from_str_radix(digits, 16).ok())?
}

/// The name of the `Boot####` variable with a number.
#[must_use]
pub fn option_name(number: u16) -> String {
    format!("Boot{number:04X}")
}

/// The numbers in `BootOrder`; one number in `BootNext` and `BootCurrent`.
#[must_use]
pub fn numbers(data: &[u8]) -> Vec<u16> {
    let (numbers, _) = data.as_chunks::<2>();
    numbers.iter().map(|two| u16::from_le_bytes(*two)).collect()
}
