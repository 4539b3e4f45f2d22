//! The demo container: a web server on port 8080 that shows the machine it runs on.
//!
//! `/` is a page, `/status.json` what PID 1 mounted into the container, `/healthz` says that the
//! server lives. A fixed number of threads serve one connection each at a time; every read and
//! write has a deadline, and a request can only ever be too large, wrong or answered.

mod request;
mod response;
mod sys;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use request::{Method, Request};
use response::Response;

const ADDRESS: &str = "0.0.0.0:8080";

/// Connections served at the same time.
const THREADS: usize = 4;

/// Stack of a serving thread: nothing here is deep, and the machine may have 48 MiB in all.
const STACK_BYTES: usize = 128 * 1024;

/// How long a client may take to say what it wants, and to take the answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Where PID 1 mounts the machine's status.
const STATUS: &str = "/run/berth/status.json";

/// The largest status that is passed on.
const MAX_STATUS_BYTES: u64 = 1 << 20;

fn main() -> ExitCode {
    sys::exit_on_termination();
    let listener = match TcpListener::bind(ADDRESS) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("demo: cannot listen on {ADDRESS}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("demo: serving on {ADDRESS}");
    thread::scope(|scope| {
        for number in 1..=THREADS {
            let started = thread::Builder::new()
                .name(format!("serve-{number}"))
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, || serve(&listener));
            if let Err(error) = started {
                eprintln!("demo: thread {number} of {THREADS} cannot start: {error}");
            }
        }
        serve(&listener);
    });
    ExitCode::FAILURE
}

fn serve(listener: &TcpListener) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => answer(&stream),
            // Out of descriptors or memory for a moment: the next one may work.
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// One connection, one request. A client that went away is no concern of ours.
fn answer(mut stream: &TcpStream) {
    let response = match request::read(stream, DEADLINE) {
        Ok(request) => {
            let mut response = route(&request, Path::new(STATUS));
            response.head_only = request.method == Method::Head;
            response
        }
        Err(request::Refused::Closed) => return,
        Err(request::Refused::Status(status)) => Response::text(status, ""),
    };
    let _ = stream.set_write_timeout(Some(DEADLINE));
    let _ = stream.write_all(&response.to_bytes());
    response::close(stream, DEADLINE);
}

fn route(request: &Request, status: &Path) -> Response {
    match request.path.as_str() {
        "/" => Response::page(&read_status(status)),
        "/status.json" => Response::json(read_status(status)),
        "/healthz" => Response::text("200 OK", "ok\n"),
        _ => Response::text("404 Not Found", "there is /, /status.json and /healthz\n"),
    }
}

/// The machine's status, or a JSON object that says why there is none.
fn read_status(path: &Path) -> String {
    use std::io::Read;

    let mut text = String::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(MAX_STATUS_BYTES).read_to_string(&mut text));
    match read {
        Ok(_) if text.trim_start().starts_with('{') => text,
        Ok(_) => "{\"error\":\"the machine's status is not a JSON object\"}".to_owned(),
        Err(error) => {
            let reason = error.to_string().replace(['"', '\\'], "'");
            format!("{{\"error\":\"the machine's status cannot be read: {reason}\"}}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// What a client gets that sends `bytes` and closes its side.
    fn exchange(bytes: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client");
            answer(&stream);
        });
        let mut client = TcpStream::connect(address).expect("a server");
        client.write_all(bytes).expect("send");
        let _ = client.shutdown(std::net::Shutdown::Write);
        let mut text = String::new();
        let _ = client.read_to_string(&mut text);
        server.join().expect("the server did not panic");
        text
    }

    #[test]
    fn the_page_health_and_status_are_served() {
        let page = exchange(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        assert!(page.contains("<!doctype html>") && page.contains("cannot be read"));
        let health = exchange(b"GET /healthz?x=1 HTTP/1.0\r\n\r\n");
        assert!(health.ends_with("\r\n\r\nok\n"), "{health}");
        let head = exchange(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(head.contains("content-length: 3\r\n") && head.ends_with("\r\n\r\n"));
        let status = exchange(b"GET /status.json HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(status.contains("application/json"), "{status}");
    }

    #[test]
    fn bad_requests_get_the_status_they_deserve() {
        let long = [
            b"GET / HTTP/1.1\r\nx: ".to_vec(),
            vec![b'a'; 20_000],
            b"\r\n\r\n".to_vec(),
        ]
        .concat();
        for (bytes, expected) in [
            (&b"POST / HTTP/1.1\r\n\r\n"[..], "405"),
            (b"GET /nowhere HTTP/1.1\r\n\r\n", "404"),
            (b"GET\r\n\r\n", "400"),
            (b"GET / HTTP/9\r\n\r\n", "505"),
            (b"\xff\xfe\x00\r\n\r\n", "400"),
            (b"GET nopath HTTP/1.1\r\n\r\n", "400"),
            (b"GET / HTTP/1.1\r\nhalf", "400"),
            (&long, "431"),
        ] {
            let text = exchange(bytes);
            assert!(
                text.starts_with(&format!("HTTP/1.1 {expected} ")),
                "{:?}: {text:?}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(40)])
            );
        }
        assert_eq!(exchange(b""), "", "a silent client gets nothing");
    }

    #[test]
    fn a_status_cannot_end_the_script_that_carries_it() {
        let page = Response::page("{\"a\":\"</script><b>\"}").to_bytes();
        let page = String::from_utf8(page).expect("text");
        assert!(page.contains("\\u003c/script>\\u003cb>"));
    }
}
