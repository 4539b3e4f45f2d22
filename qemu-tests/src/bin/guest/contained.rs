//! Programs for containers under test: each ends, misbehaves or lives on in one way, and says on
//! its standard output what the test cannot see from outside.

use std::fs;
use std::io::Write;
use std::process::exit;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::wait::waitpid;
use nix::unistd::ForkResult;

use crate::sys::{self, Fault};

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(1_000_000);
/// One heartbeat.
const BEAT: Duration = Duration::from_millis(100);
/// Heartbeats between two lines.
const BEATS_PER_LINE: u32 = 10;
/// What is allocated at once.
const PIECE: usize = 1 << 20;

/// Runs one of them; comes back only when there is none of that name, or with an exit status.
pub(crate) fn run(words: &[&str]) -> Option<i32> {
    match words {
        ["exit", status] => return Some(status.parse().unwrap_or(255)),
        ["fault", name] => fault(name),
        ["sleep"] => sleep(FOR_EVER),
        ["signals"] => {
            signals();
            return Some(0);
        }
        ["beat"] => beat(),
        ["bomb"] => bomb(),
        ["hog"] => hog(),
        ["hog-child"] => hog_child(),
        ["stubborn"] => stubborn(),
        ["obey", signal] => return Some(obey(signal.parse().unwrap_or(libc::SIGTERM))),
        ["churn", path] => churn(path),
        _ => return None,
    }
    None
}

/// Ends by what the hardware says no to; a first process is not spared that.
fn fault(name: &str) {
    match name {
        "segv" => sys::fault(Fault::Address),
        "bus" => sys::fault(Fault::PastTheEnd),
        "ill" => sys::fault(Fault::Instruction),
        "fpe" => sys::fault(Fault::Division),
        "trap" => sys::fault(Fault::Breakpoint),
        _ => {}
    }
}

/// What it was given: nothing blocked, nothing ignored, a session of its own.
fn signals() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let wanted = ["SigBlk:", "SigIgn:", "SigCgt:", "NStgid:", "NSsid:"];
    for line in status.lines() {
        if wanted.iter().any(|key| line.starts_with(key)) {
            println!("{}", line.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
}

/// Says with each line how late the latest of the beats since the start was.
fn beat() {
    let mut largest = Duration::ZERO;
    let mut last = Instant::now();
    for number in 1_u32.. {
        sleep(BEAT);
        largest = largest.max(last.elapsed());
        last = Instant::now();
        if number % BEATS_PER_LINE == 0 {
            println!("beat={number} largest_ms={}", largest.as_millis());
        }
    }
}

/// Forks until it may not any more; so do its children.
fn bomb() {
    let mut children = 0;
    let mut refused = 0_u32;
    loop {
        match sys::fork() {
            Ok(ForkResult::Child) => {
                // Each child goes on forking.
                children = 0;
                refused = 0;
            }
            Ok(ForkResult::Parent { .. }) => children += 1,
            Err(_) => {
                refused += 1;
                if std::process::id() == 1 && refused == 1 {
                    println!("bomb: refused after {children} children");
                }
                sleep(BEAT / 10);
            }
        }
    }
}

/// Takes memory without end.
fn hog() {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        taken.push(vec![1; PIECE]);
    }
}

/// The same in a child; this process itself would live on.
fn hog_child() {
    match sys::fork() {
        Ok(ForkResult::Child) => hog(),
        Ok(ForkResult::Parent { child }) => {
            let _ = waitpid(child, None);
            println!("hog-child: outlived its child");
            sleep(FOR_EVER);
        }
        Err(_) => exit(1),
    }
}

/// Cannot be asked to end.
fn stubborn() {
    if sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).is_err() {
        exit(1);
    }
    println!("stubborn: here");
    sleep(FOR_EVER);
}

/// Ends well by one signal, and by no other.
fn obey(signal: i32) -> i32 {
    let all = SigSet::all();
    if sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), None).is_err() {
        return 1;
    }
    println!("obey: here");
    loop {
        match all.wait() {
            Ok(Signal::SIGCHLD) => {}
            Ok(came) if came as i32 == signal => return 0,
            Ok(came) => println!("obey: ignores {came}"),
            Err(_) => return 1,
        }
    }
}

/// Writes, renames and removes files without end, as a data base would; says what is durable.
fn churn(directory: &str) {
    for number in 0_u32.. {
        let path = format!("{directory}/{}", number % 50);
        let beside = format!("{path}.new");
        let text = format!("{number}\n").repeat(500 + (number % 7) as usize * 1000);
        let durable = || -> std::io::Result<()> {
            let mut file = fs::File::create(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            fs::File::open(directory)?.sync_all()
        };
        if let Err(error) = durable() {
            println!("churn: {path}: {error}");
            sleep(BEAT * 10);
        }
        if number % 50 == 49 {
            println!("churn: {number}");
        }
    }
}
