//! Makes patches, on the build side.
//!
//! Both images are taken apart into files, files are matched with their older selves, references
//! and tables are told apart from the rest, and each chunk gets the shortest payload. What comes
//! out has been decoded again and compared before it is returned.

mod chunk;
mod cost;
pub mod damage;
mod elf;
mod erofs;
mod file;
mod find_tables;
mod frames;
mod hints;
mod matching;
mod numbers;
mod pack;
mod pairs;
mod plan;
mod rest;

use std::io;

use crate::encode::chunk::{Made, Maker};
use crate::encode::cost::Share;
use crate::encode::file::{File, write_map};
use crate::encode::numbers::{put, put_signed};
use crate::encode::pack::BYTES;
use crate::encode::plan::Plan;
use crate::limits::{CHUNK, CHUNK_BYTES, Limits};
use crate::patch::{MAGIC, VERSION};
use crate::pieces::of_chunk;
use crate::{Decoder, Hash, Patch, Prefix};

pub use crate::encode::cost::{Cost, What};

/// Why there is no patch.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Beyond what can be encoded, or what the decoder takes.
    #[error("{0} is too large for a patch")]
    TooLarge(&'static str),
    /// LZMA ran out of memory.
    #[error("cannot compress: {0}")]
    Compress(#[from] io::Error),
    /// A bug in the encoder, which must not reach a machine.
    #[error("the patch does not make the new version of the old one: {0}")]
    Wrong(String),
}

/// A patch that makes `new` from `old`.
///
/// # Errors
/// When an image has 4 GiB or more, or memory runs out.
pub fn create(old: &[u8], new: &[u8]) -> Result<Vec<u8>, Error> {
    make(old, new, &Limits::default(), &mut |_| ()).map(|(patch, _)| patch)
}

/// A patch that makes `new` from `old`, and what each file of `new` costs in it, the most
/// expensive first. `limits` are those of the decoder that it is for; `done` is told how many bytes
/// of `new` are done.
///
/// # Errors
/// As [`create`].
pub fn create_with_costs(
    old: &[u8],
    new: &[u8],
    limits: &Limits,
    done: &mut dyn FnMut(u64),
) -> Result<(Vec<u8>, Vec<Cost>), Error> {
    let (patch, shares) = make(old, new, limits, done)?;
    let costs = cost::add_up(new, patch.len(), &shares);
    Ok((patch, costs))
}

fn make(
    old: &[u8],
    new: &[u8],
    limits: &Limits,
    done: &mut dyn FnMut(u64),
) -> Result<(Vec<u8>, Vec<Share>), Error> {
    let Plan {
        files,
        places,
        copies,
    } = Plan::new(old, new, limits)?;
    let maker = Maker {
        old,
        new,
        files: &files,
        copies: &copies,
    };
    let mut head = Head::default();
    let mut payloads = Vec::new();
    let mut shares = Vec::new();
    for offset in (0..new.len() as u64).step_by(CHUNK_BYTES) {
        let bytes = (new.len() as u64 - offset).min(CHUNK) as usize;
        let pieces = of_chunk(&places, offset, bytes);
        let made = maker.make(offset, bytes, &pieces, &mut shares)?;
        head.chunk(
            &new[offset as usize..offset as usize + bytes],
            made,
            &mut payloads,
        );
        done(offset + bytes as u64);
    }
    for file in &files {
        let map_bytes = head.file(file)?;
        cost::share_map(file, map_bytes, &mut shares);
    }
    let patch = head.finish(old, new, files.len(), &payloads)?;
    check(&patch, old, new, limits)?;
    Ok((patch, shares))
}

/// The head while it grows.
#[derive(Default)]
struct Head {
    chunks: Vec<u8>,
    hashes: Vec<u8>,
    files: Vec<u8>,
    maps: Vec<u8>,
    copy_end: i64,
}

impl Head {
    fn chunk(&mut self, result: &[u8], made: Made, payloads: &mut Vec<u8>) {
        if !matches!(made, Made::Zero) {
            self.hashes.extend(Hash::of(result).0);
        }
        let mut payload = |kind: u8, payload: Vec<u8>| {
            self.chunks.push(kind);
            put(&mut self.chunks, payload.len() as u64);
            self.hashes.extend(Hash::of(&payload).0);
            payloads.extend(payload);
        };
        match made {
            Made::Zero => self.chunks.push(0),
            Made::Copy(source) => {
                self.chunks.push(1);
                put_signed(&mut self.chunks, source as i64 - self.copy_end);
                self.copy_end = source as i64 + result.len() as i64;
            }
            Made::Full(bytes) => payload(2, bytes),
            Made::Diff(bytes) => payload(3, bytes),
        }
    }

    /// Adds a file; gives the bytes of its packed map.
    fn file(&mut self, file: &File) -> Result<usize, Error> {
        for extents in [&file.old, &file.new] {
            put(&mut self.files, extents.pieces().count() as u64);
            let mut end = 0;
            for (_, image, bytes) in extents.pieces() {
                put_signed(&mut self.files, image as i64 - end);
                put(&mut self.files, u64::from(bytes));
                end = image as i64 + i64::from(bytes);
            }
        }
        let map = write_map(&file.map);
        let packed = pack::pack(&map, BYTES)?;
        put(&mut self.files, packed.len() as u64);
        put(&mut self.files, map.len() as u64);
        let bytes = packed.len();
        self.maps.extend(packed);
        Ok(bytes)
    }

    fn finish(
        self,
        old: &[u8],
        new: &[u8],
        files: usize,
        payloads: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let mut index = self.chunks;
        put(&mut index, files as u64);
        index.extend(self.files);
        let packed = pack::pack(&index, BYTES)?;
        let mut head = Vec::new();
        for image in [old, new] {
            head.extend((image.len() as u64).to_le_bytes());
            head.extend(Hash::of(image).0);
        }
        put(&mut head, index.len() as u64);
        put(&mut head, packed.len() as u64);
        head.extend(packed);
        head.extend(self.hashes);
        head.extend(self.maps);
        let mut patch = MAGIC.to_vec();
        patch.extend(VERSION.to_le_bytes());
        patch.extend(
            u32::try_from(head.len())
                .map_err(|_| Error::TooLarge("the head"))?
                .to_le_bytes(),
        );
        patch.extend(Hash::of(&head).0);
        patch.extend(head);
        patch.extend(payloads);
        Ok(patch)
    }
}

/// Decodes a patch and compares.
fn check(patch: &[u8], mut old: &[u8], new: &[u8], limits: &Limits) -> Result<(), Error> {
    let wrong = |error: &dyn std::fmt::Display| Error::Wrong(error.to_string());
    let prefix = Prefix::parse(patch, limits).map_err(|error| wrong(&error))?;
    let head = patch[Prefix::BYTES..Prefix::BYTES + prefix.head_bytes].to_vec();
    let parsed = Patch::parse(&prefix, head, *limits).map_err(|error| wrong(&error))?;
    let mut decoder = Decoder::new(parsed);
    let mut out = vec![0; CHUNK_BYTES];
    for chunk in decoder.patch().chunks().to_vec() {
        let payload = chunk.kind.payload().map_or(&[][..], |payload| {
            &patch[payload.offset as usize..payload.offset as usize + payload.bytes]
        });
        let out = &mut out[..chunk.bytes];
        decoder
            .decode(chunk.index, payload, &mut old, out)
            .map_err(|error| wrong(&error))?;
        if out != &new[chunk.offset as usize..chunk.offset as usize + chunk.bytes] {
            return Err(Error::Wrong(format!("chunk {} differs", chunk.index)));
        }
    }
    Ok(())
}
