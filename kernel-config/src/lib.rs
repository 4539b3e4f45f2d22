//! Configures and builds the machine's kernel: a pinned source, `tinyconfig`, and fragments in
//! which each symbol has its reason. What a fragment asks for is in the final configuration or
//! the build stops and says what stood in the way. The same inputs give the same bytes, whoever
//! builds, wherever and whenever; finished kernels are kept in a cache that may be deleted at any
//! time. Nothing here needs root.
//!
//! [`ensure`] is the way in. An executable that calls it must call [`payload_role`] first thing
//! in its `main`: the kernel's makefile runs the same executable to pack the payload.

mod arguments;
mod cache;
mod compile;
mod configuration;
mod error;
mod fragment;
mod kconfig;
mod payload;
mod profile;
mod progress;
mod source;
mod toolchain;

pub use arguments::{Argument, KERNEL_ARGUMENTS};
pub use cache::{Kernel, default_directory};
pub use configuration::{Obstacle, Violation, check};
pub use error::Error;
pub use fragment::{Setting, Value};
pub use payload::{payload_role, store};
pub use profile::{Profile, UnknownProfile};
pub use progress::{Console, Progress};
pub use source::{Source, versions};

use std::path::PathBuf;

/// Which kernel is wanted, and where finished kernels are kept.
#[derive(Debug, Clone)]
pub struct Request {
    /// The set of fragments.
    pub profile: Profile,
    /// One of [`versions`]; the newest one if `None`.
    pub version: Option<String>,
    /// The source package as a file, for machines that cannot fetch it. It must be the one that
    /// is pinned for the version.
    pub source: Option<PathBuf>,
    /// The cache's directory, see [`default_directory`].
    pub cache: PathBuf,
}

/// Returns the kernel that fits `request`: from the cache if it is there, else built.
///
/// Concurrent callers wait for each other and share the result. A build that is killed leaves
/// nothing that a later one could take for a kernel.
///
/// # Errors
/// An unknown version, missing tools, a source that does not have its pinned hash, a
/// configuration in which a requested symbol did not survive, a failed compilation.
pub fn ensure(request: &Request, progress: &mut dyn FnMut(Progress)) -> Result<Kernel, Error> {
    let source = source::find(request.version.as_deref())?;
    let settings = request.profile.settings();
    let toolchain = toolchain::detect()?;
    let recipe = cache::Recipe::new(request.profile, source, &settings, &toolchain);
    if let Some(kernel) = cache::find(&request.cache, &recipe) {
        progress(Progress::Cached);
        return Ok(kernel);
    }
    let slot = cache::Slot::lock(&request.cache, &recipe, progress)?;
    // Someone else may have finished it while we waited for the lock.
    if let Some(kernel) = cache::find(&request.cache, &recipe) {
        progress(Progress::Cached);
        return Ok(kernel);
    }
    toolchain::require(&settings)?;
    let package = source::obtain(source, request.source.as_deref(), &request.cache, progress)?;
    let tree = compile::unpack(&package, slot.building(), &recipe, progress)?;
    configuration::configure(&tree, &settings, progress)?;
    let built = compile::compile(&tree, request.profile, progress)?;
    slot.keep(&recipe, &built)
}
