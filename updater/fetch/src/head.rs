//! The head of a response: status and the few fields that matter (RFC 9112, sections 4 and 5).

use crate::limits::FIELDS;

/// What a response's head says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Bytes of the body, when they were announced.
    pub(crate) content_length: Option<u64>,
    /// The body comes in chunks.
    pub(crate) chunked: bool,
    /// First byte, last byte and whole length of a partial answer.
    pub(crate) content_range: Option<(u64, u64, Option<u64>)>,
    pub(crate) location: Option<String>,
    /// The connection ends after the body.
    pub(crate) close: bool,
}

/// Where the head ends in `bytes`, behind its empty line.
pub(crate) fn end(bytes: &[u8]) -> Option<usize> {
    let mut at_line_start = false;
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' if at_line_start => return Some(index + 1),
            b'\n' => at_line_start = true,
            b'\r' => {}
            _ => at_line_start = false,
        }
    }
    None
}

/// Reads a whole head; says what is wrong with it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Head, &'static str> {
    let text = std::str::from_utf8(bytes)
        .ok()
        .filter(|text| text.is_ascii())
        .ok_or("its head is not plain text")?;
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let mut words = first.splitn(3, ' ');
    let version = words.next().unwrap_or_default();
    let old = match version {
        "HTTP/1.1" => false,
        "HTTP/1.0" => true,
        _ => return Err("it does not start with HTTP/1.1"),
    };
    let status = words
        .next()
        .filter(|word| word.len() == 3)
        .and_then(|word| word.parse().ok())
        .filter(|status| (100..600).contains(status))
        .ok_or("its status is no number")?;
    let mut head = Head {
        status,
        close: old,
        ..Head::default()
    };
    let mut fields = 0;
    for line in lines.take_while(|line| !line.is_empty()) {
        fields += 1;
        if fields > FIELDS {
            return Err("its head has too many fields");
        }
        if line.starts_with([' ', '\t']) {
            return Err("a field of its head goes over several lines");
        }
        let (name, value) = line
            .split_once(':')
            .ok_or("a field of its head has no name")?;
        field(&mut head, &name.to_ascii_lowercase(), value.trim())?;
    }
    if head.chunked {
        head.content_length = None; // RFC 9112, 6.3: the chunks say it
    }
    Ok(head)
}

fn field(head: &mut Head, name: &str, value: &str) -> Result<(), &'static str> {
    match name {
        "content-length" => {
            let length = number(value).ok_or("its length is no number")?;
            if head.content_length.is_some_and(|before| before != length) {
                return Err("it has two lengths");
            }
            head.content_length = Some(length);
        }
        "transfer-encoding" => match value.eq_ignore_ascii_case("chunked") {
            true => head.chunked = true,
            false => return Err("its body is encoded in an unknown way"),
        },
        "content-encoding" if !value.eq_ignore_ascii_case("identity") => {
            return Err("its body is compressed, which nobody asked for");
        }
        "content-range" => {
            head.content_range = Some(range(value).ok_or("its range is no range")?);
        }
        "location" => head.location = Some(value.to_owned()),
        "connection" => {
            let mut options = value.split(',').map(str::trim);
            if options.any(|option| option.eq_ignore_ascii_case("close")) {
                head.close = true;
            }
        }
        _ => {}
    }
    Ok(())
}

/// `bytes 0-99/200` or `bytes 0-99/*`.
fn range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, whole) = value.strip_prefix("bytes ")?.split_once('/')?;
    let whole = match whole {
        "*" => None,
        whole => Some(number(whole)?),
    };
    if range == "*" {
        return Some((1, 0, whole)); // an unsatisfied range: fits no request
    }
    let (first, last) = range.split_once('-')?;
    Some((number(first)?, number(last)?, whole))
}

/// Digits only: `parse` would take a sign.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_read() {
        let bytes = b"HTTP/1.1 206 Partial Content\r\nServer: x\r\nContent-Length: 100\r\n\
            Content-Range: bytes 100-199/1000\r\nConnection: close\r\n\r\nbody";
        let length = end(bytes).expect("an end");
        assert_eq!(&bytes[length..], b"body");
        let head = parse(&bytes[..length]).expect("a head");
        let expected = Head {
            status: 206,
            content_length: Some(100),
            content_range: Some((100, 199, Some(1000))),
            close: true,
            ..Head::default()
        };
        assert_eq!(head, expected);
    }

    #[test]
    fn a_head_that_could_be_read_in_two_ways_is_refused() {
        for text in [
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 2 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nnothing\r\n\r\n",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
