//! Probes over the network: a connection from inside the container's network namespace, made by
//! a process that can do nothing else any more.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::asked::Asked;
use super::{confine, http};
use crate::sys::process;

/// What is read of an answer behind its status, so that the other end is not cut off while it
/// writes: at most so much, and for so long.
const POLITE_BYTES: usize = 64 << 10;
const POLITE_TIME: Duration = Duration::from_millis(200);

/// Joins the container's network and gives up every privilege.
pub(super) fn enter(container: BorrowedFd<'_>) -> Result<(), String> {
    process::join(container, libc::CLONE_NEWNET as u64)
        .map_err(|errno| format!("its network cannot be joined: {errno}"))?;
    confine::network().map_err(|errno| format!("the probe cannot give up privileges: {errno}"))
}

/// Asks.
pub(super) fn ask(asked: &Asked<'_>) -> Result<(), String> {
    let Asked::Network {
        port,
        path,
        timeout,
        ..
    } = *asked
    else {
        return Err("this probe is not made over the network".to_owned());
    };
    let deadline = Instant::now() + timeout;
    let (mut stream, at) = connect(&asked.places(), deadline).map_err(|why| match why.kind() {
        ErrorKind::ConnectionRefused => format!("nothing listens on port {port}"),
        ErrorKind::TimedOut => {
            format!(
                "no connection to port {port} within {} ms",
                timeout.as_millis()
            )
        }
        _ => format!("no connection to port {port}: {why}"),
    })?;
    let Some(path) = path else {
        return Ok(());
    };
    let status = status(&mut stream, path, at, deadline).map_err(|why| match why.kind() {
        ErrorKind::TimedOut => format!(
            "no answer from port {port} within {} ms",
            timeout.as_millis()
        ),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => http::NO_ANSWER.to_owned(),
        _ => format!("no answer from port {port}: {why}"),
    })?;
    let healthy = status.and_then(http::judge);
    let until = deadline.min(Instant::now() + POLITE_TIME);
    read_on(&mut stream, until);
    healthy
}

/// Connects to the first place that accepts; the error is the first place's.
fn connect(places: &[SocketAddr], deadline: Instant) -> io::Result<(TcpStream, SocketAddr)> {
    let mut first = None;
    for place in places {
        match TcpStream::connect_timeout(place, left(deadline)?) {
            Ok(stream) => return Ok((stream, *place)),
            Err(why) => first = first.or(Some(why)),
        }
    }
    Err(first.unwrap_or_else(|| ErrorKind::AddrNotAvailable.into()))
}

/// Sends the request and reads the status of its answer.
fn status(
    stream: &mut TcpStream,
    path: &str,
    at: SocketAddr,
    deadline: Instant,
) -> io::Result<Result<u16, String>> {
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream
        .write_all(http::request(path, at).as_bytes())
        .map_err(timed_out)?;
    let mut received = Vec::new();
    loop {
        let mut buffer = [0; 512];
        let count = read(stream, &mut buffer, deadline)?;
        received.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if let Some(status) = http::status(&received, count == 0) {
            return Ok(status);
        }
    }
}

/// Reads and drops what else comes.
fn read_on(stream: &mut TcpStream, until: Instant) {
    let mut buffer = [0; 4096];
    let mut total = 0;
    while total < POLITE_BYTES {
        match read(stream, &mut buffer, until) {
            Ok(0) | Err(_) => return,
            Ok(count) => total = total.saturating_add(count),
        }
    }
}

fn read(stream: &mut TcpStream, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
    stream.set_read_timeout(Some(left(deadline)?))?;
    stream.read(buffer).map_err(timed_out)
}

/// A socket's timeout is reported as "would block".
fn timed_out(why: io::Error) -> io::Error {
    match why.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => why,
    }
}

/// The time that is left; an error when there is none.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    // Zero would mean no timeout at all.
    match left < Duration::from_millis(1) {
        true => Err(ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}
