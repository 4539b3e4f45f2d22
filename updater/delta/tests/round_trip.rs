//! A patch makes the new version of the old one, whatever the two are; and is short where the
//! crate says it is.

mod common;

use std::time::Instant;

use berth_chance::Random;
use berth_delta::{CHUNK, Kind, Remedy};
use common::{boot_image, kernel, parse, payload, program, root, round_trip};

const MIB: usize = CHUNK as usize;

#[test]
fn a_program_that_grew_costs_a_fraction_of_what_changed_bytes_cost() {
    let (old, new) = (program(0), program(1));
    let changed = old.iter().zip(&new).filter(|(old, new)| old != new).count();
    let patch = round_trip(&old, &new);
    assert!(
        patch.len() * 4 < changed,
        "{} bytes for {changed} changed ones",
        patch.len()
    );
}

/// Nothing but variables grew, which are not in the file: the file tells nothing of it, but its
/// references do.
#[test]
fn memory_that_moved_is_followed_by_what_leads_to_it() {
    let (old, new) = (kernel(0), kernel(1));
    let changed = old.iter().zip(&new).filter(|(old, new)| old != new).count();
    let patch = round_trip(&old, &new);
    assert!(
        changed > 1000 && patch.len() * 2 < changed,
        "{} bytes for {changed} changed ones",
        patch.len()
    );
}

/// Bytes of instructions look like addresses; the list at a kernel's end tells them apart.
#[test]
fn only_what_the_list_names_is_an_absolute_address() {
    let without = |kernel: Vec<u8>| {
        let end = kernel.len() - 4;
        // The last word leads nowhere, so no list is found.
        [&kernel[..end], &[0; 4]].concat()
    };
    let with_list = round_trip(&kernel(0), &kernel(1)).len();
    let without_list = round_trip(&without(kernel(0)), &without(kernel(1))).len();
    assert!(
        with_list * 2 < without_list,
        "{with_list} with the list, {without_list} without"
    );
}

#[test]
fn a_kernel_in_a_boot_image_costs_no_more_than_the_kernel() {
    let (old, new) = (program(0), program(1));
    let alone = round_trip(&old, &new).len();
    let boxed = round_trip(&boot_image(&old, 0), &boot_image(&new, 480)).len();
    assert!(boxed < alone + 400, "{boxed} boxed, {alone} alone");
}

#[test]
fn files_of_a_root_are_found_wherever_they_moved() {
    let mut random = Random::from_seed(1);
    let same = random.bytes(700_000);
    let text = random.bytes(90_123);
    let mut edited = text.clone();
    edited.splice(400..410, *b"something longer");
    let old = root(&[
        ("bin/tool", program(0)),
        ("images/0123456789abcdef0123456789abcdef/data", same.clone()),
        ("lib/text-1.2", text),
    ]);
    let new = root(&[
        ("bin/another", random.bytes(5000)),
        ("bin/tool", program(1)),
        ("images/fedcba9876543210fedcba9876543210/data", same),
        ("lib/text-1.3", edited),
    ]);
    let alone = round_trip(&program(0), &program(1)).len();
    let patch = round_trip(&old, &new);
    // The new file's 5,000 random bytes, the program's delta, and little else.
    assert!(
        patch.len() < alone + 5000 + 1500,
        "{} bytes, {alone} of them the program",
        patch.len()
    );
}

#[test]
fn equal_images_are_copies_and_zeros() {
    let mut image = Random::from_seed(2).bytes(3 * MIB + 17);
    image[MIB..2 * MIB].fill(0);
    let patch = round_trip(&image, &image);
    let kinds: Vec<Kind> = parse(&patch)
        .unwrap()
        .chunks()
        .iter()
        .map(|chunk| chunk.kind)
        .collect();
    let copy = |source| Kind::Copy { source };
    assert_eq!(
        kinds,
        [copy(0), Kind::Zero, copy(2 * CHUNK), copy(3 * CHUNK)]
    );
}

#[test]
fn edges_of_size_and_content_survive() {
    let mut random = Random::from_seed(3);
    let big = random.bytes(MIB + 1);
    let small = b"x".to_vec();
    let none = Vec::new();
    for old in [&none, &small, &big] {
        for new in [&none, &small, &big] {
            round_trip(old, new);
        }
    }
    round_trip(&big[..MIB], &big[1..]);
    // Starts like a program and is none.
    let mut liar = big.clone();
    liar[..6].copy_from_slice(b"\x7fELF\x02\x01");
    round_trip(&liar, &big);
    round_trip(&big, &liar);
}

#[test]
fn random_edits_of_random_files_survive() {
    let seed = 20_240_117;
    let mut random = Random::from_seed(seed);
    let program = program(0);
    for _ in 0..40 {
        let old = match random.below(3) {
            0 => program.clone(),
            1 => {
                let bytes = random.below(60_000);
                random.bytes(bytes)
            }
            _ => boot_image(&program, random.below(3000)),
        };
        let mut new = old.clone();
        for _ in 0..random.below(30) {
            let at = random.below(new.len() + 1);
            let end = (at + random.below(300)).min(new.len());
            let count = random.below(300);
            let insert = match random.below(3) {
                0 => random.bytes(count),
                1 => vec![0; count],
                _ => {
                    let from = random.below(old.len());
                    old[from..(from + count).min(old.len())].to_vec()
                }
            };
            new.splice(at..end, insert);
        }
        round_trip(&old, &new);
    }
}

#[test]
fn the_same_two_versions_give_the_same_patch() {
    let (old, new) = (program(0), program(1));
    assert_eq!(round_trip(&old, &new), round_trip(&old, &new));
}

#[test]
fn after_an_interruption_nothing_that_is_right_is_asked_for_again() {
    let mut random = Random::from_seed(4);
    let old = random.bytes(5 * MIB + 1234);
    let mut new = old.clone();
    for at in (0..new.len()).step_by(100_003) {
        new[at] ^= 1;
    }
    let patch = round_trip(&old, &new);
    let count = parse(&patch).unwrap().chunks().len();
    for killed_after in 0..=count {
        // The target as the kill left it: some chunks, and half of the next.
        let mut target = random.bytes(new.len());
        let end = (killed_after * MIB + MIB / 2).min(new.len());
        target[..end].copy_from_slice(&new[..end]);
        let mut decoder = berth_delta::Decoder::new(parse(&patch).unwrap());
        let mut asked = Vec::new();
        for chunk in decoder.patch().chunks().to_vec() {
            let place = &mut target[chunk.offset as usize..][..chunk.bytes];
            if chunk.is(place) {
                continue;
            }
            asked.push(chunk.index);
            let payload = payload(&patch, &chunk);
            decoder
                .decode(chunk.index, payload, &mut &old[..], place)
                .unwrap();
        }
        assert!(target == new);
        let done = if end == new.len() {
            count
        } else {
            killed_after
        };
        assert_eq!(asked, (done..count).collect::<Vec<_>>());
    }
}

#[test]
fn a_source_that_cannot_be_read_costs_the_chunk_alone() {
    struct Rotten<'a>(&'a [u8], std::ops::Range<u64>);
    impl berth_delta::Source for Rotten<'_> {
        fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
            let end = offset + buffer.len() as u64;
            if offset < self.1.end && self.1.start < end {
                return Err(std::io::Error::other("rot"));
            }
            self.0.read_at(offset, buffer)
        }
    }
    let mut random = Random::from_seed(5);
    let old = random.bytes(4 * MIB);
    let mut new = old.clone();
    (0..new.len()).step_by(50_000).for_each(|at| new[at] ^= 1);
    let patch = round_trip(&old, &new);
    let mut decoder = berth_delta::Decoder::new(parse(&patch).unwrap());
    let mut source = Rotten(&old, 2 * CHUNK + 500..2 * CHUNK + 501);
    let mut failed = Vec::new();
    for chunk in decoder.patch().chunks().to_vec() {
        let mut out = vec![0; chunk.bytes];
        let made = decoder.decode(chunk.index, payload(&patch, &chunk), &mut source, &mut out);
        if let Err(error) = made {
            assert_eq!(error.remedy(), Remedy::FullImage);
            failed.push(chunk.index);
        }
    }
    assert_eq!(failed, [2]);
}

#[test]
fn another_source_is_noticed_in_every_chunk_that_needs_it() {
    let mut random = Random::from_seed(6);
    let old = random.bytes(2 * MIB);
    let mut new = old.clone();
    (0..new.len()).step_by(50_000).for_each(|at| new[at] ^= 1);
    let patch = round_trip(&old, &new);
    let other = random.bytes(2 * MIB);
    let mut decoder = berth_delta::Decoder::new(parse(&patch).unwrap());
    for chunk in decoder.patch().chunks().to_vec() {
        let mut out = vec![0; chunk.bytes];
        let error = decoder
            .decode(
                chunk.index,
                payload(&patch, &chunk),
                &mut &other[..],
                &mut out,
            )
            .unwrap_err();
        assert_eq!(error.remedy(), Remedy::FullImage);
    }
}

/// What is there twice, once nearly and once exactly, is longer elsewhere at each byte, but not by
/// enough to leave for it.
#[test]
fn content_that_repeats_itself_takes_about_the_time_of_other_content() {
    let mut random = Random::from_seed(8);
    let (front, exact) = (random.bytes(60_000), random.bytes(MIB));
    let mut nearly = exact.clone();
    nearly[1000] ^= 1;
    nearly[1_000_000] ^= 1;
    let other = random.bytes(MIB);
    let new = [&front[..], &exact].concat();
    let time = |second: &[u8]| {
        let old = [&front[..], &nearly, second].concat();
        let start = Instant::now();
        round_trip(&old, &new);
        start.elapsed()
    };
    let (plain, repeated) = (time(&other), time(&exact));
    println!("{repeated:?}, otherwise {plain:?}");
    assert!(repeated < plain * 20, "{repeated:?}, otherwise {plain:?}");
}
