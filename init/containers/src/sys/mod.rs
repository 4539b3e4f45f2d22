//! System calls: the only unsafe code of this crate.
//!
//! Every wrapper is one system call, made directly: nothing here allocates, takes a lock or
//! touches libc's view of the process (glibc's own `setresuid` signals the threads it believes
//! in), so all of it may run in a child between clone and exec. Numbers and structures follow
//! the kernel's uapi headers.
#![allow(unsafe_code)]

pub(crate) mod files;
pub(crate) mod mounts;
pub(crate) mod process;

use std::ffi::{CStr, c_long};
use std::mem::ManuallyDrop;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Why a system call failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl std::fmt::Debug for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Errno({})", self.0)
    }
}

impl std::error::Error for Errno {}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.0)
    }
}

/// Turns a system call's return value into a result.
fn checked(value: c_long) -> Result<c_long, Errno> {
    if value < 0 {
        // SAFETY: errno's location is always valid for the calling thread.
        Err(Errno(unsafe { *libc::__errno_location() }))
    } else {
        Ok(value)
    }
}

/// Like [`checked`], for calls that return nothing.
fn done(value: c_long) -> Result<(), Errno> {
    checked(value).map(|_| ())
}

/// Like [`checked`], for calls that return a new descriptor.
fn descriptor(value: c_long) -> Result<OwnedFd, Errno> {
    let fd = checked(value)? as RawFd;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Keeps a descriptor open in a child that is set up: exec closes them all at once, which costs
/// less than one call for each.
pub(crate) fn left_for_exec(fd: OwnedFd) -> ManuallyDrop<OwnedFd> {
    ManuallyDrop::new(fd)
}

/// Where a path starts: a directory's descriptor, or the working directory.
#[derive(Clone, Copy)]
pub(crate) enum At<'a> {
    /// The working directory (absolute paths start at the root).
    Cwd,
    /// An open directory.
    Dir(BorrowedFd<'a>),
}

impl At<'_> {
    fn raw(self) -> RawFd {
        match self {
            At::Cwd => libc::AT_FDCWD,
            At::Dir(fd) => std::os::fd::AsRawFd::as_raw_fd(&fd),
        }
    }
}

/// The empty path, for calls that act on the descriptor itself.
pub(crate) const EMPTY: &CStr = c"";
