//! The machine's serial console: shown, logged, and cut into lines for the boot report.

use std::fs::File;
use std::io::{Read, Write};
use std::process::ChildStdout;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Instant;

use super::Event;
use crate::say;

/// The longest line that is kept in memory.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Where the console goes.
#[derive(Debug)]
pub(crate) struct Console {
    pub(crate) log: Option<File>,
    pub(crate) show: bool,
}

impl Console {
    /// Reads until QEMU closes its end, in a thread of its own.
    pub(crate) fn read(mut self, mut from: ChildStdout, events: Sender<Event>) {
        thread::spawn(move || {
            let mut plain = Plain::default();
            let mut line = Vec::new();
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut piece) {
                let now = Instant::now();
                let text: Vec<u8> = piece[..count]
                    .iter()
                    .filter_map(|byte| plain.next(*byte))
                    .collect();
                self.write(&text);
                for byte in text {
                    match byte {
                        b'\n' => {
                            let text = String::from_utf8_lossy(&line).into_owned();
                            line.clear();
                            if events.send(Event::Line(text, now)).is_err() {
                                return;
                            }
                        }
                        b'\r' => {}
                        byte if line.len() < MAX_LINE_BYTES => line.push(byte),
                        _ => {}
                    }
                }
            }
            // Nobody listens any more: then nobody needs to know.
            let _ = events.send(Event::ConsoleClosed);
        });
    }

    /// A full disk or a closed terminal must not stop the machine.
    fn write(&mut self, bytes: &[u8]) {
        if let Some(log) = &mut self.log
            && let Err(error) = log.write_all(bytes)
        {
            say(format_args!("the log cannot be written any more: {error}"));
            self.log = None;
        }
        if self.show {
            let mut out = std::io::stdout().lock();
            self.show = out.write_all(bytes).and_then(|()| out.flush()).is_ok();
        }
    }
}

/// Takes terminal control sequences out: firmware clears the screen and moves the cursor, which
/// is no use in a log and a nuisance in somebody's terminal (ECMA-48, section 5.4).
#[derive(Debug, Default)]
struct Plain {
    state: State,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    Sequence,
}

impl Plain {
    /// The byte, when it is text.
    fn next(&mut self, byte: u8) -> Option<u8> {
        match (&self.state, byte) {
            (_, 0x1b) => self.state = State::Escape,
            (State::Text, b'\n' | b'\r' | b'\t') => return Some(byte),
            (State::Text, byte) if byte >= b' ' && byte != 0x7f => return Some(byte),
            (State::Text, _) => {}
            (State::Escape, b'[') => self.state = State::Sequence,
            (State::Escape, _) => self.state = State::Text,
            (State::Sequence, 0x40..=0x7e) => self.state = State::Text,
            (State::Sequence, _) => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Plain;

    #[test]
    fn control_sequences_are_taken_out_and_text_stays() {
        let mut plain = Plain::default();
        let text: Vec<u8> = b"\x1b[2J\x1b[01;01Ha\x1b=b\x00\x07\r\n\x1b[0m\xc3\xa4"
            .iter()
            .filter_map(|byte| plain.next(*byte))
            .collect();
        assert_eq!(text, "ab\r\nä".as_bytes());
    }
}
