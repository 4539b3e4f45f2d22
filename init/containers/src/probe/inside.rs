//! Probes by a program inside the container: started with the container's confinement in a
//! cgroup of its own, watched by a process that has given up its privileges, and killed with all
//! that it started when its time is over.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::answer::printable;
use super::confine;
use crate::launch::{self, Child, Streams};
use crate::plan::Plan;
use crate::report::Progress;
use crate::sys::process::{self, Cloned, Ended};
use crate::sys::{At, Errno, files};

/// How long killed processes may take to disappear (`health::GRACE_US` is longer); after that the
/// container's first process inherits them.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// How much of the end of the output is kept, and how much of its last line is told.
const KEPT: usize = 1024;
const TOLD: usize = 120;

/// How long until killed processes are looked for again.
const PAUSE_MS: i32 = 2;

/// Where [`enter`] returned.
pub(super) enum Place {
    /// In the caller, when all is over.
    Outside,
    /// In a new process.
    Inside,
}

/// Makes a process among those of the container, which inherits the orphans of what it starts:
/// the container's first process need not know how to reap, and would keep them for ever.
pub(super) fn enter(container: BorrowedFd<'_>, plan: &Plan) -> Result<Place, String> {
    // Everything from here on inherits it.
    std::fs::write("/proc/self/oom_score_adj", plan.oom_score_adj.to_string())
        .map_err(|why| format!("writing /proc/self/oom_score_adj failed: {why}"))?;
    process::join(container, libc::CLONE_NEWPID as u64)
        .map_err(failed("joining the container's processes"))?;
    match process::clone(0, None).map_err(failed("entering the container"))? {
        Cloned::Child => {
            process::inherit_orphans().map_err(failed("inheriting orphans"))?;
            Ok(Place::Inside)
        }
        Cloned::Parent { pidfd, .. } => {
            confine::inside().map_err(failed("giving up privileges"))?;
            match wait_for(pidfd.as_fd()).map_err(failed("waiting for the probe"))? {
                Ended::Exited(_) => Ok(Place::Outside),
                Ended::Signaled(_) => Err("the container ended while it was asked".to_owned()),
            }
        }
    }
}

fn wait_for(child: BorrowedFd<'_>) -> Result<Ended, Errno> {
    loop {
        if let Some(ended) = process::reap(child)? {
            return Ok(ended);
        }
        let mut polled = [libc::pollfd {
            fd: child.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        }];
        match files::poll(&mut polled, -1) {
            Ok(_) | Err(Errno(libc::EINTR)) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn failed(doing: &'static str) -> impl FnOnce(Errno) -> String {
    move |errno| format!("{doing} failed: {errno}")
}

/// Runs the program of `plan` and waits for its end.
pub(super) fn ask(
    plan: &Plan,
    timeout: Duration,
    container: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
) -> Result<(), String> {
    let deadline = Instant::now() + timeout;
    let mut watched = start(plan, container, cgroup)?;
    let ended = confine::inside()
        .map_err(failed("giving up privileges"))
        .and_then(|()| watched.wait(deadline));
    // What it left in the background does not outlive it either.
    let _ = files::write(watched.kill.as_fd(), b"1");
    let name = plan.process.program().to_string_lossy();
    let verdict = match ended? {
        Some(Ended::Exited(0)) => Ok(()),
        Some(how) => Err(watched.verdict(&name, how)),
        None => {
            let words = watched.last_words();
            Err(format!(
                "{name} did not end within {} ms and was killed{words}",
                timeout.as_millis(),
            ))
        }
    };
    reap_all(Instant::now() + KILL_TIMEOUT);
    verdict
}

/// Waits until everything that was killed is gone.
fn reap_all(deadline: Instant) {
    while Instant::now() < deadline {
        match process::reap_any() {
            Ok(true) => {}
            Ok(false) => {
                let _ = files::poll(&mut [], PAUSE_MS);
            }
            Err(_) => return, // nobody is left
        }
    }
}

/// A program that runs inside.
struct Watched {
    child: Child,
    /// Until everyone has closed it.
    output: Option<OwnedFd>,
    /// Where its cgroup is killed.
    kill: OwnedFd,
    /// The end of what it wrote.
    kept: Vec<u8>,
}

fn start(
    plan: &Plan,
    container: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
) -> Result<Watched, String> {
    let kill = files::open(At::Dir(cgroup), c"cgroup.kill", libc::O_WRONLY, 0)
        .map_err(failed("opening the probe's cgroup"))?;
    let (output, written) = launch::output_pipe(plan).map_err(failed("making a pipe"))?;
    // The program may read its own output and empty the pipe between poll and read.
    files::never_wait(output.as_fd()).map_err(failed("making a pipe that never waits"))?;
    let null = launch::null().map_err(failed("opening /dev/null"))?;
    let streams = Streams {
        stdin: null.as_fd(),
        stdout: written.as_fd(),
        stderr: written.as_fd(),
    };
    let child = launch::inside(plan, container, &streams, cgroup).map_err(|why| why.to_string())?;
    Ok(Watched {
        child,
        output: Some(output),
        kill,
        kept: Vec::new(),
    })
}

impl Watched {
    /// Reads its output until it ends; `None` when it has not by the deadline.
    fn wait(&mut self, deadline: Instant) -> Result<Option<Ended>, String> {
        let doing = "waiting for the program";
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.poll(left).map_err(failed(doing))? {
                self.read();
            }
            if let Some(ended) = process::reap(self.child.pidfd()).map_err(failed(doing))? {
                self.read_rest();
                return Ok(Some(ended));
            }
            if left.is_zero() {
                return Ok(None);
            }
        }
    }

    /// Waits for its end or its output; whether there is output to read.
    fn poll(&self, timeout: Duration) -> Result<bool, Errno> {
        let polled = |fd: i32| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // A negative number is passed over.
        let output = self.output.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let mut both = [polled(self.child.pidfd().as_raw_fd()), polled(output)];
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        match files::poll(&mut both, timeout_ms) {
            Ok(_) | Err(Errno(libc::EINTR)) => {}
            Err(errno) => return Err(errno),
        }
        let [_, output] = both;
        Ok(output.revents != 0)
    }

    /// Reads once, when there is something or the end.
    fn read(&mut self) {
        let Some(output) = &self.output else {
            return;
        };
        let mut buffer = [0; 4096];
        let count = match files::read(output.as_fd(), &mut buffer) {
            Ok(count @ 1..) => count,
            Err(Errno(libc::EAGAIN)) => return,
            Ok(0) | Err(_) => {
                self.output = None;
                return;
            }
        };
        self.kept
            .extend_from_slice(buffer.get(..count).unwrap_or_default());
        let too_much = self.kept.len().saturating_sub(KEPT);
        self.kept.drain(..too_much);
    }

    /// Reads what it wrote last; what it left in the background may write for ever.
    fn read_rest(&mut self) {
        /// A full pipe.
        const MOST_READS: usize = 16;
        for _ in 0..MOST_READS {
            match self.poll(Duration::ZERO) {
                Ok(true) => self.read(),
                Ok(false) | Err(_) => return,
            }
        }
    }

    fn verdict(&mut self, name: &str, how: Ended) -> String {
        if let Progress::Failed(why) = self.child.progress() {
            return why.to_string();
        }
        let words = self.last_words();
        match how {
            Ended::Exited(status) => format!("{name} exited with status {status}{words}"),
            Ended::Signaled(signal) => format!("{name} was ended by signal {signal}{words}"),
        }
    }

    /// The last line of its output, behind a colon.
    fn last_words(&self) -> String {
        let line = last_line(&self.kept);
        match line.is_empty() {
            true => line,
            false => format!(": {line}"),
        }
    }
}

/// The last line that is not empty, as printable text.
fn last_line(output: &[u8]) -> String {
    let mut lines = output.rsplit(|byte| *byte == b'\n');
    let line = lines.find(|line| !line.trim_ascii().is_empty());
    printable(line.unwrap_or_default().trim_ascii(), TOLD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_told_without_what_could_hurt_a_console() {
        assert_eq!(last_line(b""), "");
        assert_eq!(last_line(b"\n \n"), "");
        assert_eq!(last_line(b"one\ntwo\n\n"), "two");
        assert_eq!(last_line(b"a\x1b[2J\tb\r\n"), "a?[2J b");
        assert_eq!(last_line(&[0xff; 4096]).len(), TOLD);
    }
}
