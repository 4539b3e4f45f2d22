//! `EFI_LOAD_OPTION`: the content of a `Boot####` variable (UEFI 2.10, 3.1.3).

use super::device_path::{self, HardDrive};

/// Most bytes of an option that is looked at; firmware's own are a few hundred.
const OPTION_BYTES: usize = 4096;

/// The firmware may start it.
const ACTIVE: u32 = 1;

/// A boot option, as far as Berth looks into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOption {
    /// What boot menus show.
    pub description: String,
    /// The bytes of its device path.
    pub path: Vec<u8>,
}

/// Why bytes are no boot option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// Fewer bytes than it says.
    #[error("a boot option is cut off")]
    Truncated,
    /// More bytes than are looked at.
    #[error("a boot option is longer than {OPTION_BYTES} bytes")]
    TooLong,
}

impl LoadOption {
    /// The variable's data: active, without optional data.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut data = ACTIVE.to_le_bytes().to_vec();
        data.extend((self.path.len() as u16).to_le_bytes());
        data.extend(device_path::text(&self.description));
        data.extend(&self.path);
        data
    }

    /// Reads a variable's data.
    ///
    /// # Errors
    /// See [`OptionError`].
    pub fn decode(data: &[u8]) -> Result<Self, OptionError> {
        if data.len() > OPTION_BYTES {
            return Err(OptionError::TooLong);
        }
        let (_attributes, rest) = data
            .split_first_chunk::<4>()
            .ok_or(OptionError::Truncated)?;
        let (length, rest) = rest.split_first_chunk().ok_or(OptionError::Truncated)?;
        let (units, _) = rest.as_chunks::<2>();
        let description: Vec<u16> = units
            .iter()
            .map(|unit| u16::from_le_bytes(*unit))
            .take_while(|unit| *unit != 0)
            .collect();
        let path = rest
            .get((description.len() + 1) * 2..)
            .and_then(|path| path.get(..usize::from(u16::from_le_bytes(*length))))
            .ok_or(OptionError::Truncated)?;
        Ok(Self {
            description: String::from_utf16_lossy(&description),
            path: path.to_vec(),
        })
    }

    /// The partition it starts from.
    #[must_use]
    pub fn partition(&self) -> Option<HardDrive> {
        device_path::hard_drive(&self.path)
    }
}
