//! Just enough of HTTP/1.0 (RFC 1945) for the example: one GET, one connection, no TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);
const LONGEST_HEAD: u64 = 64 << 10;

/// The file `name` under `base`, of at most `max_bytes`; `None` when the server does not have it.
pub(crate) fn get(base: &str, name: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, String> {
    let base = base.strip_suffix('/').unwrap_or(base);
    let rest = base.strip_prefix("http://");
    let rest = rest.ok_or("only http:// addresses are understood")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let slash = if path.is_empty() { "" } else { "/" };
    let answer = request(host, &format!("/{path}{slash}{name}"), max_bytes);
    answer.map_err(|error| format!("{base}: {error}"))?
}

type Answer = Result<Option<Vec<u8>>, String>;

fn request(host: &str, path: &str, max_bytes: u64) -> std::io::Result<Answer> {
    let port = if host.contains(':') { "" } else { ":80" };
    let mut stream = TcpStream::connect(format!("{host}{port}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;

    let mut head = BufReader::new(stream).take(LONGEST_HEAD);
    let mut line = String::new();
    head.read_line(&mut line)?;
    let status = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut announced = None;
    loop {
        line.clear();
        head.read_line(&mut line)?;
        if line.trim_end().is_empty() {
            break;
        }
        let header = line.split_once(':');
        if let Some((_, value)) = header.filter(|(n, _)| n.eq_ignore_ascii_case("content-length")) {
            announced = value.trim().parse::<u64>().ok();
        }
    }
    match status.as_str() {
        "200" => {}
        "403" | "404" => return Ok(Ok(None)),
        other => return Ok(Err(format!("the server answers with status {other:?}"))),
    }
    let mut bytes = Vec::new();
    let mut body = head.into_inner().take(max_bytes.saturating_add(1));
    body.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Ok(Err(format!("the file is longer than {max_bytes} bytes")));
    }
    if announced.is_some_and(|length| length != bytes.len() as u64) {
        return Ok(Err("the connection broke off".to_owned()));
    }
    Ok(Ok(Some(bytes)))
}
