//! Launching a container: PID 1's part.
//!
//! The child is made by clone, not by executing another program: PID 1 has one thread, so its
//! copy may go on by itself (docs/decisions/launch-without-exec.md). What needs the machine's
//! privilege happens here, before the clone or while the child waits to be admitted; nothing here
//! waits for the child.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use crate::child::{self, Inherited, Inside};
use crate::devices;
use crate::mounts::Source;
use crate::plan::Plan;
use crate::report::{self, Progress};
use crate::sys::process::{Cloned, Signals};
use crate::sys::{At, Errno, files, mounts as api, process};

/// Something that starts containers.
pub trait Launch {
    /// Starts a container's first process as a direct child of the caller, into `cgroup` (an
    /// open cgroup v2 directory).
    ///
    /// Only the caller waits for the child. It may still fail to become the container's program:
    /// [`Child::progress`] tells.
    ///
    /// # Errors
    /// When no child could be made, or it could not be admitted (it is killed then, and has to be
    /// reaped like any orphan).
    fn launch(
        &self,
        plan: &Plan,
        streams: &Streams<'_>,
        cgroup: Option<BorrowedFd<'_>>,
    ) -> Result<Child, LaunchError>;
}

/// The standard streams of a container's first process. Their descriptors must not be 0, 1 or 2,
/// except in their own places.
#[derive(Clone, Copy, Debug)]
pub struct Streams<'a> {
    /// Standard input.
    pub stdin: BorrowedFd<'a>,
    /// Standard output.
    pub stdout: BorrowedFd<'a>,
    /// Standard error.
    pub stderr: BorrowedFd<'a>,
}

/// Why a container was not launched.
#[derive(Debug, thiserror::Error)]
#[error("container {container} was not launched: {doing} failed: {errno}")]
pub struct LaunchError {
    container: String,
    doing: String,
    errno: Errno,
}

/// Berth's own runtime: the kernel, and nothing between.
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

impl Launch for Native {
    fn launch(
        &self,
        plan: &Plan,
        streams: &Streams<'_>,
        cgroup: Option<BorrowedFd<'_>>,
    ) -> Result<Child, LaunchError> {
        let failed = |(doing, errno): (String, Errno)| LaunchError {
            container: plan.name.clone(),
            doing,
            errno,
        };
        let pipe = |flags| files::pipe(flags).map_err(|errno| ("making a pipe".into(), errno));
        let (admission, admit) = pipe(0).map_err(failed)?;
        let (reports, report) = pipe(libc::O_NONBLOCK).map_err(failed)?;
        let inherited = Inherited {
            ignored_signals: ignored_signals()
                .map_err(|errno| failed(("asking which signals are ignored".into(), errno)))?,
            admission,
            report,
            image: plan
                .root
                .prepare()
                .map_err(|errno| (format!("opening {}", shown(&plan.root.path)), errno))
                .map_err(failed)?,
            mounts: prepare_mounts(plan).map_err(failed)?,
        };
        let cloned = process::clone(plan.namespaces.flags, cgroup)
            .map_err(|errno| failed(("clone".into(), errno)))?;
        let Cloned::Parent { pid, pidfd } = cloned else {
            // The end of the admission pipe must come when PID 1 closes it.
            drop((admit, reports));
            child::run(plan, &inherited, streams);
        };
        let child = Child::new(pid, pidfd, reports);
        if let Err(why) = admit_child(plan, pid, &inherited, admit.as_fd()) {
            // It is waiting and can do nothing else; should the signal fail, the pipe's end comes.
            let _ = child.signal(libc::SIGKILL);
            return Err(failed(why));
        }
        Ok(child)
    }
}

/// Starts a further process in a running container: in its namespaces, as its user, with its
/// limits and its confinement, into `cgroup`. `container` is a pidfd of its first process.
///
/// To be called by a process with one thread whose children are born into the container's pid
/// namespace.
///
/// # Errors
/// When no child could be made.
pub(crate) fn inside(
    plan: &Plan,
    container: BorrowedFd<'_>,
    streams: &Streams<'_>,
    cgroup: BorrowedFd<'_>,
) -> Result<Child, LaunchError> {
    let failed = |doing: &'static str| {
        move |errno| LaunchError {
            container: plan.name.clone(),
            doing: doing.to_owned(),
            errno,
        }
    };
    let ignored_signals = ignored_signals().map_err(failed("asking which signals are ignored"))?;
    let (reports, report) = files::pipe(libc::O_NONBLOCK).map_err(failed("making a pipe"))?;
    match process::clone(0, Some(cgroup)).map_err(failed("clone"))? {
        Cloned::Parent { pid, pidfd } => Ok(Child::new(pid, pidfd, reports)),
        Cloned::Child => {
            let inside = Inside {
                ignored_signals,
                container,
                report: report.as_fd(),
            };
            child::run_inside(plan, &inside, streams)
        }
    }
}

/// The signals that this process ignores: asked once, for nothing here changes them later.
fn ignored_signals() -> Result<Signals, Errno> {
    static IGNORED: OnceLock<Signals> = OnceLock::new();
    match IGNORED.get() {
        Some(ignored) => Ok(*ignored),
        None => process::ignored_signals().map(|asked| *IGNORED.get_or_init(|| asked)),
    }
}

/// Makes the mounts that need the machine's privilege.
fn prepare_mounts(plan: &Plan) -> Result<Vec<Option<OwnedFd>>, (String, Errno)> {
    // Device nodes get exactly the permissions that they are made with.
    let umask = process::set_umask(0);
    let prepared = prepare_each_mount(plan);
    process::set_umask(umask);
    prepared
}

fn prepare_each_mount(plan: &Plan) -> Result<Vec<Option<OwnedFd>>, (String, Errno)> {
    let owner = plan.namespaces.outer_uid(0).unwrap_or(0);
    let group = plan.namespaces.outer_gid(0).unwrap_or(0);
    let prepare = |mount: &crate::mounts::Mount| {
        let doing = |what: &str| format!("{what} {}", shown(&mount.destination));
        let prepared = mount
            .prepare()
            .map_err(|errno| (doing("preparing the mount at"), errno))?;
        if let (Some(dev), true) = (&prepared, mount.is_dev()) {
            devices::make_default_nodes(dev.as_fd())
                .map_err(|errno| (doing("making device nodes in"), errno))?;
            for device in &plan.devices {
                device
                    .make_node(dev.as_fd(), (owner, group))
                    .map_err(|errno| (format!("making {}", shown(device.path())), errno))?;
            }
        }
        Ok(prepared)
    };
    plan.mounts.iter().map(prepare).collect()
}

/// Does for a waiting child what it may not do itself, and lets it go on.
fn admit_child(
    plan: &Plan,
    pid: i32,
    inherited: &Inherited,
    admit: BorrowedFd<'_>,
) -> Result<(), (String, Errno)> {
    if let Some(ids) = &plan.namespaces.ids {
        write_proc(pid, "uid_map", &ids.uid_map())?;
        write_proc(pid, "gid_map", &ids.gid_map())?;
        map_ids(plan, pid, inherited)?;
    }
    write_proc(pid, "oom_score_adj", &plan.oom_score_adj.to_string())?;
    for limit in &plan.limits {
        process::limit(pid, limit.resource, limit.soft_before_exec(), limit.hard)
            .map_err(|errno| ("setting a resource limit".to_owned(), errno))?;
    }
    files::write(admit, b"!")
        .map(|_| ())
        .map_err(|errno| ("admitting the child".to_owned(), errno))
}

/// Shows the image, and the binds that ask for it, with the container's ids. The child has the
/// same detached mounts; they change for both.
fn map_ids(plan: &Plan, pid: i32, inherited: &Inherited) -> Result<(), (String, Errno)> {
    let path = format!("/proc/{pid}/ns/user");
    let opened = std::ffi::CString::new(path.as_str())
        .map_err(|_| Errno(libc::EINVAL))
        .and_then(|path| files::open(At::Cwd, &path, libc::O_RDONLY, 0));
    let namespace = opened.map_err(|errno| (format!("opening {path}"), errno))?;
    api::map_ids(inherited.image.as_fd(), namespace.as_fd()).map_err(|errno| {
        (
            format!("mapping the ids of {}", shown(&plan.root.path)),
            errno,
        )
    })?;
    for (mount, prepared) in plan.mounts.iter().zip(&inherited.mounts) {
        if let (Source::Copy { map_ids: true, .. }, Some(prepared)) = (&mount.source, prepared) {
            api::map_ids(prepared.as_fd(), namespace.as_fd()).map_err(|errno| {
                (
                    format!("mapping the ids of {}", shown(&mount.destination)),
                    errno,
                )
            })?;
        }
    }
    Ok(())
}

fn write_proc(pid: i32, file: &str, text: &str) -> Result<(), (String, Errno)> {
    let path = format!("/proc/{pid}/{file}");
    std::fs::write(&path, text).map_err(|error| {
        let errno = Errno(error.raw_os_error().unwrap_or(libc::EIO));
        (format!("writing {path}"), errno)
    })
}

fn shown(path: &std::ffi::CStr) -> std::borrow::Cow<'_, str> {
    path.to_string_lossy()
}

/// The first process of a container.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    pidfd: OwnedFd,
    reports: Option<OwnedFd>,
    received: Vec<u8>,
    outcome: Progress,
}

impl Child {
    fn new(pid: i32, pidfd: OwnedFd, reports: OwnedFd) -> Self {
        Self {
            pid,
            pidfd,
            reports: Some(reports),
            received: Vec::new(),
            outcome: Progress::SettingUp,
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A descriptor that becomes readable when it has ended.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// A descriptor that becomes readable when [`Child::progress`] has something to read; none
    /// once its outcome is known.
    #[must_use]
    pub fn reports(&self) -> Option<BorrowedFd<'_>> {
        self.reports.as_ref().map(AsFd::as_fd)
    }

    /// Reads how far it has come; never waits. To be called a last time after the child was
    /// reaped: whatever it had to say is there by then.
    pub fn progress(&mut self) -> &Progress {
        while let Some(reports) = &self.reports {
            let mut buffer = [0; report::LONGEST];
            let ended = match files::read(reports.as_fd(), &mut buffer) {
                Ok(0) => true,
                Ok(count) => {
                    let room = report::LONGEST.saturating_sub(self.received.len());
                    let part = buffer.get(..count.min(room)).unwrap_or_default();
                    self.received.extend_from_slice(part);
                    false
                }
                Err(Errno(libc::EAGAIN)) => break,
                Err(_) => true,
            };
            self.outcome = report::read(&self.received, ended);
            if ended {
                self.reports = None;
            }
        }
        &self.outcome
    }

    /// Sends it a signal; that it has ended already is no error.
    ///
    /// # Errors
    /// What the kernel says, for instance that there is no such signal.
    pub fn signal(&self, signal: i32) -> Result<(), Errno> {
        match process::signal(self.pidfd.as_fd(), signal) {
            Err(Errno(libc::ESRCH)) => Ok(()),
            other => other,
        }
    }
}

/// A pipe for a container's standard output or error: (read, write).
///
/// It belongs to the container's user, who may then open `/dev/stdout` again (web servers log
/// there by name). PID 1 keeps both ends as long as the container exists.
///
/// # Errors
/// When there are no descriptors left.
pub fn output_pipe(plan: &Plan) -> Result<(OwnedFd, OwnedFd), Errno> {
    let (read, write) = files::pipe(0)?;
    let (uid, gid) = plan.owner();
    files::chown(write.as_fd(), uid, gid)?;
    Ok((read, write))
}

/// Opens `/dev/null` for a container's standard input.
///
/// # Errors
/// When it cannot be opened or is not the null device.
pub fn null() -> Result<OwnedFd, Errno> {
    let null = devices::open_null()?;
    debug_assert!(null.as_raw_fd() > 2, "standard streams must be open");
    Ok(null)
}
