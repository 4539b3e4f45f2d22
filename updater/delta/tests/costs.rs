//! What a patch costs is told file by file, and adds up.

mod common;

use berth_chance::Random;
use berth_delta::Limits;
use berth_delta::encode::{Cost, Error, What, create, create_with_costs};
use common::{boot_image, program, root};

/// The costs, after what holds for all of them: the same patch as without, all its bytes, all the
/// image's bytes, the most expensive first.
fn costs(old: &[u8], new: &[u8]) -> Vec<Cost> {
    let (patch, costs) =
        create_with_costs(old, new, &Limits::default(), &mut |_| ()).expect("a patch");
    assert!(patch == create(old, new).expect("a patch"));
    let sum = |of: fn(&Cost) -> u64| costs.iter().map(of).sum::<u64>();
    assert_eq!(sum(|cost| cost.patch_bytes), patch.len() as u64);
    assert_eq!(sum(|cost| cost.new_bytes), new.len() as u64);
    assert!(costs.is_sorted_by(|one, next| one.patch_bytes >= next.patch_bytes));
    costs
}

fn of(costs: &[Cost], what: &What) -> u64 {
    let found = costs.iter().find(|cost| cost.what == *what);
    found
        .unwrap_or_else(|| panic!("{what:?} in {costs:?}"))
        .patch_bytes
}

fn file(path: &str) -> What {
    What::File(path.to_owned())
}

#[test]
fn the_file_that_is_new_is_what_the_patch_is_for() {
    let mut random = Random::from_seed(1);
    let same = random.bytes(1_500_000);
    let mut edited = random.bytes(60_000);
    let before = edited.clone();
    edited[7..27].copy_from_slice(&random.bytes(20));
    let fresh = random.bytes(50_000);
    let old = root(&[("data", same.clone()), ("edited", before)]);
    let new = root(&[("data", same), ("edited", edited), ("new", fresh)]);
    let costs = costs(&old, &new);
    // Random bytes cannot be packed.
    assert!(
        (49_500..50_500).contains(&of(&costs, &file("/new"))),
        "{costs:?}"
    );
    assert!(
        (20..200).contains(&of(&costs, &file("/edited"))),
        "{costs:?}"
    );
    assert!(of(&costs, &file("/data")) < 100, "{costs:?}");
    assert_eq!(costs[0].what, file("/new"));
}

#[test]
fn a_program_in_a_root_costs_what_it_costs_alone() {
    let (old, new) = (program(0), program(1));
    let alone = create(&old, &new).expect("a patch").len() as u64;
    let costs = costs(
        &root(&[("init", old), ("other", vec![1; 9000])]),
        &root(&[("init", new), ("other", vec![1; 9000])]),
    );
    let cost = of(&costs, &file("/init"));
    assert!(
        cost < alone && cost > alone - 400,
        "{cost} of {alone}: {costs:?}"
    );
}

#[test]
fn a_kernel_in_a_boot_image_is_told_by_its_sections() {
    let (old, new) = (program(0), program(1));
    for (old, new) in [
        (old.clone(), new.clone()),
        (boot_image(&old, 0), boot_image(&new, 480)),
    ] {
        let costs = costs(&old, &new);
        let dearest = [&costs[0].what, &costs[1].what];
        for name in [".text", ".symtab"] {
            let section = What::Section(name.to_owned());
            assert!(dearest.contains(&&section), "{costs:?}");
        }
        let other = of(&costs, &What::Section(".interp".to_owned()));
        assert!(other < 30, "{costs:?}");
    }
}

#[test]
fn what_is_neither_a_program_nor_a_root_is_one_thing() {
    let mut random = Random::from_seed(2);
    let (old, new) = (random.bytes(2_000_000), random.bytes(30_000));
    let told = costs(&old, &new);
    assert!(of(&told, &What::Around) > 29_000);
    assert_eq!(told.len(), 2);
    costs(&old, &[]);
    costs(&[], &new);
}

#[test]
fn headers_that_lie_about_sections_harm_nobody() {
    let old = program(0);
    let mut random = Random::from_seed(3);
    for _ in 0..20 {
        let mut new = old.clone();
        for at in [40, 60, 62] {
            new[at + random.below(2)] = random.next_u64() as u8;
        }
        let table = u64::from_le_bytes(new[40..48].try_into().expect("8")) as usize;
        if let Some(section) = new.get_mut(table + 64..table + 128) {
            section[24 + random.below(16)] = random.next_u64() as u8;
        }
        costs(&old, &new);
    }
}

#[test]
fn an_image_beyond_the_limits_is_refused_before_any_work() {
    let limits = Limits {
        image_bytes: 4095,
        ..Limits::default()
    };
    let image = vec![7; 4096];
    for (old, new) in [(&[][..], &image[..]), (&image[..], &[][..])] {
        let made = create_with_costs(old, new, &limits, &mut |_| panic!("some work was done"));
        assert!(matches!(made, Err(Error::TooLarge(_))), "{made:?}");
    }
}
