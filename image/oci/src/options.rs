//! What a caller may choose: platform, limits, registry settings, cache, progress.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::limits::Limits;

/// How images are found and unpacked.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which image of an index is taken.
    pub platform: Platform,
    /// Caps on foreign input.
    pub limits: Limits,
    /// How registries are talked to.
    pub registry: RegistryOptions,
    /// Where temporary files go (compressed archives, downloads without a cache).
    pub temp_dir: PathBuf,
    /// Told what is being worked on.
    pub progress: Progress,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            platform: Platform::default(),
            limits: Limits::default(),
            registry: RegistryOptions::default(),
            temp_dir: std::env::temp_dir(),
            progress: Progress::default(),
        }
    }
}

/// Operating system and architecture in Go's terms, as images name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub architecture: String,
}

impl Default for Platform {
    fn default() -> Self {
        Self {
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// How registries are talked to.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Registries (`host` or `host:port`) that may be spoken to without TLS. Loopback always may.
    pub plain_http: Vec<String>,
    /// PEM files with further certificate authorities.
    pub ca_files: Vec<PathBuf>,
    /// The file with credentials; [`RegistryOptions::default`] finds it as other tools do.
    pub auth_file: Option<PathBuf>,
    /// The directory where blobs are kept by digest; safe to delete at any time. Without one,
    /// blobs live only as long as the build.
    pub cache: Option<PathBuf>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for a server's first byte.
    pub response_timeout: Duration,
    /// Longest pause in a transfer before it is continued in a new request.
    pub stall_timeout: Duration,
    /// Tries of one request when nothing comes back, or what comes back is the server's fault.
    pub attempts: u32,
    /// The pause before the second try; doubled each time.
    pub backoff: Duration,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            plain_http: Vec::new(),
            ca_files: Vec::new(),
            auth_file: default_auth_file(),
            cache: default_cache(),
            connect_timeout: Duration::from_secs(15),
            response_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(30),
            attempts: 4,
            backoff: Duration::from_millis(500),
        }
    }
}

/// The first that exists of: `$REGISTRY_AUTH_FILE`, `$DOCKER_CONFIG/config.json`,
/// `$XDG_RUNTIME_DIR/containers/auth.json`, `~/.docker/config.json`. The first, when set, is
/// meant even if it does not exist, so that a wrong path is noticed.
fn default_auth_file() -> Option<PathBuf> {
    let var = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    if let Some(path) = var("REGISTRY_AUTH_FILE") {
        return Some(path);
    }
    [
        var("DOCKER_CONFIG").map(|dir| dir.join("config.json")),
        var("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
        var("HOME").map(|dir| dir.join(".docker/config.json")),
    ]
    .into_iter()
    .flatten()
    .find(|path| path.is_file())
}

fn default_cache() -> Option<PathBuf> {
    let var = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    var("XDG_CACHE_HOME")
        .or_else(|| var("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("berth/blobs"))
}

/// What is being worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A blob comes from a registry: bytes so far, and in all.
    Download {
        /// The blob's digest.
        digest: &'a crate::Digest,
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A layer is being unpacked.
    Layer {
        /// Which, from 1.
        number: usize,
        /// Of how many.
        of: usize,
        /// Its stored size in bytes.
        bytes: u64,
    },
}

/// Someone who wants to know; nobody by default.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<Listener>>);

type Listener = dyn Fn(Step<'_>) + Send + Sync;

impl Progress {
    /// Calls `listener` at each step.
    pub fn new(listener: impl Fn(Step<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    pub(crate) fn tell(&self, step: Step<'_>) {
        if let Some(listener) = &self.0 {
            listener(step);
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}
