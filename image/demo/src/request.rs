//! The head of an HTTP request (RFC 9112, sections 2 and 3), as far as a server of three pages
//! needs it.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The longest request head that is read.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// What the client wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// Head and body.
    Get,
    /// Only the head.
    Head,
}

/// A request that can be answered.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// The path without its query.
    pub(crate) path: String,
}

/// Why there is no request.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The client closed, or said nothing in time.
    Closed,
    /// The status line's code and reason that it gets.
    Status(&'static str),
}

/// Reads one request head within `deadline`.
pub(crate) fn read(mut stream: &TcpStream, deadline: Duration) -> Result<Request, Refused> {
    let end = Instant::now() + deadline;
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Refused::Status("408 Request Timeout"));
        }
        if stream.set_read_timeout(Some(left)).is_err() {
            return Err(Refused::Closed);
        }
        let count = match stream.read(&mut piece) {
            Ok(0) if head.is_empty() => return Err(Refused::Closed),
            Ok(0) => return Err(Refused::Status("400 Bad Request")),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(Refused::Closed),
        };
        head.extend_from_slice(&piece[..count]);
        if let Some(length) = find(&head, b"\r\n\r\n") {
            return parse(&head[..length]).map_err(Refused::Status);
        }
        if head.len() > MAX_HEAD_BYTES {
            return Err(Refused::Status("431 Request Header Fields Too Large"));
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

fn parse(head: &[u8]) -> Result<Request, &'static str> {
    const BAD: &str = "400 Bad Request";
    let text = std::str::from_utf8(head).map_err(|_| BAD)?;
    let line = text.split("\r\n").next().ok_or(BAD)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(BAD);
    };
    if !version.starts_with("HTTP/1.") {
        return Err("505 HTTP Version Not Supported");
    }
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        _ => return Err("405 Method Not Allowed"),
    };
    if !target.starts_with('/') {
        return Err(BAD);
    }
    let path = target.split(['?', '#']).next().ok_or(BAD)?;
    Ok(Request {
        method,
        path: path.to_owned(),
    })
}
