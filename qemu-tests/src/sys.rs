//! The harness's only system calls that the standard library does not offer.
#![allow(unsafe_code)]

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use crate::process::Measured;

/// Waits for a child: how it ended, and what it took.
pub(crate) fn wait_measured(child: &Child) -> std::io::Result<(ExitStatus, Measured)> {
    let pid = child.id() as libc::pid_t;
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to live values of the types that wait4 writes.
    if unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) } != pid {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: zeroes are a valid rusage, and wait4 has filled it.
    let usage = unsafe { usage.assume_init() };
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    let measured = Measured {
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        peak_bytes: (usage.ru_maxrss as u64) << 10,
    };
    Ok((ExitStatus::from_raw(status), measured))
}

/// Makes the kernel kill the started program when the thread that starts it ends.
///
/// Started from a thread that lives as long as the process, so that the program ends with the
/// process however that ends.
pub(crate) fn dies_with_its_starter(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}
