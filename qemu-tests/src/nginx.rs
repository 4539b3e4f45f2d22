//! A plain static web server of this computer, nginx as its package comes, for machines to update
//! from: on a free port of localhost, which a guest reaches as 10.0.2.2.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{Error, files, process};

/// How long it may take to listen.
const START: Duration = Duration::from_secs(20);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// A running server; it ends with its owner.
pub struct Nginx {
    server: Child,
    port: u16,
    scratch: TempDir,
}

impl Nginx {
    /// Serves a directory.
    pub fn serve(directory: &Path) -> Result<Self, Error> {
        let scratch = TempDir::new().map_err(Error::file("creating", "a scratch directory"))?;
        // Two tests that pick the same port in the same moment: the second one picks again.
        for _ in 0..5 {
            let port = free_port()?;
            let path = scratch.path().join("nginx.conf");
            let text = configuration(scratch.path(), directory, port);
            std::fs::write(&path, text).map_err(Error::file("writing", &path))?;
            let mut command = Command::new(files::which("nginx")?);
            command.arg("-c").arg(&path).arg("-p").arg(scratch.path());
            command.arg("-e").arg(scratch.path().join("error.log"));
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let mut nginx = Self {
                server: process::start_tied(command)?,
                port,
                scratch: TempDir::new().map_err(Error::file("creating", "a directory"))?,
            };
            if nginx.listens()? {
                nginx.scratch = scratch;
                return Ok(nginx);
            }
        }
        Err(Error::broken("nginx does not start on any port"))
    }

    /// What a guest calls it.
    pub fn url_for_guests(&self) -> String {
        format!("http://10.0.2.2:{}", self.port)
    }

    /// The port on localhost.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Every request so far, one a line: method, path, status, bytes of the body.
    pub fn requests(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("access.log")).unwrap_or_default()
    }

    /// Bytes of bodies that were sent so far for paths that contain `part`.
    pub fn bytes_of(&self, part: &str) -> u64 {
        let requests = self.requests();
        let fits = requests.lines().filter(|line| line.contains(part));
        fits.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    fn listens(&mut self) -> Result<bool, Error> {
        let until = Instant::now() + START;
        while Instant::now() < until {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(true);
            }
            let ended = self
                .server
                .try_wait()
                .map_err(Error::file("waiting for", "nginx"))?;
            if ended.is_some() {
                return Ok(false);
            }
            thread::sleep(PAUSE);
        }
        Ok(false)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn free_port() -> Result<u16, Error> {
    let listener = TcpListener::bind("127.0.0.1:0");
    let address = listener.and_then(|listener| listener.local_addr());
    let address = address.map_err(Error::file("finding", "a free port"))?;
    Ok(address.port())
}

fn configuration(scratch: &Path, directory: &Path, port: u16) -> String {
    let scratch = scratch.display();
    // One process: ended by its number, it leaves no workers behind.
    format!(
        "daemon off;\nmaster_process off;\npid {scratch}/nginx.pid;\nuser root;\n\
         error_log {scratch}/error.log;\nevents {{}}\nhttp {{\n\
         log_format plain '$request_method $uri $status $body_bytes_sent';\n\
         access_log {scratch}/access.log plain;\n\
         client_body_temp_path {scratch}/1;\nproxy_temp_path {scratch}/2;\n\
         fastcgi_temp_path {scratch}/3;\nuwsgi_temp_path {scratch}/4;\nscgi_temp_path {scratch}/5;\n\
         server {{\nlisten 127.0.0.1:{port};\nroot {};\n}}\n}}\n",
        directory.display()
    )
}
