//! The verified root of a tree, and what its two halves cost compressed.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek};
use std::path::Path;

use berth_disk::root::{Root, RootWriter};
use berth_slots::verity::BLOCK;
use berth_tree::{Spool, Tree};

use super::error::BuildError;
use super::measure;

/// The volume name of every root.
const VOLUME_NAME: &str = "berth-root";

/// How many bytes are handed on at once.
const BUFFER: usize = 1 << 20;

/// Writes the root of `tree` to what will be `path`.
pub(super) fn write(
    tree: &Tree,
    spool: &Spool,
    built: u64,
    path: &Path,
) -> Result<Root, BuildError> {
    let options = berth_erofs::Options {
        volume_name: VOLUME_NAME.to_owned(),
        build_time: built,
        uuid: None,
    };
    let image = berth_erofs::Image::of(tree, &options)?;
    let writer = RootWriter::create(path, image.summary().bytes)?;
    let mut buffered = BufWriter::with_capacity(BUFFER, writer);
    image.write(spool, &mut buffered)?;
    let writer = buffered
        .into_inner()
        .map_err(|error| BuildError::write(path)(error.into_error()))?;
    Ok(writer.finish()?)
}

/// Sizes of a root's two halves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) erofs_bytes: u64,
    pub(super) erofs_compressed: u64,
    pub(super) hash_tree_bytes: u64,
    pub(super) hash_tree_compressed: u64,
}

/// Measures both halves.
pub(super) fn measure(root: &Root, path: &Path) -> Result<Measured, BuildError> {
    let erofs_bytes = root.geometry.data_blocks() * BLOCK as u64;
    let compressed = |mut file: &File| -> io::Result<(u64, u64)> {
        file.rewind()?;
        let erofs = measure::compressed_bytes(Read::take(file, erofs_bytes))?;
        Ok((erofs, measure::compressed_bytes(file)?))
    };
    let (erofs_compressed, hash_tree_compressed) =
        compressed(root.file()).map_err(BuildError::read(path))?;
    Ok(Measured {
        erofs_bytes,
        erofs_compressed,
        hash_tree_bytes: root.geometry.total_bytes().saturating_sub(erofs_bytes),
        hash_tree_compressed,
    })
}
