//! The one system call that the standard library has no name for.
#![allow(unsafe_code)]

/// Ends the program at SIGTERM and SIGINT. The first process of a container has no default
/// action for signals, so without this a stop would wait for its timeout.
pub(crate) fn exit_on_termination() {
    extern "C" fn exit(_signal: libc::c_int) {
        // SAFETY: _exit(2) is async-signal-safe and does not return.
        unsafe { libc::_exit(0) }
    }
    let handler: extern "C" fn(libc::c_int) = exit;
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: the handler calls only an async-signal-safe function and lives as long as the
        // program.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}
