//! FAT file systems judged by fsck.vfat and read by mtools.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::process::Command;

use berth_disk::fat::{Fat, FatError};

/// Part `number` of what is written: none is like another.
fn part(number: u64) -> Vec<u8> {
    let mut part: Vec<u8> = (0..=250_u8).cycle().take(251 * 64).collect();
    part[..8].copy_from_slice(&number.to_le_bytes());
    part
}

fn content(len: u64) -> Vec<u8> {
    let mut all = Vec::new();
    for number in 0.. {
        if all.len() as u64 >= len {
            break;
        }
        all.extend(part(number));
    }
    all.truncate(len as usize);
    all
}

fn write(path: &Path, len: u64) -> Fat {
    let fat = Fat::new(len, 0x1234_abcd).expect("fat");
    let mut out = BufWriter::new(File::create(path).expect("create"));
    fat.write(&mut out, |file| {
        let mut left = len as usize;
        for number in 0.. {
            let part = part(number);
            file.write_all(&part[..left.min(part.len())])?;
            left = left.saturating_sub(part.len());
            if left == 0 {
                break;
            }
        }
        Ok(())
    })
    .expect("write");
    out.flush().expect("flush");
    assert_eq!(std::fs::metadata(path).expect("size").len(), fat.bytes());
    fat
}

fn judge(path: &Path) {
    let output = Command::new("fsck.vfat")
        .args(["-n", "-v"])
        .arg(path)
        .output()
        .unwrap_or_else(|e| panic!("cannot run fsck.vfat ({e}): apt-get install dosfstools"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for word in [
        "rror", "differ", "Wrong", "wrong", "orrect", "irty", "Free", "Auto",
    ] {
        assert!(!said.contains(word), "{said}");
    }
}

/// The file as mtools read it.
fn read_back(path: &Path) -> Vec<u8> {
    let output = Command::new("mtype")
        .arg("-i")
        .arg(path)
        .arg("::/EFI/BOOT/BOOTX64.EFI")
        .output()
        .unwrap_or_else(|e| panic!("cannot run mtype ({e}): apt-get install mtools"));
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// Around every change of the cluster size and of the kind.
#[test]
fn fsck_and_mtools_accept_every_size() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("fat");
    let mib = 1 << 20;
    for len in [
        0,
        1,
        512,
        2_000_000,
        4099 * 512,
        4099 * 512 + 1,
        4099 * 1024,
        4099 * 2048 - 1,
        4099 * 4096,
        23 * mib,
    ] {
        write(&path, len);
        judge(&path);
        assert!(read_back(&path) == content(len), "{len} bytes");
    }
}

#[test]
fn a_huge_file_is_on_fat32() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("fat");
    for (len, kind) in [(512 << 20, "FAT16   "), ((512 << 20) + 1, "FAT32   ")] {
        write(&path, len);
        judge(&path);
        let mut start = [0; 512];
        File::open(&path)
            .and_then(|mut file| file.read_exact(&mut start))
            .expect("read");
        let found = if kind == "FAT16   " {
            &start[54..62]
        } else {
            &start[82..90]
        };
        assert_eq!(found, kind.as_bytes());
    }
}

#[test]
fn the_file_starts_on_a_block_and_little_is_wasted() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("fat");
    for len in [3_000_000, 9_999_999, 23_456_789] {
        let fat = write(&path, len);
        let waste = fat.bytes() - len;
        assert!(waste < 128 << 10, "{waste} bytes around {len}");
        let image = std::fs::read(&path).expect("read");
        let start = content(4096);
        let block = image.chunks(4096).position(|block| block == start);
        assert!(block.is_some(), "{len} bytes are not on a block");
    }
}

#[test]
fn a_file_that_is_too_large_or_not_as_long_as_announced_is_refused() {
    assert_eq!(
        Fat::new(1 << 32, 0).expect_err("refusal"),
        FatError::TooLarge(1 << 32)
    );
    let fat = Fat::new(10, 0).expect("fat");
    let error = fat
        .write(&mut io::sink(), |file| file.write_all(&[0; 9]))
        .expect_err("refusal");
    assert!(error.to_string().contains("9 bytes and not 10"), "{error}");
}
