//! Why there is no kernel: what was being done, to what, why it stopped, what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::configuration::Violation;

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such version is pinned.
    #[error("the kernel {wanted:?} is not one of the pinned versions: {pinned}")]
    UnknownVersion {
        /// What was asked for.
        wanted: String,
        /// What there is.
        pinned: String,
    },
    /// Programs, headers or compiler parts that this machine lacks.
    #[error(
        "to build the kernel, this machine lacks {missing}; on Debian and Ubuntu: \
         sudo apt-get install {packages}"
    )]
    MissingTools {
        /// Their names.
        missing: String,
        /// The packages that have them.
        packages: String,
    },
    /// The package manager gave no source.
    #[error(
        "fetching {package} with apt-get failed: {why}. If its lists are old, run \
         `sudo apt-get update`; on a machine without apt, give the package as a file with --source"
    )]
    Fetch {
        /// Package and release.
        package: String,
        /// What apt-get said.
        why: String,
    },
    /// A source that is not the pinned one.
    #[error(
        "{} is not the pinned source of kernel {version}: its SHA-256 is {found}, expected {pinned}",
        path.display()
    )]
    WrongSource {
        /// The file.
        path: PathBuf,
        /// The kernel's version.
        version: String,
        /// What it has.
        found: String,
        /// What it must have.
        pinned: String,
    },
    /// Symbols that did not become what a fragment asks for.
    #[error(
        "the kernel's configuration is not what the fragments ask for:\n{}",
        .0.iter().map(|it| format!("  {it}\n")).collect::<String>().trim_end()
    )]
    Configuration(Vec<Violation>),
    /// The cache is where the kernel's makefiles cannot work.
    #[error(
        "the kernel cannot be built in {}: its makefiles take no spaces, colons or dollar signs \
         in a path; choose another cache directory",
        .0.display()
    )]
    UnusablePath(PathBuf),
    /// The executable that calls this crate cannot pack the payload.
    #[error(
        "{} does not answer when the kernel's makefile asks it to pack the payload: its main does \
         not begin with payload_role()",
        .0.display()
    )]
    NoPayloadRole(PathBuf),
    /// A program ended with an error.
    #[error("{doing} failed ({status}):\n{output}")]
    Tool {
        /// What it was to do.
        doing: String,
        /// How it ended.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// A file could not be read or written.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it stopped.
        source: io::Error,
    },
}

/// Adds to an I/O error what was being done to which file.
pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        doing,
        path,
        source,
    }
}
