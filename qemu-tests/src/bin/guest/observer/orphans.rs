//! Children that nobody waits for, of the kinds that test-suites of inits use: each ends up with
//! PID 1, which has to reap it.

use std::process::exit;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, getppid, pipe, read, setsid};

use crate::sys::fork;

/// How long PID 1 may take to become a parent or to reap.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);

/// A parent whose children have all ended, unreaped, ends: PID 1 inherits that many zombies in
/// one go. Says how long they took to be gone.
pub(crate) fn at_once(count: u32) -> Result<String, String> {
    let before = children_of_init()?;
    let parent = start(|| {
        let Ok((alive, mine)) = pipe() else { return 1 };
        for number in 0..count {
            match fork() {
                Ok(ForkResult::Child) => exit((number % 256) as i32),
                Ok(ForkResult::Parent { .. }) => {}
                Err(_) => return 2,
            }
        }
        // The end comes when the last of them has let go of its copy: all have ended, and nobody
        // has waited for any.
        drop(mine);
        match read(&alive, &mut [0]) {
            Ok(0) => 0,
            _ => 3,
        }
    })?;
    match waitpid(parent, None) {
        Ok(WaitStatus::Exited(_, 0)) => {}
        other => return Err(format!("making {count} zombies ended with {other:?}")),
    }
    let started = Instant::now();
    until_init_is_left_with(before)?;
    Ok(format!("reaped_ms={}", started.elapsed().as_millis()))
}

/// Children of children that were left alone while they ran, and end one by one.
pub(crate) fn double_forked(count: u32) -> Result<String, String> {
    let before = children_of_init()?;
    for number in 0..count {
        let parent = start(|| match fork() {
            Ok(ForkResult::Child) => {
                // Not before PID 1 is the parent; then by exit or by a signal in turn.
                while getppid() != Pid::from_raw(1) {
                    sleep(PAUSE);
                }
                if number % 2 == 0 {
                    exit(7);
                }
                let _ = crate::sys::kill(std::process::id() as i32, libc::SIGKILL);
                exit(8)
            }
            Ok(ForkResult::Parent { .. }) => 0,
            Err(_) => 1,
        })?;
        match waitpid(parent, None) {
            Ok(WaitStatus::Exited(_, 0)) => {}
            other => return Err(format!("the parent of an orphan ended with {other:?}")),
        }
    }
    until_init_is_left_with(before)?;
    Ok(String::new())
}

/// An orphan in a session of its own with a process group of its own, ended by a signal to the
/// group: each member is reaped, and nobody outside it is hit.
pub(crate) fn in_groups_of_their_own() -> Result<String, String> {
    let before = children_of_init()?;
    let leader = start(|| {
        if setsid().is_err() {
            return 1;
        }
        for _ in 0..4 {
            match fork() {
                Ok(ForkResult::Child) => sleep(PATIENCE * 10),
                Ok(ForkResult::Parent { .. }) => {}
                Err(_) => return 1,
            }
        }
        0
    })?;
    match waitpid(leader, None) {
        Ok(WaitStatus::Exited(_, 0)) => {}
        other => return Err(format!("the leader ended with {other:?}")),
    }
    if children_of_init()? != before + 4 {
        return Err("PID 1 did not inherit the four members of the group".into());
    }
    crate::sys::kill(-leader.as_raw(), libc::SIGTERM)
        .map_err(|errno| format!("signalling the group: {errno}"))?;
    until_init_is_left_with(before)?;
    Ok(String::new())
}

/// Forks a process that does the work and ends with the status it gives.
fn start(work: impl FnOnce() -> i32) -> Result<Pid, String> {
    match fork().map_err(|errno| format!("fork: {errno}"))? {
        ForkResult::Child => exit(work()),
        ForkResult::Parent { child } => Ok(child),
    }
}

/// Waits until PID 1 has no more children, ended or not, than it had.
fn until_init_is_left_with(before: usize) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    loop {
        let now = children_of_init()?;
        if now <= before {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(format!("PID 1 has {now} children, {before} before"));
        }
        sleep(PAUSE);
    }
}

fn children_of_init() -> Result<usize, String> {
    Ok(super::processes::children(1)?.lines().count())
}
