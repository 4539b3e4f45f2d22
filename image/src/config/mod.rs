//! `berth.toml`: text in, checked values out, or every mistake with its line and column.
//!
//! Nothing is ignored: an unknown key is refused with the nearest known one, and a key of the
//! format that this version does not build is refused by name. Nothing here opens an image.

mod container;
mod health;
mod image;
mod life;
mod mistakes;
mod mounts;
mod nearest;
mod network;
mod order;
mod table;
mod units;
mod update;

use std::cell::RefCell;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use berth_provision::{Network, OnFailure, UpdatePolicy};
use toml::de::{DeTable, DeValue};

pub use container::{ContainerConfig, NetworkMode};
pub use image::{DiskFormat, ImageSection, Profile};
pub use mistakes::{Mistake, Mistakes, Place};
pub(crate) use mounts::DEFAULT_TMPFS_BYTES;
pub use mounts::{MountConfig, MountSource};
pub(crate) use nearest::nearest;
pub use table::Located;
pub(crate) use units::duration_ms;
pub use units::write_size;
pub use update::UpdateSection;

use mistakes::Collector;
use table::{Table, expected};

/// The version of the file format.
const SCHEMA: i64 = 1;

/// The largest `berth.toml` that is read, bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A checked `berth.toml`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file's name as the user gave it, for later messages.
    pub file: String,
    /// Host name, `{serial}` and `{machine-id}` not yet replaced.
    pub hostname: String,
    /// What the machine does when it cannot go on.
    pub on_failure: OnFailure,
    /// The `[image]` section.
    pub image: ImageSection,
    /// Networks in the order of the file.
    pub networks: Vec<Network>,
    /// Containers in the order of the file.
    pub containers: Vec<ContainerConfig>,
    /// The `[update]` section.
    pub update: Option<UpdateSection>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not text.
    #[error("{}: not a TOML file: it is not UTF-8 text", path.display())]
    NotText {
        /// Which file.
        path: PathBuf,
    },
    /// The file is too large to be a configuration.
    #[error("{}: larger than {MAX_FILE_BYTES} bytes, which no berth.toml is", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// It has mistakes.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
}

/// Reads and checks the file at `path`.
///
/// # Errors
/// When it cannot be read or has mistakes; all of them are listed.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| ConfigError::NotText {
        path: path.to_owned(),
    })?;
    Ok(parse(&path.display().to_string(), &text)?)
}

/// Checks `text`; `file` is its name for messages.
///
/// # Errors
/// All mistakes of the file.
pub fn parse(file: &str, text: &str) -> Result<Config, Mistakes> {
    let (document, errors) = DeTable::parse_recoverable(text);
    // What follows a syntax error is guesswork: only the syntax is reported then.
    let mut syntax = Collector::new(text);
    for error in errors {
        let at = error.span().unwrap_or_default();
        syntax.add(&at, format!("not valid TOML: {}", error.message()));
    }
    syntax.finish(file)?;
    let mistakes = RefCell::new(Collector::new(text));
    let top = Table::new(String::new(), 0..0, document.get_ref(), &mistakes);
    let config = read(file, top);
    mistakes.into_inner().finish(file)?;
    Ok(config)
}

fn read(file: &str, mut top: Table<'_>) -> Config {
    read_schema(&mut top);
    let hostname = top.parse("hostname", check_hostname);
    let on_failure = top.parse("on_failure", |text| match text {
        "restart" => Ok(OnFailure::Restart),
        "halt" => Ok(OnFailure::Halt),
        _ => Err(format!("expected \"restart\" or \"halt\", found {text:?}")),
    });
    let image = image::read(&mut top);
    let networks = network::read(&mut top);
    let containers = container::read(&mut top);
    let names: Vec<&str> = containers.iter().map(|one| one.name.as_str()).collect();
    let update = update::read(&mut top, &names);
    let updates = update
        .as_ref()
        .is_some_and(|section| section.update.policy != UpdatePolicy::Off);
    if updates
        && on_failure.as_ref().map(|policy| policy.value) == Some(OnFailure::Halt)
        && let Some(at) = top.key_span("on_failure")
    {
        top.wrong(
            &at,
            "on_failure = \"halt\" and [update] contradict each other: a new version that fails is \
             left by restarting; leave one out, or set policy = \"off\"",
        );
    }
    top.not_yet(&["job"]);
    top.finish();
    Config {
        file: file.to_owned(),
        hostname: hostname.map_or_else(|| image.name.clone(), |hostname| hostname.value),
        on_failure: on_failure.map(|policy| policy.value).unwrap_or_default(),
        image,
        networks,
        containers,
        update,
    }
}

fn read_schema(top: &mut Table<'_>) {
    let schema = top.read("schema", |value| match value {
        DeValue::Integer(integer)
            if i64::from_str_radix(integer.as_str(), integer.radix()) == Ok(SCHEMA) =>
        {
            Ok(())
        }
        other => Err(expected("1, the version of this format", other)),
    });
    if schema.is_none() && top.key_span("schema").is_none() {
        top.wrong_here("the file must say which format it follows: schema = 1");
    }
}

/// A host name may hold `{serial}` and `{machine-id}`, which the machine replaces.
fn check_hostname(text: &str) -> Result<String, String> {
    let bare = text.replace("{serial}", "0").replace("{machine-id}", "0");
    let label_fits = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if bare.len() <= 64 && bare.split('.').all(label_fits) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "expected a host name of letters, digits, '-' and '.', which may hold {{serial}} or \
         {{machine-id}}, found {text:?}"
    ))
}

#[cfg(test)]
mod tests;
