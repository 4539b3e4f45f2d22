//! Programs on the host: started so that they cannot outlive the harness, or run to their end.

use std::fmt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use crate::{Error, sys};

type Request = (Command, Sender<std::io::Result<Child>>);

/// The thread that starts every long-lived program. It never ends before the process does, so a
/// program that is tied to it may be shared by tests that run on threads of their own.
static STARTER: LazyLock<Mutex<Sender<Request>>> = LazyLock::new(|| {
    let (sender, receiver) = channel::<Request>();
    thread::spawn(move || {
        for (mut command, reply) in receiver {
            sys::dies_with_its_starter(&mut command);
            if let Err(unclaimed) = reply.send(command.spawn())
                && let Ok(mut child) = unclaimed.0
            {
                // Whoever asked is gone: so must the program be.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    });
    Mutex::new(sender)
});

/// Starts a program that the kernel kills when this process ends.
pub(crate) fn start_tied(command: Command) -> Result<Child, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let (reply, answer) = channel();
    let sent = match STARTER.lock() {
        Ok(starter) => starter.send((command, reply)).is_ok(),
        Err(_) => false,
    };
    let gone = || std::io::Error::other("the thread that starts programs is gone");
    let started = match (sent, answer.recv()) {
        (true, Ok(started)) => started,
        _ => Err(gone()),
    };
    started.map_err(|source| Error::Program { program, source })
}

/// Runs a program to its end and returns what it wrote on both streams; an error unless it
/// succeeded.
pub fn run(command: &mut Command) -> Result<String, Error> {
    let (status, output) = finish(command)?;
    if status.success() {
        return Ok(output);
    }
    Err(Error::Failed {
        command: describe(command),
        status,
        output,
    })
}

/// What a program took.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Processor time, its own and the kernel's for it.
    pub cpu: Duration,
    /// Most memory that it had resident.
    pub peak_bytes: u64,
}

/// The argument by which a program that measures is started as the one that is in between.
const IN_BETWEEN: &str = "--measure-in-between";

/// Runs a program to its end and says what it took; an error unless it succeeded.
///
/// Until a started process is another program it counts as its own what its starter had in memory
/// (getrusage(2), `ru_maxrss`). So this program starts itself first, which has little, and that one
/// starts the other: its `main` calls [`in_between`].
pub fn measure(command: &mut Command) -> Result<Measured, Error> {
    // Files, not pipes, which would have to be emptied meanwhile.
    let file = || tempfile::NamedTempFile::new().map_err(Error::file("creating", "a file"));
    let (output, report) = (file()?, file()?);
    let own = std::env::current_exe().map_err(Error::file("finding", "this program"))?;
    let mut starter = Command::new(own);
    starter.arg(IN_BETWEEN).arg(report.path());
    starter.arg(command.get_program()).args(command.get_args());
    let stream = || {
        output
            .reopen()
            .map_err(Error::file("opening", output.path()))
    };
    starter.envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    if let Some(directory) = command.get_current_dir() {
        starter.current_dir(directory);
    }
    starter
        .stdin(Stdio::null())
        .stdout(stream()?)
        .stderr(stream()?);
    let status = starter.status().map_err(|source| Error::Program {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    })?;
    let measured = std::fs::read_to_string(report.path()).unwrap_or_default();
    match Measured::parse(&measured) {
        Some(measured) if status.success() => Ok(measured),
        _ => Err(Error::Failed {
            command: describe(command),
            status,
            output: std::fs::read_to_string(output.path()).unwrap_or_default(),
        }),
    }
}

/// What `main` does in a process that [`measure`] started; `None` in every other.
#[must_use]
pub fn in_between() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != IN_BETWEEN {
        return None;
    }
    let (report, program) = (arguments.next()?, arguments.next()?);
    let started = Command::new(&program).args(arguments).spawn();
    let ended = started.and_then(|child| sys::wait_measured(&child));
    let told = ended.and_then(|(status, measured)| {
        std::fs::write(&report, measured.to_string())?;
        Ok(status)
    });
    Some(match told {
        Ok(status) => ExitCode::from(status.code().map_or(1, |code| code as u8)),
        Err(why) => {
            eprintln!("{}: {why}", program.to_string_lossy());
            ExitCode::FAILURE
        }
    })
}

impl Measured {
    fn parse(text: &str) -> Option<Self> {
        let (cpu_us, peak_bytes) = text.split_once(' ')?;
        Some(Self {
            cpu: Duration::from_micros(cpu_us.parse().ok()?),
            peak_bytes: peak_bytes.parse().ok()?,
        })
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.cpu.as_micros(), self.peak_bytes)
    }
}

/// Runs a program to its end: its status, and what it wrote on both streams.
pub fn finish(command: &mut Command) -> Result<(std::process::ExitStatus, String), Error> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Program {
            program: command.get_program().to_string_lossy().into_owned(),
            source,
        })?;
    let mut output = String::from_utf8_lossy(&done.stdout).into_owned();
    output.push_str(&String::from_utf8_lossy(&done.stderr));
    Ok((done.status, output))
}

fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}
