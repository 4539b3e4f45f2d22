//! Other people's programs find nothing wrong with what a build gives.

use std::process::Command;

use berth_qemu_tests::{Error, TestResult, image, judges, process};

#[test]
fn every_output_of_a_build_is_what_its_format_says() -> TestResult {
    let demo = image::demo()?;
    let scratch = tempfile::tempdir().map_err(Error::file("creating", "a directory"))?;
    let manifest = demo.manifest()?;
    judges::partition_table(&demo.disk())?;
    judges::qcow2(&demo.file("disk.qcow2"), &demo.disk())?;
    judges::erofs(&demo.root())?;

    let boot = scratch.path().join("boot");
    judges::copy_partition(&demo.disk(), 1, &boot)?;
    judges::fat(&boot)?;
    let copied = scratch.path().join("BOOTX64.EFI");
    let mut copy = Command::new("mcopy");
    copy.arg("-i")
        .arg(&boot)
        .arg("::/EFI/BOOT/BOOTX64.EFI")
        .arg(&copied);
    process::run(&mut copy)?;
    let same = |one, other| -> Result<bool, Error> {
        let read = |path| std::fs::read(path).map_err(Error::file("reading", path));
        Ok(read(one)? == read(other)?)
    };
    if !same(copied.as_path(), demo.file("uki.efi").as_path())? {
        return Err(Error::broken("the disk's boot file is not uki.efi"));
    }
    let mut objdump = Command::new("objdump");
    let sections = process::run(objdump.arg("-h").arg(demo.file("uki.efi")))?;
    if [".linux", ".cmdline", ".osrel"]
        .iter()
        .any(|name| !sections.contains(name))
    {
        return Err(Error::broken(format!("sections of uki.efi:\n{sections}")));
    }

    // The manifest's root hash, the command line's and the partition's name are one.
    let command_line = demo.command_line()?;
    let table = command_line
        .split_once(" verity ")
        .map_or("", |(_, table)| table);
    let fields: Vec<&str> = table.split(' ').collect();
    let (Some(start), Some(hash)) = (fields.get(6), fields.get(8)) else {
        return Err(Error::broken(format!("no verity table in {command_line}")));
    };
    let named = manifest.to_string().contains(hash);
    let hash_block: u64 = start.parse().unwrap_or(0);
    if !named || hash_block == 0 {
        return Err(Error::broken(format!("{hash} is not in {manifest}")));
    }
    let root = scratch.path().join("root");
    judges::copy_partition(&demo.disk(), 3, &root)?;
    // The tree starts one block behind its superblock.
    judges::verity(&root, (hash_block - 1) * 4096, hash)
}
