//! The cgroup tree: `/init` for PID 1, `/system/*` for its roles, `/containers/*` for the rest.
//!
//! cgroup v2 allows no process in a group that hands controllers on, so PID 1 moves into its own
//! leaf first.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use berth_containers::spec::Resources;

use crate::failure::{Doing, Failure};
use crate::mounts::write_kernel_file;

const ROOT: &str = "/sys/fs/cgroup";
const CONTROLLERS: [&str; 4] = ["+cpu", "+memory", "+pids", "+io"];
/// What all roles together keep when containers fill the memory (measured use is far less).
const SYSTEM_MEMORY_MIN: &str = "8M";
/// How often PID 1 tries to remove a cgroup at one start of a container, some 50 µs each: an
/// engine with hundreds of containers of its own needs fewer.
const MOST_TRIES: usize = 1024;

/// Makes the tree and moves PID 1 into its leaf.
pub(crate) fn make_tree() -> Result<(), Failure> {
    for group in ["init", "system", "containers"] {
        let path = format!("{ROOT}/{group}");
        fs::create_dir(&path).doing(|| format!("make the cgroup {path}"))?;
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

/// Makes the cgroup of a container, sets its limits and gives its directory.
pub(crate) fn container(name: &str, limits: Option<&Resources>) -> Result<OwnedFd, Failure> {
    let path = format!("{ROOT}/containers/{name}");
    let group = make_anew(&path)?;
    for (file, value) in limits.iter().flat_map(|limits| &limits.unified) {
        write_kernel_file(&format!("{path}/{file}"), value)?;
    }
    Ok(group)
}

/// Makes an empty cgroup for a probe's program below a container's and gives its directory.
///
/// It is a new one each time, as a container's is: a kernel may kill what is cloned into a cgroup
/// that was ever killed (seen with 6.18.44; 6.12.117 does not).
pub(crate) fn probe(container: &str) -> Result<OwnedFd, Failure> {
    let path = probe_path(container);
    // Not there, or not empty yet: making it or cloning into it will tell.
    let _ = fs::remove_dir(&path);
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

/// Makes a cgroup in the place of the one that the last run of a container left, if it did.
///
/// A container that handed controllers on has left children, and nothing can be cloned into their
/// parent. Its processes are gone when its first one was reaped, with their pid namespace. Should
/// the kernel still be busy with one, or there be too much to remove at once, the old cgroup is
/// used: most can be, and else clone says so and the next start removes more.
fn make_anew(path: &str) -> Result<OwnedFd, Failure> {
    let _ = remove(Path::new(path));
    make(path)
}

/// Removes a cgroup and those below it, as far as that is done in bounded time.
///
/// By path: there are no links in this file system, and nobody is left to change anything in it.
/// What is nested so deep that no path or no number of tries reaches it stays; only malice does
/// that, and only to itself.
fn remove(group: &Path) -> io::Result<()> {
    let mut waiting = vec![group.to_owned()];
    for _ in 0..MOST_TRIES {
        let Some(path) = waiting.last() else {
            return Ok(());
        };
        match fs::remove_dir(path) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => {
                let room = MOST_TRIES.saturating_sub(waiting.len()).max(1);
                let below = children(path, room)?;
                if below.is_empty() {
                    return Err(why); // a process is in it
                }
                waiting.extend(below);
            }
            _ => drop(waiting.pop()),
        }
    }
    Err(io::Error::other("there are too many cgroups"))
}

/// The cgroups right below one, at most so many.
fn children(group: &Path, most: usize) -> io::Result<Vec<PathBuf>> {
    let mut groups = Vec::new();
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            groups.push(entry.path());
        }
        if groups.len() == most {
            break;
        }
    }
    Ok(groups)
}

fn make(path: &str) -> Result<OwnedFd, Failure> {
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;

    use super::*;

    /// A cgroup on this computer, which goes with it; `None`, and a loud line, when there can be
    /// none.
    struct Bench(PathBuf);

    impl Bench {
        fn new(name: &str) -> Option<Self> {
            let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
            let mut lines = mounts.lines().map(|line| line.split(' '));
            let root = lines.find_map(|mut fields| {
                let target = fields.nth(1)?;
                (fields.next()? == "cgroup2").then_some(target)
            });
            let name = format!("berth-init-test-{name}-{}", std::process::id());
            let group = root.map(|root| Path::new(root).join(&name));
            let made = group.filter(|group| fs::create_dir(group).is_ok());
            if made.is_none() {
                // Not eprintln: the test runner would keep it to itself.
                let _ = writeln!(io::stderr(), "NOT TESTED, needs root and cgroup v2: {name}");
            }
            made.map(Self)
        }

        fn path(&self) -> &str {
            self.0.to_str().expect("text")
        }

        fn count(&self) -> usize {
            let text = fs::read_to_string(self.0.join("cgroup.stat")).expect("a cgroup");
            let count = text.strip_prefix("nr_descendants ").expect("what it is");
            let count = count.lines().next().expect("a line");
            count.parse().expect("a number")
        }
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            let _ = fs::write(self.0.join("cgroup.kill"), "1");
            while self.0.exists() && remove(&self.0).is_err() {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }

    #[test]
    fn a_container_begins_in_a_new_cgroup_whatever_its_last_run_left() {
        let Some(bench) = Bench::new("new") else {
            return;
        };
        for below in ["init", "pods/1/a", "pods/1/b", "pods/2/a", "berth-probe"] {
            fs::create_dir_all(bench.0.join(below)).expect("cgroups");
        }
        let setting = bench.0.join("cgroup.max.depth");
        fs::write(&setting, "7").expect("written");
        make_anew(bench.path()).expect("a cgroup");
        assert_eq!(bench.count(), 0);
        assert_eq!(fs::read_to_string(&setting).expect("there"), "max\n");
    }

    #[test]
    fn one_start_removes_so_many_cgroups_and_the_next_one_goes_on() {
        let Some(bench) = Bench::new("many") else {
            return;
        };
        let many = MOST_TRIES + MOST_TRIES / 2;
        for number in 0..many {
            fs::create_dir(bench.0.join(number.to_string())).expect("a cgroup");
        }
        make_anew(bench.path()).expect("the old one");
        let left = bench.count();
        assert!((many - MOST_TRIES..many).contains(&left), "{left}");
        make_anew(bench.path()).expect("a cgroup");
        assert_eq!(bench.count(), 0);
    }

    #[test]
    fn a_deep_tree_is_removed_like_a_broad_one() {
        let Some(bench) = Bench::new("deep") else {
            return;
        };
        let deep = (0..200).fold(bench.0.clone(), |path, _| path.join("d"));
        fs::create_dir_all(deep).expect("cgroups");
        make_anew(bench.path()).expect("a cgroup");
        assert_eq!(bench.count(), 0);
    }

    #[test]
    fn a_cgroup_that_a_process_is_still_in_is_used_as_it_is() {
        let Some(bench) = Bench::new("busy") else {
            return;
        };
        let mut process = Command::new("sleep").arg("1000").spawn().expect("sleep");
        let inner = bench.0.join("inner");
        fs::create_dir(&inner).expect("a cgroup");
        fs::write(inner.join("cgroup.procs"), process.id().to_string()).expect("moved");
        make_anew(bench.path()).expect("the old one");
        let procs = fs::read_to_string(inner.join("cgroup.procs")).expect("still there");
        assert_eq!(procs.trim(), process.id().to_string());
        process.kill().expect("killed");
        process.wait().expect("ended");
    }
}
