//! Processes: starting a role in its cgroup, and the one place that waits.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

/// From linux/sched.h; libc's constant has a type that is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Where the descriptors that a role gets begin: behind the standard streams.
pub(crate) const FIRST_PASSED: RawFd = 3;

/// A child that has ended, or an orphan that PID 1 inherited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Its process id, free for reuse from now on.
    pub(crate) pid: i32,
    /// How it ended.
    pub(crate) how: How,
}

/// How a process ended. Signals stay numbers: real-time ones have no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// By exit, with this status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// Reaps one ended child, if there is one; never blocks.
pub(crate) fn wait_any() -> Option<Ended> {
    loop {
        // SAFETY: siginfo_t is plain data for which all zeroes is a valid value.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` outlives the call, which writes nothing else.
        let done =
            unsafe { libc::waitid(libc::P_ALL, 0, &mut info, libc::WEXITED | libc::WNOHANG) };
        if done != 0 {
            if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return None; // ECHILD: no children at all
        }
        // SAFETY: waitid filled `info` as a SIGCHLD's; si_pid stays 0 when no child has ended.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        if pid == 0 {
            return None;
        }
        let how = match info.si_code {
            libc::CLD_EXITED => How::Exited(status),
            _ => How::Signaled(status),
        };
        return Some(Ended { pid, how });
    }
}

/// Whether there is any child, ended or not; reaps nothing.
pub(crate) fn has_children() -> bool {
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: waitid accepts a null siginfo and then writes nothing.
    unsafe { libc::waitid(libc::P_ALL, 0, ptr::null_mut(), options) == 0 }
}

/// How a role is started.
pub(crate) struct Spawn<'a> {
    /// Program and arguments; the program is an absolute path.
    pub(crate) arguments: &'a [&'a str],
    /// Directory of the cgroup that it starts in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// Its standard output.
    pub(crate) output: BorrowedFd<'a>,
    /// Its standard input and error: open for both.
    pub(crate) input: BorrowedFd<'a>,
    /// What it gets besides, from [`FIRST_PASSED`] on.
    pub(crate) passed: &'a [BorrowedFd<'a>],
}

/// Starts a program in a new process with an empty signal mask; gives its process id.
pub(crate) fn spawn(what: &Spawn<'_>) -> io::Result<i32> {
    let strings: Vec<CString> = what
        .arguments
        .iter()
        .map(|argument| CString::new(*argument))
        .collect::<Result<_, _>>()?;
    let mut argv: Vec<*const libc::c_char> = strings.iter().map(|s| s.as_ptr()).collect();
    argv.push(ptr::null());
    let environment = [ptr::null::<libc::c_char>()];
    let program = *argv.first().unwrap_or(&ptr::null());
    if program.is_null() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }

    // First to numbers above all that are passed, then down: none is overwritten before its turn.
    let passed: Vec<RawFd> = what.passed.iter().map(AsRawFd::as_raw_fd).collect();
    let mut copies = passed.clone();
    let above = FIRST_PASSED.saturating_add(RawFd::try_from(passed.len()).unwrap_or(RawFd::MAX));

    // SAFETY: clone_args is plain data for which all zeroes is a valid value.
    let mut clone: libc::clone_args = unsafe { std::mem::zeroed() };
    clone.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = what.cgroup {
        clone.flags = CLONE_INTO_CGROUP;
        clone.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM this is fork(2): the child has its own copy of everything. This
    // process has one thread, so no lock is held by a thread that the child lacks.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &clone as *const libc::clone_args,
            size_of::<libc::clone_args>(),
        )
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: only async-signal-safe calls on data that was made before the clone; ends
            // in exec or _exit, so nothing of the parent's is dropped twice.
            unsafe {
                let mut none: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&mut none);
                libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
                libc::dup2(what.input.as_raw_fd(), 0);
                libc::dup2(what.output.as_raw_fd(), 1);
                libc::dup2(what.input.as_raw_fd(), 2);
                for (copy, passed) in copies.iter_mut().zip(&passed) {
                    *copy = libc::fcntl(*passed, libc::F_DUPFD_CLOEXEC, above);
                }
                for (copy, number) in copies.iter().zip(FIRST_PASSED..) {
                    libc::dup2(*copy, number);
                }
                libc::execve(program, argv.as_ptr(), environment.as_ptr());
                libc::_exit(127)
            }
        }
        pid => Ok(pid as i32),
    }
}

/// Gives up, for this process and all its children, every capability that is not in `keep`, and
/// every way to gain one by a set-id program.
pub(crate) fn restrict_bounding_set(keep: &[u32]) -> io::Result<()> {
    /// Newer kernels have more capabilities than this program knows; PR_CAPBSET_DROP then says
    /// EINVAL after the last.
    const MOST: u32 = 64;
    let kept = keep.iter().fold(0_u64, |set, bit| set | 1_u64 << bit);
    for capability in (0..MOST).filter(|bit| kept >> bit & 1 == 0) {
        // SAFETY: prctl with integers only.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0) } != 0
        {
            let why = io::Error::last_os_error();
            if why.raw_os_error() == Some(libc::EINVAL) {
                break;
            }
            return Err(why);
        }
    }

    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522; // linux/capability.h
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let half = |set: u64| Data {
        effective: set as u32,
        permitted: set as u32,
        inheritable: 0,
    };
    let data = [half(kept), half(kept >> 32)];
    // SAFETY: both structures are laid out as capset(2) says and outlive the call.
    if unsafe { libc::syscall(libc::SYS_capset, &header, data.as_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: prctl with integers only.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
