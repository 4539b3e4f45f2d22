//! The state template, made by mke2fs and judged by e2fsck.

use std::fs;
use std::path::Path;
use std::process::Command;

use berth_slots::state_template::{
    self as template, FILE_SYSTEM_BYTES, MKE2FS_ARGUMENTS, MKE2FS_CONFIG, MKE2FS_TIME, Superblock,
    Template,
};

fn made_by_mke2fs(directory: &Path) -> Vec<u8> {
    let image = directory.join("image");
    let config = directory.join("mke2fs.conf");
    fs::write(&config, MKE2FS_CONFIG).unwrap();
    fs::File::create(&image)
        .unwrap()
        .set_len(FILE_SYSTEM_BYTES)
        .unwrap();
    let done = Command::new("mke2fs")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .env("MKE2FS_CONFIG", &config)
        .env("E2FSPROGS_FAKE_TIME", MKE2FS_TIME)
        .args(MKE2FS_ARGUMENTS)
        .arg(&image)
        .status()
        .expect("mke2fs of e2fsprogs is needed");
    assert!(done.success());
    fs::read(image).unwrap()
}

/// Does what the machine does at its first boot.
fn written_out(template: &Template<'_>, uuid: [u8; 16]) -> Vec<u8> {
    let mut disk = vec![0; template.file_system_bytes() as usize];
    for (offset, bytes) in template.extents() {
        disk[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    let first = template.superblock_block(uuid, [7; 16]);
    disk[..first.len()].copy_from_slice(&first);
    disk
}

#[test]
fn a_file_system_with_its_own_identity_passes_e2fsck() {
    let directory = tempfile::tempdir().unwrap();
    let encoded = template::encode(&made_by_mke2fs(directory.path())).unwrap();
    assert!(encoded.len() < 64 << 10, "{} bytes", encoded.len());

    let disk = written_out(&Template::parse(&encoded).unwrap(), [0xab; 16]);
    assert_eq!(Superblock::read(&disk).unwrap().uuid, [0xab; 16]);
    let image = directory.path().join("written");
    fs::write(&image, disk).unwrap();
    let judged = Command::new("e2fsck")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .arg("-fn")
        .arg(&image)
        .output()
        .expect("e2fsck of e2fsprogs is needed");
    let said = String::from_utf8_lossy(&judged.stdout);
    assert!(judged.status.success(), "{said}");
}

/// Mount count, in the first of the superblock's two sectors; the checksum is in the second.
const S_MNT_COUNT: usize = 1024 + 0x34;

#[test]
fn a_superblock_that_was_torn_gets_its_checksum_and_passes_e2fsck() {
    let directory = tempfile::tempdir().unwrap();
    let encoded = template::encode(&made_by_mke2fs(directory.path())).unwrap();
    let mut disk = written_out(&Template::parse(&encoded).unwrap(), [0xab; 16]);
    assert_eq!(template::mended(&disk), None, "nothing to mend");
    let image = directory.path().join("torn");
    let judged = |disk: &[u8]| {
        fs::write(&image, disk).unwrap();
        let mut e2fsck = Command::new("e2fsck");
        e2fsck.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
        let judged = e2fsck.arg("-fn").arg(&image).output();
        judged
            .expect("e2fsck of e2fsprogs is needed")
            .status
            .success()
    };
    disk[S_MNT_COUNT] += 1;
    assert!(!judged(&disk));
    let mended = template::mended(&disk).expect("a torn one");
    disk[template::SUPERBLOCK_OFFSET as usize..][..mended.len()].copy_from_slice(&mended);
    assert!(judged(&disk));
    assert_eq!(template::mended(&disk), None);
}

#[test]
fn what_is_no_superblock_of_ours_is_not_mended() {
    let directory = tempfile::tempdir().unwrap();
    let encoded = template::encode(&made_by_mke2fs(directory.path())).unwrap();
    let mut disk = written_out(&Template::parse(&encoded).unwrap(), [0xab; 16]);
    disk.truncate(4096);
    disk[S_MNT_COUNT] += 1;
    // Magic, block size, features, kind of checksum; and too little of it.
    for place in [0x38, 0x18, 0x65, 0x175] {
        let mut other = disk.clone();
        other[1024 + place] ^= 4;
        assert_eq!(template::mended(&other), None, "{place:#x}");
    }
    assert_eq!(template::mended(&disk[..2047]), None);
    assert_eq!(template::mended(&[0; 4096]), None);
}

#[test]
fn whatever_is_wrong_with_a_superblock_mending_changes_its_checksum_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let encoded = template::encode(&made_by_mke2fs(directory.path())).unwrap();
    let mut whole = written_out(&Template::parse(&encoded).unwrap(), [0xab; 16]);
    whole.truncate(2048);
    let mut mended = 0;
    for bit in (0..8 * 1024).step_by(11) {
        let mut wrong = whole.clone();
        wrong[1024 + bit / 8] ^= 1 << (bit % 8);
        let Some(superblock) = template::mended(&wrong) else {
            continue;
        };
        mended += 1;
        assert_eq!(superblock[..0x3fc], wrong[1024..1024 + 0x3fc], "bit {bit}");
        wrong[1024..].copy_from_slice(&superblock);
        assert_eq!(template::mended(&wrong), None, "bit {bit}");
    }
    assert!(mended > 700, "{mended}");
}

#[test]
fn the_same_tools_give_the_same_template() {
    let encoded = || {
        let directory = tempfile::tempdir().unwrap();
        template::encode(&made_by_mke2fs(directory.path())).unwrap()
    };
    assert_eq!(encoded(), encoded());
}

#[test]
fn a_partition_has_no_file_system_before_its_first_block_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let encoded = template::encode(&made_by_mke2fs(directory.path())).unwrap();
    let template = Template::parse(&encoded).unwrap();
    assert!(template.extents().all(|(offset, _)| offset >= 4096));
}

#[test]
fn no_damaged_template_is_taken_for_a_good_one() {
    let directory = tempfile::tempdir().unwrap();
    let encoded = template::encode(&made_by_mke2fs(directory.path())).unwrap();
    for length in (0..encoded.len()).step_by(97) {
        assert!(Template::parse(&encoded[..length]).is_err());
    }
    let mut longer = encoded.clone();
    longer.push(0);
    assert!(Template::parse(&longer).is_err());
    for place in 0..64 {
        for bit in 0..8 {
            let mut wrong = encoded.clone();
            wrong[place] ^= 1 << bit;
            if let Ok(template) = Template::parse(&wrong) {
                let end = template.file_system_bytes();
                let inside = |(at, bytes): (u64, &[u8])| at + bytes.len() as u64 <= end;
                assert!(template.extents().all(inside));
            }
        }
    }
    assert!(template::encode(&[0; 4096]).is_err());
}
