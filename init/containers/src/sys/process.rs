//! Processes: making one, its identity and privileges, exec.

use std::ffi::{CStr, CString, c_char, c_long, c_ulong};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use super::{Errno, checked, descriptor, done, left_for_exec};

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Where [`clone`] returned.
pub(crate) enum Cloned {
    /// In the new process.
    Child,
    /// In the caller.
    Parent {
        /// The new process.
        pid: i32,
        /// A descriptor of it.
        pidfd: OwnedFd,
    },
}

/// Makes a process with a copy of our memory, in new namespaces and in a cgroup.
///
/// The caller must have one thread, or the child must neither allocate nor take locks.
pub(crate) fn clone(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned, Errno> {
    const CLEAR_SIGHAND: u64 = 0x1_0000_0000;
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: RawFd = -1;
    let arguments = CloneArgs {
        flags: namespaces
            | libc::CLONE_PIDFD as u64
            | CLEAR_SIGHAND
            | if cgroup.is_some() { INTO_CGROUP } else { 0 },
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
        ..CloneArgs::default()
    };
    // SAFETY: the structure is of the size we pass and pidfd is writable. There is no CLONE_VM
    // and no stack, so this is fork: the child goes on with its own copy of everything.
    let pid = checked(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<CloneArgs>(),
        )
    })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    Ok(Cloned::Parent {
        pid: pid as i32,
        pidfd: descriptor(pidfd.into())?,
    })
}

/// Ends the process at once; nothing is flushed or freed.
pub(crate) fn exit(status: i32) -> ! {
    loop {
        // SAFETY: no pointers; does not return.
        unsafe { libc::syscall(libc::SYS_exit_group, status) };
    }
}

/// Sends a signal to the process behind a descriptor.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: the null siginfo is allowed.
    done(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By exit, with this status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// Reaps a child if it has ended; never blocks.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> Result<Option<Ended>, Errno> {
    const P_PIDFD: i32 = 3;
    // SAFETY: siginfo_t is plain data for which all zeroes is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: info is writable; no resource usage is asked for.
    done(unsafe {
        libc::syscall(
            libc::SYS_waitid,
            P_PIDFD,
            pidfd.as_raw_fd(),
            &raw mut info,
            libc::WEXITED | libc::WNOHANG,
            ptr::null_mut::<libc::rusage>(),
        )
    })?;
    // SAFETY: the kernel filled info as a SIGCHLD's; si_pid stays 0 when the child still runs.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok(match info.si_code {
        _ if pid == 0 => None,
        libc::CLD_EXITED => Some(Ended::Exited(status)),
        _ => Some(Ended::Signaled(status)),
    })
}

/// Reaps any child that has ended: whether there was one. `ECHILD` when there are no children.
pub(crate) fn reap_any() -> Result<bool, Errno> {
    // SAFETY: siginfo_t is plain data for which all zeroes is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: info is writable; no resource usage is asked for.
    done(unsafe {
        libc::syscall(
            libc::SYS_waitid,
            libc::P_ALL,
            0,
            &raw mut info,
            libc::WEXITED | libc::WNOHANG,
            ptr::null_mut::<libc::rusage>(),
        )
    })?;
    // SAFETY: as in `reap`.
    Ok(unsafe { info.si_pid() } != 0)
}

/// Inherits the orphans among the descendants that are made from now on, instead of the first
/// process of the pid namespace.
pub(crate) fn inherit_orphans() -> Result<(), Errno> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).map(|_| ())
}

/// From now on this process is killed when its parent ends; a change of user undoes it.
pub(crate) fn die_with_parent() -> Result<(), Errno> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong, 0).map(|_| ())
}

/// Joins namespaces of the process behind a descriptor; with the pid namespace only children of
/// the caller do.
pub(crate) fn join(pidfd: BorrowedFd<'_>, namespaces: u64) -> Result<(), Errno> {
    // SAFETY: no pointers.
    done(unsafe { libc::syscall(libc::SYS_setns, pidfd.as_raw_fd(), namespaces) })
}

/// Switches the loopback interface of our network namespace on.
pub(crate) fn raise_loopback() -> Result<(), Errno> {
    const DATAGRAM: i32 = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let socket = descriptor(unsafe { libc::syscall(libc::SYS_socket, libc::AF_INET, DATAGRAM, 0) })
        .map(left_for_exec)?;
    // SAFETY: ifreq is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request is a filled ifreq that outlives the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_ioctl,
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS,
            &raw const request,
        )
    })
}

/// From now on only a privileged process of the machine may look into this one, until it runs
/// another program.
pub(crate) fn hide() -> Result<(), Errno> {
    prctl(libc::PR_SET_DUMPABLE, 0, 0).map(|_| ())
}

/// Leaves the shared cgroup namespace.
pub(crate) fn new_cgroup_namespace() -> Result<(), Errno> {
    // SAFETY: no pointers.
    done(unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_NEWCGROUP) })
}

/// Becomes the leader of a new session.
pub(crate) fn new_session() -> Result<(), Errno> {
    // SAFETY: no arguments.
    done(unsafe { libc::syscall(libc::SYS_setsid) })
}

/// Leaves the session keyring of whoever started us; a kernel without keys has none.
pub(crate) fn new_session_keyring() -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_long = 1;
    // SAFETY: the null name is allowed: an anonymous keyring.
    let result = done(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            ptr::null::<c_char>(),
        )
    });
    match result {
        Err(Errno(libc::ENOSYS)) => Ok(()),
        other => other,
    }
}

/// Sets the host name of our UTS namespace.
pub(crate) fn set_host_name(name: &CStr) -> Result<(), Errno> {
    // SAFETY: the name is readable for the length that is passed.
    done(unsafe { libc::syscall(libc::SYS_sethostname, name.as_ptr(), name.count_bytes()) })
}

/// Sets real, effective and saved group and user, and the further groups; groups first, for they
/// need the user's privilege.
pub(crate) fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: the slice is readable for its whole length.
    unsafe {
        done(libc::syscall(
            libc::SYS_setgroups,
            groups.len(),
            groups.as_ptr(),
        ))?;
        done(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        done(libc::syscall(libc::SYS_setresuid, uid, uid, uid))
    }
}

/// Sets the file mode creation mask; gives the former one.
pub(crate) fn set_umask(mask: u32) -> u32 {
    // SAFETY: no pointers; cannot fail.
    unsafe { libc::syscall(libc::SYS_umask, mask) as u32 }
}

/// Changes the working directory.
pub(crate) fn change_directory(path: &CStr) -> Result<(), Errno> {
    // SAFETY: the path is NUL-terminated and outlives the call.
    done(unsafe { libc::syscall(libc::SYS_chdir, path.as_ptr()) })
}

/// Changes the working directory to an open one.
pub(crate) fn enter(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: no pointers.
    done(unsafe { libc::syscall(libc::SYS_fchdir, directory.as_raw_fd()) })
}

/// Sets a resource limit of a process.
pub(crate) fn limit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the new limit is a valid structure; no old one is asked for.
    done(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            resource,
            &raw const limit,
            ptr::null_mut::<libc::rlimit64>(),
        )
    })
}

fn prctl(option: i32, a: c_ulong, b: c_ulong) -> Result<c_long, Errno> {
    // SAFETY: only options that take numbers are used below.
    checked(unsafe { libc::syscall(libc::SYS_prctl, option, a, b, 0, 0) })
}

/// Removes a capability from the bounding set; EINVAL when the kernel knows no such capability.
pub(crate) fn drop_bounding(capability: u32) -> Result<(), Errno> {
    prctl(libc::PR_CAPBSET_DROP, capability.into(), 0).map(|_| ())
}

/// Keeps the permitted capabilities over the next change of user.
pub(crate) fn keep_capabilities() -> Result<(), Errno> {
    prctl(libc::PR_SET_KEEPCAPS, 1, 0).map(|_| ())
}

/// Adds a capability to the ambient set.
pub(crate) fn raise_ambient(capability: u32) -> Result<(), Errno> {
    let raise = libc::PR_CAP_AMBIENT_RAISE as c_ulong;
    prctl(libc::PR_CAP_AMBIENT, raise, capability.into()).map(|_| ())
}

/// Empties the ambient set.
pub(crate) fn clear_ambient() -> Result<(), Errno> {
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as c_ulong;
    prctl(libc::PR_CAP_AMBIENT, clear, 0).map(|_| ())
}

/// From now on exec never gains privileges.
pub(crate) fn no_new_privileges() -> Result<(), Errno> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(|_| ())
}

/// Sets effective, permitted and inheritable capabilities (capset(2), version 3).
pub(crate) fn set_capabilities(
    effective: u64,
    permitted: u64,
    inheritable: u64,
) -> Result<(), Errno> {
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
    let header = Header {
        version: 0x2008_0522,
        pid: 0,
    };
    let half = |shift: u32| Data {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 takes one header and two data structures; both outlive the call.
    done(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })
}

/// One instruction of a classic BPF program.
pub(crate) type Instruction = libc::sock_filter;

/// Attaches a system call filter to this process.
pub(crate) fn filter_system_calls(program: &[Instruction]) -> Result<(), Errno> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno(libc::EINVAL))?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the program is readable for its whole length; the kernel only reads it.
    done(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    })
}

/// Signals, one bit each: bit n is signal n + 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signals(u64);

/// Signals there are.
const SIGNALS: u32 = 64;

/// The kernel's own structure (glibc's has another layout).
#[repr(C)]
#[derive(Clone, Copy)]
struct Action {
    handler: usize,
    flags: c_ulong,
    restorer: usize,
    mask: u64,
}

/// The signals that this process ignores.
pub(crate) fn ignored_signals() -> Result<Signals, Errno> {
    let mut ignored = 0;
    for bit in 0..SIGNALS {
        let mut action = Action {
            handler: libc::SIG_DFL,
            flags: 0,
            restorer: 0,
            mask: 0,
        };
        // SAFETY: the old action is written into the kernel's own structure, with its 8-byte
        // mask; no new one is set.
        done(unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                bit + 1,
                ptr::null::<Action>(),
                &raw mut action,
                size_of::<u64>(),
            )
        })?;
        if action.handler == libc::SIG_IGN {
            ignored |= 1_u64 << bit;
        }
    }
    Ok(Signals(ignored))
}

/// Gives these signals their default action and unblocks all.
///
/// clone has reset the handlers, but what is ignored (the Rust runtime ignores SIGPIPE) would
/// stay ignored over exec.
pub(crate) fn reset_signals(ignored: Signals) -> Result<(), Errno> {
    let default = Action {
        handler: libc::SIG_DFL,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    let none = 0_u64;
    for bit in (0..SIGNALS).filter(|bit| ignored.0 >> bit & 1 == 1) {
        // SAFETY: the structure is the kernel's own, with its 8-byte mask; no old one is asked
        // for.
        done(unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                bit + 1,
                &raw const default,
                ptr::null_mut::<Action>(),
                size_of::<u64>(),
            )
        })?;
    }
    // SAFETY: the mask is 8 bytes, as passed; no old one is asked for.
    done(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    })
}

/// Strings in the form in which exec takes them: made before clone, for it allocates.
pub(crate) struct StringArray {
    // The pointers below point into these; a CString's bytes do not move with it.
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl StringArray {
    /// Takes the strings over.
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let pointers = strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([ptr::null()])
            .collect();
        Self { strings, pointers }
    }
}

impl std::fmt::Debug for StringArray {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.strings.fmt(f)
    }
}

/// Replaces the program; returns only when that failed.
pub(crate) fn exec(path: &CStr, arguments: &StringArray, environment: &StringArray) -> Errno {
    // SAFETY: the path is NUL-terminated; both arrays end with a null pointer and own the
    // strings they point to.
    let result = done(unsafe {
        libc::syscall(
            libc::SYS_execve,
            path.as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
        )
    });
    match result {
        Err(errno) => errno,
        Ok(()) => Errno(libc::ENOEXEC),
    }
}
