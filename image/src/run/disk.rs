//! The disk that the machine writes to: a copy of the image, as large as the user wants.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_disk::pending::Pending;

use super::{Error, Options};

/// A disk for QEMU.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    /// QEMU's name of the format.
    pub(crate) format: &'static str,
}

/// What QEMU calls the format that is not raw.
const QCOW2: &str = "qcow2";

/// The first bytes of a qcow2 file.
const QCOW2_MAGIC: &[u8; 4] = b"QFI\xfb";

pub(crate) fn prepare(options: &Options, directory: &Path) -> Result<Disk, Error> {
    let image = &options.disk;
    if let Some(kept) = &options.keep {
        if !kept.exists() {
            make_kept(image, kept, options.disk_bytes)?;
        }
        let format = format(kept)?;
        return Ok(Disk {
            path: kept.clone(),
            format,
        });
    }
    let path = directory.join("disk");
    let format = format(image)?;
    if format == QCOW2 {
        overlay(image, &path, options.disk_bytes)?;
    } else {
        let to = File::create_new(&path).map_err(Error::file("write", &path))?;
        copy_sparse(image, &to, options.disk_bytes).map_err(Error::file("write", &path))?;
    }
    Ok(Disk { path, format })
}

/// A disk that needs the image no more: the next build replaces that. It has its name when it is
/// whole, since whatever has the name is used the next time.
fn make_kept(image: &Path, kept: &Path, bytes: u64) -> Result<(), Error> {
    let format = format(image)?;
    let pending = Pending::create(kept).map_err(Error::file("write", kept))?;
    if format == QCOW2 {
        convert(image, pending.temporary(), bytes)?;
    } else {
        copy_sparse(image, pending.file(), bytes).map_err(Error::file("write", kept))?;
    }
    pending.finish().map_err(Error::file("write", kept))
}

/// QEMU's name of a disk's format.
fn format(disk: &Path) -> Result<&'static str, Error> {
    match starts_with_qcow2(disk).map_err(Error::file("read", disk))? {
        true => Ok(QCOW2),
        false => Ok("raw"),
    }
}

fn starts_with_qcow2(path: &Path) -> io::Result<bool> {
    use io::Read;

    let mut start = Vec::new();
    File::open(path)?.take(4).read_to_end(&mut start)?;
    Ok(start == QCOW2_MAGIC)
}

/// The image's bytes, then a hole up to `bytes`.
fn copy_sparse(image: &Path, mut to: &File, bytes: u64) -> io::Result<()> {
    let copied = io::copy(&mut File::open(image)?, &mut to)?;
    to.set_len(bytes.max(copied))
}

/// A qcow2 file over the image, which stays as it is.
fn overlay(image: &Path, path: &Path, bytes: u64) -> Result<(), Error> {
    let image = image.canonicalize().map_err(Error::file("find", image))?;
    let size = virtual_size(&image)
        .map_err(Error::file("read", &image))?
        .max(bytes);
    let mut create = Command::new("qemu-img");
    create
        .args(["create", "-q", "-f", QCOW2, "-F", QCOW2, "-b"])
        .arg(&image)
        .arg(path)
        .arg(size.to_string());
    succeed(&mut create)
}

/// A qcow2 file with all that the image and whatever it is over have.
fn convert(image: &Path, path: &Path, bytes: u64) -> Result<(), Error> {
    let mut convert = Command::new("qemu-img");
    convert
        .args(["convert", "-q", "-f", QCOW2, "-O", QCOW2])
        .arg(image)
        .arg(path);
    succeed(&mut convert)?;
    let size = virtual_size(path).map_err(Error::file("read", path))?;
    if size >= bytes {
        return Ok(());
    }
    let mut resize = Command::new("qemu-img");
    resize
        .args(["resize", "-q", "-f", QCOW2])
        .arg(path)
        .arg(bytes.to_string());
    succeed(&mut resize)
}

fn succeed(command: &mut Command) -> Result<(), Error> {
    let output = command.output().map_err(|error| match error.kind() {
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;

    use super::super::{Boot, DEFAULT_MEMORY_MIB};
    use super::*;

    /// A disk from `image` that stays as `FILE` beside it.
    fn kept(image: &Path, disk_bytes: u64) -> (PathBuf, Result<Disk, Error>) {
        let directory = image.parent().expect("a directory");
        let kept = directory.join("FILE");
        let options = Options {
            disk: image.to_owned(),
            boot: Boot::Firmware,
            memory_mib: DEFAULT_MEMORY_MIB,
            disk_bytes,
            keep: Some(kept.clone()),
            ports: Vec::new(),
            headless: true,
            log: None,
            boot_report: None,
            check: None,
            title: String::new(),
        };
        (kept, prepare(&options, directory))
    }

    #[test]
    fn a_kept_disk_needs_the_image_no_more() {
        let directory = tempfile::tempdir().expect("directory");
        let content = vec![7; 300_000];
        let raw = directory.path().join("disk.raw");
        fs::write(&raw, &content).expect("an image");
        let (path, disk) = kept(&raw, 1 << 20);
        assert_eq!(disk.expect("a disk").format, "raw");
        assert_eq!(fs::metadata(&path).expect("a file").len(), 1 << 20);
        fs::remove_file(&path).expect("remove");

        let qcow2 = directory.path().join("disk.qcow2");
        let mut bytes = Vec::new();
        let file = File::open(&raw).expect("the image");
        berth_disk::qcow2::write(&file, 300_032, &mut bytes).expect("qcow2");
        fs::write(&qcow2, bytes).expect("an image");
        let (path, disk) = kept(&qcow2, 1 << 20);
        match disk {
            Err(Error::Missing { program, package }) => {
                return eprintln!("SKIPPED: {program} is missing (package {package})");
            }
            disk => assert_eq!(disk.expect("a disk").format, "qcow2"),
        }
        let mut backing_file_at = [1; 8];
        let file = File::open(&path).expect("the disk");
        file.read_exact_at(&mut backing_file_at, 8).expect("header");
        assert_eq!(u64::from_be_bytes(backing_file_at), 0);
        assert_eq!(virtual_size(&path).expect("a size"), 1 << 20);
        fs::remove_file(&qcow2).expect("the next build replaces it");
        let back = directory.path().join("back");
        let mut convert = Command::new("qemu-img");
        convert.args(["convert", "-O", "raw"]).args([&path, &back]);
        succeed(&mut convert).expect("a disk that can be read");
        let back = fs::read(back).expect("a disk");
        assert_eq!(back[..content.len()], content);
    }

    #[test]
    fn a_copy_that_fails_leaves_no_disk_to_go_on_with() {
        let directory = tempfile::tempdir().expect("directory");
        let image = directory.path().join("image");
        // The copy is made, and cannot grow to this; a header alone is no qcow2 file.
        for (content, bytes) in [(&[7; 512][..], u64::MAX), (&b"QFI\xfb"[..], 1 << 20)] {
            fs::write(&image, content).expect("an image");
            let (_, disk) = kept(&image, bytes);
            disk.expect_err("no disk");
            let left = fs::read_dir(directory.path()).expect("list");
            assert_eq!(left.count(), 1, "the image alone");
        }
    }
}
