//! The least of the clients of two servers that people run: a whole exchange each, and nothing
//! that would hide what the server does.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::Error;

/// How long one exchange may take.
const EXCHANGE: Duration = Duration::from_secs(60);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(300);
/// Protocol 3.0 (PostgreSQL documentation, "Message Formats", StartupMessage).
const POSTGRES_PROTOCOL: i32 = 196_608;

/// Sends commands to a Redis server, a line each (inline commands of RESP), until it answers;
/// returns the answers without what marks their ends.
pub fn redis(port: u16, commands: &[&str], deadline: Duration) -> Result<Vec<String>, Error> {
    until_it_works(deadline, "asking Redis", || {
        let mut stream = BufReader::new(connect(port)?);
        let mut answers = Vec::new();
        for command in commands {
            write!(stream.get_mut(), "{command}\r\n")?;
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end();
            // A bulk string: its length, then itself.
            let answer = match line.strip_prefix('$').map(str::parse::<usize>) {
                Some(Ok(length)) => {
                    let mut bytes = vec![0; length + 2];
                    stream.read_exact(&mut bytes)?;
                    String::from_utf8_lossy(&bytes[..length]).into_owned()
                }
                _ => line.to_owned(),
            };
            answers.push(answer);
        }
        Ok(answers)
    })
}

/// Runs one query on a PostgreSQL server that trusts us, when it accepts connections; returns the
/// first column of its rows.
pub fn postgres(port: u16, query: &str, deadline: Duration) -> Result<Vec<String>, Error> {
    until_it_works(deadline, "asking PostgreSQL", || {
        let mut stream = connect(port)?;
        let mut startup = POSTGRES_PROTOCOL.to_be_bytes().to_vec();
        startup.extend_from_slice(b"user\0postgres\0database\0postgres\0\0");
        stream.write_all(&with_length(&startup))?;
        read_until_ready(&mut stream)?;
        let text = [query.as_bytes(), &[0]].concat();
        stream.write_all(&[&b"Q"[..], &with_length(&text)].concat())?;
        read_until_ready(&mut stream)
    })
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(EXCHANGE))?;
    stream.set_write_timeout(Some(EXCHANGE))?;
    Ok(stream)
}

/// A message behind its length, which counts itself.
fn with_length(body: &[u8]) -> Vec<u8> {
    let length = body.len() as u32 + 4;
    [&length.to_be_bytes()[..], body].concat()
}

/// Reads messages up to ReadyForQuery; the first column of each DataRow.
fn read_until_ready(stream: &mut TcpStream) -> io::Result<Vec<String>> {
    let mut rows = Vec::new();
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length.saturating_sub(4)];
        stream.read_exact(&mut body)?;
        match head[0] {
            b'Z' => return Ok(rows),
            b'E' => {
                return Err(io::Error::other(
                    String::from_utf8_lossy(&body).into_owned(),
                ));
            }
            // Two bytes: columns; four bytes: the first one's length.
            b'D' => rows.push(String::from_utf8_lossy(body.get(6..).unwrap_or_default()).into()),
            _ => {}
        }
    }
}

fn until_it_works<T>(
    deadline: Duration,
    doing: &str,
    exchange: impl Fn() -> io::Result<T>,
) -> Result<T, Error> {
    let until = Instant::now() + deadline;
    loop {
        match exchange() {
            Ok(answer) => return Ok(answer),
            Err(_) if Instant::now() < until => thread::sleep(PAUSE),
            Err(error) => return Err(Error::broken(format!("{doing}: {error}"))),
        }
    }
}
