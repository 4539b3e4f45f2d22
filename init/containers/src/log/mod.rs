//! The log role: reads what containers write and keeps the newest of it, one file each.
//!
//! PID 1 makes the pipes and keeps both ends of each; this role is a process of its own that it
//! starts with the read ends. When the role dies the pipes hold what was written meanwhile, and
//! the next one goes on reading. It keeps nothing in memory between two reads, so nothing that it
//! has read is lost but what one read had taken when it died. It never touches supervision.
//!
//! Records are those of the Kubernetes container log format, see [`record`].

mod file;
pub mod record;
mod tail;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::sys::{Errno, files};
use file::File;
use record::Stream;
pub use tail::tail;

/// Where logs are kept: a file system of their own, whose size bounds what all of them take.
pub const DIRECTORY: &str = "/run/berth/log";

/// The most that is read from a pipe at once. What a longer line has is split, as by Docker.
const CHUNK: usize = 16 << 10;

/// The output of one container.
#[derive(Debug)]
pub struct Source {
    /// The container's name; its log is the file of this name.
    pub name: String,
    /// How much is kept.
    pub keep_bytes: u64,
    /// The read end of its standard output.
    pub stdout: OwnedFd,
    /// The read end of its standard error.
    pub stderr: OwnedFd,
}

/// Takes the descriptors that a log role was started with: numbered from `first`, standard output
/// and standard error of each container in turn, in the order of `names`.
///
/// To be called once, before the process opens anything.
///
/// # Errors
/// Names the first container whose descriptors are not there.
pub fn inherited<'a>(
    first: i32,
    names: impl Iterator<Item = (&'a str, u64)>,
) -> Result<Vec<Source>, io::Error> {
    names
        .zip((first..).step_by(2))
        .map(|((name, keep_bytes), number)| {
            let take = |number: i32| {
                files::take(number).map_err(|errno| {
                    let text = format!("the output of {name}, descriptor {number}: {errno}");
                    io::Error::new(io::Error::from(errno).kind(), text)
                })
            };
            Ok(Source {
                name: name.to_owned(),
                keep_bytes,
                stdout: take(number)?,
                stderr: take(number.saturating_add(1))?,
            })
        })
        .collect()
}

/// One pipe that is read.
struct Input {
    pipe: OwnedFd,
    stream: Stream,
    /// Which file it goes to.
    file: usize,
}

impl Input {
    fn new(pipe: OwnedFd, stream: Stream, file: usize) -> Result<Self, Errno> {
        // A container may open its own output for reading and empty the pipe between poll and
        // read. The open file is ours and PID 1's, who does not read; theirs is another one.
        files::never_wait(pipe.as_fd())?;
        Ok(Self { pipe, stream, file })
    }

    /// Reads once, never waiting; `None` at its end.
    fn read<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        match files::read(self.pipe.as_fd(), buffer) {
            Ok(count @ 1..) => buffer.get(..count),
            Err(Errno(libc::EAGAIN)) => Some(&[]),
            Ok(0) | Err(_) => None,
        }
    }
}

/// Reads all sources into files below `directory` until every pipe is closed.
///
/// A log that cannot be written is no reason to stop reading: what is lost is counted, and said
/// in the log when it can be written again.
///
/// # Errors
/// Only when waiting itself fails, or a pipe cannot be told not to wait.
pub fn run(directory: &Path, sources: Vec<Source>) -> io::Result<()> {
    let most = most_of_each(
        sources.iter().map(|source| source.keep_bytes),
        room(directory),
    );
    let mut logs = Vec::with_capacity(sources.len());
    let mut inputs = Vec::with_capacity(sources.len().saturating_mul(2));
    for (file, source) in sources.into_iter().enumerate() {
        let keep_bytes = source.keep_bytes.min(most);
        logs.push(File::new(directory, &source.name, keep_bytes));
        for (pipe, stream) in [
            (source.stdout, Stream::Stdout),
            (source.stderr, Stream::Stderr),
        ] {
            inputs.push(Input::new(pipe, stream, file)?);
        }
    }
    let mut buffer = vec![0; CHUNK];
    while !inputs.is_empty() {
        let ready = wait(&inputs)?;
        let mut ready = ready.into_iter();
        inputs.retain(|input| {
            if !ready.next().unwrap_or(false) {
                return true;
            }
            let Some(read) = input.read(&mut buffer) else {
                return false;
            };
            if let (Some(log), false) = (logs.get_mut(input.file), read.is_empty()) {
                log.append(since_1970(), input.stream, read);
            }
            true
        });
    }
    Ok(())
}

/// What all logs together may take of their file system. The rest is for pages that are not full
/// and for files that somebody still reads. No bound where none can be found out: what is too
/// much is dropped when it cannot be written.
fn room(directory: &Path) -> u64 {
    let opened = std::fs::File::open(directory);
    match opened.map(|directory| files::file_system_bytes(directory.as_fd())) {
        Ok(Ok(bytes @ 1..)) => bytes.saturating_sub(bytes / 16),
        _ => u64::MAX,
    }
}

/// The most that one log may keep so that all find room: who wants little gets it whole, and the
/// others the same each.
fn most_of_each(wanted: impl Iterator<Item = u64>, room: u64) -> u64 {
    let mut wanted: Vec<u64> = wanted.collect();
    wanted.sort_unstable();
    let mut left_bytes = room;
    for (bytes, among) in wanted.iter().zip((1..=wanted.len() as u64).rev()) {
        let share = left_bytes / among;
        if *bytes > share {
            return share;
        }
        left_bytes = left_bytes.saturating_sub(*bytes);
    }
    u64::MAX
}

/// Waits until something can be read, without end; tells of each input whether it can.
fn wait(inputs: &[Input]) -> Result<Vec<bool>, Errno> {
    let mut polled: Vec<libc::pollfd> = inputs
        .iter()
        .map(|input| libc::pollfd {
            fd: input.pipe.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    match files::poll(&mut polled, -1) {
        Ok(_) | Err(Errno(libc::EINTR)) => {}
        Err(errno) => return Err(errno),
    }
    Ok(polled.iter().map(|polled| polled.revents != 0).collect())
}

fn since_1970() -> std::time::Duration {
    // A clock before 1970 cannot be: the machine's is never earlier than its image.
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

#[cfg(test)]
mod tests;
