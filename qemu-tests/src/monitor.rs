//! QEMU's monitor: the part of QMP that the tests need (QEMU Machine Protocol, JSON lines over a
//! socket; one greeting, one reply per command, events in between).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Error;

/// How long QEMU may take to open its monitor, and to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks at whether the socket is there.
const PAUSE: Duration = Duration::from_millis(10);

/// A connection to a monitor.
pub struct Monitor {
    label: String,
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    events: Vec<Value>,
}

impl Monitor {
    /// Connects to the socket as soon as QEMU has made it, and leaves negotiation mode.
    pub(crate) fn connect(label: String, socket: &Path) -> Result<Self, Error> {
        let until = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < until => thread::sleep(PAUSE),
                Err(source) => {
                    return Err(Error::file("connecting to the monitor", socket)(source));
                }
            }
        };
        let setup = || -> std::io::Result<_> {
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok((stream.try_clone()?, stream))
        };
        let (writer, stream) = setup().map_err(Error::file("setting up", socket))?;
        let mut monitor = Self {
            label,
            reader: BufReader::new(stream),
            writer,
            events: Vec::new(),
        };
        monitor.receive("greet")?;
        monitor.execute("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// Runs a command and returns its result.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.writer, "{request}").map_err(|error| self.error(command, error))?;
        loop {
            let mut reply = self.receive(command)?;
            if let Some(result) = reply.get_mut("return") {
                return Ok(result.take());
            }
            if let Some(refusal) = reply.get("error") {
                return Err(self.error(command, refusal));
            }
            self.events.push(reply);
        }
    }

    /// Runs a command of the human monitor and returns its text.
    pub fn human(&mut self, line: &str) -> Result<String, Error> {
        let result = self.execute("human-monitor-command", json!({ "command-line": line }))?;
        Ok(result.as_str().unwrap_or_default().to_owned())
    }

    /// Whether an event has come by now.
    pub fn happened(&mut self, event: &str) -> Result<bool, Error> {
        // A command that changes nothing, so that everything before its reply is read.
        self.execute("query-status", json!({}))?;
        Ok(self.events.iter().any(|known| known["event"] == event))
    }

    fn receive(&mut self, command: &str) -> Result<Value, Error> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => Err(self.error(command, "QEMU closed the monitor")),
            Ok(_) => serde_json::from_str(&line).map_err(|error| self.error(command, error)),
            Err(error) => Err(self.error(command, error)),
        }
    }

    fn error(&self, command: &str, reason: impl std::fmt::Display) -> Error {
        Error::Monitor {
            machine: self.label.clone(),
            command: command.to_owned(),
            reason: reason.to_string(),
        }
    }
}
