//! Images of programs that people run, made by other tools from the distribution's packages:
//! mmdebstrap makes a root file system, umoci an image of it, skopeo and docker-registry other
//! forms of that. Nothing in them knows of Berth.
//!
//! They are made once and kept below the target directory, as long as what is asked for is the
//! same.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use crate::files::hex;
use crate::{Error, process, target_directory};

/// The distribution's release.
const RELEASE: &str = "bookworm";
/// What no program needs.
const LEFT_OUT: [&str; 3] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
];
/// How long the registry may take to answer its first connection.
const REGISTRY_START: Duration = Duration::from_secs(30);

/// An image that is made of a package.
#[derive(Clone, Copy, Debug)]
pub struct RealImage {
    /// Its name.
    pub name: &'static str,
    /// The package.
    pub package: &'static str,
    /// Files beside the package's: path without leading slash, mode, content.
    pub files: &'static [(&'static str, &'static str, &'static str)],
    /// Arguments of `umoci config`.
    pub config: &'static [&'static str],
}

impl RealImage {
    /// The image as an OCI layout directory with the tag `latest`.
    pub fn oci_directory(&self) -> Result<PathBuf, Error> {
        let kept = target_directory().join("qemu-tests").join(".real");
        fs::create_dir_all(&kept).map_err(Error::file("creating", &kept))?;
        let lock = kept.join(format!("{}.lock", self.name));
        let lock = fs::File::create(&lock).map_err(Error::file("creating", lock))?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusive)
            .map_err(|(_, errno)| Error::broken(format!("locking {}: {errno}", kept.display())))?;
        let recipe = format!("{self:?} {RELEASE} {LEFT_OUT:?}");
        let key = &hex(&Sha256::digest(recipe))[..16];
        let made = kept.join(format!("{}-{key}", self.name));
        if !made.exists() {
            let new = kept.join(format!("{}-new", self.name));
            if new.exists() {
                fs::remove_dir_all(&new).map_err(Error::file("removing", &new))?;
            }
            fs::create_dir_all(&new).map_err(Error::file("creating", &new))?;
            self.make(&new)?;
            fs::rename(new.join("image"), &made).map_err(Error::file("keeping", &made))?;
            fs::remove_dir_all(&new).map_err(Error::file("removing", &new))?;
        }
        Ok(made)
    }

    fn make(&self, scratch: &Path) -> Result<(), Error> {
        let layer = scratch.join("layer.tar");
        let mut bootstrap = Command::new("mmdebstrap");
        bootstrap.args(["--quiet", "--variant=essential"]);
        bootstrap.arg(format!("--include={}", self.package));
        for pattern in LEFT_OUT {
            bootstrap.arg(format!("--dpkgopt=path-exclude={pattern}"));
        }
        for (path, mode, content) in self.files {
            let name = path.replace('/', "_");
            let host = scratch.join(&name);
            fs::write(&host, content).map_err(Error::file("writing", &host))?;
            bootstrap.arg(format!(
                "--customize-hook=upload {} /{path}",
                host.display()
            ));
            bootstrap.arg(format!("--customize-hook=chmod {mode} \"$1/{path}\""));
        }
        process::run(bootstrap.arg(RELEASE).arg(&layer))?;
        let layout = scratch.join("image");
        let image = format!("{}:latest", layout.display());
        let umoci = |arguments: &[&str]| process::run(Command::new("umoci").args(arguments));
        umoci(&["init", "--layout", &layout.display().to_string()])?;
        umoci(&["new", "--image", &image])?;
        let layer = layer.display().to_string();
        umoci(&["raw", "add-layer", "--image", &image, &layer])?;
        let config = [&["config", "--image", &image], self.config].concat();
        umoci(&config)?;
        umoci(&["gc", "--layout", &layout.display().to_string()])?;
        Ok(())
    }

    /// Writes it as `docker save` does.
    pub fn docker_archive(&self, path: &Path) -> Result<(), Error> {
        let from = format!("oci:{}:latest", self.oci_directory()?.display());
        let to = format!("docker-archive:{}:{}:latest", path.display(), self.name);
        process::run(Command::new("skopeo").args(["copy", "--quiet", &from, &to])).map(drop)
    }
}

/// A registry on loopback, which ends when it is dropped.
pub struct Registry {
    server: Child,
    port: u16,
}

impl Registry {
    /// Starts Debian's docker-registry with its storage in a directory.
    pub fn start(directory: &Path) -> Result<Self, Error> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let port = free.and_then(|listener| listener.local_addr());
        let port = port.map_err(Error::file("finding", "a free port"))?.port();
        let config = directory.join("registry.yml");
        let storage = directory.join("registry");
        let text = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: \
             {} }} }}\nhttp: {{ addr: 127.0.0.1:{port} }}\n",
            storage.display()
        );
        fs::write(&config, text).map_err(Error::file("writing", &config))?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config);
        let log = directory.join("registry.log");
        let log = fs::File::create(&log).map_err(Error::file("creating", log))?;
        let again = log
            .try_clone()
            .map_err(Error::file("copying", "a descriptor"))?;
        command.stdout(log).stderr(again);
        let server = process::start_tied(command)?;
        let registry = Self { server, port };
        let until = Instant::now() + REGISTRY_START;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if Instant::now() > until {
                return Err(Error::broken("docker-registry does not answer"));
            }
            sleep(Duration::from_millis(50));
        }
        Ok(registry)
    }

    /// Copies an image there and returns its reference.
    pub fn push(&self, image: &RealImage) -> Result<String, Error> {
        let from = format!("oci:{}:latest", image.oci_directory()?.display());
        let reference = format!("127.0.0.1:{}/real/{}:latest", self.port, image.name);
        let to = format!("docker://{reference}");
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["copy", "--quiet", "--dest-tls-verify=false", &from, &to]);
        process::run(&mut skopeo)?;
        Ok(reference)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
