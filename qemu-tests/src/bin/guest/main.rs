//! The program that runs inside the guests of the bench and the tests: one static executable,
//! its role chosen by its first argument, or by being PID 1.
//!
//! It says what it sees as `guest: key=value …` lines on its standard output and judges nothing;
//! the host does.

mod bare;
mod clock;
mod sys;

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    // First of all, so that nothing of ours is counted.
    let arrived = clock::now();
    if std::process::id() == 1 && std::env::args().len() == 1 {
        println!("guest: pid1 {arrived}");
        return sys::restart();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["true"] => Ok(()),
        ["say", label] => {
            println!("guest: {label} {arrived}");
            Ok(())
        }
        ["time", label, program, arguments @ ..] => time(label, program, arguments),
        ["bare", root, program, arguments @ ..] => bare::run(root, program, arguments),
        ["restart"] => return sys::restart(),
        other => Err(format!("no such role: {other:?}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            println!("guest: error : {sentence}");
            ExitCode::FAILURE
        }
    }
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
        "guest: {label} status={} ticks={} ns={}",
        status.code().unwrap_or(-1),
        after.ticks.wrapping_sub(before.ticks),
        after.monotonic_ns.wrapping_sub(before.monotonic_ns),
    );
    Ok(())
}
