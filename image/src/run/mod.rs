//! `berth run`: one machine in QEMU, its console here, its ports on localhost.
//!
//! The image is never changed: the machine writes to a copy that goes away with it, unless the
//! user keeps one. QEMU never outlives this process.

mod accelerator;
mod console;
mod disk;
mod firmware;
mod http;
mod monitor;
mod ports;
mod qemu;
mod report;
mod sys;
mod terminal;

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::say;

pub use accelerator::Accelerator;
pub use ports::Forward;
pub use report::Report;

pub(crate) use accelerator::probe;
pub(crate) use console::Console;
pub(crate) use disk::Disk as QemuDisk;
pub(crate) use qemu::{Qemu, start};
pub(crate) use sys::{block_termination, watch_termination};

/// How long a machine may take to power off when asked; emulated ones are slow.
const POWER_OFF: Duration = Duration::from_secs(60);

/// What the disk looks like to the machine when nobody says otherwise: room for the second
/// slot and the state partition. The file behind it is sparse.
pub const DEFAULT_DISK_BYTES: u64 = 2 << 30;

/// Memory when nobody says otherwise, MiB.
pub const DEFAULT_MEMORY_MIB: u32 = 512;

/// How the machine is started.
#[derive(Clone, Debug)]
pub enum Boot {
    /// By UEFI firmware, from the disk.
    Firmware,
    /// By QEMU, without firmware.
    Direct {
        /// The kernel.
        kernel: PathBuf,
        /// Its command line.
        command_line: String,
    },
}

/// What is run and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The disk image, raw or qcow2.
    pub disk: PathBuf,
    /// How it is started.
    pub boot: Boot,
    /// Memory, MiB.
    pub memory_mib: u32,
    /// Size of the disk, bytes; at least the image's.
    pub disk_bytes: u64,
    /// A disk that stays, made from the image when it does not exist.
    pub keep: Option<PathBuf>,
    /// TCP ports of the machine to publish on localhost.
    pub ports: Vec<u16>,
    /// Do not show the console.
    pub headless: bool,
    /// File for everything the console says.
    pub log: Option<PathBuf>,
    /// File for a drawing of the boot.
    pub boot_report: Option<PathBuf>,
    /// Power the machine off when every published port has answered, or fail after this time.
    pub check: Option<Duration>,
    /// The image's name, for the drawing's title.
    pub title: String,
}

/// Why a machine did not run, or not as it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is missing.
    #[error("{program} is not installed; on Debian and Ubuntu: apt-get install {package}")]
    Missing {
        /// Its name.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// A file cannot be used.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The operating system refuses.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// QEMU ended by itself with an error.
    #[error("QEMU ended with {status}: {message}")]
    Qemu {
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        message: String,
    },
    /// A helper program failed.
    #[error("{program} failed: {message}")]
    Program {
        /// Which one.
        program: &'static str,
        /// What it said.
        message: String,
    },
    /// No port of the machine could be published.
    #[error("no free port on localhost for port {0} of the machine; end a program that holds one")]
    NoPort(u16),
    /// The check failed.
    #[error("{0}")]
    Check(String),
}

impl Error {
    fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }

    fn system(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { doing, source }
    }
}

/// What happens while a machine runs.
#[derive(Debug)]
pub(crate) enum Event {
    /// A line of the console, when it arrived.
    Line(String, Instant),
    /// QEMU closed the console.
    ConsoleClosed,
    /// The user pressed the key, or a signal asked us to end.
    Stop,
    /// A port answered.
    Answered(http::Answer),
}

/// Runs the machine until it ends, the user ends it, or the check is over.
///
/// # Errors
/// When it cannot be started, QEMU fails, or the check fails.
pub fn run(options: &Options) -> Result<Report, Error> {
    let accelerator = accelerator::probe()?;
    let forwards = ports::choose(&options.ports)?;
    let directory = tempfile::Builder::new()
        .prefix("berth-run-")
        .tempdir()
        .map_err(Error::system("make a temporary directory"))?;
    let disk = disk::prepare(options, directory.path())?;
    let (events, happened) = channel();
    sys::block_termination().map_err(Error::system("hold back signals"))?;
    let mut qemu = qemu::start(options, accelerator, &forwards, &disk, directory.path())?;
    let started = Instant::now();
    let console = Console {
        log: options
            .log
            .as_ref()
            .map(|path| File::create(path).map_err(Error::file("create", path)))
            .transpose()?,
        show: !options.headless,
    };
    console.read(qemu.take_console()?, events.clone());
    introduce(options, accelerator, &forwards);
    let _terminal = terminal::watch(events.clone())?;
    sys::watch_termination(events.clone()).map_err(Error::system("wait for signals"))?;
    http::watch(&forwards, started, &events);
    drop::<Sender<Event>>(events);
    let mut session = Session {
        options,
        started,
        report: Report::new(&options.title, accelerator, &options.boot),
        waiting: forwards.len(),
        stopping: None,
    };
    let outcome = session.until_the_end(&happened, &mut qemu);
    let status = qemu.wait_after_console();
    outcome?;
    let status = status?;
    if !status.success() && session.stopping.is_none() {
        let message = qemu.errors();
        return Err(Error::Qemu { status, message });
    }
    if let Some(path) = &options.boot_report {
        berth_disk::pending::write_file(path, session.report.to_svg().as_bytes())
            .map_err(Error::file("write", path))?;
        say(format_args!("boot report: {}", path.display()));
    }
    Ok(session.report)
}

fn introduce(options: &Options, accelerator: Accelerator, forwards: &[Forward]) {
    say(format_args!(
        "{} on QEMU with {}, {} MiB",
        options.title,
        accelerator.describe(),
        options.memory_mib
    ));
    for forward in forwards {
        say(forward.describe());
    }
    if terminal::is_interactive() {
        say("q or Ctrl-C powers the machine off");
    }
}

struct Session<'a> {
    options: &'a Options,
    started: Instant,
    report: Report,
    /// Ports that have not answered.
    waiting: usize,
    /// When the machine was asked to power off.
    stopping: Option<Instant>,
}

impl Session<'_> {
    fn until_the_end(
        &mut self,
        happened: &Receiver<Event>,
        qemu: &mut qemu::Qemu,
    ) -> Result<(), Error> {
        loop {
            match happened.recv_timeout(Duration::from_millis(500)) {
                Ok(Event::ConsoleClosed) | Err(RecvTimeoutError::Disconnected) => {
                    return self.ended_early();
                }
                Ok(Event::Line(line, at)) => {
                    self.report.line(&line, at.duration_since(self.started));
                }
                Ok(Event::Stop) if self.stopping.is_some() => qemu.kill(),
                Ok(Event::Stop) => self.power_off(qemu, "powering off; once more ends it at once"),
                Ok(Event::Answered(answer)) => self.answered(&answer, qemu),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self
                .stopping
                .is_some_and(|since| since.elapsed() > POWER_OFF)
            {
                say(format_args!(
                    "the machine did not power off in {POWER_OFF:?}; ending it"
                ));
                qemu.kill();
            }
            let limit = self.options.check.filter(|_| self.stopping.is_none());
            if let Some(limit) = limit.filter(|limit| self.started.elapsed() > *limit) {
                qemu.kill();
                return Err(Error::Check(format!(
                    "{} of {} published ports did not answer within {} s; --log FILE keeps what \
                     the console says",
                    self.waiting,
                    self.options.ports.len(),
                    limit.as_secs()
                )));
            }
        }
    }

    fn answered(&mut self, answer: &http::Answer, qemu: &mut qemu::Qemu) {
        say(answer.describe());
        self.report.answered(answer.port, answer.after);
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting == 0 && self.options.check.is_some() && self.stopping.is_none() {
            self.power_off(qemu, "powering off");
        }
    }

    fn power_off(&mut self, qemu: &mut qemu::Qemu, what: &str) {
        say(what);
        self.stopping = Some(Instant::now());
        if let Err(error) = qemu.press_power_button() {
            say(format_args!(
                "QEMU does not take the request ({error}); ending it"
            ));
            qemu.kill();
        }
    }

    /// The console is closed: fine, unless somebody waits for an answer.
    fn ended_early(&self) -> Result<(), Error> {
        if self.options.check.is_some() && self.waiting > 0 {
            return Err(Error::Check(
                "the machine ended before every published port had answered".to_owned(),
            ));
        }
        Ok(())
    }
}
