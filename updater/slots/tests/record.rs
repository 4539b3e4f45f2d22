//! The durable record: what is written is read, and no damage is taken for a record.

use berth_slots::record::{
    Kept, PAGE, Phase, REASON_BYTES, REJECTIONS, Record, Trial, decode, encode,
};
use berth_slots::target::{Target, Version};
use berth_slots::verity::RootHash;

fn version(text: &str) -> Version {
    Version::new(text).expect("a version")
}

fn target(number: u8) -> Target {
    Target {
        version: version(&format!("1.{number}")),
        security_version: 7,
        attempt: 7,
        manifest: [number; 32],
        boot_bytes: 6 << 20,
        boot_sha256: [number ^ 1; 32],
        root_bytes: 30 << 20,
        root_hash: RootHash([number ^ 2; 32]),
    }
}

/// As large as a record can be.
fn large() -> Record {
    let mut record = Record {
        security_version: u64::MAX,
        target: Some(Target {
            version: version(&"v".repeat(64)),
            ..target(9)
        }),
        trial: Some(Trial {
            root_hash: RootHash([3; 32]),
            boot_id: [4; 16],
            phase: Phase::Armed { again: true },
        }),
        rejected: Vec::new(),
    };
    for number in 0..20 {
        let name = format!("{number:064}");
        record.reject(version(&name), RootHash([number; 32]), &"ö".repeat(1000));
    }
    record
}

#[test]
fn what_was_written_is_read_and_the_largest_record_fits() {
    assert_eq!(large().rejected.len(), REJECTIONS);
    assert!(large().rejected[0].reason.len() <= REASON_BYTES);
    assert_eq!(large().rejected[7].version.as_str(), format!("{:064}", 19));
    for record in [Record::default(), large()] {
        let page = encode(5, &record);
        assert_eq!(page.len(), PAGE);
        assert_eq!(decode(&page), Some((5, record)));
    }
    let phases = [
        Phase::Armed { again: false },
        Phase::Armed { again: true },
        Phase::CameUp,
        Phase::Lost,
        Phase::Ignored,
        Phase::Untried,
    ];
    for phase in phases {
        let mut record = large();
        record.trial = record.trial.map(|trial| Trial { phase, ..trial });
        assert_eq!(decode(&encode(1, &record)), Some((1, record)));
    }
}

#[test]
fn a_version_is_known_by_its_name_and_by_its_root() {
    let mut record = Record::default();
    record.reject(version("1.1"), RootHash([1; 32]), "a panic\nof many lines");
    let known = |name: &str, root: u8| {
        record
            .rejection(&version(name), &RootHash([root; 32]))
            .is_some()
    };
    assert!(known("1.1", 9) && known("1.9", 1) && !known("1.9", 9));
    assert_eq!(record.rejected[0].reason, "a panic of many lines");
    record.reject(version("1.1"), RootHash([1; 32]), "again");
    assert_eq!(record.rejected.len(), 1);
}

#[test]
fn a_failure_says_which_try_it_was() {
    let mut record = large();
    let target = record.target.clone().expect("a target");
    record.reject(target.version, target.root_hash, "it failed");
    let kept = decode(&encode(1, &record)).expect("a record").1;
    assert_eq!(kept.rejected.last().map(|one| one.attempt), Some(7));
    // Of a version that is not on record nothing is known.
    record.reject(version("0"), RootHash([0; 32]), "it failed");
    assert_eq!(record.rejected.last().map(|one| one.attempt), Some(0));
}

/// The copy that is written is never the one that counts, so whatever a cut leaves of it, the
/// record before or the record after is there.
#[test]
fn a_torn_copy_leaves_the_record_before() {
    let mut kept = Kept::from_copies(&[None, None]);
    let mut copies = [None, None];
    for number in 0..20 {
        let before = kept.record.clone();
        let record = Record {
            target: Some(target(number)),
            ..large()
        };
        let (copy, page) = kept.replace(record.clone());
        for torn in 0..=PAGE / 512 {
            let mut cut: [Option<Vec<u8>>; 2] = copies.clone();
            let mut bytes = cut[copy].clone().unwrap_or_default();
            bytes.resize(PAGE, 0);
            bytes[..torn * 512].copy_from_slice(&page[..torn * 512]);
            cut[copy] = Some(bytes);
            let read = Kept::from_copies(&cut).record;
            assert!(read == before || read == record, "{number}, {torn} sectors");
        }
        copies[copy] = Some(page);
        assert_eq!(Kept::from_copies(&copies), kept);
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let page = encode(1, &large());
    for at in 0..PAGE {
        let mut wrong = page.clone();
        wrong[at] ^= 1 << (at % 8);
        assert_eq!(decode(&wrong), None, "byte {at}");
    }
    for length in [0, 1, 31, 32, 512, PAGE - 1, PAGE + 1] {
        let mut wrong = page.clone();
        wrong.resize(length, 0);
        assert_eq!(decode(&wrong), None);
    }
    let lost = Kept::from_copies(&[Some(vec![0; PAGE]), None]);
    assert!(lost.lost && lost.record == Record::default());
    assert!(!Kept::from_copies(&[None, None]).lost);
}
