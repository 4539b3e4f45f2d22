//! The child between clone and exec: it sets itself up step by step and becomes the container's
//! program.
//!
//! It runs on a copy of PID 1's memory, so it must not allocate, take locks, unwind or touch
//! anything but its plan and the descriptors that were made for it. In a container with a user
//! namespace it never has a privilege over the machine: what needs one PID 1 has done or does
//! from outside while the child waits.

use std::convert::Infallible;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::plan::Plan;
use crate::report::{Failure, READY, Step};
use crate::rootfs::{self, Mask};
use crate::sys::process::Signals;
use crate::sys::{At, EMPTY, Errno, files, mounts, process};
use crate::{devices, launch};

/// The exit status of a child that could not be set up, should anyone look (as in sh(1): 126).
const NOT_SET_UP: i32 = 126;

/// What was made for the child, and what it has to get rid of.
pub(crate) struct Inherited {
    /// Signals that PID 1 ignores.
    pub(crate) ignored_signals: Signals,
    /// One byte comes when PID 1 has done its part; the end when it could not.
    pub(crate) admission: OwnedFd,
    /// Where the report goes.
    pub(crate) report: OwnedFd,
    /// The image, detached.
    pub(crate) image: OwnedFd,
    /// One for each mount of the plan, where PID 1 had to make it.
    pub(crate) mounts: Vec<Option<OwnedFd>>,
}

/// What was made for a further process of a running container.
pub(crate) struct Inside<'a> {
    /// Signals that its parent ignores.
    pub(crate) ignored_signals: Signals,
    /// A pidfd of the container's first process.
    pub(crate) container: BorrowedFd<'a>,
    /// Where the report goes.
    pub(crate) report: BorrowedFd<'a>,
}

/// Enters a running container and runs a further program in it. Never returns.
pub(crate) fn run_inside(plan: &Plan, inside: &Inside<'_>, streams: &launch::Streams<'_>) -> ! {
    let Err(failure) = enter(plan, inside, streams);
    failure.send(inside.report);
    process::exit(NOT_SET_UP)
}

fn enter<'a>(
    plan: &'a Plan,
    inside: &Inside<'_>,
    streams: &launch::Streams<'_>,
) -> Result<Infallible, Failure<'a>> {
    // The container's own root could look into this process from now on: what it holds open is
    // the machine's.
    process::hide().map_err(failed(Step::Hide))?;
    for limit in &plan.limits {
        process::limit(0, limit.resource, limit.soft, limit.hard).map_err(failed(Step::Limits))?;
    }
    process::join(inside.container, plan.namespaces.to_join()).map_err(failed(Step::Join))?;
    process::new_session().map_err(failed(Step::Session))?;
    process::new_session_keyring().map_err(failed(Step::Keyring))?;
    process::become_user(0, 0, &[]).map_err(failed(Step::RootUser))?;
    confine(plan, inside.ignored_signals, inside.report, streams)?;
    execute(plan, inside.report)
}

/// Sets the child up and runs its program. Never returns.
pub(crate) fn run(plan: &Plan, inherited: &Inherited, streams: &launch::Streams<'_>) -> ! {
    let Err(failure) = set_up(plan, inherited, streams);
    failure.send(inherited.report.as_fd());
    process::exit(NOT_SET_UP)
}

fn set_up<'a>(
    plan: &'a Plan,
    inherited: &Inherited,
    streams: &launch::Streams<'_>,
) -> Result<Infallible, Failure<'a>> {
    let mut admitted = [0];
    match files::read(inherited.admission.as_fd(), &mut admitted) {
        Ok(1) => {}
        Ok(_) => return Err(failed(Step::Admission)(Errno(libc::ECANCELED))),
        Err(errno) => return Err(failed(Step::Admission)(errno)),
    }
    process::new_session().map_err(failed(Step::Session))?;
    process::new_session_keyring().map_err(failed(Step::Keyring))?;
    // What the child makes from here on belongs to the container's root.
    process::become_user(0, 0, &[]).map_err(failed(Step::RootUser))?;
    if plan.namespaces.cgroup {
        process::new_cgroup_namespace().map_err(failed(Step::CgroupNamespace))?;
    }
    if let Some(name) = &plan.host_name {
        process::set_host_name(name).map_err(failed(Step::HostName))?;
    }
    if plan.namespaces.network {
        process::raise_loopback().map_err(failed(Step::Loopback))?;
    }
    process::set_umask(0);
    set_up_files(plan, inherited)?;
    let report = inherited.report.as_fd();
    confine(plan, inherited.ignored_signals, report, streams)?;
    execute(plan, report)
}

/// Says that everything is set up, and becomes the program.
fn execute<'a>(plan: &'a Plan, report: BorrowedFd<'_>) -> Result<Infallible, Failure<'a>> {
    let ready = files::write(report, &[READY]).map(|_| ());
    ready.map_err(failed(Step::Exec))?;
    Err(about(Step::Exec, plan.process.program())(
        plan.process.exec(),
    ))
}

/// The root, what is mounted in it, and what is hidden.
fn set_up_files<'a>(plan: &'a Plan, inherited: &Inherited) -> Result<(), Failure<'a>> {
    mounts::make_private().map_err(failed(Step::Propagation))?;
    let old = plan
        .root
        .enter(inherited.image.as_fd())
        .map_err(failed(Step::EnterRoot))?;
    for (mount, prepared) in plan.mounts.iter().zip(&inherited.mounts) {
        let prepared = prepared.as_ref().map(AsFd::as_fd);
        mount
            .attach(prepared)
            .map_err(about(Step::Mount, &mount.destination))?;
        if let (Some(dev), true) = (prepared, mount.is_dev()) {
            devices::make_links(dev).map_err(failed(Step::Links))?;
        }
    }
    let null = files::open(At::Cwd, c"/dev/null", libc::O_PATH, files::NO_SYMLINKS)
        .map_err(failed(Step::Null))?;
    let mut mask = Mask::new(null.as_fd());
    for path in &plan.masked {
        mask.hide(path).map_err(about(Step::Mask, path))?;
    }
    for path in &plan.protected {
        rootfs::protect(path).map_err(about(Step::Protect, path))?;
    }
    rootfs::leave_old_root(old.as_fd()).map_err(failed(Step::LeaveRoot))
}

/// Identity, privileges, streams: what the program finds when it starts.
fn confine<'a>(
    plan: &'a Plan,
    ignored_signals: Signals,
    report: BorrowedFd<'_>,
    streams: &launch::Streams<'_>,
) -> Result<(), Failure<'a>> {
    let program = &plan.process;
    connect(streams, report).map_err(failed(Step::Streams))?;
    for limit in plan.limits.iter().filter(|limit| limit.is_of_descriptors()) {
        process::limit(0, limit.resource, limit.soft, limit.hard)
            .map_err(failed(Step::Descriptors))?;
    }
    process::reset_signals(ignored_signals).map_err(failed(Step::Signals))?;
    process::set_umask(program.umask);
    if program.no_new_privileges {
        process::no_new_privileges().map_err(failed(Step::NoNewPrivileges))?;
    } else {
        // Without it the kernel wants CAP_SYS_ADMIN, which is about to go.
        attach_filter(plan)?;
    }
    let sets = &program.capabilities;
    sets.bound().map_err(failed(Step::Bounding))?;
    if (program.uid, program.gid, program.groups.as_slice()) != (0, 0, &[]) {
        process::become_user(program.uid, program.gid, &program.groups)
            .map_err(failed(Step::User))?;
    }
    // As the container's user, who may not see what root sees.
    process::change_directory(&program.directory)
        .map_err(about(Step::Directory, &program.directory))?;
    sets.take().map_err(failed(Step::Capabilities))?;
    if program.no_new_privileges {
        attach_filter(plan)?;
    }
    Ok(())
}

fn attach_filter<'a>(plan: &Plan) -> Result<(), Failure<'a>> {
    match &plan.filter {
        Some(filter) => filter.attach().map_err(failed(Step::Filter)),
        None => Ok(()),
    }
}

/// Standard streams at their numbers, and everything else closed, but the report until exec: with
/// what PID 1 holds for many containers, this one would be over its limit.
fn connect(streams: &launch::Streams<'_>, report: BorrowedFd<'_>) -> Result<(), Errno> {
    let numbered: [(BorrowedFd<'_>, i32); 3] =
        [(streams.stdin, 0), (streams.stdout, 1), (streams.stderr, 2)];
    for (stream, number) in numbered {
        files::copy_to(stream, number)?;
    }
    files::close_from_3_but(report)
}

fn failed<'a>(step: Step) -> impl FnOnce(Errno) -> Failure<'a> {
    about(step, EMPTY)
}

fn about<'a>(step: Step, path: &'a CStr) -> impl FnOnce(Errno) -> Failure<'a> {
    move |errno| Failure { step, errno, path }
}
