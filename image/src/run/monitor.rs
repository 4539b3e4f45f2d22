//! One command to QEMU by QMP (QEMU Machine Protocol: JSON lines on a socket).

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long QEMU may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// The longest line that is read.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// Sends `command`, which has no arguments, and waits until QEMU has taken it.
pub(super) fn execute(socket: &Path, command: &str) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let mut lines = BufReader::new(stream.try_clone()?);
    // The greeting, then the two answers; events may come in between.
    next(&mut lines, "QMP")?;
    for command in ["qmp_capabilities", command] {
        stream.write_all(format!("{{\"execute\":\"{command}\"}}\n").as_bytes())?;
        next(&mut lines, "return")?;
    }
    Ok(())
}

/// Reads until a message with the member `wanted`.
fn next(lines: &mut BufReader<UnixStream>, wanted: &str) -> io::Result<()> {
    use io::Read;

    loop {
        let mut line = String::new();
        if lines.by_ref().take(MAX_LINE_BYTES).read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let message: serde_json::Value = serde_json::from_str(&line)?;
        if message.get(wanted).is_some() {
            return Ok(());
        }
        if let Some(error) = message.get("error") {
            return Err(io::Error::other(error.to_string()));
        }
    }
}
