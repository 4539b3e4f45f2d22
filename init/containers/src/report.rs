//! What a child that is being set up tells PID 1: "about to exec", or the step that failed.
//!
//! It goes over a pipe that closes at exec. One byte [`READY`] just before exec tells a program
//! that has taken over (then the end) from a child that was killed on the way (only the end).

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use crate::sys::{Errno, files};

/// The byte that says: everything is set up.
pub(crate) const READY: u8 = b'+';
/// The byte that starts a failure: step, errno (4 bytes, native order), path.
const FAILED: u8 = b'-';
/// The longest path that is reported; longer ones are cut.
const LONGEST_PATH: usize = 256;
/// The longest report: ready, then a failed exec.
pub(crate) const LONGEST: usize = 1 + HEADER + LONGEST_PATH;
const HEADER: usize = 1 + 1 + 4;

macro_rules! steps {
    ($($step:ident = $doing:literal,)*) => {
        /// A step of the set-up, in the order in which they are made.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Step { $(#[doc = $doing] $step,)* }

        impl Step {
            const ALL: &[Self] = &[$(Self::$step,)*];

            /// What was being done, as the beginning of a sentence.
            #[must_use]
            pub fn doing(self) -> &'static str {
                match self { $(Self::$step => $doing,)* }
            }
        }
    };
}

steps! {
    Admission = "waiting for admission",
    Hide = "hiding from the container",
    Limits = "setting resource limits",
    Join = "joining the container's namespaces",
    Session = "making a session",
    Keyring = "making a session keyring",
    RootUser = "becoming the container's root",
    CgroupNamespace = "making the cgroup namespace",
    HostName = "setting the host name",
    Loopback = "switching the loopback interface on",
    Propagation = "making mounts private",
    EnterRoot = "entering the root file system",
    Mount = "mounting",
    Links = "making links in /dev",
    Null = "opening the container's /dev/null",
    Mask = "masking",
    Protect = "making read-only",
    LeaveRoot = "leaving the machine's root file system",
    Bounding = "bounding capabilities",
    User = "changing to the container's user",
    Capabilities = "setting capabilities",
    Streams = "connecting standard streams",
    Descriptors = "limiting descriptors",
    Signals = "resetting signals",
    Directory = "changing to the working directory",
    NoNewPrivileges = "setting no_new_privs",
    Filter = "attaching the system call filter",
    Exec = "executing",
}

/// A step that failed, in the child: borrows, for nothing may be allocated there.
#[derive(Clone, Copy)]
pub(crate) struct Failure<'a> {
    pub(crate) step: Step,
    pub(crate) errno: Errno,
    pub(crate) path: &'a CStr,
}

impl Failure<'_> {
    /// Sends it to PID 1; if even that fails nobody can be told.
    pub(crate) fn send(self, report: BorrowedFd<'_>) {
        let mut message = [0_u8; HEADER + LONGEST_PATH];
        let path = self.path.to_bytes();
        let parts = [
            &[FAILED, self.step as u8][..],
            &self.errno.0.to_ne_bytes(),
            path.get(..LONGEST_PATH).unwrap_or(path),
        ];
        let length = parts.iter().map(|part| part.len()).sum();
        let bytes = parts.iter().flat_map(|part| part.iter());
        for (slot, byte) in message.iter_mut().zip(bytes) {
            *slot = *byte;
        }
        let _ = files::write(report, message.get(..length).unwrap_or_default());
    }
}

/// Why a container's program did not start, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupError {
    /// The step that failed; without one the child was killed before it could say.
    pub step: Option<Step>,
    /// What the kernel said.
    pub errno: Errno,
    /// The path it was about, if any.
    pub path: String,
}

impl std::error::Error for SetupError {}

impl std::fmt::Display for SetupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { step, errno, path } = self;
        let Some(step) = step else {
            return f.write_str("it was killed while being set up (out of memory?)");
        };
        f.write_str(step.doing())?;
        if !path.is_empty() {
            write!(f, " {path}")?;
        }
        write!(f, " failed: {errno}")?;
        let hint = match (step, errno.0) {
            (Step::Exec, libc::ENOENT) => {
                "the image lacks this program, or the interpreter that it names"
            }
            (Step::Exec, libc::EACCES) => "it is not an executable file for this user",
            (Step::Exec, libc::ENOEXEC) => "it is not a program for this machine",
            (Step::Exec, libc::ELOOP) => "it is a link into /proc, or one that leads nowhere",
            (Step::Mount, libc::EROFS) => {
                "the mount point is missing in the image and the root is read-only"
            }
            (Step::Directory, libc::ENOENT) => "the image lacks this directory",
            _ => return Ok(()),
        };
        write!(f, "; {hint}")
    }
}

/// How far a child has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is still being set up.
    SettingUp,
    /// The container's program has taken over.
    Running,
    /// It has not started, and never will.
    Failed(SetupError),
}

/// Reads what has come so far; `ended` when the pipe has closed.
pub(crate) fn read(received: &[u8], ended: bool) -> Progress {
    let (ready, rest) = match received.split_first() {
        Some((&READY, rest)) => (true, rest),
        _ => (false, received),
    };
    match rest {
        _ if !ended => Progress::SettingUp,
        [] if ready => Progress::Running,
        [FAILED, step, a, b, c, d, path @ ..] => Progress::Failed(SetupError {
            step: Step::ALL.get(usize::from(*step)).copied(),
            errno: Errno(i32::from_ne_bytes([*a, *b, *c, *d])),
            path: String::from_utf8_lossy(path).into_owned(),
        }),
        _ => Progress::Failed(SetupError {
            step: None,
            errno: Errno(0),
            path: String::new(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn sent(failure: Failure<'_>) -> Vec<u8> {
        let (reader, writer) = files::pipe(0).expect("pipe");
        failure.send(writer.as_fd());
        let mut buffer = [0; 2 * LONGEST];
        let length = files::read(reader.as_fd(), &mut buffer).expect("readable");
        buffer[..length].to_vec()
    }

    #[test]
    fn every_step_arrives_as_it_was_sent() {
        for step in Step::ALL {
            let bytes = sent(Failure {
                step: *step,
                errno: Errno(libc::EPERM),
                path: c"/some/where",
            });
            let Progress::Failed(error) = read(&bytes, true) else {
                panic!("{step:?} did not arrive");
            };
            assert_eq!(error.step, Some(*step));
            assert_eq!(error.errno, Errno(libc::EPERM));
            assert_eq!(error.path, "/some/where");
        }
    }

    #[test]
    fn a_program_has_taken_over_only_after_ready_and_the_end() {
        assert_eq!(read(b"", false), Progress::SettingUp);
        assert_eq!(read(b"+", false), Progress::SettingUp);
        assert_eq!(read(b"+", true), Progress::Running);
        let Progress::Failed(killed) = read(b"", true) else {
            panic!("killed on the way");
        };
        assert_eq!(killed.step, None);
    }

    #[test]
    fn a_failed_exec_is_a_sentence_that_says_what_to_do() {
        let long = std::ffi::CString::new("/x".repeat(400)).expect("no NUL");
        let failure = |path| Failure {
            step: Step::Exec,
            errno: Errno(libc::ENOENT),
            path,
        };
        let mut bytes = vec![READY];
        bytes.extend(sent(failure(&long)));
        assert!(bytes.len() <= LONGEST);
        assert!(matches!(read(&bytes, true), Progress::Failed(_)));
        let Progress::Failed(error) = read(&sent(failure(c"/bin/web")), true) else {
            panic!("failed");
        };
        assert_eq!(
            error.to_string(),
            "executing /bin/web failed: No such file or directory (os error 2); the image lacks \
             this program, or the interpreter that it names"
        );
    }

    #[test]
    fn nonsense_on_the_pipe_is_a_failure_and_no_panic() {
        for bytes in [&b"x"[..], b"-", b"-\xff", b"++", b"-\xffabcd"] {
            assert!(
                matches!(read(bytes, true), Progress::Failed(_)),
                "{bytes:?}"
            );
        }
    }
}
