//! The last lines of a container's log, for the console: a person reads them, so what could
//! steer a terminal is shown, not sent.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::record::{Record, Stream};

/// How much of a log is looked at.
const LOOKED_AT: u64 = 16 << 10;
/// Longer lines are cut.
const LONGEST_LINE: usize = 240;

/// The last lines that a container wrote, oldest first; none when there is no log. Never waits
/// for anything but memory: logs lie in memory.
#[must_use]
pub fn tail(directory: &Path, name: &str, most_lines: usize) -> Vec<String> {
    let older = end_of(&directory.join(format!("{name}.1")));
    let newer = end_of(&directory.join(name));
    let mut lines = Lines::default();
    // The first line of each part may have lost its beginning; it is no record then.
    for line in [older, newer].concat().split(|byte| *byte == b'\n') {
        if let Some(record) = Record::parse(line) {
            lines.add(&record);
        }
    }
    let lines = lines.finish();
    let first = lines.len().saturating_sub(most_lines);
    lines.into_iter().skip(first).collect()
}

fn end_of(path: &Path) -> Vec<u8> {
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOOKED_AT)))?;
        let mut text = Vec::new();
        file.take(LOOKED_AT).read_to_end(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    read().unwrap_or_default()
}

/// Lines being put together from records of both streams.
#[derive(Default)]
struct Lines {
    done: Vec<String>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Lines {
    fn add(&mut self, record: &Record<'_>) {
        let line = match record.stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let room = LONGEST_LINE.saturating_sub(line.len());
        let part = record.content.get(..room).unwrap_or(record.content);
        line.extend_from_slice(part);
        if record.full {
            let line = std::mem::take(line);
            self.done.push(harmless(&line));
        }
    }

    fn finish(mut self) -> Vec<String> {
        for line in [self.stdout, self.stderr] {
            if !line.is_empty() {
                self.done.push(harmless(&line));
            }
        }
        self.done
    }
}

/// Text without control characters.
fn harmless(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown = |letter: char| match letter {
        '\t' => ' ',
        control if control.is_control() => char::REPLACEMENT_CHARACTER,
        other => other,
    };
    text.trim_end().chars().map(shown).collect()
}
