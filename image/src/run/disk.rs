//! The disk that the machine writes to: a copy of the image, as large as the user wants.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Error, Options};

/// A disk for QEMU.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    /// QEMU's name of the format.
    pub(crate) format: &'static str,
}

/// The first bytes of a qcow2 file.
const QCOW2_MAGIC: &[u8; 4] = b"QFI\xfb";

pub(crate) fn prepare(options: &Options, directory: &Path) -> Result<Disk, Error> {
    let image = &options.disk;
    let is_qcow2 = starts_with_qcow2(image).map_err(Error::file("read", image))?;
    let path = match &options.keep {
        Some(kept) if kept.exists() => {
            let format = if starts_with_qcow2(kept).map_err(Error::file("read", kept))? {
                "qcow2"
            } else {
                "raw"
            };
            return Ok(Disk {
                path: kept.clone(),
                format,
            });
        }
        Some(kept) => kept.clone(),
        None => directory.join("disk"),
    };
    if is_qcow2 {
        overlay(image, &path, options.disk_bytes)?;
        return Ok(Disk {
            path,
            format: "qcow2",
        });
    }
    copy_sparse(image, &path, options.disk_bytes).map_err(Error::file("write", &path))?;
    Ok(Disk {
        path,
        format: "raw",
    })
}

fn starts_with_qcow2(path: &Path) -> io::Result<bool> {
    use io::Read;

    let mut start = Vec::new();
    File::open(path)?.take(4).read_to_end(&mut start)?;
    Ok(start == QCOW2_MAGIC)
}

/// The image's bytes, then a hole up to `bytes`.
fn copy_sparse(image: &Path, path: &Path, bytes: u64) -> io::Result<()> {
    let mut from = File::open(image)?;
    let mut to = OpenOptions::new().write(true).create_new(true).open(path)?;
    let copied = io::copy(&mut from, &mut to)?;
    to.set_len(bytes.max(copied))
}

/// A qcow2 file over the image, which stays as it is.
fn overlay(image: &Path, path: &Path, bytes: u64) -> Result<(), Error> {
    let image = image.canonicalize().map_err(Error::file("find", image))?;
    let size = virtual_size(&image)
        .map_err(Error::file("read", &image))?
        .max(bytes);
    let output = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
        .arg(&image)
        .arg(path)
        .arg(size.to_string())
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::Missing {
                program: "qemu-img",
                package: "qemu-utils",
            },
            _ => Error::System {
                doing: "start qemu-img",
                source: error,
            },
        })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Program {
        program: "qemu-img",
        message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// The size field of a qcow2 header: big endian, at byte 24.
fn virtual_size(image: &Path) -> io::Result<u64> {
    use std::os::unix::fs::FileExt;

    let mut size = [0; 8];
    File::open(image)?.read_exact_at(&mut size, 24)?;
    Ok(u64::from_be_bytes(size))
}
