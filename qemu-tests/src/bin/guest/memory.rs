//! How much memory the processes of a machine take, seen from beside its init.
//!
//! Before PID 1 gives way to the init that is measured, it starts this as a process of its own,
//! which waits until the machine is up and then reads `/proc`.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};

/// Where the watcher has its own view of the processes: in the initial RAM file system, which it
/// keeps as its root when init moves another one over it.
const PROC: &str = "/watch";
/// When there is something to look at. Its being there asks for the measurement.
pub(crate) const WANTED: &str = "/bench/memory";

/// Waits for as many seconds as the file that asks for it says, then says what each process has.
pub(crate) fn watch() -> Result<(), String> {
    let text = fs::read_to_string(WANTED).map_err(|error| format!("{WANTED}: {error}"))?;
    let seconds = text
        .trim()
        .parse()
        .map_err(|_| format!("{WANTED}: {text:?}"))?;
    fs::create_dir(PROC).map_err(|error| format!("making {PROC}: {error}"))?;
    mount(
        Some("proc"),
        PROC,
        Some("proc"),
        MsFlags::empty(),
        None::<&str>,
    )
    .map_err(|error| format!("mounting {PROC}: {error}"))?;
    thread::sleep(Duration::from_secs(seconds));
    let own = std::process::id().to_string();
    let entries = fs::read_dir(PROC).map_err(|error| format!("{PROC}: {error}"))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != own && name.bytes().all(|byte| byte.is_ascii_digit()) {
            say(&entry.path());
        }
    }
    println!("guest: memory-end");
    Ok(())
}

/// One process; none when it is the kernel's or has just ended.
fn say(process: &Path) {
    let Ok(status) = fs::read_to_string(process.join("status")) else {
        return;
    };
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let (Some(anonymous), Some(file), Some(shared)) =
        (value("RssAnon:"), value("RssFile:"), value("RssShmem:"))
    else {
        return;
    };
    let command = fs::read(process.join("cmdline")).unwrap_or_default();
    let words: Vec<_> = command
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(String::from_utf8_lossy)
        .collect();
    let name = words.join("_").replace(' ', "_");
    println!("guest: memory process={name} anonymous={anonymous} file={file} shared={shared}");
}
