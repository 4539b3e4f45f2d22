//! The program that runs inside the guests of the bench and the tests: one static executable,
//! its role chosen by its first argument, or by being PID 1.
//!
//! It says what it sees as `guest: key=value …` lines on its standard output and judges nothing;
//! the host does.

mod bare;
mod clock;
mod contained;
mod launch;
mod memory;
mod observer;
mod sys;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::clock::Reading;
use crate::launch::Launcher;

/// The init that a measured machine goes on with.
const NEXT_INIT: &str = "/bench/init";

fn main() -> ExitCode {
    // First of all, so that nothing of ours is counted.
    let arrived = clock::now();
    if std::process::id() == 1 && std::env::args().len() == 1 {
        return first_process(arrived);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["true"] => Ok(()),
        ["say", label] => {
            println!("guest: {label} {arrived}");
            Ok(())
        }
        ["say", label, path] => say(label, path, arrived),
        ["time", label, program, arguments @ ..] => time(label, program, arguments),
        ["bare", root, program, arguments @ ..] => bare_run(root, program, arguments),
        ["launch", config, times] => launched(config, times),
        ["memory"] => memory::watch(),
        ["observe"] => observer::enter(),
        ["restart"] => return sys::restart(),
        other => match contained::run(other) {
            Some(status) => std::process::exit(status),
            None => Err(format!("no such role: {other:?}")),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            println!("guest: error : {sentence}");
            ExitCode::FAILURE
        }
    }
}

/// As PID 1: says when it arrived, then gives way to the machine's own init when there is one,
/// and otherwise ends the machine.
///
/// What saying takes is said too: by a second reading, after the first was written.
fn first_process(arrived: Reading) -> ExitCode {
    match std::fs::read("/init").unwrap_or_default() {
        own if own.ends_with(b"init=exit") => return ExitCode::FAILURE,
        own if own.ends_with(b"init=hang") => hang(),
        _ => {}
    }
    println!("guest: pid1 {arrived}");
    if Path::new(NEXT_INIT).exists() {
        println!("guest: pid1 {}", clock::now());
        if Path::new(memory::WANTED).exists()
            && let Err(error) = Command::new("/init").arg("memory").spawn()
        {
            println!("guest: error : starting the watcher: {error}");
        }
        let error = Command::new(NEXT_INIT).exec();
        println!("guest: error : starting {NEXT_INIT}: {error}");
    }
    sys::restart()
}

/// Opens the watchdog, as an init does, and never feeds it.
fn hang() -> ! {
    let watchdog = OpenOptions::new().write(true).open("/dev/watchdog");
    println!("guest: hanging watchdog={}", watchdog.is_ok());
    loop {
        std::thread::park();
    }
}

/// Says something to a device.
fn say(label: &str, path: &str, arrived: Reading) -> Result<(), String> {
    let line = format!("guest: {label} {arrived}\n");
    let device = OpenOptions::new().write(true).open(path);
    device
        .and_then(|mut device| device.write_all(line.as_bytes()))
        .map_err(|error| format!("writing {path}: {error}"))
}

/// Starts and ends a container by Berth's runtime several times, as PID 1 does in its one
/// process, and says how long each took.
fn launched(config: &str, times: &str) -> Result<(), String> {
    let times = times.parse().map_err(|_| format!("{times:?} times?"))?;
    let description = launch::description(config)?;
    for _ in 0_u32..times {
        let before = clock::now();
        let launcher = Launcher::new(&description)?;
        println!("guest: plan status=0 {}", before.until(clock::now()));
        let before = clock::now();
        launcher.run()?;
        println!("guest: launch status=0 {}", before.until(clock::now()));
    }
    Ok(())
}

/// Runs a program by the bare system calls and says how long that took, from the first one on.
fn bare_run(root: &str, program: &str, arguments: &[&str]) -> Result<(), String> {
    let before = clock::now();
    bare::run(root, program, arguments)?;
    println!("guest: bare status=0 {}", before.until(clock::now()));
    Ok(())
}

/// Runs a program to its end and says how long that took.
fn time(label: &str, program: &str, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments);
    let before = clock::now();
    let status = command.status();
    let after = clock::now();
    let status = status.map_err(|error| format!("starting {program}: {error}"))?;
    println!(
        "guest: {label} status={} {}",
        status.code().unwrap_or(-1),
        before.until(after),
    );
    Ok(())
}
