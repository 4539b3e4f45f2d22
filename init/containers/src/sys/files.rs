//! Files and descriptors.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::{At, Errno, checked, descriptor, done};

/// Symbolic links are refused anywhere in the path (openat2's RESOLVE_NO_SYMLINKS).
pub(crate) const NO_SYMLINKS: u64 = 0x04;
/// `/proc/self/exe` and its kin are refused (RESOLVE_NO_MAGICLINKS).
pub(crate) const NO_MAGICLINKS: u64 = 0x02;

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// openat2(2), close-on-exec; `resolve` takes the constants above.
pub(crate) fn open(at: At<'_>, path: &CStr, flags: i32, resolve: u64) -> Result<OwnedFd, Errno> {
    let how = OpenHow {
        flags: (flags | libc::O_CLOEXEC) as u64,
        mode: 0,
        resolve,
    };
    // SAFETY: path is NUL-terminated, how is a valid open_how of the size we pass; both outlive
    // the call.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_openat2,
            at.raw(),
            path.as_ptr(),
            &raw const how,
            size_of::<OpenHow>(),
        )
    })
}

/// Makes a directory.
pub(crate) fn mkdir(at: At<'_>, path: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: path is NUL-terminated and outlives the call.
    done(unsafe { libc::syscall(libc::SYS_mkdirat, at.raw(), path.as_ptr(), mode) })
}

/// Makes an empty regular file; an existing one is an error.
pub(crate) fn create_file(at: At<'_>, path: &CStr) -> Result<(), Errno> {
    // SAFETY: path is NUL-terminated and outlives the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_mknodat,
            at.raw(),
            path.as_ptr(),
            libc::S_IFREG | 0o644,
            0,
        )
    })
}

/// A device as stat(2) tells it: type and permission bits, major and minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Type bits and permissions.
    pub(crate) mode: u32,
    /// Number of a device node.
    pub(crate) device: (u32, u32),
}

impl Kind {
    /// A character device with these permissions.
    pub(crate) fn character(mode: u32, device: (u32, u32)) -> Self {
        Self {
            mode: libc::S_IFCHR | mode,
            device,
        }
    }

    /// Whether it is a directory.
    pub(crate) fn is_directory(self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR
    }

    /// Whether it is a character or block device.
    pub(crate) fn is_device(self) -> bool {
        matches!(self.mode & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK)
    }
}

/// Makes a device node; the umask takes from its permissions.
pub(crate) fn device(at: At<'_>, path: &CStr, kind: Kind) -> Result<(), Errno> {
    let number = libc::makedev(kind.device.0, kind.device.1);
    // SAFETY: path is NUL-terminated and outlives the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_mknodat,
            at.raw(),
            path.as_ptr(),
            kind.mode,
            number,
        )
    })
}

/// Changes the owner of a file in a directory; a link is not followed.
pub(crate) fn chown_at(at: At<'_>, path: &CStr, uid: u32, gid: u32) -> Result<(), Errno> {
    // SAFETY: path is NUL-terminated and outlives the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_fchownat,
            at.raw(),
            path.as_ptr(),
            uid,
            gid,
            libc::AT_SYMLINK_NOFOLLOW,
        )
    })
}

/// The kind of an open file (an O_PATH descriptor will do).
pub(crate) fn kind(fd: BorrowedFd<'_>) -> Result<Kind, Errno> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: stat has room for what fstat writes.
    done(unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) }.into())?;
    // SAFETY: fstat succeeded, so it has filled the structure.
    let stat = unsafe { stat.assume_init() };
    Ok(Kind {
        mode: stat.st_mode,
        device: (libc::major(stat.st_rdev), libc::minor(stat.st_rdev)),
    })
}

/// The size of the file system that an open file is on; 0 when it has none.
pub(crate) fn file_system_bytes(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: stat has room for what fstatfs writes.
    done(unsafe { libc::syscall(libc::SYS_fstatfs, fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: fstatfs succeeded, so it has filled the structure.
    let stat = unsafe { stat.assume_init() };
    Ok(stat.f_blocks.saturating_mul(stat.f_bsize as u64))
}

/// Makes a symbolic link.
pub(crate) fn symlink(target: &CStr, at: At<'_>, path: &CStr) -> Result<(), Errno> {
    // SAFETY: both paths are NUL-terminated and outlive the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_symlinkat,
            target.as_ptr(),
            at.raw(),
            path.as_ptr(),
        )
    })
}

/// Changes the owner of an open file.
pub(crate) fn chown(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    done(unsafe { libc::syscall(libc::SYS_fchown, fd.as_raw_fd(), uid, gid) })
}

/// Reads once; interrupted reads are repeated.
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        // SAFETY: the buffer is writable for its whole length.
        let result = checked(unsafe {
            libc::syscall(
                libc::SYS_read,
                fd.as_raw_fd(),
                buffer.as_mut_ptr(),
                buffer.len(),
            )
        });
        match result {
            Err(Errno(libc::EINTR)) => {}
            other => return other.map(|count| count as usize),
        }
    }
}

/// Writes once; interrupted writes are repeated.
pub(crate) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        // SAFETY: the slice is readable for its whole length.
        let result = checked(unsafe {
            libc::syscall(libc::SYS_write, fd.as_raw_fd(), bytes.as_ptr(), bytes.len())
        });
        match result {
            Err(Errno(libc::EINTR)) => {}
            other => return other.map(|count| count as usize),
        }
    }
}

/// A pipe, both ends close-on-exec: (read, write).
pub(crate) fn pipe(flags: i32) -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut ends = [-1_i32; 2];
    // SAFETY: ends has room for the two descriptors.
    done(unsafe { libc::syscall(libc::SYS_pipe2, ends.as_mut_ptr(), libc::O_CLOEXEC | flags) })?;
    let [read, write] = ends;
    Ok((descriptor(read.into())?, descriptor(write.into())?))
}

/// Makes reading from a descriptor, and from all its copies, fail with EAGAIN where it would wait.
pub(crate) fn never_wait(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: no pointers.
    done(unsafe {
        libc::syscall(
            libc::SYS_fcntl,
            fd.as_raw_fd(),
            libc::F_SETFL,
            libc::O_NONBLOCK,
        )
    })
}

/// Copies a descriptor to a fixed number, without close-on-exec.
pub(crate) fn copy_to(fd: BorrowedFd<'_>, number: i32) -> Result<(), Errno> {
    if fd.as_raw_fd() == number {
        // SAFETY: no pointers.
        return done(unsafe { libc::syscall(libc::SYS_fcntl, number, libc::F_SETFD, 0) });
    }
    // SAFETY: no pointers; replacing the standard streams of a child about to exec is the point.
    done(unsafe { libc::syscall(libc::SYS_dup3, fd.as_raw_fd(), number, 0) })
}

/// Closes every descriptor from 3 on but one, which is marked close-on-exec already.
pub(crate) fn close_from_3_but(kept: BorrowedFd<'_>) -> Result<(), Errno> {
    let kept = kept.as_raw_fd().unsigned_abs();
    if kept > 3 {
        close_range(3, kept.saturating_sub(1))?;
    }
    close_range(kept.saturating_add(1).max(3), u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: no pointers; for a child about to exec, whose descriptors nobody drops any more.
    done(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })
}

/// Waits until a descriptor can be read, or the time is over; tells which are ready.
pub(crate) fn poll(polled: &mut [libc::pollfd], timeout_ms: i32) -> Result<usize, Errno> {
    // SAFETY: the slice is valid for its whole length.
    let count = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as u64, timeout_ms) };
    checked(count.into()).map(|count| count as usize)
}

/// Takes over a descriptor that this process was started with; it becomes close-on-exec.
pub(crate) fn take(number: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: no pointers. It fails when there is no such descriptor.
    done(unsafe { libc::syscall(libc::SYS_fcntl, number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    descriptor(number.into())
}
