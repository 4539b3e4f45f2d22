//! A target: a file that clients may use, by path, length and hashes; and the check of its bytes.

use ring::digest;

use crate::encoding::{from_hex, hex, percent, percent_path};
use crate::error::Malformed;
use crate::json::Value;
use crate::roles::{natural, wrong};

/// What the signed metadata says of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    path: String,
    length: u64,
    hashes: Hashes,
    custom: Option<Value>,
    /// Whether the repository puts the hash into the file's name.
    hash_in_name: bool,
}

/// Why bytes are not the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// There are more bytes than there may be.
    #[error("it is longer than the {length} bytes that are signed for")]
    TooLong {
        /// The signed length.
        length: u64,
    },
    /// There are fewer bytes than there must be.
    #[error("it ends after {received} of the {length} bytes that are signed for")]
    TooShort {
        /// The bytes that came.
        received: u64,
        /// The signed length.
        length: u64,
    },
    /// The content is another one.
    #[error("its content is not the one that is signed for")]
    WrongHash,
}

impl Target {
    /// Its path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its exact length, bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Its SHA-256, if the metadata names it.
    #[must_use]
    pub fn sha256(&self) -> Option<[u8; 32]> {
        self.hashes.sha256
    }

    /// Its SHA-512, if the metadata names it.
    #[must_use]
    pub fn sha512(&self) -> Option<[u8; 64]> {
        self.hashes.sha512
    }

    /// What the metadata says of it besides; its meaning is the application's.
    #[must_use]
    pub fn custom(&self) -> Option<&Value> {
        self.custom.as_ref()
    }

    /// Where it is, relative to the targets' address: with the hash in front of the file's name
    /// in repositories with consistent snapshots (specification, 6.2).
    #[must_use]
    pub fn url(&self) -> String {
        let path = percent_path(&self.path);
        if !self.hash_in_name {
            return path;
        }
        let hash = match (&self.hashes.sha256, &self.hashes.sha512) {
            (Some(hash), _) => hex(hash),
            (None, Some(hash)) => hex(hash),
            (None, None) => return path,
        };
        match path.rsplit_once('/') {
            Some((directory, name)) => format!("{directory}/{hash}.{name}"),
            None => format!("{hash}.{path}"),
        }
    }

    /// A name for a local copy. It has no slash, so it stays in the directory it is put into.
    #[must_use]
    pub fn file_name(&self) -> String {
        percent(&self.path)
    }

    /// A check of bytes that arrive piece by piece.
    #[must_use]
    pub fn check(&self) -> TargetCheck {
        TargetCheck {
            length: self.length,
            received: 0,
            hashes: self.hashes.clone(),
            sha256: digest::Context::new(&digest::SHA256),
            sha512: digest::Context::new(&digest::SHA512),
        }
    }

    /// Checks the whole file.
    ///
    /// # Errors
    ///
    /// When length or content are not those that are signed for.
    pub fn verify(&self, bytes: &[u8]) -> Result<(), TargetError> {
        let mut check = self.check();
        check.update(bytes)?;
        check.finish()
    }

    pub(crate) fn named_by_hash(mut self, hash_in_name: bool) -> Self {
        self.hash_in_name = hash_in_name;
        self
    }

    pub(crate) fn read(path: String, value: Value) -> Result<Self, Malformed> {
        let Value::Map(mut map) = value else {
            return Err(wrong("targets", "a map of maps"));
        };
        let length = map.get("length").ok_or(wrong("length", "there"))?;
        let hashes = map.get("hashes").ok_or(wrong("hashes", "there"))?;
        Ok(Self {
            path,
            length: natural(length, "length")?,
            hashes: Hashes::read(hashes)?,
            custom: map.remove("custom"),
            hash_in_name: false,
        })
    }
}

/// A check of a target's bytes while they arrive. Nothing that came may be used before
/// [`TargetCheck::finish`] has agreed.
pub struct TargetCheck {
    length: u64,
    received: u64,
    hashes: Hashes,
    sha256: digest::Context,
    sha512: digest::Context,
}

impl TargetCheck {
    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// At the first byte beyond the signed length.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), TargetError> {
        self.received = self.received.saturating_add(bytes.len() as u64);
        if self.received > self.length {
            return Err(TargetError::TooLong {
                length: self.length,
            });
        }
        if self.hashes.sha256.is_some() {
            self.sha256.update(bytes);
        }
        if self.hashes.sha512.is_some() {
            self.sha512.update(bytes);
        }
        Ok(())
    }

    /// Judges the bytes as a whole.
    ///
    /// # Errors
    ///
    /// When bytes are missing, or a hash is not the one that is signed for.
    pub fn finish(self) -> Result<(), TargetError> {
        if self.received > self.length {
            return Err(TargetError::TooLong {
                length: self.length,
            });
        }
        if self.received < self.length {
            return Err(TargetError::TooShort {
                received: self.received,
                length: self.length,
            });
        }
        let fits = self.hashes.any()
            && matches(self.hashes.sha256.as_ref(), self.sha256)
            && matches(self.hashes.sha512.as_ref(), self.sha512);
        fits.then_some(()).ok_or(TargetError::WrongHash)
    }
}

fn matches<const N: usize>(wanted: Option<&[u8; N]>, context: digest::Context) -> bool {
    wanted.is_none_or(|hash| context.finish().as_ref() == hash.as_slice())
}

/// The hashes of a file, of which at least one must be known to check it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hashes {
    sha256: Option<[u8; 32]>,
    sha512: Option<[u8; 64]>,
}

impl Hashes {
    pub(crate) fn read(value: &Value) -> Result<Self, Malformed> {
        let map = value.as_map().ok_or(wrong("hashes", "a map"))?;
        Ok(Self {
            sha256: map.get("sha256").map(hash).transpose()?,
            sha512: map.get("sha512").map(hash).transpose()?,
        })
    }

    /// Those of `bytes`: SHA-256 only.
    #[cfg(feature = "write")]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            sha256: digest::digest(&digest::SHA256, bytes)
                .as_ref()
                .try_into()
                .ok(),
            sha512: None,
        }
    }

    /// As metadata has them.
    #[cfg(feature = "write")]
    pub(crate) fn value(&self) -> Value {
        let mut map = crate::json::Map::default();
        if let Some(hash) = &self.sha256 {
            map.set("sha256", Value::from(hex(hash).as_str()));
        }
        if let Some(hash) = &self.sha512 {
            map.set("sha512", Value::from(hex(hash).as_str()));
        }
        Value::Map(map)
    }

    fn any(&self) -> bool {
        self.sha256.is_some() || self.sha512.is_some()
    }

    /// Whether every known hash is that of `bytes`, and there is one.
    pub(crate) fn fit(&self, bytes: &[u8]) -> bool {
        let is = |algorithm, hash: &[u8]| digest::digest(algorithm, bytes).as_ref() == hash;
        self.any()
            && self.sha256.is_none_or(|hash| is(&digest::SHA256, &hash))
            && self.sha512.is_none_or(|hash| is(&digest::SHA512, &hash))
    }
}

fn hash<const N: usize>(value: &Value) -> Result<[u8; N], Malformed> {
    let bytes = value.as_text().and_then(from_hex);
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or(wrong("hashes", "a map of hashes in hexadecimal digits"))
}
