//! The cgroup tree: `/init` for PID 1, `/system/*` for its roles, `/containers/*` for the rest.
//!
//! cgroup v2 allows no process in a group that hands controllers on, so PID 1 moves into its own
//! leaf first.

use std::fs::File;
use std::os::fd::OwnedFd;

use berth_containers::spec::Resources;

use crate::failure::{Doing, Failure};
use crate::mounts::write_kernel_file;

const ROOT: &str = "/sys/fs/cgroup";
const CONTROLLERS: [&str; 4] = ["+cpu", "+memory", "+pids", "+io"];
/// What all roles together keep when containers fill the memory (measured use is far less).
const SYSTEM_MEMORY_MIN: &str = "8M";

/// Makes the tree and moves PID 1 into its leaf.
pub(crate) fn make_tree() -> Result<(), Failure> {
    for group in ["init", "system", "containers"] {
        let path = format!("{ROOT}/{group}");
        std::fs::create_dir(&path).doing(|| format!("make the cgroup {path}"))?;
    }
    write_kernel_file(&format!("{ROOT}/init/cgroup.procs"), "0")?;
    enable_controllers(ROOT)?;
    enable_controllers(&format!("{ROOT}/system"))?;
    enable_controllers(&format!("{ROOT}/containers"))?;
    write_kernel_file(&format!("{ROOT}/system/memory.min"), SYSTEM_MEMORY_MIN)
}

/// Makes the cgroup of one role and gives its directory, to start the role in.
pub(crate) fn role(name: &str) -> Result<OwnedFd, Failure> {
    make(&format!("{ROOT}/system/{name}"))
}

/// Makes the cgroup of one role and sets its limits: files of cgroup v2 and their values.
pub(crate) fn limit_role(name: &str, limits: &[(&str, &str)]) -> Result<(), Failure> {
    role(name)?;
    for (file, value) in limits {
        write_kernel_file(&format!("{ROOT}/system/{name}/{file}"), value)?;
    }
    Ok(())
}

/// Makes the cgroup of a container, if it is not there, sets its limits and gives its directory.
pub(crate) fn container(name: &str, limits: Option<&Resources>) -> Result<OwnedFd, Failure> {
    let path = format!("{ROOT}/containers/{name}");
    let group = make(&path)?;
    for (file, value) in limits.iter().flat_map(|limits| &limits.unified) {
        write_kernel_file(&format!("{path}/{file}"), value)?;
    }
    Ok(group)
}

/// Makes an empty cgroup for a probe's program below a container's and gives its directory.
///
/// It is a new one each time: a kernel may kill what is cloned into a cgroup that was ever killed
/// (seen with 6.18.44; 6.12.117 does not).
pub(crate) fn probe(container: &str) -> Result<OwnedFd, Failure> {
    let path = probe_path(container);
    // Not there, or not empty yet: making it or cloning into it will tell.
    let _ = std::fs::remove_dir(&path);
    make(&path)
}

/// Kills what a container's probe started.
pub(crate) fn kill_probe(container: &str) -> Result<(), Failure> {
    write_kernel_file(&format!("{}/cgroup.kill", probe_path(container)), "1")
}

fn probe_path(container: &str) -> String {
    format!("{ROOT}/containers/{container}/berth-probe")
}

/// Kills every process in a container at once.
pub(crate) fn kill_container(name: &str) -> Result<(), Failure> {
    write_kernel_file(&format!("{ROOT}/containers/{name}/cgroup.kill"), "1")
}

fn make(path: &str) -> Result<OwnedFd, Failure> {
    match std::fs::create_dir(path) {
        Ok(()) => {}
        Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(why) => return Err(why).doing(|| format!("make the cgroup {path}")),
    }
    File::open(path)
        .map(OwnedFd::from)
        .doing(|| format!("open the cgroup {path}"))
}

/// A kernel without one of the controllers still gets the others: limits that need the missing
/// one are refused where they are set.
fn enable_controllers(group: &str) -> Result<(), Failure> {
    let path = format!("{group}/cgroup.subtree_control");
    if write_kernel_file(&path, &CONTROLLERS.join(" ")).is_ok() {
        return Ok(());
    }
    let refused: Vec<&str> = CONTROLLERS
        .into_iter()
        .filter(|controller| write_kernel_file(&path, controller).is_err())
        .collect();
    Err(Failure::new(format!(
        "the kernel refused {} in {path}: limits of that kind do not work",
        refused.join(" ")
    )))
}
