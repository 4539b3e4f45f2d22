//! The firmware's variables as files of efivarfs (Documentation/filesystems/efivarfs.rst of the
//! kernel). A variable is written by one `write` of attributes and data; those that the kernel
//! does not know are made immutable by it, against accidents, and have to be made mutable first.
#![allow(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::efi::{Variables, from_efivarfs, to_efivarfs};

/// Where efivarfs is mounted.
const PATH: &str = "/sys/firmware/efi/efivars";

/// Vendor GUID of the firmware's own variables (UEFI 2.10, 3.3).
const EFI_GLOBAL: &str = "-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Most bytes of a variable that are read.
const VARIABLE_BYTES: u64 = 64 << 10;

/// From linux/fs.h; the argument is an int, whatever the numbers say.
const FS_IOC_GETFLAGS: libc::Ioctl = 0x8008_6601_u32 as libc::Ioctl;
const FS_IOC_SETFLAGS: libc::Ioctl = 0x4008_6602_u32 as libc::Ioctl;
const FS_IMMUTABLE_FL: libc::c_int = 0x10;

/// The variables of the machine's firmware.
#[derive(Debug)]
pub struct EfiVarFs(PathBuf);

impl EfiVarFs {
    /// The variables in efivarfs where it is always mounted.
    #[must_use]
    pub fn mounted() -> Self {
        Self::at(Path::new(PATH))
    }

    /// The variables in an efivarfs mounted at `directory`.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}{EFI_GLOBAL}"))
    }
}

impl Variables for EfiVarFs {
    fn list(&mut self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        let listed = fs::read_dir(&self.0).map_err(|error| match error.kind() {
            // What may not exist is then nothing to take back.
            io::ErrorKind::NotFound => io::Error::new(
                io::ErrorKind::Unsupported,
                "the machine was not started by UEFI firmware, or its variables are not mounted",
            ),
            _ => error,
        });
        for entry in listed? {
            let name = entry?.file_name();
            let global = name.to_str().and_then(|name| name.strip_suffix(EFI_GLOBAL));
            names.extend(global.map(str::to_owned));
        }
        Ok(names)
    }

    fn get(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(VARIABLE_BYTES).read_to_end(&mut bytes)?;
        Ok(from_efivarfs(&bytes).map(<[u8]>::to_vec))
    }

    fn set(&mut self, name: &str, data: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        make_mutable(&path)?;
        let bytes = to_efivarfs(data);
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        // One call: each is a whole variable to the firmware.
        if file.write(&bytes)? != bytes.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(())
    }

    fn delete(&mut self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        make_mutable(&path)?;
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

/// Takes the immutable flag from a variable that has it.
fn make_mutable(path: &Path) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut flags: libc::c_int = 0;
    // SAFETY: the request writes one int, which outlives the call.
    let got = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_GETFLAGS, &mut flags) };
    if got != 0 || flags & FS_IMMUTABLE_FL == 0 {
        return Ok(()); // no such flags here: the write will say what is wrong
    }
    flags &= !FS_IMMUTABLE_FL;
    // SAFETY: the request reads one int, which outlives the call.
    if unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_SETFLAGS, &flags) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
