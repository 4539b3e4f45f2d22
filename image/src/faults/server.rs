//! The least of a web server (RFC 9112, RFC 9110 section 14): files of one directory, whole or one
//! range of their bytes, one request for each connection. The machine under test reaches it as
//! 10.0.2.2; it listens on localhost only.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::run;

/// What QEMU's user network calls this computer.
const HOST: &str = "10.0.2.2";
/// How long one exchange may stand still.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest head of a request that is read.
const MAX_HEAD_BYTES: u64 = 16 << 10;

/// A server; it ends with the process.
#[derive(Clone, Debug)]
pub(super) struct Server {
    port: u16,
    directory: Arc<Mutex<PathBuf>>,
}

impl Server {
    /// Listens, and has nothing to give.
    pub(super) fn start() -> Result<Self, run::Error> {
        let failed = |source| run::Error::System {
            doing: "listen on localhost",
            source,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let directory = Arc::new(Mutex::new(PathBuf::new()));
        let server = Self {
            port,
            directory: Arc::clone(&directory),
        };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let directory = Arc::clone(&directory);
                thread::spawn(move || {
                    let directory = directory.lock().unwrap_or_else(PoisonError::into_inner);
                    let directory = directory.clone();
                    // The machine's power may be gone: then nobody waits for an answer.
                    let _ = serve(&stream, &directory);
                });
            }
        });
        Ok(server)
    }

    /// What the machine calls it.
    pub(super) fn url(&self) -> String {
        format!("http://{HOST}:{}", self.port)
    }

    /// Serves this directory from now on.
    pub(super) fn serve(&self, directory: &Path) {
        let mut served = self
            .directory
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        directory.clone_into(&mut served);
    }
}

fn serve(mut stream: &TcpStream, directory: &Path) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.take(MAX_HEAD_BYTES)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut range = None;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            range = Some(value.trim().to_owned());
        }
    }
    let path = match request.split(' ').collect::<Vec<_>>()[..] {
        ["GET", path, _] => file_in(directory, path),
        _ => None,
    };
    let Some(mut file) = path.and_then(|path| File::open(path).ok()) else {
        return stream.write_all(
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
    };
    let bytes = file.metadata()?.len();
    let (status, first, last) = match range.as_deref().map(|range| part(range, bytes)) {
        None => ("200 OK", 0, bytes),
        Some(Some((first, end))) => ("206 Partial Content", first, end),
        Some(None) => {
            let head = format!(
                "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{bytes}\r\n\
                 Content-Length: 0\r\nConnection: close\r\n\r\n"
            );
            return stream.write_all(head.as_bytes());
        }
    };
    let mut head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n",
        last - first
    );
    if range.is_some() {
        head.push_str(&format!(
            "Content-Range: bytes {first}-{}/{bytes}\r\n",
            last - 1
        ));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    file.seek(SeekFrom::Start(first))?;
    io::copy(&mut file.take(last - first), &mut stream).map(drop)
}

/// The file that a path names, if it is a file of the directory.
fn file_in(directory: &Path, path: &str) -> Option<PathBuf> {
    let path = path.split('?').next()?.trim_start_matches('/');
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    let path = Path::new(path);
    let found = directory.join(path);
    (path.components().all(plain) && found.is_file()).then_some(found)
}

/// First byte and end of a range, like `bytes=5-9` or `bytes=5-`.
fn part(range: &str, bytes: u64) -> Option<(u64, u64)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let first: u64 = first.parse().ok()?;
    let end = match last {
        "" => bytes,
        last => last.parse::<u64>().ok()?.checked_add(1)?.min(bytes),
    };
    (first < end).then_some((first, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(server: &Server, request: &str) -> String {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port));
        let mut stream = stream.expect("a connection");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    #[test]
    fn files_of_the_directory_are_served_whole_or_in_part_and_others_are_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let below = directory.path().join("served");
        std::fs::create_dir(&below).expect("a directory");
        std::fs::write(below.join("a"), "0123456789").expect("a file");
        std::fs::write(directory.path().join("secret"), "x").expect("a file");
        let server = Server::start().expect("a server");
        assert!(ask(&server, "GET /a HTTP/1.1\r\n\r\n").contains(" 404 "));
        server.serve(&below);
        let whole = ask(&server, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.ends_with("\r\n\r\n0123456789"));
        let part = ask(&server, "GET /a HTTP/1.1\r\nRange: bytes=2-4\r\n\r\n");
        assert!(
            part.contains(" 206 ") && part.ends_with("\r\n\r\n234"),
            "{part}"
        );
        assert!(part.contains("Content-Range: bytes 2-4/10\r\n"));
        let rest = ask(&server, "GET /a HTTP/1.1\r\nrange: bytes=8-\r\n\r\n");
        assert!(rest.ends_with("\r\n\r\n89"));
        let behind = ask(&server, "GET /a HTTP/1.1\r\nRange: bytes=10-\r\n\r\n");
        assert!(behind.contains(" 416 "));
        for path in ["/../secret", "//../secret", "/none", "/", "/./../secret"] {
            let answer = ask(&server, &format!("GET {path} HTTP/1.1\r\n\r\n"));
            assert!(answer.contains(" 404 "), "{path}: {answer}");
        }
    }
}
