//! Images of the machines under test, built by the `berth` command as its users run it.
//!
//! An image that was built from the same configuration, files and command before is not built
//! again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::files::hex;
use crate::{Error, Files, guest, process, target_directory};

/// The `berth` command: `BERTH`, or what `make` has built.
pub fn berth() -> Result<PathBuf, Error> {
    let path = match std::env::var_os("BERTH") {
        Some(path) => PathBuf::from(path),
        None => target_directory().join("release").join("berth"),
    };
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::broken(format!(
        "{} is missing: the tests run the berth command as make builds it; run make test",
        path.display()
    )))
}

/// What an image is made of.
#[derive(Clone, Debug)]
pub struct Recipe {
    toml: String,
    images: Vec<(String, Files, Value)>,
    files: Vec<(String, Vec<u8>)>,
    init: Option<PathBuf>,
}

impl Recipe {
    /// A `berth.toml` with these lines after `schema` and `[image]`'s name and version. Images of
    /// its containers are `oci:NAME`, NAME being one given to [`Recipe::image`].
    pub fn new(name: &str, toml: &str) -> Self {
        Self::with_image(name, "", toml)
    }

    /// The same with further lines for `[image]`.
    pub fn with_image(name: &str, image: &str, toml: &str) -> Self {
        let toml =
            format!("schema = 1\n[image]\nname = \"{name}\"\nversion = \"1\"\n{image}\n{toml}\n");
        Self {
            toml,
            images: Vec::new(),
            files: Vec::new(),
            init: None,
        }
    }

    /// Another version than "1".
    pub fn version(mut self, version: &str) -> Self {
        let line = format!("version = \"{version}\"\n");
        self.toml = self.toml.replacen("version = \"1\"\n", &line, 1);
        self
    }

    /// A file beside the configuration.
    pub fn file(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.push((name.to_owned(), bytes.into()));
        self
    }

    /// Another PID 1 than ours.
    pub fn init(mut self, program: &Path) -> Self {
        self.init = Some(program.to_owned());
        self
    }

    /// A line of the configuration outside of every section.
    pub fn top(mut self, line: &str) -> Self {
        self.toml = self.toml.replacen('\n', &format!("\n{line}\n"), 1);
        self
    }

    /// An image for containers: its files, and `config` of its OCI configuration.
    pub fn image(mut self, name: &str, files: Files, config: Value) -> Self {
        self.images.push((name.to_owned(), files, config));
        self
    }

    /// The image `oci:guest`, whose entry point is the guests' program at `/guest`.
    pub fn guest(self) -> Result<Self, Error> {
        let files = Files::default().program_from("guest", &guest::program()?)?;
        Ok(self.image("guest", files, json!({ "Entrypoint": ["/guest"] })))
    }

    /// Writes the configuration and the images it names into a directory.
    pub fn write(&self, directory: &Path) -> Result<PathBuf, Error> {
        fs::create_dir_all(directory).map_err(Error::file("creating", directory))?;
        for (name, files, config) in &self.images {
            files.write_oci_layout(&directory.join(name), name, config)?;
        }
        for (name, bytes) in &self.files {
            let path = directory.join(name);
            fs::write(&path, bytes).map_err(Error::file("writing", &path))?;
        }
        let path = directory.join("berth.toml");
        fs::write(&path, &self.toml).map_err(Error::file("writing", &path))?;
        Ok(path)
    }

    /// Builds it, or finds it built.
    pub fn build(&self) -> Result<Image, Error> {
        let berth = berth()?;
        let images = target_directory().join("qemu-tests").join(".images");
        let scratch = images.join("new");
        fs::create_dir_all(&images).map_err(Error::file("creating", &images))?;
        // One build at a time: they share the scratch directory, and the computer.
        let lock = images.join("lock");
        let lock = fs::File::create(&lock).map_err(Error::file("creating", lock))?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| {
            Error::broken(format!("locking {}: {errno}", images.display()))
        })?;
        remove(&scratch)?;
        let config = self.write(&scratch)?;
        let mut key = Sha256::new();
        key.update(fs::read(&berth).map_err(Error::file("reading", &berth))?);
        key.update(&self.toml);
        for (name, ..) in &self.images {
            let index = scratch.join(name).join("index.json");
            key.update(fs::read(&index).map_err(Error::file("reading", &index))?);
        }
        for (name, bytes) in &self.files {
            key.update(name);
            key.update(Sha256::digest(bytes));
        }
        let init = self.init.as_ref();
        let init = init.map(|path| fs::read(path).map_err(Error::file("reading", path)));
        let init = init.transpose()?;
        key.update(init.as_deref().unwrap_or_default());
        let built = images.join(&hex(&key.finalize())[..32]);
        if !built.exists() {
            let out = scratch.join("out");
            let mut build = Command::new(&berth);
            build.arg("build").arg(&config).arg("--out").arg(&out);
            if let Some(init) = init {
                build.env("BERTH_ASSETS", assets_with(&scratch, &init)?);
            }
            process::run(&mut build)?;
            fs::rename(&out, &built).map_err(Error::file("keeping", &built))?;
        }
        remove(&scratch)?;
        Ok(Image { directory: built })
    }
}

/// A directory with another PID 1; everything else is what the command carries in itself.
fn assets_with(scratch: &Path, init: &[u8]) -> Result<PathBuf, Error> {
    let assets = scratch.join("assets");
    fs::create_dir(&assets).map_err(Error::file("creating", &assets))?;
    let path = assets.join("init");
    fs::write(&path, init).map_err(Error::file("writing", &path))?;
    Ok(assets)
}

/// The demo: what `berth build` makes without a configuration.
pub fn demo() -> Result<Image, Error> {
    let berth = berth()?;
    let images = target_directory().join("qemu-tests").join(".images");
    fs::create_dir_all(&images).map_err(Error::file("creating", &images))?;
    let bytes = fs::read(&berth).map_err(Error::file("reading", &berth))?;
    let built = images.join(format!("demo-{}", &hex(&Sha256::digest(bytes))[..32]));
    let lock = images.join("demo-lock");
    let lock = fs::File::create(&lock).map_err(Error::file("creating", lock))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, errno)| Error::broken(format!("locking {}: {errno}", images.display())))?;
    if !built.exists() {
        let out = images.join("demo-new");
        remove(&out)?;
        process::run(Command::new(&berth).arg("build").arg("--out").arg(&out))?;
        fs::rename(&out, &built).map_err(Error::file("keeping", &built))?;
    }
    Ok(Image { directory: built })
}

fn remove(directory: &Path) -> Result<(), Error> {
    if directory.exists() {
        fs::remove_dir_all(directory).map_err(Error::file("removing", directory))?;
    }
    Ok(())
}

/// What a build gives.
#[derive(Clone, Debug)]
pub struct Image {
    directory: PathBuf,
}

impl Image {
    /// A build's output directory.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The raw disk.
    pub fn disk(&self) -> PathBuf {
        self.file("disk.raw")
    }

    /// The kernel.
    pub fn kernel(&self) -> PathBuf {
        self.file("kernel")
    }

    /// The verified root's file system.
    pub fn root(&self) -> PathBuf {
        self.file("root.erofs")
    }

    /// `manifest.json`.
    pub fn manifest(&self) -> Result<Value, Error> {
        let path = self.file("manifest.json");
        let text = fs::read(&path).map_err(Error::file("reading", &path))?;
        serde_json::from_slice(&text)
            .map_err(|error| Error::broken(format!("{}: {error}", path.display())))
    }

    /// The signed command line, read from the UKI by someone else's reader.
    pub fn command_line(&self) -> Result<String, Error> {
        let scratch = tempfile::NamedTempFile::new().map_err(Error::file("creating", "a file"))?;
        let mut objcopy = Command::new("objcopy");
        objcopy.args(["-O", "binary", "--only-section=.cmdline"]);
        process::run(objcopy.arg(self.file("uki.efi")).arg(scratch.path()))?;
        // objcopy replaces the file that the descriptor is of.
        let text = fs::read_to_string(scratch.path());
        let text = text.map_err(Error::file("reading", scratch.path()))?;
        Ok(text.trim_end_matches(['\0', '\n']).to_owned())
    }

    /// Unpacks the root's files with someone else's reader.
    pub fn unpack_root(&self, directory: &Path) -> Result<(), Error> {
        let mut extract = Command::new("fsck.erofs");
        extract.arg(format!("--extract={}", directory.display()));
        process::run(extract.arg(self.root())).map(drop)
    }
}
