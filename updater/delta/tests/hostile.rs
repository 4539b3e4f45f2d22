//! Patches from someone who means harm: every byte that changes on the way is noticed, lengths
//! that lie ask for nothing, and a whole image is decoded within the memory that is promised.

mod common;

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::process::Command;

use berth_chance::{Random, peak_kib};
use berth_delta::{CHUNK, Decoder, FormatError, Limits, Prefix};
use common::{apply, parse, payload, program};

/// What a decoder and its process may have resident.
const RESIDENT_MAX_KIB: u64 = 16 << 10;
const IMAGE_BYTES: u64 = 2 << 30;

#[test]
fn every_byte_that_changes_is_an_error_and_never_a_wrong_result() {
    let (old, new) = (program(0), program(1));
    let patch = common::round_trip(&old, &new);
    for at in 0..patch.len() {
        let mut changed = patch.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(apply(&changed, &old).is_err(), "byte {at}");
    }
    for end in (0..patch.len()).step_by(97) {
        assert!(apply(&patch[..end], &old).is_err(), "cut at {end}");
    }
}

#[test]
fn a_head_that_claims_to_be_huge_is_refused_unread() {
    let patch = common::round_trip(&program(0), &program(1));
    let mut prefix = patch[..Prefix::BYTES].to_vec();
    prefix[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    let refused = Prefix::parse(&prefix, &Limits::default());
    assert_eq!(refused, Err(FormatError::TooLarge("bytes of head")));
    prefix[8] = 3;
    assert_eq!(
        Prefix::parse(&prefix, &Limits::default()),
        Err(FormatError::Version(3))
    );
}

/// A patch for an image of 2 GiB that the test writes sparsely: programs and zeros, and the same
/// a little later.
#[test]
fn an_image_of_2_gib_is_made_in_16_mib() {
    if let Ok(directory) = std::env::var("BERTH_DELTA_CHILD") {
        return make_large(std::path::Path::new(&directory));
    }
    let directory = tempfile::tempdir().expect("directory");
    let mut random = Random::from_seed(11);
    let (mut old, mut new) = (program(0), program(1));
    let data = random.bytes(6 << 20);
    let mut edited = data.clone();
    (0..edited.len())
        .step_by(9_999)
        .for_each(|at| edited[at] ^= 5);
    old.extend(data);
    new.extend(edited);
    let patch = berth_delta::encode::create(&old, &new).expect("create");
    // The same patch with a target of 2 GiB: chunks of zeros behind the others.
    let patch = berth_delta::encode::damage::extended(&patch, IMAGE_BYTES).expect("extend");
    std::fs::write(directory.path().join("patch"), patch).expect("write");
    let mut file = File::create(directory.path().join("old")).expect("create");
    file.write_all(&old).expect("write");
    file.seek(SeekFrom::Start(IMAGE_BYTES - 1)).expect("seek");
    file.write_all(&[0]).expect("write");
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "an_image_of_2_gib_is_made_in_16_mib",
            "--nocapture",
        ])
        .env("BERTH_DELTA_CHILD", directory.path())
        .output()
        .expect("run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let resident: u64 = text
        .lines()
        .find_map(|line| line.strip_prefix("resident KiB: ")?.trim().parse().ok())
        .expect("a figure");
    println!("2 GiB made with {resident} KiB resident");
    assert!(resident <= RESIDENT_MAX_KIB, "{resident} KiB");
}

/// The child: decodes everything as the updater does, and says how much memory it had.
fn make_large(directory: &std::path::Path) {
    use std::os::unix::fs::FileExt;
    let file = File::open(directory.join("patch")).expect("open");
    let limits = Limits::default();
    let mut prefix = [0; Prefix::BYTES];
    file.read_exact_at(&mut prefix, 0).expect("prefix");
    let prefix = Prefix::parse(&prefix, &limits).expect("prefix");
    let mut head = vec![0; prefix.head_bytes];
    file.read_exact_at(&mut head, Prefix::BYTES as u64)
        .expect("head");
    let head = berth_delta::Patch::parse(&prefix, head, limits).expect("head");
    assert_eq!(head.target().bytes, IMAGE_BYTES);
    let mut source = File::open(directory.join("old")).expect("open");
    let mut decoder = Decoder::new(head);
    let mut out = vec![0; CHUNK as usize];
    let mut payload = Vec::new();
    for index in 0..decoder.patch().chunks().len() {
        let chunk = decoder.patch().chunks()[index];
        payload.clear();
        if let Some(wanted) = chunk.kind.payload() {
            payload.resize(wanted.bytes, 0);
            file.read_exact_at(&mut payload, wanted.offset)
                .expect("payload");
        }
        let out = &mut out[..chunk.bytes];
        decoder
            .decode(index, &payload, &mut source, out)
            .expect("decode");
    }
    println!("resident KiB: {}", peak_kib());
}

#[test]
fn the_payload_of_another_chunk_is_refused() {
    let mut random = Random::from_seed(12);
    let old = random.bytes(2 * CHUNK as usize);
    let mut new = old.clone();
    (0..new.len()).step_by(7777).for_each(|at| new[at] ^= 1);
    let patch = common::round_trip(&old, &new);
    let mut decoder = Decoder::new(parse(&patch).unwrap());
    let chunks = decoder.patch().chunks().to_vec();
    let mut out = vec![0; CHUNK as usize];
    let error = decoder
        .decode(0, payload(&patch, &chunks[1]), &mut &old[..], &mut out)
        .unwrap_err();
    assert_eq!(error.remedy(), berth_delta::Remedy::FetchAgain);
    assert!(decoder.decode(9, &[], &mut &old[..], &mut out).is_err());
    assert!(
        decoder
            .decode(0, &[], &mut &old[..], &mut out[1..])
            .is_err()
    );
}
