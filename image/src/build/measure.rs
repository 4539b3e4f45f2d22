//! How large each part is, as it lies on the disk and compressed. The compressed size says what a
//! download would cost; zstd's default level is fast enough to be asked on every build.

use std::collections::HashSet;
use std::io::{self, Write};

use berth_tree::{Content, Kind, NodeId, Spool, Tree};

use super::images::Loaded;
use crate::manifest::{Group, Part};

/// What [`compressed_bytes`] uses, for the manifest.
pub(super) const COMPRESSION: &str = "zstd -3";
const LEVEL: i32 = 3;

/// Counts what is written to it.
#[derive(Debug, Default)]
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The size of `bytes`, compressed.
pub(super) fn compressed_bytes(mut bytes: impl io::Read) -> io::Result<u64> {
    let mut encoder = zstd::stream::Encoder::new(Counter::default(), LEVEL)?;
    io::copy(&mut bytes, &mut encoder)?;
    Ok(encoder.finish()?.0)
}

/// A part that is in memory.
pub(super) fn of_bytes(group: Group, name: &str, bytes: &[u8]) -> io::Result<Part> {
    Ok(Part {
        group,
        name: name.to_owned(),
        detail: String::new(),
        bytes: bytes.len() as u64,
        compressed_bytes: compressed_bytes(bytes)?,
    })
}

/// What is left of each layer of the images in the root: a file that a later layer replaced
/// costs nothing, and equal files are stored once and count where they come first.
pub(super) fn of_images(loaded: &[Loaded], spool: &Spool) -> io::Result<Vec<Part>> {
    let mut seen = HashSet::new();
    let mut parts = Vec::new();
    for Loaded { image, .. } in loaded {
        let digest = image.digest.to_string();
        let mut layers = Vec::new();
        for layer in &image.layers {
            let part = Part {
                group: Group::Image(digest.clone()),
                name: layer.digest.to_string(),
                detail: layer.created_by.clone(),
                bytes: 0,
                compressed_bytes: 0,
            };
            let encoder = zstd::stream::Encoder::new(Counter::default(), LEVEL)?;
            layers.push((part, encoder));
        }
        for (id, content) in files(&image.tree) {
            let Some((part, encoder)) = layers.get_mut(image.attribution.layer_of(id)) else {
                continue;
            };
            if !seen.insert(content.sha256) {
                continue;
            }
            part.bytes += content.len;
            io::copy(&mut spool.reader(&content), encoder)?;
        }
        for (mut part, encoder) in layers {
            part.compressed_bytes = encoder.finish()?.0;
            parts.push(part);
        }
    }
    Ok(parts)
}

/// The files that can be reached, in path order; one with several names comes once.
fn files(tree: &Tree) -> Vec<(NodeId, Content)> {
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    let mut open = vec![tree.root()];
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        match &tree.node(id).kind {
            Kind::Directory(entries) => open.extend(entries.values().rev()),
            Kind::File(content) => files.push((id, *content)),
            _ => {}
        }
    }
    files
}
