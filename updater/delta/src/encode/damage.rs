//! Patches that a broken encoder might sign: wrong inside, with every hash right.
//!
//! For tests of the decoder. Flipped bytes are found by the hashes and get no further; these get
//! to every parser. A patch is taken apart into its numbers and streams, some are changed, and it
//! is put together again, unpacked and hashed anew.

use std::io;

use crate::encode::numbers::put;
use crate::error::FormatError;
use crate::hash::Hash;
use crate::limits::{CHUNK, CHUNK_BYTES};
use crate::lzma::Lzma;
use crate::patch::{Prefix, unpack};
use crate::reader::Reader;
use crate::streams::COUNT;

/// Bytes of both identities in front of the index.
const IDENTITIES_BYTES: usize = 80;
const HASH_BYTES: usize = 32;
/// Numbers that are likely to be a bound of something.
const EDGES: [u64; 10] = [
    0,
    1,
    2,
    1023,
    1 << 16,
    (1 << 20) - 1,
    1 << 20,
    u32::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// A whole patch, in parts.
struct Parts {
    identities: Vec<u8>,
    /// The index: numbers alone.
    index: Vec<u64>,
    hashes: Vec<u8>,
    maps: Vec<Part>,
    payloads: Vec<Part>,
}

/// Bytes of the patch whose length is a number of the index.
struct Part {
    bytes: Vec<u8>,
    /// Which number of the index says how long they are.
    length_at: usize,
    /// For a payload its hash, in the hashes.
    hash_at: usize,
    /// A map's length unpacked; a payload of a DIFF chunk has nothing here.
    unpacked: Option<usize>,
    is_diff: bool,
}

/// `patch` with something wrong in it; `chance` decides what.
///
/// # Errors
/// When `patch` is not one that the encoder made.
pub fn damaged(patch: &[u8], chance: &mut dyn FnMut() -> u64) -> io::Result<Vec<u8>> {
    let mut parts = take_apart(patch).map_err(io::Error::other)?;
    for _ in 0..=chance() % 3 {
        match chance() % 6 {
            0 => change_numbers(&mut parts.index, chance),
            1 => change_bytes(&mut parts.identities, chance),
            2 => {
                let all: Vec<&mut Part> =
                    parts.maps.iter_mut().chain(&mut parts.payloads).collect();
                if let Some(part) = pick(all, chance) {
                    change_bytes(&mut part.bytes, chance);
                }
            }
            3 => {
                if let Some(map) = pick(parts.maps.iter_mut().collect(), chance) {
                    // What was damaged before may not unpack any more; it stays as it is then.
                    let _ = change_map(map, chance);
                }
            }
            _ => {
                let diffs = parts
                    .payloads
                    .iter_mut()
                    .filter(|part| part.is_diff)
                    .collect();
                if let Some(payload) = pick(diffs, chance) {
                    let _ = change_payload(payload, chance);
                }
            }
        }
    }
    Ok(put_together(parts))
}

fn pick<'a>(parts: Vec<&'a mut Part>, chance: &mut dyn FnMut() -> u64) -> Option<&'a mut Part> {
    let count = parts.len().max(1) as u64;
    parts.into_iter().nth((chance() % count) as usize)
}

fn take_apart(patch: &[u8]) -> Result<Parts, FormatError> {
    let head_bytes = u32::from_le_bytes(Reader::new(&patch[12..]).array()?) as usize;
    let (head, mut payload_bytes) = patch[Prefix::BYTES..].split_at(head_bytes);
    let mut from = Reader::new(head);
    let identities = from.take(IDENTITIES_BYTES)?.to_vec();
    let target_bytes = u64::from_le_bytes(Reader::new(&identities[40..]).array()?);
    let mut index = vec![0; from.number()? as usize];
    let packed = from.number()? as usize;
    unpack(&mut Lzma::default(), from.take(packed)?, &mut index)?;
    let index = numbers(&index);
    let mut at = 0;
    let mut next = || {
        at += 1;
        (at - 1, index[at - 1])
    };
    let (mut payloads, mut hashes_bytes) = (Vec::new(), 0);
    for _ in 0..target_bytes.div_ceil(CHUNK) {
        let (_, kind) = next();
        hashes_bytes += if kind == 0 { 0 } else { HASH_BYTES };
        match kind {
            0 => {}
            1 => {
                next();
            }
            _ => {
                let (length_at, length) = next();
                let (bytes, rest) = payload_bytes.split_at(length as usize);
                payload_bytes = rest;
                payloads.push(Part {
                    bytes: bytes.to_vec(),
                    length_at,
                    hash_at: hashes_bytes,
                    unpacked: None,
                    is_diff: kind == 3,
                });
                hashes_bytes += HASH_BYTES;
            }
        }
    }
    let hashes = from.take(hashes_bytes)?.to_vec();
    let mut maps = Vec::new();
    let (_, files) = next();
    for _ in 0..files {
        for _ in 0..2 {
            let (_, pieces) = next();
            (0..2 * pieces).for_each(|_| {
                next();
            });
        }
        let (length_at, length) = next();
        let (_, unpacked) = next();
        maps.push(Part {
            bytes: from.take(length as usize)?.to_vec(),
            length_at,
            hash_at: 0,
            unpacked: Some(unpacked as usize),
            is_diff: false,
        });
    }
    Ok(Parts {
        identities,
        index,
        hashes,
        maps,
        payloads,
    })
}

fn put_together(mut parts: Parts) -> Vec<u8> {
    for part in parts.maps.iter().chain(&parts.payloads) {
        // The number may be what was damaged; then the part stands for itself.
        if let Some(length) = parts.index.get_mut(part.length_at) {
            *length = part.bytes.len() as u64;
        }
    }
    for map in &parts.maps {
        if let (Some(length), Some(unpacked)) =
            (parts.index.get_mut(map.length_at + 1), map.unpacked)
        {
            *length = unpacked as u64;
        }
    }
    for payload in &parts.payloads {
        let hash = Hash::of(&payload.bytes).0;
        parts.hashes[payload.hash_at..payload.hash_at + HASH_BYTES].copy_from_slice(&hash);
    }
    let index = written(&parts.index);
    let mut head = parts.identities;
    put(&mut head, index.len() as u64);
    put(&mut head, index.len() as u64);
    head.extend(index);
    head.extend(parts.hashes);
    parts.maps.iter().for_each(|map| head.extend(&map.bytes));
    let mut patch = crate::patch::MAGIC.to_vec();
    patch.extend(crate::patch::VERSION.to_le_bytes());
    patch.extend((head.len() as u32).to_le_bytes());
    patch.extend(Hash::of(&head).0);
    patch.extend(head);
    parts
        .payloads
        .iter()
        .for_each(|payload| patch.extend(&payload.bytes));
    patch
}

fn change_map(map: &mut Part, chance: &mut dyn FnMut() -> u64) -> Result<(), FormatError> {
    let Some(length) = map.unpacked else {
        return Ok(());
    };
    let mut bytes = vec![0; length];
    if unpack(&mut Lzma::default(), &map.bytes, &mut bytes).is_err() {
        return Ok(());
    }
    let mut all = numbers(&bytes);
    change_numbers(&mut all, chance);
    map.bytes = written(&all);
    map.unpacked = Some(map.bytes.len());
    Ok(())
}

fn change_payload(payload: &mut Part, chance: &mut dyn FnMut() -> u64) -> Result<(), FormatError> {
    let mut from = Reader::new(&payload.bytes);
    let Ok(form) = from.byte() else { return Ok(()) };
    let mut lengths = Vec::new();
    for _ in 0..COUNT {
        let length = from.at_most(CHUNK_BYTES, "")?;
        lengths.push((
            length,
            if length > 0 {
                from.at_most(CHUNK_BYTES, "")?
            } else {
                0
            },
        ));
    }
    let mut streams = Vec::new();
    for (length, packed) in lengths {
        let mut stream = vec![0; length];
        if length > 0 {
            unpack(&mut Lzma::default(), from.take(packed)?, &mut stream)?;
        }
        streams.push(stream);
    }
    let which = (chance() % COUNT as u64) as usize;
    match which {
        // Copies and gaps are numbers.
        0 | 2 => {
            let mut all = numbers(&streams[which]);
            change_numbers(&mut all, chance);
            streams[which] = written(&all);
        }
        _ => change_bytes(&mut streams[which], chance),
    }
    let mut bytes = vec![if chance().is_multiple_of(8) {
        chance() as u8
    } else {
        form
    }];
    for stream in &streams {
        put(&mut bytes, stream.len() as u64);
        if !stream.is_empty() {
            put(&mut bytes, stream.len() as u64);
        }
    }
    bytes.extend(streams.concat());
    payload.bytes = bytes;
    Ok(())
}

fn numbers(bytes: &[u8]) -> Vec<u64> {
    let mut from = Reader::new(bytes);
    std::iter::from_fn(|| from.number().ok()).collect()
}

fn written(numbers: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    numbers.iter().for_each(|number| put(&mut out, *number));
    out
}

fn change_numbers(numbers: &mut Vec<u64>, chance: &mut dyn FnMut() -> u64) {
    if numbers.is_empty() {
        return;
    }
    let at = (chance() % numbers.len() as u64) as usize;
    match chance() % 6 {
        0 => numbers.truncate(at),
        1 => numbers.insert(at, chance() % 300),
        2 => numbers[at] = EDGES[(chance() % EDGES.len() as u64) as usize],
        3 => numbers[at] = numbers[at].wrapping_add(chance() % 5).wrapping_sub(2),
        4 => numbers[at] = chance() % (1 << 24),
        _ => {
            numbers.remove(at);
        }
    }
}

fn change_bytes(bytes: &mut Vec<u8>, chance: &mut dyn FnMut() -> u64) {
    if bytes.is_empty() {
        return;
    }
    let at = (chance() % bytes.len() as u64) as usize;
    match chance() % 4 {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, chance() as u8),
        _ => bytes[at] = chance() as u8,
    }
}

/// `patch` for a target that goes on with zeros up to `target_bytes`: a large image for tests of
/// memory. The last chunk, which would become longer, is zeros as well; the whole target's hash
/// stays as it was.
///
/// # Errors
/// When `patch` is not one that the encoder made.
pub fn extended(patch: &[u8], target_bytes: u64) -> io::Result<Vec<u8>> {
    let mut parts = take_apart(patch).map_err(io::Error::other)?;
    let old_bytes = u64::from_le_bytes(*parts.identities[40..].first_chunk().unwrap_or(&[0; 8]));
    // The last chunk becomes longer: it is replaced by one of zeros.
    let mut at = 0;
    for _ in 0..old_bytes / CHUNK {
        at += match parts.index[at] {
            0 => 1,
            _ => 2,
        };
    }
    let last = parts.index[at];
    let width = if last == 0 { 1 } else { 2 };
    if last >= 2 {
        parts.payloads.pop();
        parts.hashes.truncate(parts.hashes.len() - 2 * HASH_BYTES);
    } else if last == 1 {
        parts.hashes.truncate(parts.hashes.len() - HASH_BYTES);
    }
    let zeros = (target_bytes.div_ceil(CHUNK) - old_bytes / CHUNK) as usize;
    parts.index.splice(at..at + width, vec![0; zeros]);
    for map in &mut parts.maps {
        map.length_at = map.length_at + zeros - width;
    }
    parts.identities[40..48].copy_from_slice(&target_bytes.to_le_bytes());
    Ok(put_together(parts))
}
