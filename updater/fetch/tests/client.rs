//! The client against servers that do what servers do, and what they must not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use berth_fetch::{Client, Error, Settings, Url};

/// A server that answers each connection with the next of `scripts`: one answer per request.
struct Server {
    address: SocketAddr,
    requests: JoinHandle<Vec<String>>,
}

impl Server {
    fn playing(scripts: Vec<Vec<Vec<u8>>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("its address");
        let requests = std::thread::spawn(move || {
            let mut requests = Vec::new();
            for script in scripts {
                let (mut stream, _) = listener.accept().expect("a connection");
                for answer in script {
                    requests.push(request(&mut stream));
                    // A client that has seen enough closes; that is its right.
                    let _ = stream.write_all(&answer);
                }
            }
            requests
        });
        Self { address, requests }
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).expect("a URL")
    }

    fn requests(self) -> Vec<String> {
        self.requests.join().expect("the server")
    }
}

fn request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).expect("text")
}

fn answer(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn client() -> Client {
    Client::new(Settings::default())
}

fn whole(client: &mut Client, url: &Url) -> Result<Vec<u8>, Error> {
    client.get(url, None)?.read_whole(1 << 20)
}

#[test]
fn one_connection_serves_many_requests() {
    let server = Server::playing(vec![vec![
        answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none"),
        answer("HTTP/1.1 206 Partial\r\nContent-Length: 2\r\nContent-Range: bytes 1-2/3\r\n\r\nwo"),
        answer(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nthr\r\n2;x\r\nee\r\n0\r\nA: b\r\n\r\n",
        ),
        answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ]]);
    let mut client = client();
    assert_eq!(
        whole(&mut client, &server.url("/1")).expect("whole"),
        b"one"
    );
    let mut part = client.get(&server.url("/2"), Some(1..3)).expect("a range");
    assert_eq!(part.length(), Some(2));
    assert_eq!(part.read_whole(2).expect("whole"), b"wo");
    assert_eq!(
        whole(&mut client, &server.url("/3")).expect("chunks"),
        b"three"
    );
    assert_eq!(whole(&mut client, &server.url("/4")).expect("nothing"), b"");
    let requests = server.requests();
    assert!(requests[0].starts_with("GET /1 HTTP/1.1\r\nHost: 127.0.0.1:"));
    assert!(requests[1].contains("\r\nRange: bytes=1-2\r\n"));
}

#[test]
fn a_connection_that_the_server_gave_up_is_replaced() {
    let one = || vec![answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")];
    let server = Server::playing(vec![one(), one()]);
    let mut client = client();
    for _ in 0..2 {
        assert_eq!(whole(&mut client, &server.url("/")).expect("whole"), b"x");
    }
}

#[test]
fn a_body_without_a_length_ends_with_the_connection() {
    let server = Server::playing(vec![vec![answer("HTTP/1.0 200 OK\r\n\r\nall of it")]]);
    assert_eq!(
        whole(&mut client(), &server.url("/")).expect("whole"),
        b"all of it"
    );
}

#[test]
fn a_range_that_is_another_one_is_refused() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfour",
        "HTTP/1.1 206 P\r\nContent-Length: 2\r\nContent-Range: bytes 0-1/4\r\n\r\nfo",
        "HTTP/1.1 206 P\r\nContent-Length: 3\r\nContent-Range: bytes 1-2/4\r\n\r\nour",
        "HTTP/1.1 206 P\r\nContent-Length: 2\r\n\r\nou",
    ] {
        let server = Server::playing(vec![vec![answer(text)]]);
        let mut client = client();
        let got = client.get(&server.url("/"), Some(1..3)).map(drop);
        assert!(matches!(got, Err(Error::Range { .. })), "{text:?}: {got:?}");
    }
}

#[test]
fn a_body_that_breaks_off_says_where() {
    let server = Server::playing(vec![vec![answer(
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
    )]]);
    let got = whole(&mut client(), &server.url("/f"));
    assert!(
        matches!(
            got,
            Err(Error::Truncated {
                received: 4,
                expected: 9,
                ..
            })
        ),
        "{got:?}"
    );
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let url = format!("http://{}/", listener.local_addr().expect("its address"));
    let mut impatient = Client::new(Settings {
        patience: Duration::from_millis(500),
        ..Settings::default()
    });
    let got = whole(&mut impatient, &Url::parse(&url).expect("a URL"));
    assert!(matches!(got, Err(Error::Silent { .. })), "{got:?}");
}

/// What it says, over and over.
struct Endless(&'static [u8], usize);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        for place in buffer.iter_mut() {
            *place = self.0[self.1 % self.0.len()];
            self.1 += 1;
        }
        Ok(buffer.len())
    }
}

impl Write for Endless {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_server_that_only_announces_its_answer_is_given_up() {
    let said = Box::new(Endless(b"HTTP/1.1 100 Continue\r\n\r\n", 0));
    let url = Url::parse("http://updates.invalid/").expect("a URL");
    // Nobody is there when the first connection is given up.
    let settings = Settings {
        proxy: Some("127.0.0.1:1".into()),
        ..Settings::default()
    };
    let got = whole(&mut Client::connected(settings, &url, said), &url);
    assert!(matches!(got, Err(Error::Connect { .. })), "{got:?}");
}

#[test]
fn an_answer_behind_a_few_announcements_is_read() {
    let announced = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(3);
    let text = format!("{announced}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let server = Server::playing(vec![vec![answer(&text)]]);
    assert_eq!(
        whole(&mut client(), &server.url("/")).expect("whole"),
        b"ok"
    );
}

#[test]
fn endless_data_is_cut_off() {
    let endless = [
        answer("HTTP/1.1 200 OK\r\n\r\n").as_slice(),
        &vec![b'x'; 3 << 20],
    ]
    .concat();
    let server = Server::playing(vec![vec![endless]]);
    let got = whole(&mut client(), &server.url("/"));
    assert!(matches!(got, Err(Error::Protocol { .. })), "{got:?}");
    let long_head = answer(&format!(
        "HTTP/1.1 200 OK\r\nA: {}\r\n\r\n",
        "x".repeat(20_000)
    ));
    let server = Server::playing(vec![vec![long_head]]);
    let got = whole(&mut client(), &server.url("/"));
    assert!(matches!(got, Err(Error::Protocol { .. })), "{got:?}");
}

#[test]
fn a_missing_file_is_told_by_its_status() {
    let server = Server::playing(vec![vec![answer(
        "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
    )]]);
    let got = whole(&mut client(), &server.url("/x"));
    assert_eq!(got.err().and_then(|why| why.status()), Some(404));
}

#[test]
fn redirects_are_followed_but_not_in_circles() {
    let to_b = answer(
        "HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    let server = Server::playing(vec![
        vec![to_b.clone()],
        vec![answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb")],
    ]);
    assert_eq!(
        whole(&mut client(), &server.url("/a")).expect("followed"),
        b"b"
    );
    assert!(server.requests()[1].starts_with("GET /b "));
    let server = Server::playing(vec![vec![to_b]; 5]);
    let got = whole(&mut client(), &server.url("/a"));
    assert!(matches!(got, Err(Error::Redirect { .. })), "{got:?}");
}

#[test]
fn a_proxy_gets_the_whole_url() {
    let server = Server::playing(vec![vec![answer(
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    )]]);
    let mut client = Client::new(Settings {
        proxy: Some(server.address.to_string()),
        ..Settings::default()
    });
    let url = Url::parse("http://nowhere.invalid/edge/x").expect("a URL");
    assert_eq!(whole(&mut client, &url).expect("through the proxy"), b"x");
    let asked = &server.requests()[0];
    assert!(
        asked
            .starts_with("GET http://nowhere.invalid/edge/x HTTP/1.1\r\nHost: nowhere.invalid\r\n")
    );
}

#[test]
fn a_download_keeps_to_its_bandwidth() {
    let body = [
        answer("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n").as_slice(),
        &[b'x'; 20_000],
    ]
    .concat();
    let server = Server::playing(vec![vec![body]]);
    let mut client = Client::new(Settings {
        most_per_second: Some(40_000),
        ..Settings::default()
    });
    let started = std::time::Instant::now();
    assert_eq!(
        whole(&mut client, &server.url("/")).expect("whole").len(),
        20_000
    );
    assert!(started.elapsed() >= Duration::from_millis(450));
}
