//! `berth build`: the one place where parts become a machine.
//!
//! Everything is written under temporary names in the output directory; when all of it is there,
//! the files get their names, and the manifest gets its own last. A build that fails leaves the
//! directory as it was; what an interrupted one leaves, the next removes. Nothing here reads the
//! clock, and no byte depends on who builds where.

mod date;
mod demo;
mod error;
mod images;
mod kernel;
mod measure;
mod progress;
mod root;
mod turn;
mod userland;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use berth_disk::{Media, pending};
use berth_provision::{CA_PATH, Machine, SCHEMA, TRUST_ROOT_PATH};
use berth_tree::Spool;
use berth_trust::write::RootStatus;
use sha2::{Digest, Sha256};

use crate::assets::{Asset, hex};
use crate::command_line;
use crate::config::{Config, DiskFormat, Located, Mistakes};
use crate::lines;
use crate::lock::{self, Lock};
use crate::manifest::{self, ContainerInfo, FILE_NAME, FileInfo, Group, Manifest, Part};
use crate::resolve::{self, Resolved};

pub use demo::demo;
pub use error::{Blame, BuildError};
pub use kernel::find_kernel;
pub use progress::Progress;

/// The disk as it is.
pub const RAW_NAME: &str = "disk.raw";
/// The disk for QEMU.
pub const QCOW2_NAME: &str = "disk.qcow2";
/// The kernel alone, for direct boot.
pub const KERNEL_NAME: &str = "kernel";
/// The kernel's configuration, when the kernel is one that berth builds.
pub const KERNEL_CONFIG_NAME: &str = "kernel.config";
/// The kernel as a UEFI program.
pub const UKI_NAME: &str = "uki.efi";
/// The root with its hash tree.
pub const ROOT_NAME: &str = "root.erofs";

/// Names that a build may write; one that this build does not write is removed, since it belongs
/// to another machine.
const NAMES: [&str; 6] = [
    RAW_NAME,
    QCOW2_NAME,
    KERNEL_NAME,
    KERNEL_CONFIG_NAME,
    UKI_NAME,
    ROOT_NAME,
];

/// How the name of a build's temporary directory starts.
const TEMPORARY: &str = ".berth-build-";

/// What a machine is built from.
#[derive(Debug)]
pub struct Sources {
    /// The configuration.
    pub config: Config,
    /// Its file: relative paths start beside it, and so lies the lock file. The demo has none.
    pub path: Option<PathBuf>,
    /// Pin what the names mean today.
    pub update_lock: bool,
    /// A kernel image instead of ours.
    pub kernel: Option<PathBuf>,
    /// The kernel's source package.
    pub kernel_source: Option<PathBuf>,
    /// A stub instead of ours.
    pub stub: Option<PathBuf>,
    /// Another first process than ours: what `berth test` breaks a version with.
    pub init: Option<Vec<u8>>,
}

/// A finished build.
#[derive(Debug)]
pub struct Built {
    /// What it consists of.
    pub manifest: Manifest,
    /// Sentences for the person who builds.
    pub notes: Vec<String>,
}

/// Builds a machine into the directory `out`.
///
/// # Errors
/// When something of the sources cannot be used or the results cannot be written.
pub fn build(sources: Sources, out: &Path) -> Result<Built, BuildError> {
    let progress = Progress::default();
    let outcome = Builder {
        sources: &sources,
        out,
        progress: &progress,
    }
    .build();
    progress.end();
    outcome
}

/// The manifest as it is written.
#[must_use]
pub fn manifest_text(manifest: &Manifest) -> String {
    // Maps with string keys and numbers only: this cannot fail.
    let mut text = serde_json::to_string_pretty(manifest).unwrap_or_default();
    text.push('\n');
    text
}

struct Builder<'a> {
    sources: &'a Sources,
    out: &'a Path,
    progress: &'a Progress,
}

/// What goes into the lock file and the manifest about kernel and stub.
struct Boot {
    kernel: kernel::Chosen,
    stub: Vec<u8>,
    stub_sha256: String,
}

impl Builder<'_> {
    fn build(&self) -> Result<Built, BuildError> {
        let config = &self.sources.config;
        fs::create_dir_all(self.out).map_err(BuildError::write(self.out))?;
        let _turn = turn::wait_for(self.out, self.progress).map_err(BuildError::write(self.out))?;
        // Beside the results, so that what fits there fits here.
        let temporary = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempdir_in(self.out)
            .map_err(BuildError::write(self.out))?;
        let lock_path = self.sources.path.as_deref().map(lock::path_for);
        let lock = match &lock_path {
            Some(path) if !self.sources.update_lock => Lock::read(path)?,
            _ => Lock::default(),
        };
        let shown_lock = lock_path.clone().unwrap_or_default();
        let update = self.update_files()?;
        let boot = self.boot(&lock, &shown_lock)?;

        let mut spool =
            Spool::new_in(temporary.path()).map_err(userland::spool_error(temporary.path()))?;
        let context = images::Context {
            base: self.base(),
            lock: &lock,
            lock_path: &shown_lock,
            temporary: temporary.path(),
            progress: self.progress,
        };
        let mut loaded = images::load(config, &context, &mut spool)?;
        let built = date::of(&loaded)?;
        let containers = self.resolve(&mut loaded, &mut spool)?;
        let new_lock = Lock {
            kernel: Some(lock::Kernel {
                version: boot.kernel.info.version.clone(),
                profile: boot.kernel.info.profile.clone(),
                sha256: boot.kernel.info.sha256.clone(),
            }),
            stub: Some(boot.stub_sha256.clone()),
            images: images::pins(&loaded),
        };
        let machine = self.machine(built, &containers);

        self.progress.step("root");
        let init = match &self.sources.init {
            Some(init) => init.as_slice().into(),
            None => Asset::Init.bytes()?,
        };
        let template = Asset::StateTemplate.bytes()?;
        let parts = userland::Parts {
            init: &init,
            state_template: &template,
            machine: &machine,
            update,
        };
        let mut tree = userland::tree(&parts, &mut spool)?;
        let mut sizes = boot_parts(&boot)?;
        sizes.extend(userland_parts(&parts)?);
        let of_images = measure::of_images(&loaded, &spool)
            .map_err(userland::spool_error(spool.directory()))?;
        for image in loaded {
            let path = resolve::image_directory(&image.image.digest.to_string());
            tree.insert(path.as_bytes(), userland::empty_directory())
                .map_err(userland::UserlandError::from)?;
            tree.graft(path.as_bytes(), image.image.tree)
                .map_err(userland::UserlandError::from)?;
        }
        let root_path = self.out.join(ROOT_NAME);
        let root = root::write(&tree, &spool, built, &root_path)?;
        let measured = root::measure(&root, &root_path)?;
        let structures = root_parts(&measured, &sizes, &of_images);
        sizes.extend(structures);
        sizes.extend(of_images);

        self.progress.step("disk");
        let command_line = command_line::of(&root.geometry, &root.hash, config.on_failure);
        let root_hash = root.hash.hex();
        let formats = &config.image.formats;
        let media = berth_disk::assemble(
            berth_disk::Parts {
                root,
                kernel: &boot.kernel.path,
                kernel_config: boot.kernel.config.as_deref(),
                stub: &boot.stub,
                texts: berth_disk::uki::Texts {
                    os_release: &os_release(config),
                    command_line: &command_line,
                    kernel_release: &boot.kernel.info.version,
                },
                raw: formats.contains(&DiskFormat::Raw),
                qcow2: formats.contains(&DiskFormat::Qcow2).then_some(0),
            },
            self.out,
        )?;
        let files = media.artifacts().files.iter().map(|(name, artifact)| {
            let info = FileInfo {
                bytes: artifact.bytes,
                sha256: hex(&artifact.sha256),
            };
            (name.clone(), info)
        });
        let manifest = Manifest {
            schema: manifest::SCHEMA,
            name: config.image.name.clone(),
            version: config.image.version.clone(),
            security_version: config.image.security_version,
            built,
            kernel: boot.kernel.info,
            stub_sha256: boot.stub_sha256,
            command_line,
            root_hash,
            compression: measure::COMPRESSION.to_owned(),
            parts: sizes,
            files: files.collect(),
            containers: containers
                .iter()
                .map(|resolved| ContainerInfo::of(&resolved.container, &resolved.ports))
                .collect(),
        };
        self.finish(media, &manifest)?;
        if let Some(path) = &lock_path {
            new_lock.write(path)?;
        }
        Ok(Built {
            manifest,
            notes: notes(&containers),
        })
    }

    /// Where relative paths of the configuration start.
    fn base(&self) -> &Path {
        self.sources
            .path
            .as_deref()
            .and_then(Path::parent)
            .unwrap_or(Path::new(""))
    }

    /// What the machine needs to trust its updates, by its place in the root.
    fn update_files(&self) -> Result<Vec<(&'static str, Vec<u8>)>, BuildError> {
        let Some(section) = &self.sources.config.update else {
            return Ok(Vec::new());
        };
        let mistake = |file: &Located<String>, message: String| {
            Mistakes::one(&self.sources.config.file, file.place, message)
        };
        let read = |key: &str, file: &Located<String>| {
            let path = self.base().join(&file.value);
            fs::read(&path).map_err(|why| {
                let path = path.display();
                mistake(file, format!("update.{key}: cannot read {path}: {why}"))
            })
        };
        let trust = read("trust", &section.trust)?;
        if let Err(why) = RootStatus::of(&trust, None) {
            let message = format!(
                "update.trust: not a root file as `berth keys` makes it: {why}; no update would \
                 ever be believed"
            );
            return Err(mistake(&section.trust, message).into());
        }
        let mut files = vec![(TRUST_ROOT_PATH, trust)];
        if let Some(ca) = &section.ca {
            files.push((CA_PATH, read("ca", ca)?));
        }
        Ok(files)
    }

    fn boot(&self, lock: &Lock, lock_path: &Path) -> Result<Boot, BuildError> {
        let image = &self.sources.config.image;
        let wanted = image.kernel.as_ref().map(|version| version.value.as_str());
        // A pin is about what was asked for then; who asks for something else gets it.
        let pinned = lock.kernel.as_ref().filter(|pinned| {
            pinned.profile == image.profile.name()
                && wanted.is_none_or(|wanted| wanted == pinned.version)
        });
        let version = wanted.or(pinned
            .map(|pinned| pinned.version.as_str())
            .filter(|version| !version.is_empty()));
        let kernel = kernel::choose(
            image.profile,
            version,
            self.sources.kernel_source.as_deref(),
            self.sources.kernel.as_deref(),
        )?;
        lock::check(
            lock_path,
            || "the kernel's SHA-256".to_owned(),
            pinned.map(|pinned| pinned.sha256.as_str()),
            &kernel.info.sha256,
        )?;
        let stub = match &self.sources.stub {
            Some(path) => fs::read(path).map_err(BuildError::read(path))?,
            None => Asset::Stub.bytes()?.into_owned(),
        };
        let stub_sha256 = sha256(&stub);
        lock::check(
            lock_path,
            || "the UEFI stub's SHA-256".to_owned(),
            lock.stub.as_deref(),
            &stub_sha256,
        )?;
        Ok(Boot {
            kernel,
            stub,
            stub_sha256,
        })
    }

    /// Resolves every container and makes the places of its mounts, and its working directory, in
    /// its image.
    fn resolve(
        &self,
        loaded: &mut [images::Loaded],
        spool: &mut Spool,
    ) -> Result<Vec<Resolved>, BuildError> {
        let config = &self.sources.config;
        let names = config
            .containers
            .iter()
            .map(|container| container.name.as_str());
        let mut containers = Vec::new();
        for (container, first_id) in config.containers.iter().zip(resolve::first_ids(names)) {
            let reference = &container.image.value;
            let Some(loaded) = loaded
                .iter_mut()
                .find(|image| image.references.contains(reference))
            else {
                continue;
            };
            let digest = loaded.image.digest.to_string();
            let image = resolve::Image {
                digest: &digest,
                execution: &loaded.image.config.config,
                tree: &loaded.image.tree,
                spool,
            };
            let resolved = resolve::container(&config.file, container, &image, first_id)?;
            let oci = &resolved.container.oci;
            let (tree, cwd) = (&mut loaded.image.tree, &oci.process.cwd);
            resolve::make_mount_points(tree, spool, &oci.mounts)
                .and_then(|()| resolve::make_working_directory(tree, spool, cwd, &oci.mounts))
                .map_err(|why| {
                    let message = format!("container {:?}: {why}", container.name);
                    Mistakes::one(&config.file, container.place, message)
                })?;
            containers.push(resolved);
        }
        Ok(containers)
    }

    fn machine(&self, built: u64, containers: &[Resolved]) -> Machine {
        let config = &self.sources.config;
        Machine {
            schema: SCHEMA,
            name: config.image.name.clone(),
            version: config.image.version.clone(),
            security_version: config.image.security_version,
            profile: config.image.profile.name().to_owned(),
            built,
            hostname: config.hostname.clone(),
            networks: config.networks.clone(),
            containers: containers
                .iter()
                .map(|resolved| resolved.container.clone())
                .collect(),
            on_failure: config.on_failure,
            update: config.update.as_ref().map(|section| section.update.clone()),
        }
    }

    /// Gives every file its name. The old manifest goes first and the new one comes last: files
    /// of two builds never have a manifest.
    fn finish(&self, media: Media, manifest: &Manifest) -> Result<(), BuildError> {
        let manifest_path = self.out.join(FILE_NAME);
        let stale = NAMES
            .iter()
            .filter(|name| !manifest.files.contains_key(**name))
            .map(|name| self.out.join(name));
        for path in std::iter::once(manifest_path.clone()).chain(stale) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(BuildError::write(&path)(error));
                }
                _ => {}
            }
        }
        media.finish()?;
        pending::write_file(&manifest_path, manifest_text(manifest).as_bytes())
            .map_err(BuildError::write(&manifest_path))
    }
}

fn notes(containers: &[Resolved]) -> Vec<String> {
    containers
        .iter()
        .flat_map(|resolved| {
            let name = &resolved.container.name;
            let notes = resolved.notes.iter();
            notes.map(move |note| lines::clean(&format!("container {name:?}: {note}")).into_owned())
        })
        .collect()
}

/// os-release(5): what firmware and tools that read the UKI show as its name.
fn os_release(config: &Config) -> String {
    let (name, version) = (&config.image.name, &config.image.version);
    format!(
        "ID=berth\nNAME=Berth\nPRETTY_NAME=\"{name} {version}\"\nIMAGE_ID={name}\n\
         IMAGE_VERSION={version}\nVERSION_ID={version}\n"
    )
}

/// Lower-case hexadecimal SHA-256.
fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn boot_parts(boot: &Boot) -> Result<Vec<Part>, BuildError> {
    let measured = |group, name, bytes: &[u8]| {
        measure::of_bytes(group, name, bytes).map_err(BuildError::write("memory"))
    };
    Ok(vec![
        measured(Group::Kernel, KERNEL_NAME, &boot.kernel.bytes)?,
        measured(Group::Boot, "UEFI stub", &boot.stub)?,
    ])
}

fn userland_parts(parts: &userland::Parts<'_>) -> Result<Vec<Part>, BuildError> {
    let measured = |name, bytes: &[u8]| {
        measure::of_bytes(Group::Userland, name, bytes).map_err(BuildError::write("memory"))
    };
    Ok(vec![
        measured("/init", parts.init)?,
        measured("state template", parts.state_template)?,
    ])
}

/// What is in the root besides files: directories and inodes, and the hash tree. What the first
/// cost compressed is what the whole file system costs more than the files.
fn root_parts(measured: &root::Measured, before: &[Part], of_images: &[Part]) -> Vec<Part> {
    let in_root = || {
        before
            .iter()
            .filter(|part| part.group == Group::Userland)
            .chain(of_images)
    };
    let files: u64 = in_root().map(|part| part.bytes).sum();
    let files_compressed: u64 = in_root().map(|part| part.compressed_bytes).sum();
    let part = |name: &str, bytes, compressed_bytes| Part {
        group: Group::Verity,
        name: name.to_owned(),
        detail: String::new(),
        bytes,
        compressed_bytes,
    };
    vec![
        part(
            "file system structures",
            measured.erofs_bytes.saturating_sub(files),
            measured.erofs_compressed.saturating_sub(files_compressed),
        ),
        part(
            "hash tree",
            measured.hash_tree_bytes,
            measured.hash_tree_compressed,
        ),
    ]
}
