//! The container's `/dev`: a small tmpfs with the devices that every program expects.
//!
//! The nodes are made by PID 1, for only the machine's root may make device nodes; the links by
//! the container's own root. Nothing of the machine's `/dev` is reachable unless it is named.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::plan::{Refused, absolute, parents};
use crate::spec;
use crate::sys::files::{self, Kind};
use crate::sys::{At, Errno};

/// Default devices of the OCI runtime specification ("Default Devices"), without those that come
/// with devpts and a terminal: name, major, minor. All may be read and written by all.
const DEFAULT: [(&CStr, u32, u32); 6] = [
    (c"null", 1, 3),
    (c"zero", 1, 5),
    (c"full", 1, 7),
    (c"random", 1, 8),
    (c"urandom", 1, 9),
    (c"tty", 5, 0),
];

/// Links that go with them ("Dev symbolic links" of the same specification).
const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
    (c"pts/ptmx", c"ptmx"),
];

/// Most devices that one container may name.
const MOST_DEVICES: usize = 64;

/// A device of the machine that the container gets besides the default ones.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// Path on the machine.
    path: CString,
    /// The same, below `/dev`.
    name: CString,
    /// The directories that `name` needs, outermost first.
    parents: Vec<CString>,
}

/// Reads the list of further devices.
pub(crate) fn parse(devices: &[spec::Device]) -> Result<Vec<Device>, Refused> {
    let key = "linux.devices";
    if devices.len() > MOST_DEVICES {
        return Err(Refused::new(key, format!("more than {MOST_DEVICES}")));
    }
    devices
        .iter()
        .map(|device| {
            let path = absolute(&device.path, key)?;
            let outside = || Refused::new(key, format!("{:?} is not in /dev", device.path));
            let name = device.path.strip_prefix("/dev/").ok_or_else(outside)?;
            Ok(Device {
                path,
                parents: parents(name),
                name: CString::new(name).map_err(|_| outside())?,
            })
        })
        .collect()
}

/// Makes the default nodes in a new `/dev`. Done by PID 1.
pub(crate) fn make_default_nodes(dev: BorrowedFd<'_>) -> Result<(), Errno> {
    for (name, major, minor) in DEFAULT {
        files::device(At::Dir(dev), name, Kind::character(0o666, (major, minor)))?;
    }
    Ok(())
}

impl Device {
    /// Makes the node in a new `/dev`, as it is on the machine but owned by the container's root.
    /// Done by PID 1.
    pub(crate) fn make_node(&self, dev: BorrowedFd<'_>, owner: (u32, u32)) -> Result<(), Errno> {
        let original = files::open(At::Cwd, &self.path, libc::O_PATH, files::NO_SYMLINKS)?;
        let kind = files::kind(original.as_fd())?;
        if !kind.is_device() {
            return Err(Errno(libc::ENODEV));
        }
        let dev = At::Dir(dev);
        for parent in &self.parents {
            match files::mkdir(dev, parent, 0o755) {
                Ok(()) | Err(Errno(libc::EEXIST)) => {}
                Err(errno) => return Err(errno),
            }
        }
        files::device(dev, &self.name, kind)?;
        files::chown_at(dev, &self.name, owner.0, owner.1)
    }

    /// Its path, for messages.
    pub(crate) fn path(&self) -> &CStr {
        &self.path
    }
}

/// Makes the links. Done by the container's root.
pub(crate) fn make_links(dev: BorrowedFd<'_>) -> Result<(), Errno> {
    for (target, name) in LINKS {
        files::symlink(target, At::Dir(dev), name)?;
    }
    Ok(())
}

/// Opens `/dev/null` for reading and writing.
pub(crate) fn open_null() -> Result<OwnedFd, Errno> {
    let null = files::open(At::Cwd, c"/dev/null", libc::O_RDWR, 0)?;
    let kind = files::kind(null.as_fd())?;
    if kind.is_device() && kind.device == (1, 3) {
        Ok(null)
    } else {
        Err(Errno(libc::ENODEV))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_below_dev_can_be_named() {
        let parse_one = |path: &str| parse(&[spec::Device { path: path.into() }]);
        let devices = parse_one("/dev/dri/card0").expect("good");
        assert_eq!(
            devices.first().map(|d| d.name.as_c_str()),
            Some(c"dri/card0")
        );
        for bad in [
            "/dev",
            "/dev/",
            "/dev/../etc/shadow",
            "/etc/shadow",
            "dev/x",
        ] {
            assert!(parse_one(bad).is_err(), "{bad}");
        }
    }
}
