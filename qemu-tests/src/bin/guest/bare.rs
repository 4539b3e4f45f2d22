//! The least that can be called starting a container: the system calls, nothing around them.
//!
//! clone3 with new namespaces, the root bound to itself and pivoted to, exec, wait. No limits, no
//! capabilities dropped, no filter: the floor that a runtime is compared with.

use std::ffi::CString;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, chdir, execve};

use crate::sys;

/// Runs a program in a root of its own to its end.
pub(crate) fn run(root: &str, program: &str, arguments: &[&str]) -> Result<(), String> {
    let mut words = Vec::new();
    for word in std::iter::once(&program).chain(arguments) {
        words.push(CString::new(*word).map_err(|_| format!("{word:?} has a zero byte"))?);
    }
    let pid = sys::clone_into_namespaces().map_err(|error| format!("clone3: {error}"))?;
    if pid == 0 {
        let stopped = enter(root, &words);
        println!("guest: error : {stopped}");
        std::process::exit(127);
    }
    let status = waitpid(Pid::from_raw(pid), None).map_err(|error| format!("waitpid: {error}"))?;
    match status {
        nix::sys::wait::WaitStatus::Exited(_, 0) => Ok(()),
        other => Err(format!("{program} ended with {other:?}")),
    }
}

/// In the child; returns only what went wrong.
fn enter(root: &str, words: &[CString]) -> String {
    const NONE: Option<&str> = None;
    let steps = || -> nix::Result<()> {
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(NONE, "/", NONE, private, NONE)?;
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(root), root, NONE, bind, NONE)?;
        chdir(root)?;
        sys::pivot_here()?;
        umount2(".", MntFlags::MNT_DETACH)?;
        chdir("/")
    };
    if let Err(error) = steps() {
        return format!("entering {root}: {error}");
    }
    let Some(program) = words.first() else {
        return "no program".into();
    };
    match execve::<_, CString>(program, words, &[]) {
        Ok(never) => match never {},
        Err(error) => format!("exec {program:?}: {error}"),
    }
}
