//! An observer on a machine under test: the process that becomes PID 1 gives way to the machine's
//! own init and leaves a child behind, outside every container, which answers what the test asks
//! over a virtio port. The machine's root, its init and its kernel stay as they were built.
//!
//! A question is one line. Its answer is lines that start with `=`, then `ok` or `error SENTENCE`.

mod orphans;
mod processes;

use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{ForkResult, chdir, chroot};

use crate::sys;

/// The verified root, as the kernel's command line sets it up.
const ROOT: &str = "/dev/dm-0";
/// Where the test asks: `vportNp1`, N being the virtio device's number.
const PORT: &str = "/dev/vport";
/// How long PID 1 may take to mount /dev.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks for the port.
const PAUSE: Duration = Duration::from_millis(20);
/// The largest file that is answered.
const FILE_MAX: usize = 4 << 20;

/// As the kernel's first process in an initial RAM file system: goes over to the machine's root,
/// leaves the observer behind and gives way to the machine's init.
pub(crate) fn enter() -> Result<(), String> {
    const NONE: Option<&str> = None;
    let plain = MsFlags::empty();
    let said = |what: &str| {
        let what = what.to_owned();
        move |errno: nix::Error| format!("{what}: {errno}")
    };
    mount(Some("dev"), "/dev", Some("devtmpfs"), plain, NONE).map_err(said("mounting /dev"))?;
    mount(Some(ROOT), "/root", Some("erofs"), MsFlags::MS_RDONLY, NONE)
        .map_err(said("mounting the root"))?;
    umount2("/dev", MntFlags::MNT_DETACH).map_err(said("leaving /dev"))?;
    chdir("/root").map_err(said("entering the root"))?;
    mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE).map_err(said("moving the root"))?;
    chroot(".").map_err(said("changing the root"))?;
    chdir("/").map_err(said("entering the root"))?;
    match sys::fork().map_err(said("fork"))? {
        ForkResult::Child => {
            let Err(sentence) = observe();
            println!("guest: error : observer: {sentence}");
            std::process::exit(1)
        }
        ForkResult::Parent { .. } => {
            let error = Command::new("/init").exec();
            Err(format!("starting /init: {error}"))
        }
    }
}

/// Answers questions until the machine ends.
fn observe() -> Result<Infallible, String> {
    // PID 1 ends what it started by process groups and sessions of its own.
    nix::unistd::setsid().map_err(|errno| format!("setsid: {errno}"))?;
    let port = open_port()?;
    let questions = port.try_clone().map_err(|error| error.to_string())?;
    let mut answers = port;
    let mut questions = BufReader::new(questions);
    loop {
        let mut question = String::new();
        match questions.read_line(&mut question) {
            // Nobody is at the other end, yet or any more.
            Ok(0) => {
                sleep(PAUSE);
                continue;
            }
            Ok(_) => {}
            Err(error) => return Err(format!("reading {PORT}: {error}")),
        }
        let mut text = String::new();
        match answer(question.trim_end()) {
            Ok(answer) => {
                for line in answer.lines() {
                    text.push_str(&format!("={line}\n"));
                }
                text.push_str("ok\n");
            }
            Err(sentence) => text.push_str(&format!("error {}\n", sentence.replace('\n', " "))),
        }
        let written = answers.write_all(text.as_bytes());
        written.map_err(|error| format!("writing {PORT}: {error}"))?;
    }
}

fn open_port() -> Result<File, String> {
    let until = Instant::now() + PATIENCE;
    loop {
        // Not there before PID 1 has mounted /dev.
        let found = (0..32).find_map(|number| {
            let path = format!("{PORT}{number}p1");
            OpenOptions::new().read(true).write(true).open(path).ok()
        });
        match found {
            Some(port) => return Ok(port),
            None if Instant::now() > until => return Err(format!("there is no {PORT}*")),
            None => sleep(PAUSE),
        }
    }
}

fn answer(question: &str) -> Result<String, String> {
    let words: Vec<&str> = question.split(' ').collect();
    match words.as_slice() {
        ["ping"] => Ok("pong".into()),
        ["cat", path] => read(Path::new(path)),
        ["list", path] => list(Path::new(path)),
        ["write", path, text @ ..] => {
            fs::write(path, text.join(" ")).map_err(|error| format!("{path}: {error}"))?;
            Ok(String::new())
        }
        ["kill", pid, signal] => {
            processes::signal(number(pid)?, number(signal)?)?;
            Ok(String::new())
        }
        ["processes"] => processes::all(),
        ["children", pid] => processes::children(number(pid)?),
        ["orphans", count] => orphans::at_once(number(count)?),
        ["double-forked", count] => orphans::double_forked(number(count)?),
        ["groups"] => orphans::in_groups_of_their_own(),
        other => Err(format!("no such question: {other:?}")),
    }
}

fn read(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let bytes = &bytes[..bytes.len().min(FILE_MAX)];
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

fn list(path: &Path) -> Result<String, String> {
    let failed = |error| format!("{}: {error}", path.display());
    let mut names = String::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        names.push_str(&entry.file_name().to_string_lossy());
        names.push('\n');
    }
    Ok(names)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}
