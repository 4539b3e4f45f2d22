//! The container's root: the image's directory, read-only or under a writable overlay in memory;
//! becoming it; and what is hidden in it.
//!
//! Paths are looked up only after the container's root has become the process's root, so no
//! link in an image can lead anywhere else. The old root stays attached until the end, because
//! the kernel mounts proc and sysfs in a user namespace only where they can be seen already.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::mounts as api;
use crate::sys::{At, Errno, files, left_for_exec, process};

/// The root, as the specification asks for it.
#[derive(Debug)]
pub(crate) struct Root {
    /// The image's directory on the machine.
    pub(crate) path: CString,
    /// Whether nothing can be written.
    pub(crate) read_only: bool,
}

impl Root {
    /// A detached copy of the image's directory. Done by PID 1.
    pub(crate) fn prepare(&self) -> Result<OwnedFd, Errno> {
        let directory = files::open(
            At::Cwd,
            &self.path,
            libc::O_PATH | libc::O_DIRECTORY,
            files::NO_SYMLINKS,
        )?;
        let image = api::copy_tree(directory.as_fd(), false)?;
        // The lower layer of an overlay is never written either; and a device node in an image
        // must not open a device of the machine.
        api::set_attributes(image.as_fd(), api::RDONLY | api::NODEV, 0, false)?;
        Ok(image)
    }

    /// Makes the prepared image this process's root, with the machine's root stacked on it; gives
    /// the latter, for [`leave_old_root`].
    pub(crate) fn enter(&self, image: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let old = files::open(At::Cwd, c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?;
        if self.read_only {
            api::attach(image, old.as_fd())?;
            process::enter(image)?;
        } else {
            let overlay = writable(image, old.as_fd())?;
            process::enter(overlay.as_fd())?;
        }
        api::pivot_to_cwd()?;
        Ok(old)
    }
}

/// Lays a writable layer in memory over the image. Its memory counts for the container.
fn writable(image: BorrowedFd<'_>, old: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let context = api::file_system(c"tmpfs")?;
    api::parameter(context.as_fd(), c"mode", Some(c"755"))?;
    let layers = api::create(context.as_fd(), api::NODEV)?;
    api::attach(layers.as_fd(), old)?;
    process::enter(layers.as_fd())?;
    for name in [c"image", c"upper", c"work", c"root"] {
        files::mkdir(At::Cwd, name, 0o755)?;
    }
    let at = files::open(At::Cwd, c"image", libc::O_PATH, files::NO_SYMLINKS)?;
    api::attach(image, at.as_fd())?;

    let context = api::file_system(c"overlay")?;
    for (key, value) in [
        (c"lowerdir", Some(c"image")),
        (c"upperdir", Some(c"upper")),
        (c"workdir", Some(c"work")),
        // The container's root may not write trusted.* attributes.
        (c"userxattr", None),
    ] {
        api::parameter(context.as_fd(), key, value)?;
    }
    let overlay = api::create(context.as_fd(), api::NODEV)?;
    let at = files::open(At::Cwd, c"root", libc::O_PATH, files::NO_SYMLINKS)?;
    api::attach(overlay.as_fd(), at.as_fd())?;
    Ok(overlay)
}

/// Detaches the machine's root; from here on only the container is reachable.
pub(crate) fn leave_old_root(old: BorrowedFd<'_>) -> Result<(), Errno> {
    process::enter(old)?;
    api::detach_cwd()?;
    process::change_directory(c"/")
}

/// What covers masked paths.
pub(crate) struct Mask<'a> {
    /// The container's `/dev/null`.
    null: BorrowedFd<'a>,
    /// The empty directory, once one has been needed: further ones are copies of it.
    empty: Option<OwnedFd>,
}

impl<'a> Mask<'a> {
    /// Nothing is hidden yet.
    pub(crate) fn new(null: BorrowedFd<'a>) -> Self {
        Self { null, empty: None }
    }

    /// Makes a path read as empty: `/dev/null` over a file, an empty directory over a directory.
    /// A path that is not there needs no mask.
    pub(crate) fn hide(&mut self, path: &CStr) -> Result<(), Errno> {
        let Some(target) = open_exact(path)?.map(left_for_exec) else {
            return Ok(());
        };
        if !files::kind(target.as_fd())?.is_directory() {
            let cover = left_for_exec(api::copy_tree(self.null, false)?);
            return api::attach(cover.as_fd(), target.as_fd());
        }
        match &self.empty {
            // Before Linux 6.15 only an attached mount can be copied, so the first is attached
            // itself.
            Some(first) => {
                let copy = left_for_exec(api::copy_tree(first.as_fd(), false)?);
                api::attach(copy.as_fd(), target.as_fd())
            }
            None => {
                let first = empty_directory()?;
                api::attach(first.as_fd(), target.as_fd())?;
                self.empty = Some(first);
                Ok(())
            }
        }
    }
}

/// A read-only empty directory as a detached mount.
fn empty_directory() -> Result<OwnedFd, Errno> {
    let context = api::file_system(c"tmpfs")?;
    api::parameter(context.as_fd(), c"mode", Some(c"555"))?;
    api::create(
        context.as_fd(),
        api::RDONLY | api::NOSUID | api::NODEV | api::NOEXEC,
    )
}

/// Makes a path and all below it read-only. A path that is not there needs nothing.
pub(crate) fn protect(path: &CStr) -> Result<(), Errno> {
    let Some(target) = open_exact(path)?.map(left_for_exec) else {
        return Ok(());
    };
    let copy = left_for_exec(api::copy_tree(target.as_fd(), true)?);
    api::set_attributes(copy.as_fd(), api::RDONLY, 0, true)?;
    api::attach(copy.as_fd(), target.as_fd())
}

/// Opens a path without following any link, so that exactly what is named gets covered.
fn open_exact(path: &CStr) -> Result<Option<OwnedFd>, Errno> {
    match files::open(At::Cwd, path, libc::O_PATH, files::NO_SYMLINKS) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        Err(errno) => Err(errno),
    }
}
