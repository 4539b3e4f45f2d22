//! What a prober gives up before it reads a byte that a container or a network sent: its user,
//! its capabilities, and every system call that it does not need.

use libc::*;

use crate::capabilities::Sets;
use crate::seccomp::Filter;
use crate::sys::{Errno, process};

/// The user that nobody is (the kernel's overflow id).
const NOBODY: u32 = 65_534;

/// Memory, time, the end, and the pipe to PID 1.
#[rustfmt::skip]
const COMMON: &[c_long] = &[
    SYS_brk, SYS_clock_gettime, SYS_close, SYS_exit, SYS_exit_group, SYS_futex, SYS_getrandom,
    SYS_madvise, SYS_mmap, SYS_mprotect, SYS_mremap, SYS_munmap, SYS_read, SYS_restart_syscall,
    SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sigaltstack, SYS_write, SYS_writev,
    #[cfg(target_arch = "x86_64")]
    SYS_poll,
    SYS_ppoll,
];

/// A connection.
#[rustfmt::skip]
const NETWORK: &[c_long] = &[
    SYS_connect, SYS_fcntl, SYS_getsockopt, SYS_ioctl, SYS_recvfrom, SYS_sendto, SYS_setsockopt,
    SYS_shutdown, SYS_socket,
];

/// A child that is watched.
const INSIDE: &[c_long] = &[SYS_waitid];

/// For a process that connects and asks.
pub(super) fn network() -> Result<(), Errno> {
    give_up(NETWORK)
}

/// For a process that watches a program inside a container.
pub(super) fn inside() -> Result<(), Errno> {
    give_up(INSIDE)
}

fn give_up(calls: &[c_long]) -> Result<(), Errno> {
    Sets::default().bound()?;
    process::become_user(NOBODY, NOBODY, &[])?;
    Sets::default().take()?;
    process::die_with_parent()?;
    process::no_new_privileges()?;
    Filter::only(&[COMMON, calls].concat()).attach()
}
