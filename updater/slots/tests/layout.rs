//! What first boot does with disks of every size, with foreign partitions and with grown disks.

use berth_slots::gpt::{Entry, Extent, Guid, Name, Table};
use berth_slots::layout::{
    ALIGNMENT, BOOT_A, BOOT_B, Change, Image, LINUX, LayoutError, Part, ROOT_A, ROOT_B, Reason,
    STATE, STATE_MIN, first_boot,
};
use berth_slots::verity::RootHash;

const MIB: u64 = 2048;

fn image() -> Image {
    Image::new(6 << 20, 30 << 20, &RootHash([7; 32])).expect("image")
}

fn extent(table: &Table, index: usize) -> Extent {
    table.entry(index).expect("entry").extent
}

fn foreign(first: u64, sectors: u64) -> Entry {
    Entry {
        kind: LINUX,
        guid: Guid::from_number(0xf00),
        extent: Extent::with_len(first, sectors).expect("extent"),
        attributes: 0,
        name: Name::new("photos"),
    }
}

#[test]
fn an_eight_gib_disk_gets_a_slot_a_gib_of_reserve_and_the_rest_as_state() {
    let plan = first_boot(&image().table, 8192 * MIB).expect("plan");
    assert!(plan.missing.is_empty());
    let (boot_a, root_a) = (extent(&plan.table, BOOT_A), extent(&plan.table, ROOT_A));
    let (boot_b, root_b) = (extent(&plan.table, BOOT_B), extent(&plan.table, ROOT_B));
    let state = extent(&plan.table, STATE);
    assert_eq!(boot_b.first(), root_a.last() + 1);
    assert_eq!(root_b.first(), boot_b.last() + 1);
    assert_eq!(
        (boot_b.sectors(), root_b.sectors()),
        (boot_a.sectors(), root_a.sectors())
    );
    assert_eq!(state.first() - (root_b.last() + 1), 1024 * MIB);
    assert_eq!(state.last() + 1, 8191 * MIB);
}

#[test]
fn a_large_image_gets_twice_its_slot_as_reserve() {
    let image = Image::new(6 << 20, 2000 << 20, &RootHash([7; 32])).expect("image");
    let plan = first_boot(&image.table, 100_000 * MIB).expect("plan");
    let gap = extent(&plan.table, STATE).first() - (extent(&plan.table, ROOT_B).last() + 1);
    assert_eq!(gap, 2 * 2006 * MIB);
}

#[test]
fn small_disks_keep_state_before_the_second_slot_and_say_what_they_lack() {
    // 38 MiB of image and tables; a slot is 36 MiB, a state partition at least 64.
    let plan = |mib| first_boot(&image().table, mib * MIB).expect("plan");
    let all = plan(38 + 36 + 64 + 22);
    assert!(all.missing.is_empty(), "{:?}", all.missing);
    let state_only = plan(38 + 36 + 63);
    assert!(matches!(state_only.changes[..], [Change::State(_)]));
    assert_eq!(state_only.missing[0].part, Part::SecondSlot);
    let said = state_only.missing[0].to_string();
    assert!(said.contains("100 MiB needed, 99 MiB free"), "{said}");
    assert!(said.contains("cannot update itself"), "{said}");
    let nothing = plan(38 + 63);
    assert!(nothing.changes.is_empty());
    assert_eq!(nothing.missing.len(), 2);
    assert!(
        nothing.missing[1]
            .to_string()
            .contains("forgets everything")
    );
}

#[test]
fn doing_it_twice_changes_nothing_and_every_size_keeps_the_promises() {
    for mib in (38..400).chain([1000, 5000, 1 << 20]) {
        let plan = first_boot(&image().table, mib * MIB).expect("plan");
        let again = first_boot(&plan.table, mib * MIB).expect("again");
        assert_eq!(again.table, plan.table, "{mib} MiB");
        assert!(again.changes.is_empty(), "{mib} MiB: {:?}", again.changes);
        for (_, entry) in plan.table.entries() {
            assert_eq!(entry.extent.first() % ALIGNMENT, 0);
            assert_eq!((entry.extent.last() + 1) % ALIGNMENT, 0);
        }
        if let Some(state) = plan.table.entry(STATE) {
            assert!(state.extent.sectors() >= STATE_MIN);
        }
    }
}

#[test]
fn foreign_partitions_stay_where_and_what_they_are() {
    let disk = 1000 * MIB;
    let mut table = image().table;
    table.grow_to(disk).expect("grow");
    table
        .place(7, foreign(300 * MIB, 100 * MIB))
        .expect("place");
    let plan = first_boot(&table, disk).expect("plan");
    assert_eq!(plan.table.entry(7), table.entry(7));
    // The range behind the foreign partition is the larger one.
    assert_eq!(extent(&plan.table, BOOT_B).first(), 400 * MIB);
    assert!(plan.missing.is_empty());

    let mut table = table.clone();
    table
        .place(STATE, foreign(500 * MIB, 10 * MIB))
        .expect("place");
    let plan = first_boot(&table, disk).expect("plan");
    assert_eq!(plan.table.entry(STATE), table.entry(STATE));
    assert_eq!(plan.missing[0].reason, Reason::EntryInUse(STATE));
    assert!(matches!(plan.changes[..], [Change::SecondSlot { .. }]));
}

#[test]
fn a_grown_disk_grows_the_state_partition_unless_somebody_is_behind_it() {
    let plan = first_boot(&image().table, 1000 * MIB).expect("plan");
    let grown = first_boot(&plan.table, 5000 * MIB).expect("grown");
    assert!(matches!(grown.changes[..], [Change::StateGrown(_)]));
    let (before, after) = (extent(&plan.table, STATE), extent(&grown.table, STATE));
    assert_eq!(after.first(), before.first());
    assert_eq!(after.last() + 1, 4999 * MIB);

    let mut table = plan.table.clone();
    table.grow_to(5000 * MIB).expect("grow");
    table
        .place(9, foreign(999 * MIB, 4000 * MIB))
        .expect("place");
    let blocked = first_boot(&table, 5000 * MIB).expect("blocked");
    assert!(blocked.changes.is_empty(), "{:?}", blocked.changes);
}

#[test]
fn somebody_elses_disk_is_left_alone() {
    let table = Table::new(Guid::from_number(5), 1000 * MIB).expect("table");
    assert_eq!(
        first_boot(&table, 1000 * MIB),
        Err(LayoutError::NotBerth(BOOT_A))
    );
}
