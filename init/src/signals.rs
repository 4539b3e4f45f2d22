//! Signals as descriptors: all are blocked before the first child exists, and read in the loop.
//!
//! SIGINT is what the kernel sends for ctrl-alt-del; the rest follows what other inits do:
//! SIGTERM and SIGINT restart, SIGPWR and SIGUSR2 power off.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::failure::{Doing, Failure};
use crate::shutdown::Ending;

/// What a signal asks PID 1 to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Children have ended.
    Reap,
    /// Go down.
    End(Ending),
}

/// The descriptor that signals are read from.
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: SignalFd,
}

impl Signals {
    /// Blocks every signal and opens the descriptor.
    pub(crate) fn block_all() -> Result<Self, Failure> {
        let all = SigSet::all();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), None)
            .doing(|| "block signals".to_owned())?;
        let descriptor = SignalFd::with_flags(&all, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .doing(|| "open a descriptor for signals".to_owned())?;
        // From now ctrl-alt-del is a signal and no immediate restart.
        nix::sys::reboot::set_cad_enabled(false).doing(|| "take over ctrl-alt-del".to_owned())?;
        Ok(Self { descriptor })
    }

    /// A descriptor that nothing comes from; blocks no signal.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let descriptor = SignalFd::with_flags(&SigSet::empty(), flags).expect("a descriptor");
        Self { descriptor }
    }

    /// The next pending request.
    pub(crate) fn next(&self) -> Option<Request> {
        while let Ok(Some(info)) = self.descriptor.read_signal() {
            let signal = i32::try_from(info.ssi_signo).unwrap_or(0);
            if let Some(request) = Signal::try_from(signal).ok().and_then(request) {
                return Some(request);
            }
        }
        None
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn request(signal: Signal) -> Option<Request> {
    match signal {
        Signal::SIGCHLD => Some(Request::Reap),
        Signal::SIGINT | Signal::SIGTERM => Some(Request::End(Ending::Restart)),
        Signal::SIGPWR | Signal::SIGUSR2 => Some(Request::End(Ending::PowerOff)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_alt_del_restarts_and_a_failing_supply_powers_off() {
        assert_eq!(request(Signal::SIGINT), Some(Request::End(Ending::Restart)));
        assert_eq!(
            request(Signal::SIGPWR),
            Some(Request::End(Ending::PowerOff))
        );
        assert_eq!(request(Signal::SIGHUP), None);
    }
}
