//! What /proc says about the processes of the whole machine.

use std::fmt::Write as _;
use std::fs;

/// Sends a signal by the bare numbers, so that real-time signals and process groups can be named.
pub(crate) fn signal(pid: i32, signal: i32) -> Result<(), String> {
    crate::sys::kill(pid, signal).map_err(|errno| format!("kill {pid} {signal}: {errno}"))
}

/// One line for each process: `pid parent state resident_kib cgroup name`.
pub(crate) fn all() -> Result<String, String> {
    let mut lines = String::new();
    for pid in pids()? {
        // One that ended between the listing and now is not there any more.
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
            continue;
        };
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let value = |key: &str| {
            let mut found = status.lines().filter_map(|line| line.strip_prefix(key));
            found.next().unwrap_or_default().trim().to_owned()
        };
        let first = |text: String| text.split_whitespace().next().unwrap_or("0").to_owned();
        // Writing to a String cannot fail.
        let _ = writeln!(
            lines,
            "{pid} {} {} {} {} {}",
            value("PPid:"),
            first(value("State:")),
            first(value("VmRSS:")),
            cgroup.trim().trim_start_matches("0::"),
            value("Name:"),
        );
    }
    Ok(lines)
}

/// The process ids of a process's children, ended or not, one on a line.
pub(crate) fn children(parent: i32) -> Result<String, String> {
    let mut lines = String::new();
    for pid in pids()? {
        // PID (NAME) STATE PARENT …, and a name may hold anything.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let behind_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        if behind_name.split(' ').nth(1) == Some(parent.to_string().as_str()) {
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "{pid}");
        }
    }
    Ok(lines)
}

fn pids() -> Result<Vec<i32>, String> {
    let entries = fs::read_dir("/proc").map_err(|error| format!("/proc: {error}"))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}
