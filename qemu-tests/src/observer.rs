//! The observer of a machine under test (`src/bin/guest/observer.rs`): a process outside every
//! container that answers questions about the whole machine, and does what nobody else could.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Error, Files, guest};

/// The kernel's arguments that make it start first.
pub(crate) const ARGUMENTS: &str = "rdinit=/guest -- observe";

/// Writes the initial RAM file system that it comes in.
pub(crate) fn write_initramfs(path: &Path) -> Result<(), Error> {
    Files::default()
        .device("dev/console", 5, 1)
        .directory("root")
        .program_from("guest", &guest::program()?)?
        .write_initramfs(path)
}

/// QEMU's arguments for its port, which QEMU serves at `socket`.
pub(crate) fn port(socket: &Path) -> [String; 6] {
    [
        "-device".into(),
        "virtio-serial-pci".into(),
        "-chardev".into(),
        format!(
            "socket,id=observer,path={},server=on,wait=off",
            socket.display()
        ),
        "-device".into(),
        "virtserialport,chardev=observer,name=observer".into(),
    ]
}

/// A process as the observer saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id on the machine.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// As in /proc/PID/status: `R`, `S`, `Z`…
    pub state: String,
    /// VmRSS, KiB.
    pub resident_kib: u64,
    /// Its cgroup.
    pub cgroup: String,
    /// Its name.
    pub name: String,
}

/// The connection to an observer.
pub(crate) struct Observer {
    label: String,
    socket: PathBuf,
    stream: Option<BufReader<UnixStream>>,
}

impl Observer {
    /// Connects at the first question.
    pub(crate) fn new(label: String, socket: PathBuf) -> Self {
        Self {
            label,
            socket,
            stream: None,
        }
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, question: &str, deadline: Duration) -> Result<String, Error> {
        if self.stream.is_none() {
            let stream = UnixStream::connect(&self.socket)
                .map_err(Error::file("connecting to the observer", &self.socket))?;
            self.stream = Some(BufReader::new(stream));
        }
        let answer = self.exchange(question, deadline);
        if answer.is_err() {
            // What comes late would be taken for the answer to the next question.
            self.stream = None;
        }
        answer
    }

    fn exchange(&mut self, question: &str, deadline: Duration) -> Result<String, Error> {
        let failed = |reason: String| {
            Error::broken(format!(
                "{}: asking the observer {question:?}: {reason}",
                self.label
            ))
        };
        let Some(stream) = &mut self.stream else {
            return Err(failed("there is no connection".into()));
        };
        let io = |error: std::io::Error| failed(error.to_string());
        stream
            .get_ref()
            .set_read_timeout(Some(deadline))
            .map_err(io)?;
        writeln!(stream.get_mut(), "{question}").map_err(io)?;
        let mut answer = String::new();
        loop {
            let mut line = String::new();
            match stream.read_line(&mut line) {
                Ok(0) => return Err(failed("QEMU closed the port".into())),
                Ok(_) => {}
                Err(error) => return Err(io(error)),
            }
            match line.trim_end().split_at_checked(1) {
                Some(("=", text)) => {
                    answer.push_str(text);
                    answer.push('\n');
                }
                _ if line.starts_with("ok") => return Ok(answer),
                _ => return Err(failed(line.trim_end().to_owned())),
            }
        }
    }
}

/// Reads the answer to `processes`.
pub(crate) fn processes(answer: &str) -> Option<Vec<Process>> {
    let read = |line: &str| {
        let mut words = line.splitn(6, ' ');
        Some(Process {
            pid: words.next()?.parse().ok()?,
            parent: words.next()?.parse().ok()?,
            state: words.next()?.to_owned(),
            resident_kib: words.next()?.parse().ok()?,
            cgroup: words.next()?.to_owned(),
            name: words.next()?.to_owned(),
        })
    };
    answer.lines().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_line_gives_its_fields() {
        let all = processes("7 1 S 1234 /containers/web my name\n").expect("a process");
        assert_eq!(all[0].resident_kib, 1234);
        assert_eq!(
            (all[0].cgroup.as_str(), all[0].name.as_str()),
            ("/containers/web", "my name")
        );
        assert!(processes("7 1 S\n").is_none());
    }
}
