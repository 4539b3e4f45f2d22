//! Clocks that never jump: CLOCK_BOOTTIME for leases (it runs on while the machine is
//! suspended), CLOCK_MONOTONIC for the log; a timer; a random seed.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::{check, check_len};

/// Time since boot, suspension included.
pub(crate) fn boottime() -> Duration {
    now(libc::CLOCK_BOOTTIME)
}

/// CLOCK_MONOTONIC in microseconds, as in the kernel log.
pub(crate) fn monotonic_us() -> u64 {
    u64::try_from(now(libc::CLOCK_MONOTONIC).as_micros()).unwrap_or(u64::MAX)
}

fn now(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a timespec to be written. It fails only for clocks that do not exist.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}

/// A descriptor that becomes readable at a time of CLOCK_BOOTTIME.
#[derive(Debug)]
pub(crate) struct Timer(OwnedFd);

impl Timer {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_BOOTTIME, flags) };
        check(fd)?;
        // SAFETY: the kernel has just given us this descriptor; nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Fires at `time`, also when that has passed; `None` for never.
    pub(crate) fn set(&self, time: Option<Duration>) -> io::Result<()> {
        let zero = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let value = match time {
            None => zero,
            Some(time) => libc::timespec {
                tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
                // Never zero, which would disarm it.
                tv_nsec: libc::c_long::from(time.subsec_nanos().max(1).cast_signed()),
            },
        };
        let spec = libc::itimerspec {
            it_interval: zero,
            it_value: value,
        };
        let flags: c_int = libc::TFD_TIMER_ABSTIME;
        // SAFETY: `spec` is read during the call; the old value is not asked for.
        check(unsafe {
            libc::timerfd_settime(
                self.0.as_raw_fd(),
                flags,
                &raw const spec,
                std::ptr::null_mut(),
            )
        })
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// 64 bits from the kernel that differ from machine to machine, never waited for.
pub(crate) fn seed() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: the pointer and length describe `bytes`.
    let got =
        unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_INSECURE) };
    match check_len(got) {
        Ok(8) => u64::from_ne_bytes(bytes),
        // Without the system call the time still differs.
        _ => monotonic_us(),
    }
}
