//! A web server in a thread, that does to an answer what a test wants.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing: it is right.
    None,
    /// It never comes.
    Stall,
    /// It ends in the middle.
    Truncate,
    /// It is of another range.
    OtherRange,
    /// One bit of its middle is another.
    Flip,
    /// There is no such file.
    Gone,
}

/// Decides by the path.
type Choose = Box<dyn Fn(&str) -> Fault + Send>;

/// Files and what goes wrong with them.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    files: BTreeMap<String, Vec<u8>>,
    choose: Choose,
    asked: Vec<String>,
}

impl Server {
    pub(super) fn start(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let server = Self {
            address: listener.local_addr().expect("its address"),
            shared: Arc::new(Mutex::new(Shared {
                files: files.clone(),
                choose: Box::new(|_| Fault::None),
                asked: Vec::new(),
            })),
        };
        let shared = Arc::clone(&server.shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        server
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/edge", self.address)
    }

    pub(super) fn replace(&self, files: &BTreeMap<String, Vec<u8>>) {
        self.shared.lock().expect("the files").files = files.clone();
    }

    pub(super) fn fault(&self, choose: impl Fn(&str) -> Fault + Send + 'static) {
        self.shared.lock().expect("the faults").choose = Box::new(choose);
    }

    /// What was asked for, as it stood in the request line.
    pub(super) fn asked(&self) -> Vec<String> {
        self.shared.lock().expect("the list").asked.clone()
    }
}

fn serve(mut stream: TcpStream, shared: &Mutex<Shared>) {
    loop {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        let head = String::from_utf8(head).expect("text");
        let target = head.split(' ').nth(1).expect("a target").to_owned();
        let path = target.split_once("/edge/").expect("below edge").1;
        let (content, fault) = {
            let mut shared = shared.lock().expect("the files");
            shared.asked.push(target.clone());
            let fault = (shared.choose)(path);
            (shared.files.get(path).cloned(), fault)
        };
        let range = head.lines().find_map(|line| {
            let (first, last) = line.strip_prefix("Range: bytes=")?.split_once('-')?;
            Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?))
        });
        let Some(content) = content.filter(|_| fault != Fault::Gone) else {
            let _ = stream.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
            continue;
        };
        let (mut body, mut answer) = match range {
            None => (content, "HTTP/1.1 200 OK\r\n".to_owned()),
            Some((first, last)) => {
                let body = content[first..=last].to_vec();
                let shift = usize::from(fault == Fault::OtherRange);
                let range = format!("bytes {}-{}/*", first + shift, last + shift);
                let line = format!("HTTP/1.1 206 Part\r\nContent-Range: {range}\r\n");
                (body, line)
            }
        };
        answer.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        match fault {
            Fault::Stall => {
                // Until the other side gives up.
                let _ = stream.read(&mut byte);
                return;
            }
            Fault::Truncate => {
                let _ = stream.write_all(answer.as_bytes());
                let _ = stream.write_all(&body[..body.len() / 2]);
                return;
            }
            Fault::Flip => {
                let middle = body.len() / 2;
                body[middle] ^= 1;
            }
            Fault::None | Fault::OtherRange | Fault::Gone => {}
        }
        // A client that has seen enough closes; that is its right.
        let _ = stream.write_all(answer.as_bytes());
        let _ = stream.write_all(&body);
    }
}
