//! What is made from what: files with copy maps, and copies between the images for the rest.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::encode::file::{File, gather};
use crate::encode::pairs::{self, Pair};
use crate::encode::rest::{Copy, complement, copies};
use crate::encode::{Error, elf};
use crate::extents::Extents;
use crate::limits::{CHUNK, CHUNK_BYTES, Limits};
use crate::patch::Place;
use crate::pieces::of_chunk;

/// Of the limits, what one image's plan uses; maps are counted before they are packed.
const FILES_MAX: usize = 2048;
const EXTENTS_MAX: usize = 24_000;
const MAPS_BYTES: usize = 3 << 20;

/// A plan for all bytes of the target.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) files: Vec<File>,
    pub(crate) places: Vec<Place>,
    /// In the target's order, without overlap; in places of files they do not count.
    pub(crate) copies: Vec<Copy>,
}

impl Plan {
    /// A plan that makes `new` from `old`.
    pub(crate) fn new(old: &[u8], new: &[u8], limits: &Limits) -> Result<Self, Error> {
        let whole = Pair {
            old: whole(old, limits)?,
            new: whole(new, limits)?,
        };
        if predictable(old, new, &whole) {
            let mut plan = Self::default();
            if plan.add_file(old, new, &whole) {
                return Ok(plan);
            }
        }
        Self::of_images(old, new)
    }

    fn of_images(old: &[u8], new: &[u8]) -> Result<Self, Error> {
        let mut plan = Self::default();
        let mut taken = BTreeMap::new();
        let mut old_taken = Vec::new();
        for pair in pairs::find(old, new) {
            if !claim(&pair.new, &mut taken) {
                continue;
            }
            old_taken.extend(ranges(&pair.old));
            if !(predictable(old, new, &pair) && plan.add_file(old, new, &pair)) {
                plan.copies.extend(copies(old, new, &pair.old, &pair.new));
            }
        }
        old_taken.sort_unstable();
        let old_left = complement(old_taken.into_iter(), old.len());
        let new_left = complement(taken.into_iter(), new.len());
        plan.copies.extend(copies(old, new, &old_left, &new_left));
        plan.copies.sort_unstable_by_key(|copy| copy.new);
        Ok(plan)
    }

    /// Adds a file with a copy map, unless it needs more than a decoder may use.
    fn add_file(&mut self, old: &[u8], new: &[u8], pair: &Pair) -> bool {
        let pieces = pair.new.pieces().count() + pair.old.pieces().count();
        let limits = Limits::default();
        if self.files.len() >= FILES_MAX || self.places.len() + pieces > EXTENTS_MAX {
            return false;
        }
        let number = self.files.len();
        let mut places: Vec<Place> = pair
            .new
            .pieces()
            .map(|(offset, image, bytes)| Place {
                image,
                file: number,
                offset,
                bytes,
            })
            .collect();
        places.sort_unstable_by_key(|place| place.image);
        let file = File::new(
            old,
            new,
            pair.old.clone(),
            pair.new.clone(),
            &parts(&places),
        );
        let used: usize = self.files.iter().map(|file| file.map_bytes).sum();
        if !file.fits(&limits) || used + file.map_bytes > MAPS_BYTES {
            return false;
        }
        self.files.push(file);
        self.places.extend(places);
        self.places.sort_unstable_by_key(|place| place.image);
        true
    }
}

/// All of an image as one file.
fn whole(image: &[u8], limits: &Limits) -> Result<Extents, Error> {
    let mut extents = Extents::default();
    let too_large = || Error::TooLarge("an image of 4 GiB or more");
    let bytes = u32::try_from(image.len()).map_err(|_| too_large())?;
    if u64::from(bytes) > limits.image_bytes {
        return Err(Error::TooLarge("an image larger than a decoder takes"));
    }
    extents.add(0, bytes).map_err(|_| too_large())?;
    Ok(extents)
}

/// Whether two versions of a file differ and have references to predict.
fn predictable(old: &[u8], new: &[u8], pair: &Pair) -> bool {
    let starts_as_program = |image: &[u8], extents: &Extents| {
        let first = extents.pieces().next();
        first.is_some_and(|(_, at, bytes)| {
            elf::is_elf64(&image[at as usize..at as usize + bytes as usize])
        })
    };
    if !starts_as_program(old, &pair.old) || !starts_as_program(new, &pair.new) {
        return false;
    }
    let (old, new) = (gather(old, &pair.old), gather(new, &pair.new));
    old != new && elf::addresses(&old).is_some() && elf::addresses(&new).is_some()
}

/// Claims a file's bytes of the image, unless another file has some of them.
fn claim(file: &Extents, taken: &mut BTreeMap<u32, u32>) -> bool {
    let is_free = |(start, bytes): (u32, u32)| {
        let before = taken.range(..start + bytes).next_back();
        before.is_none_or(|(other, length)| other + length <= start)
    };
    let free = ranges(file).all(is_free);
    if free {
        taken.extend(ranges(file));
    }
    free
}

/// The pieces of a file as ranges of its image, which is shorter than 4 GiB.
fn ranges(file: &Extents) -> impl Iterator<Item = (u32, u32)> {
    file.pieces().map(|(_, at, bytes)| (at as u32, bytes))
}

/// The parts of a file that chunks hold.
fn parts(places: &[Place]) -> Vec<Range<u32>> {
    let chunk_of = |offset: u64| offset / CHUNK;
    let mut chunks: Vec<u64> = places
        .iter()
        .flat_map(|place| {
            chunk_of(place.image)..=chunk_of(place.image + u64::from(place.bytes) - 1)
        })
        .collect();
    chunks.dedup();
    chunks
        .into_iter()
        .flat_map(|chunk| of_chunk(places, chunk * CHUNK, CHUNK_BYTES))
        .filter_map(|piece| piece.file.map(|(_, part)| part))
        .collect()
}
