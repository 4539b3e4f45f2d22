//! QEMU with the disk that loses its power, and its console as lines.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use berth_power::Disk;

use super::{Error, Options};
use crate::run::{
    self, Accelerator, Boot, Console, Event, Qemu, QemuDisk, block_termination, probe, start,
    watch_termination,
};

/// How long the last words of an ended QEMU may take.
const CLOSING: Duration = Duration::from_secs(10);

/// What starts the machine.
pub(super) struct Rig {
    directory: PathBuf,
    options: run::Options,
    accelerator: Accelerator,
    events: Sender<Event>,
    happened: Receiver<Event>,
    log: Option<File>,
}

/// What a wait for the console came to.
pub(super) enum Heard {
    /// A whole line.
    Line(String),
    /// Nothing in that time.
    Nothing,
}

impl Rig {
    /// Looks whether everything is there that it takes.
    pub(super) fn new(options: &Options, directory: &Path) -> Result<Self, Error> {
        let accelerator = probe()?;
        let file = |source| run::Error::File {
            doing: "create",
            path: directory.to_owned(),
            source,
        };
        fs::create_dir_all(directory).map_err(file)?;
        let log = match &options.log {
            Some(path) => Some(File::create(path).map_err(|source| run::Error::File {
                doing: "create",
                path: path.clone(),
                source,
            })?),
            None => None,
        };
        let (events, happened) = channel();
        let system = |doing| move |source| run::Error::System { doing, source };
        block_termination().map_err(system("hold back signals"))?;
        watch_termination(events.clone()).map_err(system("wait for signals"))?;
        Ok(Self {
            directory: directory.to_owned(),
            options: run::Options {
                disk: PathBuf::new(),
                boot: Boot::Firmware,
                memory_mib: options.memory_mib,
                disk_bytes: options.disk_bytes,
                keep: None,
                ports: Vec::new(),
                headless: true,
                log: None,
                boot_report: None,
                check: None,
                title: String::new(),
            },
            accelerator,
            events,
            happened,
            log,
        })
    }

    /// How long something may take that takes so many seconds on hardware.
    pub(super) fn within(&self, seconds: u64) -> Duration {
        Duration::from_secs(match self.accelerator {
            Accelerator::Kvm => seconds,
            Accelerator::Tcg => seconds * 8,
        })
    }

    /// A disk with an image's bytes, as large as the user wants.
    pub(super) fn disk(&self, image: &Path) -> Result<Disk, Error> {
        Disk::of(image, self.options.disk_bytes).map_err(|source| {
            Error::Run(run::Error::File {
                doing: "read",
                path: image.to_owned(),
                source,
            })
        })
    }

    /// The firmware forgets everything; false when it knew nothing.
    pub(super) fn forget_variables(&self) -> bool {
        fs::remove_file(self.directory.join("variables.fd")).is_ok()
    }

    /// Gives the disk power and starts QEMU.
    pub(super) fn start(&mut self, disk: &Disk) -> Result<Qemu, Error> {
        let socket = self.directory.join("disk");
        for name in ["disk", "monitor"] {
            // Usually there is none.
            let _ = fs::remove_file(self.directory.join(name));
        }
        disk.power_on(&socket).map_err(|source| run::Error::File {
            doing: "serve",
            path: socket.clone(),
            source,
        })?;
        let served = QemuDisk {
            path: format!("nbd+unix:///?socket={}", socket.display()).into(),
            format: "raw",
        };
        let mut qemu = start(
            &self.options,
            self.accelerator,
            &[],
            &served,
            &self.directory,
        )?;
        let log = self.log.as_ref().and_then(|log| log.try_clone().ok());
        Console { log, show: false }.read(qemu.take_console()?, self.events.clone());
        Ok(qemu)
    }

    /// The next line, if it comes in this time.
    pub(super) fn hear(&self, most: Duration) -> Result<Heard, Error> {
        match self.happened.recv_timeout(most) {
            Ok(Event::Line(line, _)) => Ok(Heard::Line(line)),
            Ok(Event::Stop) => Err(Error::Stopped),
            Ok(Event::ConsoleClosed) => Err(Error::Run(run::Error::Check(
                "QEMU ended by itself".to_owned(),
            ))),
            Ok(Event::Answered(_)) | Err(RecvTimeoutError::Timeout) => Ok(Heard::Nothing),
            Err(RecvTimeoutError::Disconnected) => Err(Error::Stopped),
        }
    }

    /// Kills QEMU; gives the lines that nobody had heard yet.
    pub(super) fn kill(&mut self, mut qemu: Qemu) -> Result<Vec<String>, Error> {
        qemu.kill();
        let until = Instant::now() + CLOSING;
        let mut lines = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.happened.recv_timeout(left) {
                Ok(Event::Line(line, _)) => lines.push(line),
                Ok(Event::Stop) => return Err(Error::Stopped),
                Ok(Event::Answered(_)) => {}
                Ok(Event::ConsoleClosed) | Err(_) => return Ok(lines),
            }
        }
    }
}
