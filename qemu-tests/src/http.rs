//! The least of an HTTP/1.1 client (RFC 9112): one GET per connection, whole answers only.
//!
//! The tests judge what a machine serves; a client with opinions (retries, redirects, pools)
//! would hide what they look for.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::Error;

/// How long one exchange may take.
const EXCHANGE: Duration = Duration::from_secs(30);
/// The largest answer that is read.
const ANSWER_MAX: u64 = 64 << 20;
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Asks once.
pub fn get(port: u16, path: &str) -> Result<Answer, Error> {
    let fail = |reason: String| Error::Http {
        url: format!("http://127.0.0.1:{port}{path}"),
        reason,
    };
    exchange(port, path)
        .map_err(|error| fail(error.to_string()))
        .and_then(|bytes| parse(&bytes).ok_or_else(|| fail(malformed(&bytes))))
}

/// Asks until there is an answer (any status) or the deadline has passed.
pub fn get_within(port: u16, path: &str, deadline: Duration) -> Result<Answer, Error> {
    let until = Instant::now() + deadline;
    loop {
        match get(port, path) {
            Err(_) if Instant::now() < until => thread::sleep(PAUSE),
            answer => return answer,
        }
    }
}

fn exchange(port: u16, path: &str) -> std::io::Result<Vec<u8>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, EXCHANGE)?;
    stream.set_read_timeout(Some(EXCHANGE))?;
    stream.set_write_timeout(Some(EXCHANGE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn malformed(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(80)];
    format!(
        "{} bytes that are no whole HTTP answer, starting {:?}",
        bytes.len(),
        String::from_utf8_lossy(start)
    )
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.get(2..5)?;
    let status = status.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let value = |wanted: &str| {
        let mut fields = headers.iter();
        fields.find_map(|(name, value)| (name == wanted).then_some(value.as_str()))
    };
    let raw = &bytes[end + 4..];
    let body = if value("transfer-encoding") == Some("chunked") {
        unchunk(raw)?
    } else if let Some(length) = value("content-length") {
        raw.get(..length.parse().ok()?)?.to_vec()
    } else {
        raw.to_vec()
    };
    Some(Answer {
        status,
        headers,
        body,
    })
}

/// RFC 9112, section 7.1, without trailers.
fn unchunk(mut raw: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = raw.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&raw[..line]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let start = line + 2;
        body.extend_from_slice(raw.get(start..start.checked_add(size)?)?);
        raw = raw.get(start + size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_cut_short_is_no_answer() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let answer = parse(whole).expect("a whole answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
        assert!(parse(&whole[..whole.len() - 1]).is_none());
    }

    #[test]
    fn chunks_are_joined() {
        let bytes =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\n, y\r\n0\r\n\r\n";
        let answer = parse(bytes).expect("a chunked answer");
        assert_eq!(answer.text(), "hello, y");
        assert!(parse(&bytes[..bytes.len() - 6]).is_none());
    }
}
