//! Key files: written once, never replaced, private halves with mode 0600 from the first byte on.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use berth_disk::pending;
use berth_trust::write::{KeyRecord, SigningKey};

use super::KeysError;

/// Where the public half of a private key's file is.
pub(super) fn public_path(private: &Path) -> PathBuf {
    private.with_extension("pub")
}

/// Fails when one of the files is there already.
pub(super) fn refuse_existing(paths: &[PathBuf]) -> Result<(), KeysError> {
    match paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(KeysError::Exists(path.clone())),
        None => Ok(()),
    }
}

/// Makes a directory that only its owner may enter, and those above it.
pub(super) fn make_directory(path: &Path) -> Result<(), KeysError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| cannot_write(path, source))
}

/// Makes a key and writes both halves.
pub(super) fn write_key(path: &Path) -> Result<KeyRecord, KeysError> {
    let pem = SigningKey::generate_pem().map_err(KeysError::NoKey)?;
    let key = SigningKey::from_pem(&pem).map_err(KeysError::NoKey)?;
    write_new(path, pem.as_bytes(), 0o600)?;
    write_new(&public_path(path), key.public().pem().as_bytes(), 0o644)?;
    Ok(key.public().clone())
}

/// Writes a file that is not there yet, durably. One that cannot be written whole is not there
/// then either.
pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeysError> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    let mut file = file.map_err(|source| cannot_write(path, source))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let kept = written.and_then(|()| pending::sync_directory_of(path));
    kept.map_err(|source| {
        // It was made here, and what is in it is of no use.
        let _ = fs::remove_file(path);
        cannot_write(path, source)
    })
}

/// The private key in a file.
///
/// # Errors
///
/// When it cannot be read or is none.
pub fn read_private(path: &Path) -> Result<SigningKey, KeysError> {
    let key = SigningKey::from_pem(&read_text(path)?);
    key.map_err(|source| KeysError::Content {
        path: path.to_owned(),
        source,
    })
}

/// The public key in a file: its own, or that of the private key in it.
///
/// # Errors
///
/// When it cannot be read or is none.
pub fn read_public(path: &Path) -> Result<KeyRecord, KeysError> {
    let text = read_text(path)?;
    if let Ok(private) = SigningKey::from_pem(&text) {
        return Ok(private.public().clone());
    }
    let key = KeyRecord::from_pem(&text);
    key.map_err(|source| KeysError::Content {
        path: path.to_owned(),
        source,
    })
}

/// The public key in a file that is handed on: never a private one, which would be lost to whoever
/// it went through.
pub(super) fn read_public_half(path: &Path) -> Result<KeyRecord, KeysError> {
    match SigningKey::from_pem(&read_text(path)?) {
        Ok(_) => Err(KeysError::Private(path.to_owned())),
        Err(_) => read_public(path),
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, KeysError> {
    fs::read(path).map_err(|source| KeysError::Read {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn cannot_write(path: &Path, source: io::Error) -> KeysError {
    if source.kind() == io::ErrorKind::AlreadyExists {
        return KeysError::Exists(path.to_owned());
    }
    KeysError::Write {
        path: path.to_owned(),
        source,
    }
}

fn read_text(path: &Path) -> Result<String, KeysError> {
    Ok(String::from_utf8_lossy(&read(path)?).into_owned())
}
