//! The power button: firmware (ACPI) and hypervisors signal it as an input event.
//!
//! A virtual machine's "shut down" in every hypervisor and cloud is a press of this button.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::sys;

/// `struct input_event` of linux/input.h on 64-bit machines: time, type, code, value.
const EVENT_BYTES: usize = 24;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
const PRESSED: i32 = 1;

/// One input device with a power button.
#[derive(Debug)]
pub(crate) struct PowerButton {
    device: File,
    /// It has not been unplugged.
    there: bool,
}

impl PowerButton {
    /// Opens every power button of the machine; there may be none.
    pub(crate) fn open_all() -> Vec<Self> {
        let Ok(entries) = fs::read_dir("/dev/input") else {
            return Vec::new();
        };
        entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("event"))
            .filter_map(|entry| {
                OpenOptions::new()
                    .read(true)
                    .custom_flags(libc::O_NONBLOCK)
                    .open(entry.path())
                    .ok()
            })
            .filter(|device| sys::is_power_button(device.as_fd()))
            .map(Self::new)
            .collect()
    }

    fn new(device: File) -> Self {
        Self {
            device,
            there: true,
        }
    }

    /// Whether the button was pressed since the last call.
    pub(crate) fn was_pressed(&mut self) -> bool {
        let mut pressed = false;
        let mut event = [0; EVENT_BYTES];
        loop {
            match self.device.read(&mut event) {
                Ok(EVENT_BYTES) => {
                    pressed |= is_press(&event);
                    continue;
                }
                Ok(0) => self.there = false,
                Ok(_) => {} // no input device gives a part of an event
                Err(why) => {
                    let nothing_now = [ErrorKind::WouldBlock, ErrorKind::Interrupted];
                    self.there = nothing_now.contains(&why.kind());
                }
            }
            return pressed;
        }
    }

    /// Whether polling it can tell anything: one that was unplugged would wake PID 1 for ever.
    pub(crate) fn is_there(&self) -> bool {
        self.there
    }
}

impl AsFd for PowerButton {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

fn is_press(event: &[u8; EVENT_BYTES]) -> bool {
    let Some(([t0, t1, c0, c1, value @ ..], _)) = event
        .get(16..)
        .and_then(|fields| fields.split_first_chunk::<8>())
    else {
        return false;
    };
    u16::from_ne_bytes([*t0, *t1]) == EV_KEY
        && u16::from_ne_bytes([*c0, *c1]) == KEY_POWER
        && i32::from_ne_bytes(*value) == PRESSED
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use nix::fcntl::OFlag;
    use nix::unistd::pipe2;

    use super::*;

    fn event(kind: u16, code: u16, value: i32) -> [u8; EVENT_BYTES] {
        let mut bytes = [0; EVENT_BYTES];
        bytes[16..18].copy_from_slice(&kind.to_ne_bytes());
        bytes[18..20].copy_from_slice(&code.to_ne_bytes());
        bytes[20..].copy_from_slice(&value.to_ne_bytes());
        bytes
    }

    #[test]
    fn only_a_press_of_the_power_key_counts() {
        assert!(is_press(&event(EV_KEY, KEY_POWER, 1)));
        assert!(!is_press(&event(EV_KEY, KEY_POWER, 0)), "release");
        assert!(!is_press(&event(EV_KEY, 30, 1)), "another key");
        assert!(
            !is_press(&event(0, KEY_POWER, 1)),
            "a synchronisation event"
        );
    }

    #[test]
    fn a_button_that_was_unplugged_is_gone_and_one_that_is_quiet_is_not() {
        let (reader, writer) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).expect("a pipe");
        let (mut button, mut writer) = (PowerButton::new(reader.into()), File::from(writer));
        assert!(!button.was_pressed() && button.is_there());
        writer
            .write_all(&event(EV_KEY, KEY_POWER, PRESSED))
            .expect("an event");
        assert!(button.was_pressed() && button.is_there());
        writer
            .write_all(&event(EV_KEY, KEY_POWER, PRESSED))
            .expect("an event");
        drop(writer);
        assert!(button.was_pressed(), "its last press counts");
        assert!(!button.is_there());
    }

    #[test]
    fn a_button_that_cannot_be_read_is_gone() {
        // Reading a directory fails, as reading an unplugged device does.
        let mut button = PowerButton::new(File::open("/").expect("a directory"));
        assert!(!button.was_pressed() && !button.is_there());
    }
}
