//! Flipping any bit of any signed or hashed file is refused before a byte of it is kept: every bit
//! of small files, and a sample of the positions of a big one.

mod stage;

use berth_trust::workflow::{Roots, Snapshots, Timestamps};
use berth_trust::write::Role;
use berth_trust::{Clock, Limits};

use stage::{EDGE, EDGE_PATH, Files, Machine, NOW, Publisher, edge, target};

/// Calls `refused` with the file after each flip of one bit.
fn each_flip(bytes: &[u8], mut refused: impl FnMut(&[u8]) -> bool) {
    let mut flipped = bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(refused(&flipped), "bit {} of byte {}", bit % 8, bit / 8);
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
}

fn timestamps(publisher: &Publisher) -> Timestamps {
    let clock = Clock::new(NOW, NOW);
    let roots = Roots::new(publisher.newest_root(), clock, Limits::default());
    roots.expect("a root").finish().expect("a current root")
}

fn snapshots(publisher: &Publisher) -> Snapshots {
    let mut timestamps = timestamps(publisher);
    let timestamp = &publisher.files["timestamp.json"];
    timestamps.update(timestamp).expect("a timestamp");
    timestamps.finish().expect("a current timestamp")
}

#[test]
fn no_flipped_root_is_trusted() {
    let mut publisher = Publisher::new();
    publisher.replace_key(Role::Timestamp);
    let first = publisher.first_root();
    let clock = Clock::new(NOW, NOW);
    let mut roots = Roots::new(&first, clock, Limits::default()).expect("a root");
    let second = &publisher.files["2.root.json"];
    each_flip(second, |flipped| roots.update(flipped).is_err());
    roots.update(second).expect("the root itself");
}

#[test]
fn no_flipped_timestamp_is_trusted() {
    let publisher = Publisher::new();
    let mut timestamps = timestamps(&publisher);
    let file = &publisher.files["timestamp.json"];
    each_flip(file, |flipped| {
        timestamps.update(flipped).is_err() && timestamps.recall(flipped).is_err()
    });
    timestamps.update(file).expect("the timestamp itself");
}

#[test]
fn no_flipped_snapshot_is_trusted() {
    let publisher = Publisher::new();
    let mut snapshots = snapshots(&publisher);
    let file = &publisher.files["1.snapshot.json"];
    each_flip(file, |flipped| {
        snapshots.update(flipped).is_err() && snapshots.recall(flipped).is_err()
    });
    snapshots.update(file).expect("the snapshot itself");
}

#[test]
fn no_flipped_list_of_targets_is_trusted() {
    let publisher = Publisher::new();
    let mut snapshots = snapshots(&publisher);
    let snapshot = &publisher.files["1.snapshot.json"];
    snapshots.update(snapshot).expect("a snapshot");
    let ready = snapshots.finish().expect("a current snapshot");
    let file = &publisher.files["1.targets.json"];
    each_flip(file, |flipped| ready.targets(flipped).is_err());
    ready.targets(file).expect("the list itself");
}

#[test]
fn no_flipped_target_is_used() {
    let publisher = Publisher::new();
    let mut machine = Machine::new(publisher.first_root());
    let found = machine
        .find(&publisher.files, &[EDGE_PATH])
        .expect("the target");
    each_flip(EDGE, |flipped| found[0].verify(flipped).is_err());
    found[0].verify(EDGE).expect("the target itself");
}

#[test]
fn no_flipped_bit_of_a_large_repository_reaches_the_disk() {
    let mut publisher = Publisher::new();
    let many: Vec<_> = (0..200)
        .map(|number| {
            target(
                &format!("edge/{number}.chunk"),
                format!("{number}").as_bytes(),
            )
        })
        .chain([edge()])
        .collect();
    publisher.publish(&many);
    publisher.rotate(|_| ());
    let honest = &publisher.files;
    let served = [
        "2.root.json",
        "timestamp.json",
        "2.snapshot.json",
        "2.targets.json",
    ];
    let mut state = 1_u64;
    for flip in 0..120 {
        // Knuth's constants; the sample is the same in each run.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let name = served[flip % served.len()];
        let mut files: Files = honest.clone();
        let file = files.get_mut(name).expect("the file");
        let bit = usize::try_from(state >> 33).expect("a number") % (file.len() * 8);
        file[bit / 8] ^= 1 << (bit % 8);
        let flipped = file.clone();
        let mut machine = Machine::new(publisher.first_root());
        machine.check(&files).expect_err(name);
        let kept = machine.kept.0.values().any(|kept| *kept == flipped);
        assert!(!kept, "bit {bit} of {name}");
        // What came before it is good, and the next check goes on from there.
        machine.check(honest).expect("the honest repository");
    }
}
