//! As much of HTTP/1.1 as a probe needs (RFC 9112): a request, and the status in the first line
//! of its answer. The rest of the answer is never looked at.

use std::net::SocketAddr;

/// Bytes until the status ends: `HTTP/1.1 200`.
const STATUS_LINE: usize = 12;

const NOT_HTTP: &str = "its answer is not HTTP";
pub(super) const NO_ANSWER: &str = "it closed the connection without an answer";

/// The request. The connection ends with its answer.
pub(super) fn request(path: &str, at: SocketAddr) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {at}\r\nUser-Agent: berth-probe\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    )
}

/// The status of an answer, of which `received` has come so far; `None` when more is needed.
pub(super) fn status(received: &[u8], ended: bool) -> Option<Result<u16, String>> {
    let begins = b"HTTP/1.";
    let length = received.len().min(begins.len());
    if received.get(..length) != begins.get(..length) {
        return Some(Err(NOT_HTTP.to_owned()));
    }
    let Some(line) = received.get(..STATUS_LINE) else {
        let why = match received {
            [] => NO_ANSWER,
            _ => "it closed the connection within the first line of its answer",
        };
        return ended.then(|| Err(why.to_owned()));
    };
    match received.get(STATUS_LINE) {
        None if !ended => return None,
        None | Some(b' ' | b'\r' | b'\n') => {}
        Some(_) => return Some(Err(NOT_HTTP.to_owned())),
    }
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let read = match line {
        [_, _, _, _, _, _, _, b'0' | b'1', b' ', a, b, c] => digit(*a)
            .zip(digit(*b))
            .zip(digit(*c))
            .map(|((a, b), c)| a * 100 + b * 10 + c),
        _ => None,
    };
    Some(read.ok_or_else(|| NOT_HTTP.to_owned()))
}

/// What a status means: as for Kubernetes, 200 to 399 is healthy. A redirect is not followed.
pub(super) fn judge(status: u16) -> Result<(), String> {
    match status {
        200..=399 => Ok(()),
        other => Err(format!("it answers with status {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read_as_soon_as_it_is_there_and_the_rest_never() {
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        for length in 0..answer.len() {
            let expected = (length > STATUS_LINE).then_some(Ok(204));
            assert_eq!(status(&answer[..length], false), expected, "{length}");
        }
        assert_eq!(status(b"HTTP/1.0 503", false), None);
        assert_eq!(status(b"HTTP/1.0 503", true), Some(Ok(503)));
    }

    #[test]
    fn what_is_not_http_is_known_by_its_first_byte() {
        for bytes in [
            &b"S"[..],
            b"\0",
            b"HTTP/2",
            b"HTTP/1.1200OK",
            b"HTTP/1.1 20x ",
            b"HTTP/1.1 2000",
            b"HTTP/1.9 200 ",
        ] {
            let read = status(bytes, false).expect("known");
            assert_eq!(read, Err(NOT_HTTP.to_owned()), "{bytes:?}");
        }
        assert!(status(b"", true).expect("ended").is_err());
        assert!(status(b"HTTP/1.1 2", true).expect("ended").is_err());
    }

    #[test]
    fn statuses_from_200_to_399_are_healthy() {
        let healthy: Vec<u16> = (0..1000).filter(|status| judge(*status).is_ok()).collect();
        assert_eq!(healthy, (200..400).collect::<Vec<_>>());
    }
}
