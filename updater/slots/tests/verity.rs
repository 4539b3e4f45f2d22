//! The hash tree, judged by `veritysetup`: it verifies ours, and makes the same itself.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use berth_slots::verity::{BLOCK, Builder, Error, Geometry, HashSink, RootHash, SALT};

struct OnFile<'a>(&'a File);

impl HashSink for OnFile<'_> {
    fn write_hash_block(&mut self, block: u64, bytes: &[u8; BLOCK]) -> io::Result<()> {
        self.0.write_all_at(bytes, block * BLOCK as u64)
    }
}

/// A data block that is like no other.
fn block(number: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    for (at, chunk) in block.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&(number * 1_000_003 + at as u64).to_le_bytes());
    }
    block
}

fn build(file: &File, blocks: u64) -> (RootHash, Geometry) {
    let geometry = Geometry::new(blocks).expect("geometry");
    let mut builder = Builder::new(geometry.clone(), OnFile(file));
    for number in 0..blocks {
        let data = block(number);
        file.write_all_at(&data, number * BLOCK as u64)
            .expect("data");
        builder.push(&data).expect("push");
    }
    let (root, _) = builder.finish().expect("finish");
    assert_eq!(file.metadata().expect("size").len(), geometry.total_bytes());
    (root, geometry)
}

fn veritysetup(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("veritysetup")
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("cannot run veritysetup ({e}): apt-get install cryptsetup-bin"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

fn verify(path: &Path, geometry: &Geometry, root: &RootHash) -> bool {
    let path = path.to_str().expect("path");
    let offset = format!(
        "--hash-offset={}",
        geometry.superblock_block() * BLOCK as u64
    );
    veritysetup(&["verify", path, path, &root.hex(), &offset]).0
}

/// Around every change of the tree's shape.
#[test]
fn veritysetup_verifies_our_trees_and_makes_the_same() {
    for blocks in [1, 2, 127, 128, 129, 128 * 128, 128 * 128 + 1] {
        let ours = tempfile::NamedTempFile::new().expect("file");
        let (root, geometry) = build(ours.as_file(), blocks);
        assert!(verify(ours.path(), &geometry, &root), "{blocks} blocks");

        let theirs = tempfile::NamedTempFile::new().expect("file");
        theirs
            .as_file()
            .set_len(blocks * BLOCK as u64)
            .expect("size");
        for number in 0..blocks {
            let at = number * BLOCK as u64;
            theirs
                .as_file()
                .write_all_at(&block(number), at)
                .expect("data");
        }
        let path = theirs.path().to_str().expect("path");
        let salt: String = SALT.iter().map(|byte| format!("{byte:02x}")).collect();
        let (done, said) = veritysetup(&[
            "format",
            path,
            path,
            &format!("--hash-offset={}", blocks * BLOCK as u64),
            &format!("--data-blocks={blocks}"),
            &format!("--salt={salt}"),
            &format!("--uuid={}", uuid_of(ours.path(), &geometry)),
        ]);
        assert!(done, "{said}");
        assert!(said.contains(&root.hex()), "{blocks} blocks: {said}");
        let (ours, theirs) = (std::fs::read(ours.path()), std::fs::read(theirs.path()));
        assert!(
            ours.expect("ours") == theirs.expect("theirs"),
            "{blocks} blocks differ"
        );
    }
}

fn uuid_of(path: &Path, geometry: &Geometry) -> String {
    let offset = format!(
        "--hash-offset={}",
        geometry.superblock_block() * BLOCK as u64
    );
    let (_, said) = veritysetup(&["dump", path.to_str().expect("path"), &offset]);
    let line = said
        .lines()
        .find(|line| line.starts_with("UUID"))
        .expect("a UUID");
    line.split_whitespace().last().expect("UUID").to_owned()
}

#[test]
fn a_flipped_byte_is_noticed() {
    let file = tempfile::NamedTempFile::new().expect("file");
    let (root, geometry) = build(file.as_file(), 300);
    for at in [
        0,
        150 * BLOCK as u64 + 17,
        geometry.hash_start() * BLOCK as u64 + 1,
    ] {
        let mut byte = [0];
        file.as_file().read_exact_at(&mut byte, at).expect("read");
        file.as_file()
            .write_all_at(&[byte[0] ^ 1], at)
            .expect("flip");
        assert!(!verify(file.path(), &geometry, &root), "byte {at}");
        file.as_file().write_all_at(&byte, at).expect("flip back");
    }
    assert!(verify(file.path(), &geometry, &root));
}

#[test]
fn data_of_another_length_than_announced_is_refused() {
    struct Nowhere;
    impl HashSink for Nowhere {
        fn write_hash_block(&mut self, _: u64, _: &[u8; BLOCK]) -> io::Result<()> {
            Ok(())
        }
    }
    assert!(matches!(Geometry::new(0), Err(Error::Size(0))));
    let two = Geometry::new(2).expect("geometry");
    let mut builder = Builder::new(two.clone(), Nowhere);
    builder.push(&[0; BLOCK]).expect("first");
    assert!(matches!(
        builder.finish(),
        Err(Error::Length {
            expected: 2,
            got: 1
        })
    ));
    let mut builder = Builder::new(two, Nowhere);
    builder.push(&[0; BLOCK]).expect("first");
    builder.push(&[0; BLOCK]).expect("second");
    assert!(builder.push(&[0; BLOCK]).is_err());
}

#[test]
fn the_kernel_parameters_name_partition_sizes_and_hashes() {
    let geometry = Geometry::new(1000).expect("geometry");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&[0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
    let text = berth_slots::verity::kernel_parameters(&geometry, &RootHash(bytes));
    let part = "PARTUUID=01234567-89ab-cdef-0000-000000000000";
    let expected = format!(
        "dm-mod.create=\"root,,,ro,0 8000 verity 1 {part} {part} 4096 4096 1000 1001 sha256 \
         0123456789abcdef{zeros} fa73bf190e94e0d41b1aca1bed63494110518f2fdc5ab781e5f5faff6ba0541d \
         1 panic_on_corruption\" dm-mod.waitfor={part} root=/dev/dm-0 rootfstype=erofs ro",
        zeros = "0".repeat(48),
    );
    assert_eq!(text, expected);
}
