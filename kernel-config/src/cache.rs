//! Finished kernels, each in a directory named by everything that decides its bytes. The cache
//! may be deleted at any time, also while it is used: an entry appears by one rename and counts
//! only if its image has the hash that it was stored with. Builders of the same kernel wait for
//! each other.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::error::{Error, io as io_error};
use crate::fragment::{self, Setting};
use crate::payload;
use crate::profile::Profile;
use crate::progress::Progress;
use crate::source::{self, Source};
use crate::toolchain::Toolchain;

/// Changes when this crate builds otherwise from the same inputs.
const METHOD: u32 = 2;

/// A finished kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Its version.
    pub version: String,
    /// Its profile.
    pub profile: Profile,
    /// The image: a UEFI executable and what `-kernel` takes.
    pub bzimage: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// The addresses of its symbols, for reading a crash.
    pub system_map: PathBuf,
    /// The image's SHA-256 in hexadecimal.
    pub sha256: String,
}

/// `info.json` of an entry: where its kernel came from.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    version: String,
    profile: String,
    sha256: String,
    source_package: String,
    source_sha256: String,
    compiler: String,
    linker: String,
}

/// Everything that decides a kernel's bytes.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) profile: Profile,
    pub(crate) source: Source,
    pub(crate) toolchain: Toolchain,
    key: String,
}

impl Recipe {
    pub(crate) fn new(
        profile: Profile,
        source: &Source,
        settings: &[Setting],
        toolchain: &Toolchain,
    ) -> Self {
        let inputs = [
            METHOD.to_string(),
            payload::VERSION.to_string(),
            source.sha256.clone(),
            source.date.clone(),
            fragment::plain(settings),
            toolchain.compiler.clone(),
            toolchain.linker.clone(),
        ];
        let mut hash = Sha256::new();
        for input in inputs {
            // With its length before it, no two lists of inputs read the same.
            hash.update((input.len() as u64).to_le_bytes());
            hash.update(input);
        }
        Self {
            profile,
            source: source.clone(),
            toolchain: toolchain.clone(),
            key: format!("{:x}", hash.finalize()),
        }
    }

    /// The entry's name.
    fn name(&self) -> String {
        let short: String = self.key.chars().take(16).collect();
        format!("{}-{}-{short}", self.profile, self.source.version)
    }
}

/// `berth/kernel` in the user's cache directory (`XDG_CACHE_HOME`, else `~/.cache`); none if the
/// user has no home.
#[must_use]
pub fn default_directory() -> Option<PathBuf> {
    // The XDG specification: a relative path is to be ignored.
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("berth/kernel"))
}

/// The finished kernel, if it is in the cache and whole.
pub(crate) fn find(cache: &Path, recipe: &Recipe) -> Option<Kernel> {
    let entry = cache.join(recipe.name());
    let info: Info = serde_json::from_slice(&fs::read(entry.join("info.json")).ok()?).ok()?;
    let kernel = Kernel {
        version: info.version,
        profile: recipe.profile,
        bzimage: entry.join("bzImage"),
        config: entry.join("config"),
        system_map: entry.join("System.map"),
        sha256: info.sha256,
    };
    let whole = source::sha256_of(&kernel.bzimage).is_ok_and(|found| found == kernel.sha256)
        && kernel.config.is_file()
        && kernel.system_map.is_file();
    whole.then_some(kernel)
}

/// The right to build one kernel, and a place to do it.
#[derive(Debug)]
pub(crate) struct Slot {
    cache: PathBuf,
    building: TempDir,
    _lock: Flock<File>,
}

impl Slot {
    /// Waits until no one else builds the same kernel, and removes what a killed builder left.
    pub(crate) fn lock(
        cache: &Path,
        recipe: &Recipe,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, Error> {
        fs::create_dir_all(cache).map_err(io_error("creating", cache))?;
        let path = cache.join(format!("{}.lock", recipe.name()));
        let open = || File::create(&path).map_err(io_error("opening", &path));
        let lock = match Flock::lock(open()?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err(_) => {
                progress(Progress::Waiting);
                Flock::lock(open()?, FlockArg::LockExclusive)
                    .map_err(|(_, errno)| io_error("locking", &path)(errno.into()))?
            }
        };
        let prefix = format!("building-{}-", recipe.name());
        remove_leftovers(cache, &prefix)?;
        let building = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(cache)
            .map_err(io_error("writing in", cache))?;
        Ok(Self {
            cache: cache.to_owned(),
            building,
            _lock: lock,
        })
    }

    /// Where to build: gone with the slot.
    pub(crate) fn building(&self) -> &Path {
        self.building.path()
    }

    /// Makes an entry of the finished build.
    pub(crate) fn keep(&self, recipe: &Recipe, built: &Built) -> Result<Kernel, Error> {
        let entry = self.building.path().join("entry");
        fs::create_dir(&entry).map_err(io_error("creating", &entry))?;
        for (from, name) in [
            (&built.bzimage, "bzImage"),
            (&built.config, "config"),
            (&built.system_map, "System.map"),
        ] {
            fs::rename(from, entry.join(name)).map_err(io_error("keeping", from))?;
        }
        let sha256 = source::sha256_of(&entry.join("bzImage"))?;
        let info = Info {
            version: recipe.source.version.clone(),
            profile: recipe.profile.to_string(),
            sha256,
            source_package: format!("{}={}", recipe.source.package, recipe.source.release),
            source_sha256: recipe.source.sha256.clone(),
            compiler: recipe.toolchain.compiler.clone(),
            linker: recipe.toolchain.linker.clone(),
        };
        let path = entry.join("info.json");
        let text = serde_json::to_vec_pretty(&info)
            .map_err(|error| io_error("writing", &path)(error.into()))?;
        fs::write(&path, text).map_err(io_error("writing", &path))?;
        let place = self.cache.join(recipe.name());
        match fs::remove_dir_all(&place) {
            // A damaged entry makes room.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("replacing", &place)(error));
            }
            _ => fs::rename(&entry, &place).map_err(io_error("writing", &place))?,
        }
        find(&self.cache, recipe).ok_or_else(|| {
            io_error("reading back", &place)(io::Error::other("it is not what was written"))
        })
    }
}

/// The files of a finished build.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) bzimage: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) system_map: PathBuf,
}

fn remove_leftovers(cache: &Path, prefix: &str) -> Result<(), Error> {
    for entry in fs::read_dir(cache).map_err(io_error("reading", cache))? {
        let entry = entry.map_err(io_error("reading", cache))?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            fs::remove_dir_all(entry.path()).map_err(io_error("removing", &entry.path()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fragment::Value;

    fn recipe(change: impl FnOnce(&mut Source, &mut Vec<Setting>, &mut Toolchain)) -> Recipe {
        let mut source = source::versions()[0].clone();
        let mut settings = fragment::parse("subject", "CONFIG_A=y  # because\n").unwrap();
        let mut toolchain = Toolchain {
            compiler: "gcc 12".into(),
            linker: "ld 2.40".into(),
        };
        change(&mut source, &mut settings, &mut toolchain);
        Recipe::new(Profile::Micro, &source, &settings, &toolchain)
    }

    /// What a build leaves in the slot's directory.
    fn build(slot: &Slot, image: &str) -> Built {
        let file = |name: &str, content: &str| {
            let path = slot.building().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        Built {
            bzimage: file("image", image),
            config: file(".config", "CONFIG_A=y\n"),
            system_map: file("map", ""),
        }
    }

    #[test]
    fn each_input_that_changes_the_bytes_changes_the_key_and_a_reason_does_not() {
        let plain = recipe(|_, _, _| {}).key;
        let others = [
            recipe(|source, _, _| source.sha256 = "0".repeat(64)).key,
            recipe(|source, _, _| source.date = "2001-01-01".into()).key,
            recipe(|_, settings, _| settings[0].value = Value::Off).key,
            recipe(|_, _, toolchain| toolchain.compiler = "gcc 13".into()).key,
            recipe(|_, _, toolchain| toolchain.linker = "ld 2.41".into()).key,
        ];
        for (index, other) in others.iter().enumerate() {
            assert!(
                *other != plain && !others[..index].contains(other),
                "input {index}"
            );
        }
        assert_eq!(
            recipe(|_, settings, _| settings[0].reason = "otherwise".into()).key,
            plain
        );
    }

    #[test]
    fn a_kernel_that_was_kept_is_found_until_its_image_changes() {
        let cache = tempfile::tempdir().unwrap();
        let recipe = recipe(|_, _, _| {});
        assert_eq!(find(cache.path(), &recipe), None);
        let slot = Slot::lock(cache.path(), &recipe, &mut |_| {}).unwrap();
        let kernel = slot.keep(&recipe, &build(&slot, "image")).unwrap();
        assert_eq!(find(cache.path(), &recipe), Some(kernel.clone()));
        fs::write(&kernel.bzimage, "imagf").unwrap();
        assert_eq!(find(cache.path(), &recipe), None);
        let kernel = slot.keep(&recipe, &build_again(&slot)).unwrap();
        assert_eq!(find(cache.path(), &recipe), Some(kernel));
    }

    fn build_again(slot: &Slot) -> Built {
        fs::remove_dir_all(slot.building().join("entry")).ok();
        build(slot, "image")
    }

    #[test]
    fn what_a_killed_builder_left_is_removed_and_is_never_an_entry() {
        let cache = tempfile::tempdir().unwrap();
        let recipe = recipe(|_, _, _| {});
        let left = cache
            .path()
            .join(format!("building-{}-gone", recipe.name()));
        fs::create_dir_all(left.join("tree")).unwrap();
        let slot = Slot::lock(cache.path(), &recipe, &mut |_| {}).unwrap();
        assert!(!left.exists());
        assert_eq!(find(cache.path(), &recipe), None);
        drop(slot);
    }

    #[test]
    fn a_second_builder_waits_for_the_first() {
        let cache = tempfile::tempdir().unwrap();
        let recipe = recipe(|_, _, _| {});
        let first = Slot::lock(cache.path(), &recipe, &mut |_| {}).unwrap();
        std::thread::scope(|scope| {
            let (waiting, waits) = std::sync::mpsc::channel();
            let second = scope.spawn(|| {
                let tell = waiting;
                Slot::lock(cache.path(), &recipe, &mut |step| tell.send(step).unwrap())
                    .map(|_| find(cache.path(), &recipe))
            });
            assert_eq!(waits.recv().unwrap(), Progress::Waiting);
            let kernel = first.keep(&recipe, &build(&first, "image")).unwrap();
            drop(first);
            assert_eq!(second.join().unwrap().unwrap(), Some(kernel));
        });
    }
}
