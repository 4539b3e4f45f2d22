//! https against a server of someone else's (openssl): only with a certificate that the caller's
//! authority vouches for, for the host that was asked for.

use std::net::{TcpListener, TcpStream};
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
        let pem = std::fs::read(self.directory.join(authority)).expect("a certificate");
        let mut client = Client::new(Settings {
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

#[test]
fn a_file_without_a_certificate_is_no_authority() {
    assert!(Authorities::read(b"nothing").is_err());
}
