//! A directory that one process at a time writes into.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Whether a file system has no locks for directories, as NFS has none.
pub(crate) fn has_no_locks(why: &io::Error) -> bool {
    let errno = why.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EBADF | Errno::ENOLCK | Errno::EOPNOTSUPP)
    )
}

/// Locks a directory until the lock is dropped. While somebody else has it, `waiting` is called and
/// this waits.
pub(crate) fn lock(directory: &Path, waiting: impl FnOnce()) -> io::Result<Flock<File>> {
    let open = || File::open(directory);
    match Flock::lock(open()?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, Errno::EWOULDBLOCK)) => {
            waiting();
            let locked = Flock::lock(open()?, FlockArg::LockExclusive);
            locked.map_err(|(_, errno)| errno.into())
        }
        Err((_, errno)) => Err(errno.into()),
    }
}
