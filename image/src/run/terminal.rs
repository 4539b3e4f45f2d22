//! The user's terminal while a machine runs: one key, without Enter and without an echo.

use std::io::{self, IsTerminal, Read};
use std::sync::mpsc::Sender;
use std::thread;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use super::{Error, Event};

/// Puts the terminal back as it was when dropped.
#[derive(Debug)]
pub(super) struct Guard {
    before: Option<Termios>,
}

/// Whether a person can press a key.
pub(super) fn is_interactive() -> bool {
    io::stdin().is_terminal()
}

/// Sends [`Event::Stop`] for the key `q`. Without a terminal nothing is read.
pub(super) fn watch(events: Sender<Event>) -> Result<Guard, Error> {
    if !is_interactive() {
        return Ok(Guard { before: None });
    }
    let failed = |error: nix::Error| Error::System {
        doing: "set the terminal up",
        source: error.into(),
    };
    let before = tcgetattr(io::stdin()).map_err(failed)?;
    let mut keys = before.clone();
    // Signals of keys (Ctrl-C) stay.
    keys.local_flags
        .remove(LocalFlags::ICANON | LocalFlags::ECHO);
    tcsetattr(io::stdin(), SetArg::TCSANOW, &keys).map_err(failed)?;
    thread::spawn(move || {
        let mut key = [0];
        while let Ok(1) = io::stdin().read(&mut key) {
            if matches!(key, [b'q' | b'Q']) && events.send(Event::Stop).is_err() {
                return;
            }
        }
    });
    Ok(Guard {
        before: Some(before),
    })
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A terminal that is gone needs no settings.
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}
