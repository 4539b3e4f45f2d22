//! Writing an image: one layer from a tree, as an OCI layout in a directory or an archive. The
//! same tree and description give the same bytes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::Path;

use berth_tree::{Kind as NodeKind, Metadata, NodeId, Spool, Tree};
use flate2::{Compression, GzBuilder};
use serde_json::{Map, Value, json};

use crate::config::Execution;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::Error;
use crate::manifest::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, REF_NAME};
use crate::options::Platform;
use crate::tar::{Kind, Writer};

/// What an image says about itself, besides its files.
#[derive(Clone, Debug, Default)]
pub struct NewImage {
    /// Its platform.
    pub platform: Platform,
    /// What a container of it runs.
    pub execution: Execution,
    /// When it was made, RFC 3339; left out when `None`, so that the bytes depend on nothing else.
    pub created: Option<String>,
    /// What made it.
    pub created_by: String,
    /// Its name in the layout.
    pub tag: Option<String>,
}

/// The files of a layout, small ones in memory.
struct Layout {
    small: Vec<(String, Vec<u8>)>,
    layer_name: String,
    layer: File,
    layer_size: u64,
    digest: Digest,
}

/// Writes a tar file of an OCI layout to `output`; returns the manifest's digest.
///
/// # Errors
/// When the spool cannot be read, or `output` or a temporary file in `temp_dir` written.
pub fn write_oci_archive(
    tree: &Tree,
    spool: &Spool,
    image: &NewImage,
    temp_dir: &Path,
    output: impl Write,
) -> Result<Digest, Error> {
    let mut layout = layout(tree, spool, image, temp_dir)?;
    let mut archive = Writer::new(BufWriter::new(output));
    let write = || {
        let file = Metadata::system(0o644);
        for (name, bytes) in &layout.small {
            let size = bytes.len() as u64;
            archive.entry(
                name.as_bytes(),
                &Kind::File,
                &file,
                size,
                &mut bytes.as_slice(),
            )?;
        }
        let name = layout.layer_name.as_bytes();
        archive.entry(
            name,
            &Kind::File,
            &file,
            layout.layer_size,
            &mut layout.layer,
        )?;
        archive.finish()?.flush()
    };
    write().map_err(|source| Error::io("cannot write the image archive", source))?;
    Ok(layout.digest)
}

/// Writes an OCI layout to the directory `output`, which must not exist and appears only when it
/// is complete; returns the manifest's digest.
///
/// # Errors
/// When the spool cannot be read or the directory cannot be made.
pub fn write_oci_dir(
    tree: &Tree,
    spool: &Spool,
    image: &NewImage,
    output: &Path,
) -> Result<Digest, Error> {
    let failed = |source| {
        let shown = output.display();
        Error::io(format!("cannot write the image layout {shown}"), source)
    };
    let parent = match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut layout = layout(tree, spool, image, parent)?;
    let unfinished = tempfile::tempdir_in(parent).map_err(failed)?;
    // The temporary directory is private; its content, in the end, is not.
    let root = unfinished.path().join("layout");
    let mut write = || -> io::Result<()> {
        fs::create_dir_all(root.join("blobs/sha256"))?;
        for (name, bytes) in &layout.small {
            fs::write(root.join(name), bytes)?;
        }
        io::copy(
            &mut layout.layer,
            &mut File::create(root.join(&layout.layer_name))?,
        )?;
        fs::rename(&root, output)
    };
    write().map_err(failed)?;
    Ok(layout.digest)
}

fn layout(tree: &Tree, spool: &Spool, image: &NewImage, temp_dir: &Path) -> Result<Layout, Error> {
    let failed = |source| Error::io("cannot write the image's layer", source);
    let file = tempfile::tempfile_in(temp_dir).map_err(failed)?;
    let stored = Hashing::new(BufWriter::new(file));
    // No name, no time: the header holds nothing of this computer.
    let gzip = GzBuilder::new().write(stored, Compression::best());
    let layer = write_layer(tree, spool, Hashing::new(gzip)).map_err(failed)?;
    let (gzip, diff_id, _) = layer.finish();
    let (buffered, digest, layer_size) = gzip.finish().map_err(failed)?.finish();
    let mut layer = buffered
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    layer.rewind().map_err(failed)?;

    let config = config_json(image, &diff_id).to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, &Digest::of(&config), config.len() as u64),
        "layers": [descriptor(&format!("{OCI_LAYER}+gzip"), &digest, layer_size)],
    });
    let manifest = manifest.to_string().into_bytes();
    let manifest_digest = Digest::of(&manifest);
    let mut entry = descriptor(OCI_MANIFEST, &manifest_digest, manifest.len() as u64);
    if let Some(tag) = &image.tag {
        entry["annotations"] = json!({ REF_NAME: tag });
    }
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]});
    let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    Ok(Layout {
        small: vec![
            (
                "oci-layout".into(),
                br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
            ),
            ("index.json".into(), index.to_string().into_bytes()),
            (blob(&manifest_digest), manifest),
            (blob(&Digest::of(&config)), config),
        ],
        layer_name: blob(&digest),
        layer,
        layer_size,
        digest: manifest_digest,
    })
}

fn descriptor(media_type: &str, digest: &Digest, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

fn config_json(image: &NewImage, diff_id: &Digest) -> Value {
    let run = &image.execution;
    let mut config = Map::new();
    let mut put = |key: &str, is_empty: bool, value: Value| {
        if !is_empty {
            config.insert(key.to_owned(), value);
        }
    };
    let keys = |set: &std::collections::BTreeSet<String>| -> Value {
        set.iter()
            .map(|key| (key.clone(), json!({})))
            .collect::<Map<_, _>>()
            .into()
    };
    put("User", run.user.is_empty(), json!(run.user));
    put(
        "ExposedPorts",
        run.exposed_ports.is_empty(),
        keys(&run.exposed_ports),
    );
    put("Env", run.env.is_empty(), json!(run.env));
    put(
        "Entrypoint",
        run.entrypoint.is_empty(),
        json!(run.entrypoint),
    );
    put("Cmd", run.cmd.is_empty(), json!(run.cmd));
    put("Volumes", run.volumes.is_empty(), keys(&run.volumes));
    put(
        "WorkingDir",
        run.working_dir.is_empty(),
        json!(run.working_dir),
    );
    put("Labels", run.labels.is_empty(), json!(run.labels));
    put(
        "StopSignal",
        run.stop_signal.is_empty(),
        json!(run.stop_signal),
    );
    let mut json = json!({
        "architecture": image.platform.architecture,
        "os": image.platform.os,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created_by": image.created_by}],
    });
    if let Some(created) = &image.created {
        json["created"] = json!(created);
        json["history"][0]["created"] = json!(created);
    }
    json
}

/// Entries in the order of their paths; the first name of a file carries it, further ones are
/// hard links.
fn write_layer<W: Write>(tree: &Tree, spool: &Spool, output: W) -> io::Result<W> {
    let mut writer = Writer::new(output);
    let mut first_names: HashMap<NodeId, Vec<u8>> = HashMap::new();
    let root = &tree.node(tree.root()).metadata;
    writer.entry(b"./", &Kind::Directory, root, 0, &mut io::empty())?;
    let mut waiting: Vec<(Vec<u8>, NodeId)> = children(tree, tree.root(), b"");
    while let Some((path, id)) = waiting.pop() {
        let node = tree.node(id);
        let (mut size, mut data): (u64, Box<dyn Read>) = (0, Box::new(io::empty()));
        let mut name = path.clone();
        let kind = match (&node.kind, first_names.get(&id)) {
            (_, Some(first)) => Kind::HardLink(first.clone()),
            (NodeKind::Directory(_), None) => {
                name.push(b'/');
                waiting.extend(children(tree, id, &path));
                Kind::Directory
            }
            (NodeKind::File(content), None) => {
                size = content.len;
                data = Box::new(spool.reader(content));
                Kind::File
            }
            (NodeKind::Symlink(target), None) => Kind::Symlink(target.clone()),
            (NodeKind::CharDevice(number), None) => Kind::CharDevice {
                major: number.major,
                minor: number.minor,
            },
            (NodeKind::BlockDevice(number), None) => Kind::BlockDevice {
                major: number.major,
                minor: number.minor,
            },
            (NodeKind::Fifo, None) => Kind::Fifo,
            // Tar has no sockets; whoever listens on one makes it.
            (NodeKind::Socket, None) => continue,
        };
        writer.entry(&name, &kind, &node.metadata, size, &mut data)?;
        if kind != Kind::Directory {
            first_names.entry(id).or_insert(path);
        }
    }
    writer.finish()
}

/// A directory's entries, last one first.
fn children(tree: &Tree, directory: NodeId, path: &[u8]) -> Vec<(Vec<u8>, NodeId)> {
    let entries = tree.entries(directory).into_iter().flatten().rev();
    entries
        .map(|(name, id)| match path {
            b"" => (name.clone(), *id),
            path => ([path, b"/", name].concat(), *id),
        })
        .collect()
}

/// Hashes and counts what is written through it.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
    count: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Hasher::new(Algorithm::Sha256),
            count: 0,
        }
    }

    fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.count)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..n).unwrap_or_default());
        self.count += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
