//! From the parts of a machine to the files of a build.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use berth_slots::layout::Image;

use crate::fat::Fat;
use crate::pending::Pending;
use crate::root::Root;
use crate::stream::Stream;
use crate::uki::{Texts, Uki, check_kernel};
use crate::{Error, qcow2, raw, read_error, write_error};

/// What a machine is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The verified root; its file becomes an output under the name it was created with.
    pub root: Root,
    /// The kernel image.
    pub kernel: &'a Path,
    /// The kernel's configuration, where it is known: kept as it is, as `kernel.config`.
    pub kernel_config: Option<&'a Path>,
    /// The bytes of the UEFI stub.
    pub stub: &'a [u8],
    /// The texts in the UKI; the command line pins `root`.
    pub texts: Texts<'a>,
    /// Whether `disk.raw` is kept.
    pub raw: bool,
    /// Whether there is a `disk.qcow2`, and the size of its virtual disk in bytes; 0 is the raw
    /// image's size.
    pub qcow2: Option<u64>,
}

/// One output file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

/// What is in the output directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifacts {
    /// The files of the output directory by name.
    pub files: BTreeMap<String, Artifact>,
    /// Bytes of the boot partition's file system.
    pub boot_bytes: u64,
    /// Where the partitions are.
    pub layout: Image,
}

/// Media that are complete and not yet under their names. Dropped, they leave nothing.
#[derive(Debug)]
pub struct Media {
    artifacts: Artifacts,
    outputs: Outputs,
}

impl Media {
    /// What will be in the output directory.
    #[must_use]
    pub fn artifacts(&self) -> &Artifacts {
        &self.artifacts
    }

    /// Gives the files their names.
    ///
    /// # Errors
    /// When one cannot be kept or named; those before it have their names then.
    pub fn finish(self) -> Result<Artifacts, Error> {
        self.outputs.finish()?;
        Ok(self.artifacts)
    }
}

/// Writes `kernel`, `uki.efi` and the disks into the directory `out`, under temporary names.
///
/// # Errors
/// See [`Error`]; `out` is as it was then.
pub fn assemble(parts: Parts<'_>, out: &Path) -> Result<Media, Error> {
    let kernel = File::open(parts.kernel).map_err(read_error(parts.kernel))?;
    let kernel_bytes = checked_kernel(&kernel, parts.kernel)?;
    let uki = Uki::new(parts.stub, parts.texts, kernel_bytes)?;
    let [a, b, c, d, ..] = parts.root.hash.0;
    let fat = Fat::new(uki.bytes(), u32::from_be_bytes([a, b, c, d]))?;
    let geometry = &parts.root.geometry;
    let layout = Image::new(fat.bytes(), geometry.total_bytes(), &parts.root.hash)?;

    let mut outputs = Outputs::default();
    outputs.add(out, "kernel", |stream| stream.copy(&kernel))?;
    if let Some(path) = parts.kernel_config {
        let config = File::open(path).map_err(read_error(path))?;
        outputs.add(out, "kernel.config", |stream| stream.copy(&config))?;
    }
    outputs.add(out, "uki.efi", |stream| uki.write(&mut &kernel, stream))?;
    if parts.raw || parts.qcow2.is_some() {
        let root = parts.root.pending.file();
        let disk = outputs.add(out, "disk.raw", |stream| {
            raw::write(&layout, &fat, &uki, &kernel, root, stream)
        })?;
        if let Some(wanted) = parts.qcow2 {
            let image = layout.disk_sectors * berth_slots::SECTOR;
            let virtual_bytes = if wanted == 0 { image } else { wanted };
            if virtual_bytes < image {
                return Err(Error::VirtualSize { wanted, image });
            }
            outputs.add(out, "disk.qcow2", |stream| {
                qcow2::write(&disk, virtual_bytes, stream)
            })?;
        }
    }
    if !parts.raw {
        outputs.drop("disk.raw");
    }
    outputs.adopt(parts.root);
    let artifacts = Artifacts {
        files: outputs.list(),
        boot_bytes: fat.bytes(),
        layout,
    };
    Ok(Media { artifacts, outputs })
}

/// The kernel's size, of a file that firmware can start.
fn checked_kernel(kernel: &File, path: &Path) -> Result<u64, Error> {
    let mut start = [0; 4096];
    let metadata = kernel.metadata().map_err(read_error(path))?;
    let part = metadata.len().min(start.len() as u64) as usize;
    kernel
        .read_exact_at(&mut start[..part], 0)
        .map_err(read_error(path))?;
    check_kernel(&start[..part])?;
    Ok(metadata.len())
}

/// Complete files without their names.
#[derive(Debug, Default)]
struct Outputs(Vec<(Pending, Artifact)>);

impl Outputs {
    /// Writes one; returns it for reading.
    fn add(
        &mut self,
        out: &Path,
        name: &str,
        write: impl FnOnce(&mut Stream) -> std::io::Result<()>,
    ) -> Result<File, Error> {
        let path = out.join(name);
        let mut stream = Stream::create(&path)?;
        write(&mut stream).map_err(write_error(&path))?;
        let (pending, artifact) = stream.done()?;
        let file = pending.file().try_clone().map_err(write_error(&path))?;
        self.0.push((pending, artifact));
        Ok(file)
    }

    fn adopt(&mut self, root: Root) {
        self.0.push((root.pending, root.artifact));
    }

    fn drop(&mut self, name: &str) {
        self.0
            .retain(|(pending, _)| !pending.path().ends_with(name));
    }

    fn list(&self) -> BTreeMap<String, Artifact> {
        let name = |pending: &Pending| {
            let name = pending.path().file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        self.0
            .iter()
            .map(|(pending, artifact)| (name(pending), *artifact))
            .collect()
    }

    fn finish(self) -> Result<(), Error> {
        for (pending, _) in self.0 {
            let path = pending.path().to_owned();
            pending.finish().map_err(write_error(&path))?;
        }
        Ok(())
    }
}
