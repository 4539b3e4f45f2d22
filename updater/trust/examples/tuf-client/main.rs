//! A complete TUF client in two files: what the crate leaves to its caller is a directory for the
//! trusted metadata, a clock and HTTP. Its command line is the one of the public TUF conformance
//! suite, so that anybody can measure the crate (docs/yardsticks.md has the command):
//!
//! ```sh
//! tuf-client --metadata-dir DIR init ROOT.json
//! tuf-client --metadata-dir DIR --metadata-url URL refresh
//! tuf-client --metadata-dir DIR --metadata-url URL --target-name NAME --target-base-url URL \
//!     --target-dir DIR download
//! ```
//!
//! The exit status is 0 or 1. A machine differs in one thing: it keeps every root, because it
//! starts at each check from the root inside its verified image.

mod http;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use berth_trust::{Client, Clock, Entry, Error, FetchError, Limits, Store, Target, Time};

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("tuf-client: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: impl Iterator<Item = String>) -> Result<(), String> {
    let options = Options::parse(arguments)?;
    let mut directory = Directory(options.metadata_dir.clone().ok_or("--metadata-dir?")?);
    match options.command.as_deref() {
        Some("init") => {
            let root = options.root.as_ref().ok_or("init ROOT.json")?;
            let bytes = fs::read(root).map_err(|error| format!("{}: {error}", root.display()))?;
            directory.save(&Entry::Root(1), &bytes)
        }
        Some("refresh") => update(&mut directory, &options, |_| Ok(())),
        Some("download") => update(&mut directory, &options, |client| {
            for name in &options.targets {
                let target = client.target(name).map_err(|error| error.to_string())?;
                download(&target, &options)?;
            }
            Ok(())
        }),
        _ => Err("expected init, refresh or download".to_owned()),
    }
}

#[derive(Default)]
struct Options {
    metadata_dir: Option<PathBuf>,
    metadata_url: Option<String>,
    targets: Vec<String>,
    target_dir: Option<PathBuf>,
    target_url: Option<String>,
    command: Option<String>,
    root: Option<PathBuf>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} what?"));
            match argument.as_str() {
                "--metadata-dir" => options.metadata_dir = Some(value()?.into()),
                "--metadata-url" => options.metadata_url = Some(value()?),
                "--target-name" => options.targets.push(value()?),
                "--target-dir" => options.target_dir = Some(value()?.into()),
                "--target-base-url" => options.target_url = Some(value()?),
                "init" => {
                    options.root = Some(value()?.into());
                    options.command = Some(argument);
                }
                "refresh" | "download" => options.command = Some(argument),
                unknown => return Err(format!("{unknown} is unknown")),
            }
        }
        Ok(options)
    }
}

fn update(
    directory: &mut Directory,
    options: &Options,
    then: impl FnOnce(&mut Client<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let root = directory.root()?;
    let url = options.metadata_url.as_deref().ok_or("--metadata-url?")?;
    let mut transport = |name: &str, max_bytes| http::get(url, name, max_bytes).map_err(FetchError);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = i64::try_from(now.map_or(0, |since| since.as_secs())).unwrap_or(i64::MAX);
    let client = Client::refresh(
        &root,
        directory,
        &mut transport,
        Clock::new(Time(now), Time(0)),
        Limits::default(),
    );
    then(&mut client.map_err(|error: Error| error.to_string())?)
}

/// Fetches a target unless a good copy is there already.
fn download(target: &Target, options: &Options) -> Result<(), String> {
    let directory = options.target_dir.as_deref().ok_or("--target-dir?")?;
    let file = directory.join(target.file_name());
    if fs::read(&file).is_ok_and(|bytes| target.verify(&bytes).is_ok()) {
        return Ok(());
    }
    let url = options.target_url.as_deref().ok_or("--target-base-url?")?;
    let bytes = http::get(url, &target.url(), target.length())?;
    let bytes = bytes.ok_or(format!("{} is not in the repository", target.path()))?;
    let verified = target.verify(&bytes);
    verified.map_err(|error| format!("{}: {error}", target.path()))?;
    replace(&file, &bytes)
}

/// Trusted metadata as files without versions in their names.
struct Directory(PathBuf);

impl Directory {
    fn root(&self) -> Result<Vec<u8>, String> {
        let path = self.path(&Entry::Root(1));
        fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn path(&self, entry: &Entry) -> PathBuf {
        self.0.join(match entry {
            Entry::Root(_) => "root.json".to_owned(),
            role @ Entry::Role(_) => role.file_name(),
        })
    }
}

impl Store for Directory {
    fn load(&mut self, entry: &Entry) -> Result<Option<Vec<u8>>, String> {
        match entry {
            Entry::Root(_) => Ok(None),
            Entry::Role(_) => match fs::read(self.path(entry)) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error.to_string()),
            },
        }
    }

    fn save(&mut self, entry: &Entry, bytes: &[u8]) -> Result<(), String> {
        replace(&self.path(entry), bytes)
    }

    fn remove(&mut self, entry: &Entry) -> Result<(), String> {
        match fs::remove_file(self.path(entry)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.to_string()),
            _ => Ok(()),
        }
    }
}

/// Never leaves half a file under the name.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let new = path.with_extension("new");
    fs::write(&new, bytes)
        .and_then(|()| fs::rename(&new, path))
        .map_err(|error| format!("{}: {error}", path.display()))
}
