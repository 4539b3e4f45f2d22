//! The body of an answer: read as it comes, with its end known.

use std::io::{self, Read};
use std::thread::sleep;
use std::time::Instant;

use crate::client::{Client, Open, broken};
use crate::limits::CHUNK_LINE;
use crate::pace::Pace;
use crate::{Error, Url};

/// How the end of a body is known (RFC 9112, section 6).
#[derive(Debug)]
pub(crate) enum Framing {
    /// After so many bytes.
    Length { left: u64 },
    /// In chunks, the last of which is empty; bytes left of the one that is being read.
    Chunks { left: u64, first: bool },
    /// With the connection.
    UntilClosed,
    /// It is reached.
    Ended,
}

/// A body that is being read.
pub struct Answer<'a> {
    client: &'a mut Client,
    open: Option<Open>,
    url: Url,
    framing: Framing,
    close: bool,
    pace: Pace,
    received: u64,
}

impl<'a> Answer<'a> {
    pub(crate) fn new(
        client: &'a mut Client,
        open: Open,
        url: Url,
        framing: Framing,
        close: bool,
        pace: Pace,
    ) -> Self {
        let mut answer = Self {
            client,
            open: Some(open),
            url,
            framing,
            close,
            pace,
            received: 0,
        };
        if matches!(answer.framing, Framing::Length { left: 0 }) {
            answer.end();
        }
        answer
    }

    /// Bytes of the body, when the server said how many.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match self.framing {
            Framing::Length { left } => self.received.checked_add(left),
            Framing::Ended => Some(self.received),
            Framing::Chunks { .. } | Framing::UntilClosed => None,
        }
    }

    /// Reads the rest, `most` bytes at the most.
    ///
    /// # Errors
    /// When it breaks off, comes too slowly or is longer than `most`.
    pub fn read_whole(&mut self, most: usize) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        let mut part = [0; 4096];
        loop {
            let length = self.next(&mut part)?;
            let Some(got) = part.get(..length).filter(|got| !got.is_empty()) else {
                return Ok(all);
            };
            if all.len().saturating_add(got.len()) > most {
                return Err(Error::Protocol {
                    authority: self.url.authority(),
                    what: "a file is longer than it can be",
                });
            }
            all.extend_from_slice(got);
        }
    }

    /// Fills a part of `buffer`; 0 at the end.
    ///
    /// # Errors
    /// When the body breaks off or comes too slowly.
    pub fn next(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if let Framing::Chunks { left: 0, first } = self.framing {
            self.next_chunk(first)?;
        }
        let left = match self.framing {
            Framing::Ended => return Ok(0),
            Framing::UntilClosed => u64::MAX,
            Framing::Length { left } | Framing::Chunks { left, .. } => left,
        };
        let patience = self.client.settings.patience;
        let Some(open) = &mut self.open else {
            return Ok(0);
        };
        let asked = Instant::now();
        let got = open.fill();
        let got = got.map_err(|why| broken(&self.url, patience, why))?;
        let now = Instant::now();
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let length = got.len().min(most).min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(got.iter().take(length)) {
            *to = *from;
        }
        open.consume(length);
        let bytes = length as u64;
        if length == 0 {
            return self.cut_off();
        }
        self.received = self.received.saturating_add(bytes);
        let waited = now.saturating_duration_since(asked);
        match self.pace.came(bytes, waited, now) {
            Some(pause) if pause.is_zero() => {}
            Some(pause) => sleep(pause),
            None => return Err(self.slow()),
        }
        match &mut self.framing {
            Framing::Length { left } => {
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    self.end();
                }
            }
            Framing::Chunks { left, .. } => *left = left.saturating_sub(bytes),
            Framing::UntilClosed | Framing::Ended => {}
        }
        Ok(length)
    }

    fn slow(&self) -> Error {
        Error::Slow {
            authority: self.url.authority(),
            least: self.client.settings.least_per_second,
        }
    }

    /// The connection has ended.
    fn cut_off(&mut self) -> Result<usize, Error> {
        self.open = None;
        let expected = match self.framing {
            Framing::UntilClosed | Framing::Ended => {
                self.framing = Framing::Ended;
                return Ok(0);
            }
            Framing::Length { left } | Framing::Chunks { left, .. } => {
                self.received.saturating_add(left)
            }
        };
        Err(Error::Truncated {
            authority: self.url.authority(),
            path: self.url.path.clone(),
            received: self.received,
            expected,
        })
    }

    /// The body is read; the connection serves the next request if it may.
    fn end(&mut self) {
        self.framing = Framing::Ended;
        if let Some(open) = self.open.take()
            && !self.close
        {
            self.client.keep(open);
        }
    }

    /// Reads a chunk's size line (RFC 9112, 7.1) and, after the last, the trailer.
    fn next_chunk(&mut self, first: bool) -> Result<(), Error> {
        if !first {
            self.line()?; // the end of the chunk before
        }
        let line = self.line()?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let wrong = !digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = u64::from_str_radix(digits, 16).ok().filter(|_| !wrong);
        let Some(size) = size else {
            return Err(Error::Protocol {
                authority: self.url.authority(),
                what: "a chunk of a body has no size",
            });
        };
        if size > 0 {
            self.framing = Framing::Chunks {
                left: size,
                first: false,
            };
            return Ok(());
        }
        for _ in 0..crate::limits::FIELDS {
            if self.line()?.is_empty() {
                self.end();
                return Ok(());
            }
        }
        Err(Error::Protocol {
            authority: self.url.authority(),
            what: "a body's trailer has too many fields",
        })
    }

    fn line(&mut self) -> Result<String, Error> {
        let patience = self.client.settings.patience;
        let mut line = Vec::new();
        while let Some(open) = &mut self.open {
            let asked = Instant::now();
            let got = open.fill();
            let got = got.map_err(|why| broken(&self.url, patience, why))?;
            let Some(byte) = got.first().copied() else {
                break;
            };
            open.consume(1);
            let now = Instant::now();
            let waited = now.saturating_duration_since(asked);
            if self.pace.came(1, waited, now).is_none() {
                return Err(self.slow());
            }
            match byte {
                b'\n' => return Ok(String::from_utf8_lossy(&line).trim_end().to_owned()),
                byte if line.len() < CHUNK_LINE => line.push(byte),
                _ => {
                    return Err(Error::Protocol {
                        authority: self.url.authority(),
                        what: "a chunk's line is too long",
                    });
                }
            }
        }
        self.cut_off().map(|_| String::new())
    }
}

impl Read for Answer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next(buffer).map_err(io::Error::other)
    }
}
