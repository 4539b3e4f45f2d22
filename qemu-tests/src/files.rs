//! Small file trees for guests: written as an initial RAM file system (`newc`, the kernel's
//! `initramfs/buffer-format`) or as an OCI image layout with one layer.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cpio::newc;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Error;

/// What is at a path.
#[derive(Clone, Debug)]
enum Content {
    Directory,
    File { mode: u32, bytes: Vec<u8> },
    Link(String),
    Device { major: u32, minor: u32 },
}

/// A file tree, paths without a leading slash.
#[derive(Clone, Debug, Default)]
pub struct Files {
    entries: BTreeMap<String, Content>,
}

impl Files {
    /// A directory, and those above it.
    pub fn directory(mut self, path: &str) -> Self {
        self.parents(&format!("{path}/"));
        self
    }

    /// A file that is run.
    pub fn program(self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.file(path, 0o755, bytes)
    }

    /// A program of the host, under another path.
    pub fn program_from(self, path: &str, host: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(host).map_err(Error::file("reading", host))?;
        Ok(self.program(path, bytes))
    }

    /// A file with a mode.
    pub fn file(self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        self.entry(path, Content::File { mode, bytes })
    }

    /// A symbolic link.
    pub fn link(self, path: &str, target: &str) -> Self {
        self.entry(path, Content::Link(target.to_owned()))
    }

    /// A character device.
    pub fn device(self, path: &str, major: u32, minor: u32) -> Self {
        self.entry(path, Content::Device { major, minor })
    }

    fn entry(mut self, path: &str, content: Content) -> Self {
        self.parents(path);
        self.entries.insert(path.to_owned(), content);
        self
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            let parent = path[..at].to_owned();
            self.entries.entry(parent).or_insert(Content::Directory);
        }
    }

    /// Writes the tree as an initial RAM file system.
    pub fn write_initramfs(&self, path: &Path) -> Result<(), Error> {
        let mut archive = Vec::new();
        let mut entries = (1..).zip(&self.entries);
        entries
            .try_for_each(|(number, (name, content))| append(&mut archive, number, name, content))
            .and_then(|()| newc::trailer(archive))
            .and_then(|archive| std::fs::write(path, archive))
            .map_err(Error::file("writing", path))
    }

    /// Writes the tree below a directory that exists (no devices).
    pub fn write_below(&self, root: &Path) -> Result<(), Error> {
        use std::os::unix::fs::{PermissionsExt, symlink};
        for (name, content) in &self.entries {
            let path = root.join(name);
            let done = match content {
                Content::Directory => std::fs::create_dir_all(&path),
                Content::File { mode, bytes } => std::fs::write(&path, bytes).and_then(|()| {
                    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode))
                }),
                Content::Link(target) => symlink(target, &path),
                Content::Device { .. } => Err(std::io::Error::other("a device needs root")),
            };
            done.map_err(Error::file("writing", path))?;
        }
        Ok(())
    }

    fn tar<W: Write>(&self, archive: &mut tar::Builder<W>) -> io::Result<()> {
        for (name, content) in &self.entries {
            let mut header = tar::Header::new_gnu();
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(0);
            header.set_mode(0o755);
            let mut bytes: &[u8] = &[];
            match content {
                Content::Directory => header.set_entry_type(tar::EntryType::Directory),
                Content::File { mode, bytes: all } => {
                    header.set_mode(*mode);
                    header.set_size(all.len() as u64);
                    bytes = all;
                }
                Content::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_link_name(target)?;
                }
                Content::Device { major, minor } => {
                    header.set_entry_type(tar::EntryType::Char);
                    header.set_device_major(*major)?;
                    header.set_device_minor(*minor)?;
                }
            }
            archive.append_data(&mut header, name, bytes)?;
        }
        Ok(())
    }

    /// Writes the tree as an OCI image layout directory (image-spec, image-layout) whose only
    /// image has one layer, the name, and the configuration's `config` object.
    pub fn write_oci_layout(
        &self,
        directory: &Path,
        name: &str,
        config: &Value,
    ) -> Result<(), Error> {
        let layer = Layer::write(directory, |archive| self.tar(archive))?;
        write_layout(directory, name, config, &[layer])
    }
}

/// A layer that lies in an image layout.
#[derive(Clone, Debug)]
pub struct Layer {
    digest: String,
    bytes: u64,
}

impl Layer {
    /// Writes an uncompressed layer, which `fill` puts entries into, among the layout's blobs.
    pub fn write(
        directory: &Path,
        fill: impl FnOnce(&mut tar::Builder<Hashing>) -> io::Result<()>,
    ) -> Result<Self, Error> {
        let blobs = blobs(directory)?;
        let path = blobs.join("new");
        let file = std::fs::File::create(&path).map_err(Error::file("creating", &path))?;
        let mut archive = tar::Builder::new(Hashing {
            file: io::BufWriter::new(file),
            hash: Sha256::new(),
            bytes: 0,
        });
        let written = fill(&mut archive)
            .and_then(|()| archive.into_inner())
            .and_then(|mut done| done.file.flush().map(|()| done));
        let Hashing { hash, bytes, .. } = written.map_err(Error::file("writing", &path))?;
        let name = hex(&hash.finalize());
        std::fs::rename(&path, blobs.join(&name)).map_err(Error::file("keeping", &path))?;
        Ok(Self {
            digest: format!("sha256:{name}"),
            bytes,
        })
    }
}

/// Where a layer's bytes go: into a file, hashed on the way.
pub struct Hashing {
    file: io::BufWriter<std::fs::File>,
    hash: Sha256,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn blobs(directory: &Path) -> Result<PathBuf, Error> {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).map_err(Error::file("creating", &blobs))?;
    Ok(blobs)
}

/// Writes an OCI image layout (image-spec, image-layout) around layers that lie in it: its only
/// image has the name, and `config` as its configuration's `config` object.
pub fn write_layout(
    directory: &Path,
    name: &str,
    config: &Value,
    layers: &[Layer],
) -> Result<(), Error> {
    let blobs = blobs(directory)?;
    let put = |text: &str| -> Result<String, Error> {
        let digest = hex(&Sha256::digest(text));
        let path = blobs.join(&digest);
        std::fs::write(&path, text).map_err(Error::file("writing", &path))?;
        Ok(format!("sha256:{digest}"))
    };
    let digests: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": digests },
    })
    .to_string();
    let descriptors: Vec<Value> = layers
        .iter()
        .map(|layer| {
            json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": layer.digest,
                "size": layer.bytes,
            })
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": put(&config)?,
            "size": config.len(),
        },
        "layers": descriptors,
    })
    .to_string();
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": put(&manifest)?,
            "size": manifest.len(),
            "platform": { "architecture": "amd64", "os": "linux" },
            "annotations": {
                "org.opencontainers.image.ref.name": "latest",
                "io.containerd.image.name": name,
            },
        }],
    });
    let top = [
        ("index.json", index.to_string()),
        ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#.to_owned()),
    ];
    for (file, text) in top {
        let path = directory.join(file);
        std::fs::write(&path, text).map_err(Error::file("writing", &path))?;
    }
    Ok(())
}

/// One entry of an initial RAM file system.
fn append(archive: &mut Vec<u8>, number: usize, name: &str, content: &Content) -> io::Result<()> {
    let header = newc::Builder::new(name).ino(number as u32);
    let (header, bytes): (_, &[u8]) = match content {
        Content::Directory => (header.mode(0o040_755), &[]),
        Content::File { mode, bytes } => (header.mode(0o100_000 | mode), bytes),
        Content::Link(target) => (header.mode(0o120_777), target.as_bytes()),
        Content::Device { major, minor } => {
            let device = header.mode(0o020_600).rdev_major(*major);
            (device.rdev_minor(*minor), &[])
        }
    };
    let mut entry = header.write(archive, bytes.len() as u32);
    entry.write_all(bytes)?;
    entry.finish().map(drop)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A program of the host and the shared libraries that its loader would map (`ldd`), under the
/// same paths.
pub fn with_libraries(files: Files, program: &Path) -> Result<Files, Error> {
    let mut listing = std::process::Command::new("ldd");
    let listing = crate::process::run(listing.arg(program))?;
    let paths = listing
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    let mut files = files.program_from(inside(program), program)?;
    for path in paths {
        files = files.program_from(inside(Path::new(path)), Path::new(path))?;
    }
    Ok(files)
}

/// An absolute path as a name in a tree.
fn inside(path: &Path) -> &str {
    path.to_str().unwrap_or_default().trim_start_matches('/')
}

/// Where a program is on `PATH`, and in the system's directories.
pub fn which(program: &str) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| Error::Program {
            program: program.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_initramfs_is_what_cpio_reads() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let archive = scratch.path().join("archive");
        let files = Files::default()
            .program("bin/run", "hello")
            .link("bin/again", "run")
            .directory("proc");
        files.write_initramfs(&archive).expect("an archive");
        let listing = std::process::Command::new("cpio")
            .args(["--list", "--quiet", "--file"])
            .arg(&archive)
            .output()
            .expect("cpio, which the kernel's build needs too");
        assert!(listing.status.success(), "{listing:?}");
        let names = String::from_utf8_lossy(&listing.stdout);
        assert_eq!(names, "bin\nbin/again\nbin/run\nproc\n");
    }

    #[test]
    fn an_oci_layout_names_its_blobs_by_their_digests() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        Files::default()
            .program("run", "hello")
            .write_oci_layout(scratch.path(), "example/run:1", &json!({}))
            .expect("a layout");
        let blobs = std::fs::read_dir(scratch.path().join("blobs/sha256")).expect("blobs");
        let mut count = 0;
        for blob in blobs {
            let blob = blob.expect("a blob").path();
            let bytes = std::fs::read(&blob).expect("its bytes");
            assert!(blob.ends_with(hex(&Sha256::digest(bytes))));
            count += 1;
        }
        assert_eq!(count, 3);
    }
}
