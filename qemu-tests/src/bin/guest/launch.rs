//! One more container by Berth's runtime, as PID 1 starts one: its cgroup with its limits, the
//! launch, the wait, the cgroup's end.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use berth_containers::launch::{self, Launch, Native, Streams};
use berth_containers::plan::Plan;
use berth_containers::report::Progress;
use berth_containers::spec::Container;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// Where the container's cgroup is made.
const CGROUP: &str = "/sys/fs/cgroup/launched";

/// What PID 1 has at hand when it starts a container.
pub(crate) struct Launcher {
    container: Container,
    plan: Plan,
    null: OwnedFd,
}

/// A container's description as the builder writes it into `machine.json`.
pub(crate) fn description(path: &str) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("reading {path}: {error}"))
}

impl Launcher {
    /// Reads a description and makes the plan of it, as PID 1 does when the machine starts.
    pub(crate) fn new(description: &[u8]) -> Result<Self, String> {
        let container: Container = serde_json::from_slice(description)
            .map_err(|error| format!("reading the container: {error}"))?;
        Ok(Self {
            plan: Plan::new(&container).map_err(|error| error.to_string())?,
            container,
            null: launch::null().map_err(|errno| format!("opening /dev/null: {errno}"))?,
        })
    }

    /// Starts the container and waits for its end.
    pub(crate) fn run(&self) -> Result<(), String> {
        make_cgroup(&self.container)?;
        let cgroup = fs::File::open(CGROUP).map_err(|error| format!("{CGROUP}: {error}"))?;
        let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
        let streams = Streams {
            stdin: self.null.as_fd(),
            stdout: stdout.as_fd(),
            stderr: stderr.as_fd(),
        };
        let launched = Native.launch(&self.plan, &streams, Some(cgroup.as_fd()));
        let mut child = launched.map_err(|error| error.to_string())?;
        let status = waitpid(Pid::from_raw(child.pid()), None);
        let status = status.map_err(|error| format!("waitpid: {error}"))?;
        if let Progress::Failed(error) = child.progress() {
            return Err(error.to_string());
        }
        fs::remove_dir(CGROUP).map_err(|error| format!("removing {CGROUP}: {error}"))?;
        match status {
            WaitStatus::Exited(_, 0) => Ok(()),
            other => Err(format!("the container ended with {other:?}")),
        }
    }
}

fn make_cgroup(container: &Container) -> Result<(), String> {
    fs::create_dir(CGROUP).map_err(|error| format!("making {CGROUP}: {error}"))?;
    let resources = container.oci.linux.resources.iter();
    for (file, value) in resources.flat_map(|resources| &resources.unified) {
        let path = Path::new(CGROUP).join(file);
        fs::write(&path, value).map_err(|error| format!("writing {}: {error}", path.display()))?;
    }
    Ok(())
}
