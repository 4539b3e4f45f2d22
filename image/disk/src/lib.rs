//! Bootable media from a kernel and a root file system: UKI, FAT, verified root, disk, qcow2.
//!
//! The order is that of trust: [`root::RootWriter`] writes the root file system and yields its
//! root hash, the caller puts that on the kernel command line, and [`assemble`] writes everything
//! that follows from it. Formats are laid out first and then written once, front to back; the
//! same parts give the same bytes. Nothing appears under its final name before all is written.

mod assemble;
pub mod fat;
pub mod pending;
pub mod qcow2;
mod raw;
pub mod root;
mod stream;
pub mod uki;

pub use assemble::{Artifact, Artifacts, Media, Parts, assemble};

use std::io;
use std::path::{Path, PathBuf};

/// Why there are no media.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An output could not be written.
    #[error("cannot write {path}: {source}", path = path.display())]
    Write {
        /// The output's final name.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An input could not be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The input.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Stub and kernel do not make a UKI.
    #[error("cannot make a UKI: {0}")]
    Uki(#[from] uki::UkiError),
    /// The UKI does not fit a FAT file system.
    #[error("cannot make the boot partition: {0}")]
    Fat(#[from] fat::FatError),
    /// The hash tree could not be laid out or built.
    #[error("cannot make the verified root: {0}")]
    Verity(#[from] berth_slots::verity::Error),
    /// No table holds partitions of these sizes.
    #[error("cannot lay out the disk: {0}")]
    Layout(#[from] berth_slots::gpt::PlaceError),
    /// The virtual disk would be smaller than what is on it.
    #[error(
        "a virtual disk of {wanted} bytes cannot hold an image of {image} bytes: choose a larger size"
    )]
    VirtualSize {
        /// The size asked for.
        wanted: u64,
        /// The size of the raw image.
        image: u64,
    },
}

fn write_error(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    |source| Error::Write {
        path: path.to_owned(),
        source,
    }
}

fn read_error(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    |source| Error::Read {
        path: path.to_owned(),
        source,
    }
}
