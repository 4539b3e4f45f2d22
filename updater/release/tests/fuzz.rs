//! The document of a version and a bundle's headers on hostile bytes: a value that keeps to its
//! bounds, or an error; no panic, and no more memory than the bytes are worth.
//!
//! Runs for `BERTH_FUZZ_SECONDS` (2) from `BERTH_FUZZ_SEED`, and prints what repeats it.

use std::time::Instant;

use berth_chance::{Random, peak_kib};
use berth_release::bundle::{self, FIRST, Index};
use berth_release::{CHUNK, Delta, Hash, Part, Patch, Release, Rollout, Root, SCHEMA, limits};

/// The whole process, with a document, a bundle and what is made of them.
const MOST_MEMORY_KIB: u64 = 16 << 10;

fn document() -> Vec<u8> {
    let patch = Patch {
        bytes: 1000,
        sha256: Hash([3; 32]),
        head_sha256: Hash([4; 32]),
    };
    let part = |bytes: u64| Part {
        bytes,
        sha256: Hash([7; 32]),
        chunks: vec![Hash([9; 32]); bytes.div_ceil(CHUNK) as usize],
        packed: Some(patch),
        blocks: vec![Hash([10; 32]); bytes.div_ceil(1 << 30) as usize],
    };
    let release = Release {
        schema: SCHEMA,
        product: "edge".into(),
        version: "1.4.0".into(),
        security_version: 3,
        attempt: 1,
        profile: "cloud".into(),
        architecture: "x86_64".into(),
        built: 1,
        published: 2,
        kernel: "6.12.117".into(),
        boot: part(CHUNK + 1),
        root: Root {
            part: part(2 * CHUNK),
            root_hash: Hash([1; 32]),
        },
        deltas: vec![Delta {
            version: "1.3.0".into(),
            root_hash: Hash([2; 32]),
            boot: patch,
            root: patch,
        }],
        rollout: Rollout::at_once(0),
    };
    release.text().expect("text")
}

/// Words that mean something to a reader of JSON or of this document.
const WORDS: [&str; 14] = [
    "0",
    "-1",
    "1e999",
    "18446744073709551615",
    "18446744073709551616",
    "null",
    "\"\"",
    "[]",
    "{}",
    "\\u0000",
    "\"bytes\":1,",
    "[[[[[[[[",
    "1048576",
    "17179869184",
];

/// Changed bytes, moved pieces, numbers and words in the place of others.
fn damaged(good: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bad = good.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bad.len());
        match random.below(5) {
            0 => bad[at] = random.next_u64() as u8,
            1 => bad.truncate(at),
            2 => {
                let end = (at + random.below(64)).min(bad.len());
                let piece = bad[at..end].to_vec();
                let to = random.below(bad.len());
                bad.splice(to..to, piece);
            }
            3 => {
                let word = WORDS[random.below(WORDS.len())];
                let end = bad.iter().skip(at).position(|byte| b",}:".contains(byte));
                let end = end.map_or(bad.len(), |end| at + end);
                bad.splice(at..end, word.bytes());
            }
            _ => {
                bad.drain(at..(at + random.below(16)).min(bad.len()));
            }
        }
        if bad.is_empty() {
            bad.push(b' ');
        }
    }
    bad
}

#[test]
fn a_damaged_document_is_refused_or_keeps_to_its_bounds() {
    let good = document();
    let (mut random, end) = berth_chance::fuzz("release");
    let (mut count, mut read) = (0_u64, 0_u64);
    while Instant::now() < end {
        let bad = damaged(&good, &mut random);
        count += 1;
        let Ok(release) = Release::parse(&bad) else {
            continue;
        };
        read += 1;
        for part in [&release.boot, &release.root.part] {
            assert!(part.bytes > 0 && part.bytes <= limits::PART_BYTES);
            let chunks: u64 = (0..part.chunks.len())
                .map(|index| part.chunk_range(index).expect("a chunk"))
                .map(|range| range.end - range.start)
                .sum();
            assert_eq!(chunks, part.bytes, "chunks cover a part");
            assert!(part.path().is_ascii());
        }
        assert!(release.deltas.len() <= limits::DELTAS);
        let place = release.rollout.place(b"seed", &release.version, None, 5);
        let _ = (place, release.delta_from(&[2; 32]));
        let text = release.text().expect("text");
        assert_eq!(Release::parse(&text).expect("the same"), release);
    }
    let peak = peak_kib();
    println!("fuzz: release documents={count} read={read} peak={peak} KiB");
    assert!(peak <= MOST_MEMORY_KIB, "{peak} KiB");
    assert!(read > 0, "nothing got past the reader");
}

/// A bundle with a few entries of some hundred bytes.
fn small_bundle() -> Vec<u8> {
    let mut bytes = Vec::new();
    let long = format!("targets/{}/release.json", "d".repeat(90));
    for (name, length) in [(FIRST, 10), ("metadata/timestamp.json", 700), (&long, 0)] {
        bytes.extend(bundle::header(name, length, 1_800_000_000).expect("a header"));
        bytes.resize(bytes.len() + bundle::padded(length) as usize, 7);
    }
    bytes.resize(4096, 0);
    bytes
}

#[test]
fn a_damaged_bundle_is_refused_or_its_files_are_inside_it() {
    let good = small_bundle();
    let (mut random, end) = berth_chance::fuzz("bundle");
    let (mut count, mut read) = (0_u64, 0_u64);
    while Instant::now() < end {
        let mut bad = good.clone();
        match random.below(3) {
            // A header whose checksum is right, with fields that are not.
            0 => {
                let names = [FIRST, "a", "../a", "metadata/timestamp.json", "a/b"];
                let name = names[random.below(names.len())];
                let bytes = random.next_u64() >> random.below(64);
                if let Some(header) = bundle::header(name, bytes, random.next_u64() >> 40) {
                    let at = [0, 1024][random.below(2)];
                    bad[at..at + 512].copy_from_slice(&header);
                }
            }
            1 => bad = damaged(&good, &mut random),
            _ => {
                let at = random.below(bad.len());
                bad[at] ^= 1 << random.below(8);
            }
        }
        count += 1;
        // Said to be longer than what can be read, too: a disk that fails.
        let said = match random.below(4) {
            0 => random.next_u64() >> random.below(64),
            _ => bad.len() as u64,
        };
        let index = Index::read(said, |at, buffer| {
            let end = usize::try_from(at)
                .ok()
                .and_then(|at| at.checked_add(buffer.len()));
            let from = end.and_then(|end| bad.get(at as usize..end));
            let from = from.ok_or(std::io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(from);
            Ok(())
        });
        let Ok(index) = index else { continue };
        read += 1;
        assert!(index.find(FIRST).is_some());
        assert!(index.files().count() <= bundle::limits::ENTRIES);
        for (name, range) in index.files() {
            assert!(range.start <= range.end && range.end <= said);
            assert!(!name.starts_with('/') && !name.split('/').any(|part| part == ".."));
        }
    }
    println!("fuzz: bundle headers={count} read={read}");
    assert!(read > 0, "nothing got past the reader");
}
