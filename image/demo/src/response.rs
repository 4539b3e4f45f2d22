//! The answers: plain text, JSON, and the one page.

use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// The page; `@STATUS@` stands for the status as JSON.
const PAGE: &str = include_str!("page.html");

/// How much of a refused request is read and thrown away before the connection closes.
const MAX_DRAINED_BYTES: usize = 64 * 1024;

/// One answer.
#[derive(Debug)]
pub(crate) struct Response {
    status: &'static str,
    content_type: &'static str,
    body: String,
    /// Send the head only (the answer to HEAD).
    pub(crate) head_only: bool,
}

impl Response {
    /// Plain text; without any, the status line's words.
    pub(crate) fn text(status: &'static str, body: &str) -> Self {
        let body = if body.is_empty() {
            format!("{status}\n")
        } else {
            body.to_owned()
        };
        Self::new(status, "text/plain; charset=utf-8", body)
    }

    /// A JSON document.
    pub(crate) fn json(body: String) -> Self {
        Self::new("200 OK", "application/json", body)
    }

    /// The page with `status` in it, written so that it cannot end the script it stands in.
    pub(crate) fn page(status: &str) -> Self {
        let body = PAGE.replace("@STATUS@", &status.replace('<', "\\u003c"));
        Self::new("200 OK", "text/html; charset=utf-8", body)
    }

    fn new(status: &'static str, content_type: &'static str, body: String) -> Self {
        Self {
            status,
            content_type,
            body,
            head_only: false,
        }
    }

    /// The answer as HTTP/1.1 sends it; the connection ends with it.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!(
            "HTTP/1.1 {}\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\
             cache-control: no-store\r\nx-content-type-options: nosniff\r\n\
             content-security-policy: default-src 'none'; style-src 'unsafe-inline'; \
             script-src 'unsafe-inline'; connect-src 'self'\r\n\
             allow: GET, HEAD\r\n\r\n",
            self.status,
            self.content_type,
            self.body.len(),
        );
        if !self.head_only {
            text.push_str(&self.body);
        }
        text.into_bytes()
    }
}

/// Closes after a refused request without a reset that would take the answer away from the
/// client: what it still sends is read, up to a limit.
pub(crate) fn close(mut stream: &TcpStream, deadline: Duration) {
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.set_read_timeout(Some(deadline.min(Duration::from_millis(500))));
    let mut drained = 0;
    let mut piece = [0; 4096];
    while drained < MAX_DRAINED_BYTES {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(count) => drained += count,
        }
    }
}
