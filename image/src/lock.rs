//! `berth.lock`: what every name of a `berth.toml` meant when it was first built. A build with
//! one asks nobody again, and refuses inputs that have changed since.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

/// The version of the file format.
const SCHEMA: &str = "1";

/// What was pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// The kernel.
    pub kernel: Option<Kernel>,
    /// SHA-256 of the UEFI stub, hexadecimal.
    pub stub: Option<String>,
    /// Image references and their manifests' digests.
    pub images: BTreeMap<String, String>,
}

/// A pinned kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its version, empty when it came from a file.
    pub version: String,
    /// Its profile.
    pub profile: String,
    /// SHA-256 of the image, hexadecimal.
    pub sha256: String,
}

/// Why a lock file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// `read` or `write`.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what this tool writes.
    #[error(
        "{}: {why}; --update-lock makes it again from what the names mean today",
        path.display()
    )]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Something is not what was pinned.
    #[error(
        "{}: {what} was {pinned} and is {found} now; if that is meant, --update-lock pins it",
        path.display()
    )]
    Changed {
        /// Which file.
        path: PathBuf,
        /// The input.
        what: String,
        /// What the lock says.
        pinned: String,
        /// What is there.
        found: String,
    },
}

/// The lock file of a configuration.
#[must_use]
pub fn path_for(config: &Path) -> PathBuf {
    config.with_extension("lock")
}

impl Lock {
    /// Reads a lock file; an absent one pins nothing.
    ///
    /// # Errors
    /// When it cannot be read or is not one.
    pub fn read(path: &Path) -> Result<Self, LockError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(source) => {
                return Err(LockError::File {
                    doing: "read",
                    path: path.to_owned(),
                    source,
                });
            }
        };
        parse(&text).map_err(|why| LockError::Malformed {
            path: path.to_owned(),
            why,
        })
    }

    /// The file's text: sorted, so that it changes only where something changed.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::from(
            "# Written by `berth build`: what each name meant. Keep it beside berth.toml.\n",
        );
        // Writing to a String cannot fail.
        let _ = writeln!(text, "schema = {SCHEMA}");
        if let Some(kernel) = &self.kernel {
            let _ = write!(
                text,
                "\n[kernel]\nversion = {}\nprofile = {}\nsha256 = {}\n",
                quote(&kernel.version),
                quote(&kernel.profile),
                quote(&kernel.sha256)
            );
        }
        if let Some(stub) = &self.stub {
            let _ = write!(text, "\n[stub]\nsha256 = {}\n", quote(stub));
        }
        if !self.images.is_empty() {
            text.push_str("\n[images]\n");
            for (reference, digest) in &self.images {
                let _ = writeln!(text, "{} = {}", quote(reference), quote(digest));
            }
        }
        text
    }

    /// Writes the file, if it says something else today.
    ///
    /// # Errors
    /// When it cannot be written; the old one stays then.
    pub fn write(&self, path: &Path) -> Result<(), LockError> {
        let text = self.to_text();
        if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        berth_disk::pending::write_file(path, text.as_bytes()).map_err(|source| LockError::File {
            doing: "write",
            path: path.to_owned(),
            source,
        })
    }
}

/// Compares an input with what is pinned for it.
///
/// # Errors
/// When it is another one.
pub fn check(
    path: &Path,
    what: impl FnOnce() -> String,
    pinned: Option<&str>,
    found: &str,
) -> Result<(), LockError> {
    match pinned {
        Some(pinned) if pinned != found => Err(LockError::Changed {
            path: path.to_owned(),
            what: what(),
            pinned: pinned.to_owned(),
            found: found.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// A TOML basic string.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(char);
            }
            char if char.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(char));
            }
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

fn parse(text: &str) -> Result<Lock, String> {
    let document = DeTable::parse(text).map_err(|error| error.message().to_owned())?;
    let mut lock = Lock::default();
    let mut schema = false;
    for (key, value) in document.get_ref() {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("schema", DeValue::Integer(version)) if version.as_str() == SCHEMA => schema = true,
            ("kernel", DeValue::Table(table)) => {
                let mut strings = strings(table)?;
                let mut take = |key| strings.remove(key).ok_or(format!("[kernel] has no {key}"));
                lock.kernel = Some(Kernel {
                    version: take("version")?,
                    profile: take("profile")?,
                    sha256: take("sha256")?,
                });
            }
            ("stub", DeValue::Table(table)) => lock.stub = strings(table)?.remove("sha256"),
            ("images", DeValue::Table(table)) => lock.images = strings(table)?,
            (other, _) => return Err(format!("{other:?} is not known to this version")),
        }
    }
    if schema {
        Ok(lock)
    } else {
        Err(format!("it does not say schema = {SCHEMA}"))
    }
}

fn strings(table: &DeTable<'_>) -> Result<BTreeMap<String, String>, String> {
    table
        .iter()
        .map(|(key, value)| match value.get_ref() {
            DeValue::String(text) => Ok((key.get_ref().to_string(), text.to_string())),
            _ => Err(format!("{:?} is not a string", key.get_ref())),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let lock = Lock {
            kernel: Some(Kernel {
                version: "6.12.117".to_owned(),
                profile: "cloud".to_owned(),
                sha256: "ab".to_owned(),
            }),
            stub: Some("cd".to_owned()),
            images: BTreeMap::from([
                ("oci:a \"b\\\u{1}".to_owned(), "sha256:1".to_owned()),
                (
                    "docker.io/library/nginx:1".to_owned(),
                    "sha256:2".to_owned(),
                ),
            ]),
        };
        assert_eq!(parse(&lock.to_text()), Ok(lock));
        assert_eq!(parse(&Lock::default().to_text()), Ok(Lock::default()));
    }

    #[test]
    fn a_file_that_is_no_lock_is_refused_and_not_half_believed() {
        for text in [
            "",
            "schema = 2",
            "schema = 1\nfuture = 7",
            "schema = 1\n[kernel]\nversion = \"1\"",
            "schema = 1\n[images]\na = 1",
            "{",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_changed_input_is_told_with_both_values() {
        let path = Path::new("berth.lock");
        let error = check(path, || "image \"oci:a\"".to_owned(), Some("x"), "y")
            .expect_err("a change")
            .to_string();
        assert_eq!(
            error,
            "berth.lock: image \"oci:a\" was x and is y now; if that is meant, --update-lock pins it"
        );
        assert!(check(path, String::new, None, "y").is_ok());
    }
}
