//! Processes that PID 1 starts from its own executable: a boot phase that may block, the network
//! agent, the closing of the state. Each has one pipe back to PID 1.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};

use crate::cgroups;
use crate::failure::{Doing, Failure};
use crate::sys;

const PROGRAM: &str = "/init";
/// A role's last words, in bytes.
const LAST_WORDS: u64 = 1024;

/// A running role.
#[derive(Debug)]
pub(crate) struct Role {
    /// Its process id.
    pub(crate) pid: i32,
    /// What it writes to its standard output; never blocks.
    output: File,
    /// It still may write.
    open: bool,
}

impl Role {
    /// Starts `/init ARGUMENTS` in the cgroup `/system/GROUP`; it gets the descriptors in
    /// `passed` from [`sys::FIRST_PASSED`] on.
    pub(crate) fn start(
        group: &str,
        arguments: &[&str],
        passed: &[BorrowedFd<'_>],
    ) -> Result<Self, Failure> {
        let what = || format!("start the role {}", arguments.join(" "));
        let cgroup = cgroups::role(group)?;
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).doing(what)?;
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).doing(what)?;
        let null: OwnedFd = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .doing(|| "open /dev/null".to_owned())?
            .into();
        let mut line = vec![PROGRAM];
        line.extend_from_slice(arguments);
        let pid = sys::spawn(&sys::Spawn {
            arguments: &line,
            cgroup: Some(cgroup.as_fd()),
            output: writer.as_fd(),
            input: null.as_fd(),
            passed,
        })
        .doing(what)?;
        Ok(Self {
            pid,
            output: reader.into(),
            open: true,
        })
    }

    /// Asks it to end.
    pub(crate) fn ask_to_end(&self) {
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGTERM); // ended already: will be reaped
    }

    /// Ends it now.
    pub(crate) fn kill(&self) {
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL); // ended already: will be reaped
    }

    /// Fills `buffer` with what it wrote; the number of bytes, 0 when there is nothing.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> usize {
        match self.output.read(buffer) {
            Ok(0) => {
                self.open = false;
                0
            }
            Ok(length) => length,
            Err(_) => 0, // nothing now
        }
    }

    /// Whether polling its output can tell anything: a closed pipe would wake PID 1 for ever.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// The sentence that a failed role leaves behind.
    pub(crate) fn last_words(mut self) -> String {
        let mut words = Vec::new();
        // An error here is "nothing more to read now".
        let _ = (&mut self.output).take(LAST_WORDS).read_to_end(&mut words);
        String::from_utf8_lossy(&words).trim().to_owned()
    }
}

impl AsFd for Role {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }
}
