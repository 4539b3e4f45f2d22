//! Which root belongs to which boot image, commits, and slots that grow.

use berth_slots::gpt::{Entry, Extent, Guid, Name, Table};
use berth_slots::layout::{
    ALIGNMENT, BOOT_A, BOOT_B, EMPTY_ROOT_GUID, Image, LINUX, ROOT_A, ROOT_B, STATE, first_boot,
};
use berth_slots::slot::{Pair, PairError, RoomError, commit, make_room};
use berth_slots::verity::RootHash;

const MIB: u64 = 2048;

fn hash(number: u8) -> RootHash {
    RootHash([number; 32])
}

fn disk(mib: u64) -> Table {
    let image = Image::new(6 << 20, 30 << 20, &hash(1)).expect("image");
    let plan = first_boot(&image.table, mib * MIB).expect("plan");
    assert!(plan.missing.is_empty());
    plan.table
}

fn place(table: &Table, index: usize) -> Extent {
    table.entry(index).expect("entry").extent
}

#[test]
fn the_root_of_a_boot_image_is_the_one_behind_it_however_often_they_were_exchanged() {
    let mut table = disk(4096);
    for round in 0..4 {
        let pair = Pair::of(&table).expect("slots");
        assert_eq!(pair.committed.boot, place(&table, BOOT_A));
        assert_eq!(pair.committed.root.first(), pair.committed.boot.last() + 1);
        assert_eq!(pair.other.root.first(), pair.other.boot.last() + 1);
        let expected = if round % 2 == 0 { ROOT_A } else { ROOT_B };
        assert_eq!(pair.committed.root_entry, expected);

        let after = commit(&table).expect("commit");
        for index in [BOOT_A, BOOT_B] {
            let (before, after) = (table.entry(index), after.entry(index));
            let (before, after) = (before.expect("entry"), after.expect("entry"));
            assert_eq!(
                (before.kind, before.guid, before.name, before.attributes),
                (after.kind, after.guid, after.name, after.attributes)
            );
        }
        for index in [ROOT_A, ROOT_B, STATE] {
            assert_eq!(table.entry(index), after.entry(index));
        }
        assert_eq!(place(&after, BOOT_A), pair.other.boot);
        table = after;
    }
    assert_eq!(table, disk(4096));
}

#[test]
fn a_slot_that_is_large_enough_stays_where_it_is_and_loses_its_name() {
    let mut table = disk(4096);
    table
        .name_entry(ROOT_B, hash(2).partition_guid())
        .expect("name");
    let room = make_room(&table, 6 << 20, 30 << 20).expect("room");
    assert_eq!(room, disk(4096));
    assert_eq!(make_room(&room, 1, 4096).expect("room"), room);
    let pair = Pair::of(&room).expect("slots");
    assert_eq!(pair.other.root_guid, EMPTY_ROOT_GUID);
    assert_eq!(pair.committed.root_guid, hash(1).partition_guid());
}

/// Year after year a larger image, from 36 MiB until the disk has no more.
#[test]
fn slots_grow_until_both_fill_the_reserve_and_never_touch_anything_else() {
    let mut table = disk(4096);
    let state = place(&table, STATE);
    let (mut boot, mut root) = (6_u64 << 20, 30_u64 << 20);
    let mut grown = 0;
    let error = loop {
        let before = Pair::of(&table).expect("slots");
        let room = match make_room(&table, boot, root) {
            Ok(room) => room,
            Err(error) => break error,
        };
        let after = Pair::of(&room).expect("slots");
        assert_eq!(
            after.committed, before.committed,
            "the committed slot moved"
        );
        assert_eq!(place(&room, STATE), state);
        let (other, kept) = (after.other, after.committed);
        for mine in [other.boot, other.root] {
            for theirs in [kept.boot, kept.root, state] {
                assert!(!mine.overlaps(&theirs), "{mine:?} {theirs:?}");
            }
            assert_eq!(mine.first() % ALIGNMENT, 0);
        }
        assert!(other.boot.sectors() * 512 >= boot && other.root.sectors() * 512 >= root);
        table = commit(&room).expect("commit");
        (boot, root) = (boot + (1 << 20), root + (7 << 20));
        grown += 1;
    };
    assert!(matches!(error, RoomError::NoRoom { .. }), "{error}");
    assert!(error.to_string().contains("use a larger disk"), "{error}");
    // Slots and reserve are 36 + 36 + 1006 MiB: both slots came to nearly half of it.
    let pair = Pair::of(&table).expect("slots");
    let both = [pair.committed, pair.other].map(|s| s.boot.sectors() + s.root.sectors());
    println!(
        "{grown} updates, slots of {} and {} MiB",
        both[0] / MIB,
        both[1] / MIB
    );
    assert!(both[0] + both[1] > 1000 * MIB, "{both:?}");
}

#[test]
fn a_disk_without_reserve_says_what_it_has() {
    let table = disk(38 + 36 + 64 + 22);
    let error = make_room(&table, 6 << 20, 60 << 20).expect_err("no room");
    assert_eq!(
        error,
        RoomError::NoRoom {
            needed: 66 * MIB,
            free: 57 * MIB
        }
    );
    assert!(make_room(&table, u64::MAX, u64::MAX).is_err());
    // What one part has too much, the other can have.
    let room = make_room(&table, 1 << 20, 34 << 20).expect("room");
    assert_eq!(place(&room, ROOT_B).sectors(), 34 * MIB);
}

#[test]
fn a_table_with_moved_partitions_is_not_guessed_about() {
    let table = disk(4096);
    let elsewhere = Extent::with_len(900 * MIB, 30 * MIB).expect("extent");
    let moved = table.with_moved(&[(ROOT_B, elsewhere)]).expect("moved");
    assert_eq!(Pair::of(&moved), Err(PairError::NoRootBehind(BOOT_B)));
    assert!(make_room(&moved, 1, 4096).is_err() && commit(&moved).is_err());
    let image = Image::new(6 << 20, 30 << 20, &hash(1)).expect("image");
    assert_eq!(Pair::of(&image.table), Err(PairError::NotOurs(ROOT_B)));
}

#[test]
fn foreign_partitions_in_the_reserve_stay_where_they_are() {
    let mut table = disk(4096);
    let gap = table.free(ALIGNMENT)[0];
    let foreign = Entry {
        kind: LINUX,
        guid: Guid::from_number(0xf00),
        extent: Extent::with_len(gap.first() + 100 * MIB, 100 * MIB).expect("extent"),
        attributes: 0,
        name: Name::new("photos"),
    };
    table.place(9, foreign.clone()).expect("place");
    for root in [60_u64, 300, 700] {
        let room = make_room(&table, 6 << 20, root << 20).expect("room");
        assert_eq!(room.entry(9), Some(&foreign));
        let pair = Pair::of(&room).expect("slots");
        assert!(pair.other.root.sectors() >= root * MIB);
    }
}
