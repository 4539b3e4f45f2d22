//! The kernel of a build: the one that this tool builds and keeps in its cache, or a file.

use std::path::{Path, PathBuf};

use berth_kernel_config::{self as kernel_config, Console, Kernel, Request};

use super::error::BuildError;
use crate::config::Profile;
use crate::manifest::KernelInfo;

/// Where kernels are kept when the user has no home directory.
const FALLBACK_CACHE: &str = "/var/cache/berth/kernels";

/// A kernel's bytes and what is known about it.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) path: PathBuf,
    /// Its configuration, when we built it.
    pub(super) config: Option<PathBuf>,
    pub(super) bytes: Vec<u8>,
    pub(super) info: KernelInfo,
}

/// Finds the kernel in the cache, or builds it, which takes minutes.
///
/// # Errors
/// When the version is unknown, tools are missing, or it cannot be built.
pub fn find_kernel(
    profile: Profile,
    version: Option<&str>,
    source: Option<&Path>,
) -> Result<Kernel, kernel_config::Error> {
    let request = Request {
        profile: match profile {
            Profile::Micro => kernel_config::Profile::Micro,
            Profile::Cloud => kernel_config::Profile::Cloud,
            Profile::Metal => kernel_config::Profile::Metal,
        },
        version: version.map(str::to_owned),
        source: source.map(Path::to_owned),
        cache: kernel_config::default_directory().unwrap_or_else(|| PathBuf::from(FALLBACK_CACHE)),
    };
    let mut console = Console::new();
    let kernel = kernel_config::ensure(&request, &mut |progress| console.show(progress));
    console.finish();
    kernel
}

/// The kernel of a build.
pub(super) fn choose(
    profile: Profile,
    version: Option<&str>,
    source: Option<&Path>,
    file: Option<&Path>,
) -> Result<Chosen, BuildError> {
    let (path, config, version) = match file {
        Some(file) => (file.to_owned(), None, String::new()),
        None => {
            let kernel = find_kernel(profile, version, source)?;
            (kernel.bzimage, Some(kernel.config), kernel.version)
        }
    };
    let bytes = std::fs::read(&path).map_err(BuildError::read(&path))?;
    let sha256 = super::sha256(&bytes);
    Ok(Chosen {
        path,
        config,
        bytes,
        info: KernelInfo {
            version,
            profile: profile.name().to_owned(),
            sha256,
        },
    })
}
