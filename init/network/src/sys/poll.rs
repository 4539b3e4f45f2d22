//! Waiting for descriptors.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What to wait for on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Something to read.
    Read,
    /// Room to write.
    Write,
}

/// Waits until one of the descriptors is ready; says of each, in order, whether it is. An error on a descriptor
/// counts as ready: its user will meet it.
pub(crate) fn poll(waiting: &[(BorrowedFd<'_>, Interest)]) -> io::Result<Vec<bool>> {
    let mut entries: Vec<libc::pollfd> = waiting
        .iter()
        .map(|(fd, interest)| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: match interest {
                Interest::Read => libc::POLLIN,
                Interest::Write => libc::POLLOUT,
            },
            revents: 0,
        })
        .collect();
    loop {
        // SAFETY: the pointer and length describe `entries`; the descriptors are borrowed.
        let result = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, -1) };
        match super::check(result) {
            Ok(()) => return Ok(entries.iter().map(|entry| entry.revents != 0).collect()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Makes writes to a descriptor fail instead of wait.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    super::check(flags)?;
    // SAFETY: no pointers are passed.
    super::check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })
}
