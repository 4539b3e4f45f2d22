//! System calls and instructions of the guest's programs that the standard library does not
//! offer.
#![allow(unsafe_code)]

use std::process::ExitCode;

use nix::sys::reboot::{RebootMode, reboot};

/// The time stamp counter.
pub(crate) fn ticks() -> u64 {
    // SAFETY: RDTSC reads a counter; nothing in these guests forbids it (PR_SET_TSC).
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// CLOCK_MONOTONIC, nanoseconds; 0 when the kernel has no such clock.
pub(crate) fn monotonic_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live timespec for the length of the call.
    if unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) } != 0 {
        return 0;
    }
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

/// Restarts the machine, which ends its QEMU.
pub(crate) fn restart() -> ExitCode {
    match reboot(RebootMode::RB_AUTOBOOT) {
        Ok(never) => match never {},
        Err(_) => ExitCode::FAILURE,
    }
}

/// Namespaces of a container that has all its own but the network.
const NAMESPACES: u64 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

/// `clone3` into new namespaces; 0 in the child.
pub(crate) fn clone_into_namespaces() -> nix::Result<libc::pid_t> {
    // SAFETY: all-zero is a valid clone_args: no descriptors, no stack, no thread pointers.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = NAMESPACES;
    arguments.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM the child is a copy of this single-threaded process and goes on
    // here, like after fork; the structure lives across the call.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &mut arguments,
            size_of::<libc::clone_args>(),
        )
    };
    nix::errno::Errno::result(pid).map(|pid| pid as libc::pid_t)
}

/// `pivot_root(".", ".")`: the old root ends up under the new one.
pub(crate) fn pivot_here() -> nix::Result<()> {
    // SAFETY: two constant C strings.
    let done = unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) };
    nix::errno::Errno::result(done).map(drop)
}

/// `fork` of a process with one thread.
pub(crate) fn fork() -> nix::Result<nix::unistd::ForkResult> {
    // SAFETY: the guest's programs have one thread, so the child may do anything.
    unsafe { nix::unistd::fork() }
}

/// `kill` by the bare numbers: nix knows no real-time signals.
pub(crate) fn kill(pid: i32, signal: i32) -> nix::Result<()> {
    // SAFETY: two integers.
    let done = unsafe { libc::kill(pid, signal) };
    nix::errno::Errno::result(done).map(drop)
}

/// What the hardware or the kernel's memory management says no to.
pub(crate) enum Fault {
    /// No memory there.
    Address,
    /// A mapped file ends before.
    PastTheEnd,
    /// No such instruction.
    Instruction,
    /// By zero.
    Division,
    /// A debugger's stop without a debugger.
    Breakpoint,
}

/// Does it.
pub(crate) fn fault(what: Fault) {
    use core::arch::asm;
    // SAFETY: none of these comes back; the process ends by the signal, as it should.
    unsafe {
        match what {
            Fault::Address => asm!("mov byte ptr [{at}], 1", at = in(reg) 8_usize),
            Fault::PastTheEnd => {
                let empty = libc::memfd_create(c"empty".as_ptr(), 0);
                let shared = libc::MAP_SHARED;
                let at = libc::mmap(
                    std::ptr::null_mut(),
                    4096,
                    libc::PROT_READ,
                    shared,
                    empty,
                    0,
                );
                let _ = std::ptr::read_volatile(at.cast::<u8>());
            }
            Fault::Instruction => asm!("ud2"),
            Fault::Division => asm!(
                "div {zero:e}",
                zero = in(reg) 0_u32,
                inout("eax") 1_u32 => _,
                inout("edx") 0_u32 => _,
            ),
            Fault::Breakpoint => asm!("int3"),
        }
    }
}
