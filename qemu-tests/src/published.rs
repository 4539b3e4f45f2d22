//! Versions of one machine, published for it: builds, a directory made by `berth publish`, and
//! nginx in front of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::image::{Image, Recipe, berth};
use crate::nginx::Nginx;
use crate::{Disk, Error, Files, Machine, files, process};

/// The product's name.
const PRODUCT: &str = "edge";
/// A page's port.
pub const PORT: u16 = 8080;
/// The machine's disk.
const DISK_BYTES: u64 = 1 << 30;

/// A machine's versions, its server, and what it keeps from one start to the next.
pub struct Published {
    scratch: TempDir,
    server: Nginx,
}

/// What one version is made of, besides what all have.
#[derive(Clone, Debug)]
pub struct Version {
    number: String,
    toml: String,
    update: Option<String>,
    container: String,
    entrypoint: Vec<&'static str>,
    init: Option<PathBuf>,
    kernel: Option<&'static str>,
    within: std::time::Duration,
}

impl Version {
    /// One whose container serves a page that says its number.
    pub fn good(number: &str) -> Self {
        Self {
            number: number.to_owned(),
            update: None,
            toml: "[network.lan]\ndhcp4 = true".to_owned(),
            container: String::new(),
            entrypoint: vec!["/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"],
            init: None,
            kernel: None,
            within: crate::within(5),
        }
    }

    /// With another network section.
    pub fn network(mut self, toml: &str) -> Self {
        toml.clone_into(&mut self.toml);
        self
    }

    /// With these keys in `[update]` instead of the server's and a policy.
    pub fn update(mut self, toml: &str) -> Self {
        self.update = Some(toml.to_owned());
        self
    }

    /// With further keys for the container.
    pub fn container(mut self, toml: &str) -> Self {
        toml.clone_into(&mut self.container);
        self
    }

    /// With another program in the container.
    pub fn runs(mut self, entrypoint: &[&'static str]) -> Self {
        self.entrypoint = entrypoint.to_vec();
        self
    }

    /// With another PID 1.
    pub fn init(mut self, program: impl Into<PathBuf>) -> Self {
        self.init = Some(program.into());
        self
    }

    /// With more time for its trial.
    pub fn within(mut self, time: std::time::Duration) -> Self {
        self.within = time;
        self
    }

    /// With another kernel.
    pub fn kernel(mut self, version: &'static str) -> Self {
        self.kernel = Some(version);
        self
    }
}

impl Published {
    /// Keys, an empty directory and its server.
    pub fn new() -> Result<Self, Error> {
        let scratch = TempDir::new().map_err(Error::file("creating", "a scratch directory"))?;
        let directory = scratch.path().join("published");
        std::fs::create_dir(&directory).map_err(Error::file("creating", &directory))?;
        let mut keys = Command::new(berth()?);
        process::run(keys.args(["keys", "new"]).arg(scratch.path().join("keys")))?;
        let server = Nginx::serve(&directory)?;
        Ok(Self { scratch, server })
    }

    /// The server.
    pub fn server(&self) -> &Nginx {
        &self.server
    }

    /// Where the test's own files may lie.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Writes a file of the test's own.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, Error> {
        let path = self.scratch.path().join(name);
        std::fs::write(&path, bytes).map_err(Error::file("writing", &path))?;
        Ok(path)
    }

    /// What the server serves.
    pub fn directory(&self) -> PathBuf {
        self.scratch.path().join("published")
    }

    /// Builds a version.
    pub fn build(&self, version: &Version) -> Result<Image, Error> {
        let busybox = files::which("busybox")?;
        let page = format!("version {}\n", version.number);
        let root = std::fs::read(self.scratch.path().join("keys/1.root.json"));
        let root = root.map_err(Error::file("reading", "the root of trust"))?;
        let toml = format!(
            "{}\n[container.web]\nimage = \"oci:web\"\nstop = {{ timeout = \"1s\" }}\nnetwork = \"host\"\nexpose = [\"{PORT}\"]\n{}\n\
             [update]\n{}\nevery = \"10s\"\ntrust = \"root.json\"\n\
             commit = {{ for = \"1s\", within = \"{}s\" }}\n",
            version.toml,
            version.container,
            version.update.clone().unwrap_or_else(|| format!(
                "url = \"{}\"\npolicy = \"auto\"",
                self.server.url_for_guests()
            )),
            version.within.as_secs(),
        );
        let kernel = version
            .kernel
            .map(|kernel| format!("kernel = \"{kernel}\"\n"));
        let files =
            Files::default()
                .program_from("busybox", &busybox)?
                .file("www/index.html", 0o644, page);
        let config = json!({ "Entrypoint": version.entrypoint });
        let mut recipe = Recipe::with_image(PRODUCT, &kernel.unwrap_or_default(), &toml)
            .version(&version.number)
            .file("root.json", root)
            .image("web", files, config);
        if let Some(init) = &version.init {
            recipe = recipe.init(init);
        }
        recipe.build()
    }

    /// Publishes a build; gives the document that describes it.
    pub fn publish(&self, image: &Image) -> Result<Value, Error> {
        self.publish_with(image, &[])
    }

    /// The same with further options of `berth publish`.
    pub fn publish_with(&self, image: &Image, options: &[&str]) -> Result<Value, Error> {
        let mut publish = Command::new(berth()?);
        publish
            .arg("publish")
            .arg(image.file(""))
            .arg(self.directory())
            .args(options);
        publish.arg("--keys").arg(self.scratch.path().join("keys"));
        let text = process::run(publish.arg("--json"))?;
        // Progress is on standard error, which comes with it.
        let document = text.lines().find(|line| line.starts_with('{'));
        serde_json::from_str(document.unwrap_or_default())
            .map_err(|error| Error::broken(format!("berth publish --json: {error}")))
    }

    /// What is published, as a bundle.
    pub fn bundle(&self) -> Result<PathBuf, Error> {
        let path = self.scratch.path().join("bundle");
        let mut bundle = Command::new(berth()?);
        bundle.arg("bundle").arg(self.directory());
        process::run(bundle.arg("-o").arg(&path))?;
        Ok(path)
    }

    /// Keeps what is published now, to be offered again by [`Published::offer`].
    pub fn keep_offer(&self, name: &str) -> Result<(), Error> {
        let kept = self.scratch.path().join(format!("offer-{name}"));
        process::run(Command::new("cp").arg("-r").arg(self.directory()).arg(kept)).map(drop)
    }

    /// Serves what was kept under this name, from one moment to the next. Nothing can be published
    /// any more.
    pub fn offer(&self, name: &str) -> Result<(), Error> {
        let directory = self.directory();
        if !directory.is_symlink() {
            std::fs::remove_dir_all(&directory).map_err(Error::file("removing", &directory))?;
        }
        let link = self.scratch.path().join("offer");
        std::os::unix::fs::symlink(format!("offer-{name}"), &link)
            .and_then(|()| std::fs::rename(&link, &directory))
            .map_err(Error::file("offering", &directory))
    }

    /// Reads the directory as a machine would: whether all of it is what was signed.
    pub fn verifies(&self) -> Result<bool, Error> {
        let mut verify = Command::new(berth()?);
        verify.arg("verify").arg(self.directory());
        verify
            .arg("--trust")
            .arg(self.scratch.path().join("keys/1.root.json"));
        Ok(process::finish(&mut verify)?.0.success())
    }

    /// The machine, with what it kept: it restarts by itself, through its firmware.
    pub fn machine(&self, name: &str, first: &Image) -> Result<Machine, Error> {
        Machine::named(name)
            .uefi_with(self.variables())
            .memory(256)
            .disk(
                Disk::of(first.disk())
                    .grown_to(DISK_BYTES)
                    .kept_at(self.disk()),
            )
            .forward(PORT)
            .headless()
            .reboots()
            .start()
    }

    /// Where the machine's firmware keeps its variables.
    pub fn variables(&self) -> PathBuf {
        self.scratch.path().join("variables.fd")
    }

    /// What the machine wrote on its disk.
    pub fn disk(&self) -> PathBuf {
        self.scratch.path().join("disk.qcow2")
    }
}

/// The machine's own program as `make older` compiles it.
pub fn older_init() -> Result<PathBuf, Error> {
    let built = "older/x86_64-unknown-linux-gnu/device/berth-init";
    let path = crate::target_directory().join(built);
    match path.is_file() {
        true => Ok(path),
        false => Err(Error::broken(format!(
            "{} is missing: run make older, or make test",
            path.display()
        ))),
    }
}

/// Writes a program whose last bytes tell the guests' program, as PID 1, what to do.
pub fn init_that(role: &str, directory: &Path) -> Result<PathBuf, Error> {
    let program = crate::guest::program()?;
    let mut bytes = std::fs::read(&program).map_err(Error::file("reading", &program))?;
    bytes.extend_from_slice(format!("init={role}").as_bytes());
    let path = directory.join(format!("init-{role}"));
    std::fs::write(&path, bytes).map_err(Error::file("writing", &path))?;
    Ok(path)
}
