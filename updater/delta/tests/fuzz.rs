//! Patches that are wrong inside although their hashes are right: the decoder gives the right
//! bytes or an error, within its memory, and never panics.
//!
//! Runs for `BERTH_FUZZ_SECONDS` (2 when absent) from `BERTH_FUZZ_SEED` (the time when absent)
//! and prints both, so that what it finds can be found again.

mod common;

use std::time::Instant;

use berth_chance::Random;
use berth_delta::encode::{create, damage::damaged};
use berth_delta::{CHUNK, Decoder, Hash};
use common::{boot_image, kernel, parse, payload, program, root};

/// Old and new of every kind of patch.
fn corpus() -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut random = Random::from_seed(9);
    let (old, new) = (program(0), program(1));
    let mut large = random.bytes(2 * CHUNK as usize + 999);
    large[CHUNK as usize..][..CHUNK as usize].fill(0);
    let mut edited = large.clone();
    edited.splice(5000..5100, random.bytes(300));
    vec![
        (boot_image(&old, 0), boot_image(&new, 4096)),
        (
            root(&[("a", old.clone()), ("b", vec![1; 9000])]),
            root(&[("a", new.clone()), ("c", vec![2; 9001])]),
        ),
        (large, edited),
        (kernel(0), kernel(1)),
        (old, new),
    ]
}

#[test]
fn damage_behind_right_hashes_ends_in_an_error_or_in_the_right_bytes() {
    let corpus: Vec<_> = corpus()
        .into_iter()
        .map(|(old, new)| (create(&old, &new).expect("create"), old))
        .collect();
    let (mut random, end) = berth_chance::fuzz("delta");
    let (mut count, mut parsed, mut made) = (0_u64, 0_u64, 0_u64);
    while Instant::now() < end {
        let (patch, old) = &corpus[random.below(corpus.len())];
        let patch = damaged(patch, &mut || random.next_u64()).expect("damage");
        count += 1;
        let Ok(head) = parse(&patch) else { continue };
        parsed += 1;
        let mut decoder = Decoder::new(head);
        // Damage is small, so is what a patch of it may cost.
        for chunk in decoder
            .patch()
            .chunks()
            .iter()
            .take(8)
            .copied()
            .collect::<Vec<_>>()
        {
            let mut out = vec![0; chunk.bytes];
            let payload = payload(&patch, &chunk);
            if decoder
                .decode(chunk.index, payload, &mut &old[..], &mut out)
                .is_ok()
            {
                assert_eq!(Hash::of(&out), chunk.result, "wrong bytes were handed out");
                made += 1;
            }
        }
    }
    println!("fuzz: delta patches={count} parsed={parsed} chunks={made}");
    assert!(
        parsed > 0 && made > 0,
        "the damage never reached the decoder"
    );
}
