//! The mount API of Linux 5.2 and later: mounts are made detached, as descriptors, and attached
//! when they are complete.

use std::ffi::{CStr, c_uint};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use super::{At, EMPTY, Errno, descriptor, done};

/// Read-only.
pub(crate) const RDONLY: u64 = 0x01;
/// Set-id bits do nothing.
pub(crate) const NOSUID: u64 = 0x02;
/// Device nodes do nothing.
pub(crate) const NODEV: u64 = 0x04;
/// Nothing can be executed.
pub(crate) const NOEXEC: u64 = 0x08;
/// The bits that choose how access times are kept.
pub(crate) const ATIME: u64 = 0x70;
/// Access times are never kept.
pub(crate) const NOATIME: u64 = 0x10;
/// Access times are always kept.
pub(crate) const STRICTATIME: u64 = 0x20;
/// Access times of directories are never kept.
pub(crate) const NODIRATIME: u64 = 0x80;
/// Symbolic links are not followed.
pub(crate) const NOSYMFOLLOW: u64 = 0x20_0000;

const IDMAP: u64 = 0x10_0000;
const PROPAGATION_PRIVATE: u64 = 1 << 18;

const OPEN_TREE_CLONE: c_uint = 1;
const AT_RECURSIVE: c_uint = 0x8000;
const MOVE_MOUNT_F_EMPTY_PATH: c_uint = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: c_uint = 0x40;
const FSCONFIG_SET_FLAG: c_uint = 0;
const FSCONFIG_SET_STRING: c_uint = 1;
const FSCONFIG_CMD_CREATE: c_uint = 6;
const CLOEXEC: c_uint = 1;

#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// A detached copy of the mount at an open file or directory; `recursive` takes the mounts below
/// it along.
pub(crate) fn copy_tree(from: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    let flags = OPEN_TREE_CLONE
        | libc::O_CLOEXEC as c_uint
        | libc::AT_EMPTY_PATH as c_uint
        | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is NUL-terminated and static.
    descriptor(unsafe {
        libc::syscall(libc::SYS_open_tree, from.as_raw_fd(), EMPTY.as_ptr(), flags)
    })
}

/// Attaches a detached mount on top of an open file or directory.
pub(crate) fn attach(mount: BorrowedFd<'_>, on: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: both paths are NUL-terminated and static.
    done(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            EMPTY.as_ptr(),
            on.as_raw_fd(),
            EMPTY.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    })
}

/// Attaches a detached mount at a path, whose last part must not be a symbolic link.
pub(crate) fn attach_at(mount: BorrowedFd<'_>, path: &CStr) -> Result<(), Errno> {
    // SAFETY: both paths are NUL-terminated and outlive the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            EMPTY.as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
}

/// Starts a new instance of a file system.
pub(crate) fn file_system(kind: &CStr) -> Result<OwnedFd, Errno> {
    // SAFETY: the name is NUL-terminated and outlives the call.
    descriptor(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), CLOEXEC) })
}

/// Sets one of its parameters; without a value, a flag.
pub(crate) fn parameter(
    context: BorrowedFd<'_>,
    key: &CStr,
    value: Option<&CStr>,
) -> Result<(), Errno> {
    let (command, value) = match value {
        Some(value) => (FSCONFIG_SET_STRING, value.as_ptr()),
        None => (FSCONFIG_SET_FLAG, ptr::null()),
    };
    // SAFETY: key and value are NUL-terminated (or null where the command takes none) and
    // outlive the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            key.as_ptr(),
            value,
            0,
        )
    })
}

/// Creates the file system and gives it as a detached mount with these attributes.
pub(crate) fn create(context: BorrowedFd<'_>, attributes: u64) -> Result<OwnedFd, Errno> {
    // SAFETY: this command takes neither key nor value.
    done(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            ptr::null::<u8>(),
            ptr::null::<u8>(),
            0,
        )
    })?;
    // SAFETY: no pointers.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            CLOEXEC,
            attributes as c_uint,
        )
    })
}

/// Sets and clears attributes of a mount and, when recursive, of all below it.
pub(crate) fn set_attributes(
    mount: BorrowedFd<'_>,
    set: u64,
    clear: u64,
    recursive: bool,
) -> Result<(), Errno> {
    let attributes = MountAttr {
        set,
        clear,
        ..MountAttr::default()
    };
    mount_setattr(At::Dir(mount), EMPTY, recursive, &attributes)
}

/// Shows a detached mount's files with the ids of a user namespace.
pub(crate) fn map_ids(mount: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    let attributes = MountAttr {
        set: IDMAP,
        userns_fd: user_namespace.as_raw_fd() as u64,
        ..MountAttr::default()
    };
    mount_setattr(At::Dir(mount), EMPTY, false, &attributes)
}

/// Cuts every mount of the namespace off from mounts and unmounts elsewhere.
pub(crate) fn make_private() -> Result<(), Errno> {
    let attributes = MountAttr {
        propagation: PROPAGATION_PRIVATE,
        ..MountAttr::default()
    };
    mount_setattr(At::Cwd, c"/", true, &attributes)
}

fn mount_setattr(
    at: At<'_>,
    path: &CStr,
    recursive: bool,
    attributes: &MountAttr,
) -> Result<(), Errno> {
    let flags = if path.is_empty() {
        libc::AT_EMPTY_PATH as c_uint
    } else {
        0
    } | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is NUL-terminated, the structure is of the size we pass; both outlive the
    // call.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            at.raw(),
            path.as_ptr(),
            flags,
            ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    })
}

/// Makes the working directory the root and stacks the old root on it (pivot_root(2), "NOTES").
pub(crate) fn pivot_to_cwd() -> Result<(), Errno> {
    // SAFETY: both paths are NUL-terminated and static.
    done(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })
}

/// Detaches the mount at the working directory and all below it.
pub(crate) fn detach_cwd() -> Result<(), Errno> {
    // SAFETY: the path is NUL-terminated and static.
    done(unsafe { libc::syscall(libc::SYS_umount2, c".".as_ptr(), libc::MNT_DETACH) })
}
