//! The client on hostile answers: a body within its bounds, or an error; no panic, no waiting.
//!
//! The answers come from memory. Everything else would go to a proxy where nobody listens, so a
//! redirect leads nowhere. Runs for `BERTH_FUZZ_SECONDS` (2) from `BERTH_FUZZ_SEED`, and prints
//! what repeats it.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use berth_chance::Random;
use berth_fetch::{Client, Settings, Url};

/// Most bytes that a test's body may have.
const MOST: usize = 2000;

/// A connection whose other side has said all that it will say; it comes in pieces.
struct Said {
    bytes: Vec<u8>,
    at: usize,
    piece: usize,
}

impl Read for Said {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = &self.bytes[self.at..];
        let length = left.len().min(buffer.len()).min(self.piece);
        buffer[..length].copy_from_slice(&left[..length]);
        self.at += length;
        Ok(length)
    }
}

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const ANSWERS: [&str; 7] = [
    "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 206 Part\r\nContent-Length: 3\r\nContent-Range: bytes 10-12/100\r\n\r\nabc",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n",
    "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nuntil the end",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    "HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 404 No\r\nContent-Length: 2\r\nContent-Encoding: identity\r\n\r\nno",
];

const WORDS: [&str; 16] = [
    "\r\n",
    "\n",
    "\r\n\r\n",
    ":",
    " ",
    "\t",
    "\0",
    "18446744073709551615",
    "-1",
    "ffffffffffffffff",
    "Content-Length: 7\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Content-Range: bytes 10-12/*\r\n",
    "HTTP/1.1 200 OK\r\n",
    "Location: https://[::1]:99999/%\r\n",
    "0\r\n\r\n",
];

fn hostile(random: &mut Random) -> Vec<u8> {
    let mut bytes = ANSWERS[random.below(ANSWERS.len())].as_bytes().to_vec();
    for _ in 0..random.below(5) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes[at] = random.next_u64() as u8,
            1 => bytes.truncate(at),
            2 => {
                let word = WORDS[random.below(WORDS.len())];
                bytes.splice(at..at, word.bytes());
            }
            3 => {
                let end = (at + random.below(12)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let count = 1 << random.below(16);
                bytes.splice(at..at, std::iter::repeat_n(random.next_u64() as u8, count));
            }
        }
        if bytes.is_empty() {
            bytes.push(b'H');
        }
    }
    bytes
}

#[test]
fn hostile_answers_end_in_a_bounded_body_or_an_error() {
    let url = Url::parse("http://updates.invalid/edge/x").expect("a URL");
    let (mut random, end) = berth_chance::fuzz("fetch");
    let (mut count, mut whole) = (0_u64, 0_u64);
    while Instant::now() < end {
        let said = Said {
            bytes: hostile(&mut random),
            at: 0,
            piece: 1 + random.below(40_000),
        };
        let settings = Settings {
            proxy: Some("127.0.0.1:1".into()),
            patience: Duration::from_millis(100),
            ..Settings::default()
        };
        let mut client = Client::connected(settings, &url, Box::new(said));
        let range = [None, Some(10..13)][random.below(2)].clone();
        let wanted = range.clone().map(|range| range.end - range.start);
        count += 1;
        let Ok(mut answer) = client.get(&url, range) else {
            continue;
        };
        let length = answer.length();
        let Ok(body) = answer.read_whole(MOST) else {
            continue;
        };
        whole += 1;
        assert!(body.len() <= MOST);
        assert!(length.is_none_or(|length| length == body.len() as u64));
        // One whose length was not announced is held against the range by who asked.
        assert!(wanted.is_none() || length.is_none() || length == wanted);
    }
    println!("fuzz: fetch answers={count} whole={whole}");
    assert!(whole > 0, "nothing got past the reader");
}
