//! Patches that are wrong inside although their hashes are right: the decoder gives the right
//! bytes or an error, within its memory, and never panics.
//!
//! Runs for `BERTH_FUZZ_SECONDS` (2 when absent) from `BERTH_FUZZ_SEED` (the time when absent)
//! and prints both, so that what it finds can be found again.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use berth_chance::{Random, peak_kib};
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

/// The whole process that decodes, with all patches and what they are made from.
const MOST_MEMORY_KIB: u64 = 16 << 10;
/// Where the child finds the patches.
const CHILD: &str = "BERTH_DELTA_FUZZ";

/// The decoder runs in a process of its own: the encoder's memory would hide what it takes.
#[test]
fn damage_behind_right_hashes_ends_in_an_error_or_in_the_right_bytes() {
    if let Ok(directory) = std::env::var(CHILD) {
        return decode(Path::new(&directory));
    }
    let directory = tempfile::tempdir().expect("directory");
    for (number, (old, new)) in corpus().into_iter().enumerate() {
        let patch = create(&old, &new).expect("create");
        let path = |name: &str| directory.path().join(format!("{number}.{name}"));
        fs::write(path("patch"), patch).expect("write");
        fs::write(path("old"), old).expect("write");
    }
    let name = "damage_behind_right_hashes_ends_in_an_error_or_in_the_right_bytes";
    let status = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, directory.path())
        .status();
    assert!(status.expect("run").success());
}

/// The child.
fn decode(directory: &Path) {
    let read = |number: usize, name: &str| fs::read(directory.join(format!("{number}.{name}")));
    let corpus: Vec<_> = (0..)
        .map_while(|number| Some((read(number, "patch").ok()?, read(number, "old").ok()?)))
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
    let peak = peak_kib();
    println!("fuzz: delta patches={count} parsed={parsed} chunks={made} peak={peak} KiB");
    assert!(peak <= MOST_MEMORY_KIB, "{peak} KiB");
    assert!(
        parsed > 0 && made > 0,
        "the damage never reached the decoder"
    );
}
