//! System calls around the QEMU process: signals and ties.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc::Sender;
use std::thread;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};

use super::Event;

fn termination() -> SigSet {
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])
}

/// Holds back the signals that ask this process to end, in this and every later thread.
pub(crate) fn block_termination() -> io::Result<()> {
    Ok(termination().thread_block()?)
}

/// Sends [`Event::Stop`] for each such signal.
pub(crate) fn watch_termination(events: Sender<Event>) -> io::Result<()> {
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let signals = termination();
            while signals.wait().is_ok() && events.send(Event::Stop).is_ok() {}
        })?;
    Ok(())
}

/// Starts a process that the terminal's Ctrl-C does not reach and that dies with this one.
pub(crate) fn spawn_tied(command: &mut Command) -> io::Result<Child> {
    command.process_group(0);
    // SAFETY: between fork and exec only two system calls are made, both async-signal-safe, and
    // nothing is allocated.
    unsafe {
        command.pre_exec(|| {
            termination().thread_unblock()?;
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            Ok(())
        })
    };
    command.spawn()
}
