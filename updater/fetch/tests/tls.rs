//! https against a server of someone else's (openssl): only with a certificate that the caller's
//! authority vouches for, for the host that was asked for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth_fetch::{Authorities, Client, Error, Resolver, Settings, Url};

struct Server {
    child: Child,
    port: u16,
    directory: std::path::PathBuf,
}

impl Server {
    /// Serves `directory` by TLS with a certificate of its own for `updates.example`.
    fn start(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("berth-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(
            directory.join("hosts"),
            "127.0.0.1 updates.example other.example\n",
        )
        .expect("hosts");
        std::fs::write(
            directory.join("file"),
            "HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nsecret",
        )
        .expect("a file");
        certificate(&directory, "server");
        certificate(&directory, "stranger");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its number").port();
        drop(listener);
        let child = Command::new("openssl")
            .args([
                "s_server",
                "-quiet",
                "-HTTP",
                "-cert",
                "server.pem",
                "-key",
                "server.key",
            ])
            .args(["-accept", &format!("127.0.0.1:{port}")])
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl, which the tests need");
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "openssl does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self {
            child,
            port,
            directory,
        }
    }

    fn get(&self, host: &str, authority: &str) -> Result<Vec<u8>, Error> {
        self.get_by(None, host, authority)
    }

    fn get_by(
        &self,
        proxy: Option<SocketAddr>,
        host: &str,
        authority: &str,
    ) -> Result<Vec<u8>, Error> {
        let pem = std::fs::read(self.directory.join(authority)).expect("a certificate");
        let mut client = Client::new(Settings {
            proxy: proxy.map(|proxy| proxy.to_string()),
            resolver: Resolver::reading(self.directory.join("hosts"), "/nowhere"),
            tls: Some(Box::new(Authorities::read(&pem).expect("an authority"))),
            ..Settings::default()
        });
        let url = Url::parse(&format!("https://{host}:{}/file", self.port)).expect("a URL");
        client.get(&url, None)?.read_whole(100)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn certificate(directory: &Path, name: &str) {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args(["-days", "2", "-subj", "/CN=updates.example"])
        .args(["-addext", "subjectAltName=DNS:updates.example"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args([
            "-keyout",
            &format!("{name}.key"),
            "-out",
            &format!("{name}.pem"),
        ])
        .current_dir(directory)
        .stderr(Stdio::null())
        .status()
        .expect("openssl, which the tests need");
    assert!(made.success());
}

/// A record that comes byte by byte, each in time.
#[test]
fn a_handshake_that_trickles_is_given_up() {
    let server = Server::start("trickle");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let record = [22, 3, 3, 0x40, 0].into_iter().chain(std::iter::repeat(0));
        for byte in record {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let pem = std::fs::read(server.directory.join("server.pem")).expect("a certificate");
    let mut client = Client::new(Settings {
        patience: Duration::from_millis(300),
        resolver: Resolver::reading(server.directory.join("hosts"), "/nowhere"),
        tls: Some(Box::new(Authorities::read(&pem).expect("an authority"))),
        ..Settings::default()
    });
    let url = Url::parse(&format!("https://updates.example:{port}/file")).expect("a URL");
    let began = Instant::now();
    let got = client.get(&url, None).map(drop);
    assert!(matches!(got, Err(Error::Tls { .. })), "{got:?}");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_server_is_believed_only_with_the_certificate_and_the_name_that_it_must_have() {
    let server = Server::start("names");
    assert_eq!(
        server
            .get("updates.example", "server.pem")
            .expect("trusted"),
        b"secret"
    );
    let stranger = server.get("updates.example", "stranger.pem");
    assert!(matches!(stranger, Err(Error::Tls { .. })), "{stranger:?}");
    let other = server.get("other.example", "server.pem");
    assert!(matches!(other, Err(Error::Tls { .. })), "{other:?}");
}

/// A proxy for one connection, which goes to this computer's `port` whatever its name; gives the
/// request that came.
fn proxy(port: u16, answer: &'static str) -> (SocketAddr, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let asked = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a connection");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).unwrap_or(0) == 1 {
            head.push(byte[0]);
        }
        client.write_all(answer.as_bytes()).expect("an answer");
        if answer.contains(" 200 ") {
            let mut server = TcpStream::connect(("127.0.0.1", port)).expect("the server");
            let mut from = client.try_clone().expect("a copy");
            let mut to = server.try_clone().expect("a copy");
            let up = std::thread::spawn(move || {
                // Either side may end it, and the other hears of that.
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
            let _ = std::io::copy(&mut server, &mut client);
            let _ = client.shutdown(std::net::Shutdown::Both);
            let _ = up.join();
        }
        String::from_utf8(head).expect("text")
    });
    (address, asked)
}

#[test]
fn a_proxy_carries_what_it_cannot_read() {
    let server = Server::start("proxy");
    let (address, asked) = proxy(server.port, "HTTP/1.1 200 Go\r\n\r\n");
    let got = server.get_by(Some(address), "updates.example", "server.pem");
    assert_eq!(got.expect("through the proxy"), b"secret");
    let asked = asked.join().expect("the proxy");
    let line = format!("CONNECT updates.example:{} HTTP/1.1\r\n", server.port);
    assert!(asked.starts_with(&line), "{asked}");
    assert!(!asked.contains("/file"), "{asked}");

    // Nor can it stand in for the server.
    let (address, _) = proxy(server.port, "HTTP/1.1 200 Go\r\n\r\n");
    let got = server.get_by(Some(address), "updates.example", "stranger.pem");
    assert!(matches!(got, Err(Error::Tls { .. })), "{got:?}");
}

#[test]
fn a_proxy_that_refuses_is_named_with_its_answer() {
    let server = Server::start("refusing");
    let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    let (address, _) = proxy(server.port, refusal);
    let got = server.get_by(Some(address), "updates.example", "server.pem");
    let said = got.expect_err("refused").to_string();
    assert!(
        said.starts_with(&format!(
            "the proxy {address} refuses a connection to updates.example"
        )) && said.contains("403"),
        "{said}"
    );
}

#[test]
fn a_file_without_a_certificate_is_no_authority() {
    assert!(Authorities::read(b"nothing").is_err());
}
