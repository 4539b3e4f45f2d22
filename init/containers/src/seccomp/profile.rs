//! The default system call filter: what a container may call.
//!
//! It decides as the default profile of moby (Docker) does for the same capabilities: an allow
//! list, to which some capabilities add. Beyond that: only the machine's native system calls
//! (the kernel has no 32-bit ones), and ENOSYS for calls that are newer than this list, so that
//! C libraries fall back to older ones.

use libc::*;

use super::compile::{Rule, Verdict};
use crate::capabilities::Set;

/// The last system call that this list knows about (`removexattrat` of Linux 6.13); from 424 on
/// the numbers are the same on every architecture.
pub(super) const LAST_KNOWN: usize = 466;

/// Allowed to all, on every architecture.
#[rustfmt::skip]
const COMMON: &[c_long] = &[
    SYS_accept, SYS_accept4, SYS_adjtimex, SYS_bind, SYS_brk, SYS_capget, SYS_capset, SYS_chdir,
    SYS_clock_adjtime, SYS_clock_getres, SYS_clock_gettime, SYS_clock_nanosleep, SYS_close,
    SYS_close_range, SYS_connect, SYS_copy_file_range, SYS_dup, SYS_dup3, SYS_epoll_create1,
    SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_eventfd2, SYS_execve, SYS_execveat,
    SYS_exit, SYS_exit_group, SYS_faccessat, SYS_faccessat2, SYS_fadvise64, SYS_fallocate,
    SYS_fanotify_mark, SYS_fchdir, SYS_fchmod, SYS_fchmodat, SYS_fchown, SYS_fchownat,
    SYS_fcntl, SYS_fdatasync, SYS_fgetxattr, SYS_flistxattr, SYS_flock, SYS_fremovexattr,
    SYS_fsetxattr, SYS_fstat, SYS_fstatfs, SYS_fsync, SYS_ftruncate, SYS_futex, SYS_futex_waitv,
    SYS_get_robust_list, SYS_getcpu, SYS_getcwd, SYS_getdents64, SYS_getegid, SYS_geteuid,
    SYS_getgid, SYS_getgroups, SYS_getitimer, SYS_getpeername, SYS_getpgid, SYS_getpid,
    SYS_getppid, SYS_getpriority, SYS_getrandom, SYS_getresgid, SYS_getresuid, SYS_getrusage,
    SYS_getsid, SYS_getsockname, SYS_getsockopt, SYS_gettid, SYS_gettimeofday, SYS_getuid,
    SYS_getxattr, SYS_inotify_add_watch, SYS_inotify_init1, SYS_inotify_rm_watch, SYS_io_cancel,
    SYS_io_destroy, SYS_io_getevents, SYS_io_setup, SYS_io_submit, SYS_ioctl, SYS_ioprio_get,
    SYS_ioprio_set, SYS_kill, SYS_landlock_add_rule, SYS_landlock_create_ruleset,
    SYS_landlock_restrict_self, SYS_lgetxattr, SYS_linkat, SYS_listen, SYS_listxattr,
    SYS_llistxattr, SYS_lremovexattr, SYS_lseek, SYS_lsetxattr, SYS_madvise, SYS_membarrier,
    SYS_memfd_create, SYS_memfd_secret, SYS_mincore, SYS_mkdirat, SYS_mknodat, SYS_mlock,
    SYS_mlock2, SYS_mlockall, SYS_mmap, SYS_mprotect, SYS_mq_getsetattr, SYS_mq_notify,
    SYS_mq_open, SYS_mq_timedreceive, SYS_mq_timedsend, SYS_mq_unlink, SYS_mremap, SYS_mseal,
    SYS_msgctl, SYS_msgget, SYS_msgrcv, SYS_msgsnd, SYS_msync, SYS_munlock, SYS_munlockall,
    SYS_munmap, SYS_name_to_handle_at, SYS_nanosleep, SYS_newfstatat, SYS_openat, SYS_openat2,
    SYS_pidfd_open, SYS_pidfd_send_signal, SYS_pipe2, SYS_pkey_alloc, SYS_pkey_free,
    SYS_pkey_mprotect, SYS_ppoll, SYS_prctl, SYS_pread64, SYS_preadv, SYS_preadv2,
    SYS_prlimit64, SYS_process_mrelease, SYS_process_vm_readv, SYS_process_vm_writev,
    SYS_pselect6, SYS_ptrace, SYS_pwrite64, SYS_pwritev, SYS_pwritev2, SYS_read, SYS_readahead,
    SYS_readlinkat, SYS_readv, SYS_recvfrom, SYS_recvmmsg, SYS_recvmsg, SYS_remap_file_pages,
    SYS_removexattr, SYS_renameat2, SYS_restart_syscall, SYS_rseq, SYS_rt_sigaction,
    SYS_rt_sigpending, SYS_rt_sigprocmask, SYS_rt_sigqueueinfo, SYS_rt_sigreturn,
    SYS_rt_sigsuspend, SYS_rt_sigtimedwait, SYS_rt_tgsigqueueinfo, SYS_sched_get_priority_max,
    SYS_sched_get_priority_min, SYS_sched_getaffinity, SYS_sched_getattr, SYS_sched_getparam,
    SYS_sched_getscheduler, SYS_sched_rr_get_interval, SYS_sched_setaffinity, SYS_sched_setattr,
    SYS_sched_setparam, SYS_sched_setscheduler, SYS_sched_yield, SYS_seccomp, SYS_semctl,
    SYS_semget, SYS_semop, SYS_semtimedop, SYS_sendfile, SYS_sendmmsg, SYS_sendmsg, SYS_sendto,
    SYS_set_robust_list, SYS_set_tid_address, SYS_setfsgid, SYS_setfsuid, SYS_setgid,
    SYS_setgroups, SYS_setitimer, SYS_setpgid, SYS_setpriority, SYS_setregid, SYS_setresgid,
    SYS_setresuid, SYS_setreuid, SYS_setsid, SYS_setsockopt, SYS_setuid, SYS_setxattr,
    SYS_shmat, SYS_shmctl, SYS_shmdt, SYS_shmget, SYS_shutdown, SYS_sigaltstack, SYS_signalfd4,
    SYS_socketpair, SYS_splice, SYS_statfs, SYS_statx, SYS_symlinkat, SYS_sync, SYS_syncfs,
    SYS_sysinfo, SYS_tee, SYS_tgkill, SYS_timer_create, SYS_timer_delete, SYS_timer_getoverrun,
    SYS_timer_gettime, SYS_timer_settime, SYS_timerfd_create, SYS_timerfd_gettime,
    SYS_timerfd_settime, SYS_times, SYS_tkill, SYS_truncate, SYS_umask, SYS_uname, SYS_unlinkat,
    SYS_utimensat, SYS_vmsplice, SYS_wait4, SYS_waitid, SYS_write, SYS_writev,
];

/// Allowed to all, not yet named by libc, with the same number on every architecture: cachestat,
/// fchmodat2, map_shadow_stack, futex_wake, futex_wait, futex_requeue, statmount, listmount and
/// the four *xattrat.
const NEW: &[c_long] = &[451, 452, 453, 454, 455, 456, 457, 458, 463, 464, 465, 466];

/// Allowed to all, calls of x86_64 only; the last two are io_pgetevents and uretprobe.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const NATIVE: &[c_long] = &[
    SYS_access, SYS_alarm, SYS_arch_prctl, SYS_chmod, SYS_chown, SYS_creat, SYS_dup2,
    SYS_epoll_create, SYS_epoll_ctl_old, SYS_epoll_wait, SYS_epoll_wait_old, SYS_eventfd,
    SYS_fork, SYS_futimesat, SYS_get_thread_area, SYS_getdents, SYS_getpgrp, SYS_getrlimit,
    SYS_inotify_init, SYS_lchown, SYS_link, SYS_lstat, SYS_mkdir, SYS_mknod, SYS_modify_ldt,
    SYS_open, SYS_pause, SYS_pipe, SYS_poll, SYS_readlink, SYS_rename, SYS_renameat, SYS_rmdir,
    SYS_select, SYS_set_thread_area, SYS_setrlimit, SYS_signalfd, SYS_stat, SYS_symlink,
    SYS_sync_file_range, SYS_time, SYS_unlink, SYS_utime, SYS_utimes, SYS_vfork,
    333, 335,
];

/// Allowed to all, calls of aarch64 only: io_pgetevents.
#[cfg(target_arch = "aarch64")]
const NATIVE: &[c_long] = &[292];

/// What becomes of `socket` by address family: refused are DECnet, Econet and ATM SVC, IrDA,
/// WANPIPE, ISDN, CAIF and ALG (a way into the kernel's crypto), VSOCK, and all from 46 on.
#[rustfmt::skip]
const FAMILIES: &[(u32, Verdict)] = &[
    (0, Verdict::Allow), (12, Verdict::REFUSED),
    (13, Verdict::Allow), (19, Verdict::REFUSED),
    (21, Verdict::Allow), (23, Verdict::REFUSED),
    (24, Verdict::Allow), (25, Verdict::REFUSED),
    (26, Verdict::Allow), (34, Verdict::REFUSED),
    (35, Verdict::Allow), (37, Verdict::REFUSED),
    (39, Verdict::Allow), (40, Verdict::REFUSED),
    (41, Verdict::Allow), (46, Verdict::REFUSED),
];

/// New namespaces: what `clone` refuses without CAP_SYS_ADMIN.
const NAMESPACE_FLAGS: u32 = 0x7e02_0000;

/// Personalities that do no harm: Linux, BSD, their UNAME26 variants, and the question itself.
const PERSONALITIES: &[u32] = &[0, 8, 0x2_0000, 0x2_0008, u32::MAX];

/// What capabilities add (capability, calls), numbers as in capability.h.
#[rustfmt::skip]
const WITH_CAPABILITY: &[(u32, &[c_long])] = &[
    (2, &[SYS_open_by_handle_at]),
    (16, &[SYS_delete_module, SYS_init_module, SYS_finit_module]),
    #[cfg(target_arch = "x86_64")]
    (17, &[SYS_iopl, SYS_ioperm]),
    (18, &[SYS_chroot]),
    (19, &[SYS_kcmp, SYS_pidfd_getfd, SYS_process_madvise]),
    (20, &[SYS_acct]),
    (SYS_ADMIN, &[
        SYS_bpf, SYS_clone, SYS_clone3, SYS_fanotify_init, SYS_fsconfig, SYS_fsmount, SYS_fsopen,
        SYS_fspick, SYS_lookup_dcookie, SYS_mount, SYS_mount_setattr, SYS_move_mount,
        SYS_open_tree, SYS_perf_event_open, SYS_quotactl, SYS_quotactl_fd, SYS_setdomainname,
        SYS_sethostname, SYS_setns, SYS_syslog, SYS_umount2, SYS_unshare,
        // lsm_get_self_attr, lsm_set_self_attr, lsm_list_modules
        459, 460, 461,
    ]),
    (22, &[SYS_reboot]),
    (23, &[SYS_get_mempolicy, SYS_mbind, SYS_set_mempolicy, SYS_set_mempolicy_home_node]),
    (25, &[SYS_settimeofday, SYS_clock_settime]),
    (26, &[SYS_vhangup]),
    (34, &[SYS_syslog]),
    (38, &[SYS_perf_event_open]),
    (39, &[SYS_bpf]),
];

const SYS_ADMIN: u32 = 21;

/// A rule for each system call, at its number.
pub(super) type Table = [Rule; LAST_KNOWN + 1];

/// The rules for a container with these capabilities; what is not listed is refused.
pub(super) fn rules(capabilities: Set) -> Table {
    let mut table = [Rule::Return(Verdict::REFUSED); LAST_KNOWN + 1];
    let mut set = |number: c_long, rule: Rule| {
        let place = usize::try_from(number).ok();
        if let Some(place) = place.and_then(|place| table.get_mut(place)) {
            *place = rule;
        }
    };
    let allow = Rule::Return(Verdict::Allow);
    for number in [COMMON, NEW, NATIVE].into_iter().flatten() {
        set(*number, allow);
    }
    set(SYS_socket, Rule::Ranges(FAMILIES));
    set(SYS_personality, Rule::OneOf(PERSONALITIES));
    for (capability, calls) in WITH_CAPABILITY {
        if capabilities.has(*capability) {
            calls.iter().for_each(|number| set(*number, allow));
        }
    }
    if !capabilities.has(SYS_ADMIN) {
        set(SYS_clone, Rule::NoneOf(NAMESPACE_FLAGS));
        // Its flags are behind a pointer; with ENOSYS libraries use clone.
        set(SYS_clone3, Rule::Return(Verdict::UNKNOWN));
    }
    table
}

/// The rules for a process that needs these calls and no other.
pub(super) fn only(calls: &[c_long]) -> Table {
    let mut table = [Rule::Return(Verdict::REFUSED); LAST_KNOWN + 1];
    let places = calls.iter().filter_map(|call| usize::try_from(*call).ok());
    for place in places {
        if let Some(rule) = table.get_mut(place) {
            *rule = Rule::Return(Verdict::Allow);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_call_has_a_place_in_the_table() {
        let with_capabilities = WITH_CAPABILITY.iter().map(|(_, calls)| *calls);
        for number in [COMMON, NEW, NATIVE]
            .into_iter()
            .chain(with_capabilities)
            .flatten()
        {
            let place = usize::try_from(*number).expect("a number");
            assert!(place <= LAST_KNOWN, "{number}");
        }
    }

    #[test]
    fn families_are_refused_as_their_list_says() {
        let refused = [12, 19, 20, 23, 25, 34, 37, 38, 40];
        for family in 0..60 {
            let (_, verdict) = FAMILIES
                .iter()
                .rfind(|(start, _)| *start <= family)
                .expect("the first starts at 0");
            let wanted = refused.contains(&family) || family >= 46;
            assert_eq!(*verdict == Verdict::REFUSED, wanted, "{family}");
        }
    }
}
