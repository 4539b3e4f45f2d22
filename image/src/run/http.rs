//! Asks the published ports until they answer: the least of an HTTP client (RFC 9112).

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use super::Event;
use super::ports::Forward;

/// How long one exchange may take, and the pause before the next.
const EXCHANGE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);

/// The largest answer that is read.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

/// An answer of a published port.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The machine's port.
    pub(crate) port: u16,
    /// Since QEMU was started.
    pub(crate) after: Duration,
    here: u16,
    status: String,
    bytes: usize,
    title: Option<String>,
}

impl Answer {
    /// In words.
    pub(crate) fn describe(&self) -> String {
        let title = match &self.title {
            Some(title) => format!(", {title:?}"),
            None => String::new(),
        };
        format!(
            "fetched http://localhost:{}/ from the machine: {}, {} bytes{title}, {:.1} s after \
             power-on",
            self.here,
            self.status,
            self.bytes,
            self.after.as_secs_f64()
        )
    }
}

/// Asks each port in a thread of its own until it answers.
pub(crate) fn watch(forwards: &[Forward], started: Instant, events: &Sender<Event>) {
    for &Forward { here, there } in forwards {
        let events = events.clone();
        thread::spawn(move || {
            loop {
                if let Ok(Some(mut answer)) = ask(here) {
                    answer.port = there;
                    answer.after = started.elapsed();
                    // The machine may be gone by now.
                    let _ = events.send(Event::Answered(answer));
                    return;
                }
                thread::sleep(PAUSE);
            }
        });
    }
}

fn ask(here: u16) -> io::Result<Option<Answer>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, here));
    let mut stream = TcpStream::connect_timeout(&address, EXCHANGE)?;
    stream.set_read_timeout(Some(EXCHANGE))?;
    stream.set_write_timeout(Some(EXCHANGE))?;
    stream.write_all(
        format!("GET / HTTP/1.1\r\nHost: localhost:{here}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut bytes = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut bytes)?;
    Ok(parse(here, &bytes))
}

/// `None` for anything but a whole HTTP answer.
fn parse(here: u16, bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let status = head.lines().next()?.strip_prefix("HTTP/1.")?.get(2..)?;
    let body = String::from_utf8_lossy(&bytes[end + 4..]);
    let title = body
        .split_once("<title>")
        .and_then(|(_, rest)| rest.split_once("</title>"))
        .map(|(title, _)| title.trim().chars().take(80).collect());
    Some(Answer {
        port: 0,
        after: Duration::ZERO,
        here,
        status: status.to_owned(),
        bytes: bytes.len() - end - 4,
        title,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_answer_counts() {
        let answer =
            parse(80, b"HTTP/1.1 200 OK\r\na: b\r\n\r\n<title> Berth </title>").expect("an answer");
        assert_eq!(answer.status, "200 OK");
        assert_eq!(answer.title.as_deref(), Some("Berth"));
        assert_eq!(answer.bytes, 22);
        assert!(parse(80, b"").is_none());
        assert!(parse(80, b"SSH-2.0-x\r\n\r\n").is_none());
        assert!(parse(80, b"HTTP/1.1 200 OK\r\n").is_none());
    }
}
