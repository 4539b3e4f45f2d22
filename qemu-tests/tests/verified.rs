//! A flipped byte of the root is never executed or served: the kernel stops at the read and the
//! machine restarts.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use berth_qemu_tests::image::{self, Image, Recipe};
use berth_qemu_tests::{Disk, Error, Machine, TestResult, judges, within};

/// Bytes of a block of the root and of its hash tree.
const BLOCK: u64 = 4096;
/// Number of the root partition (ARCHITECTURE.md, "The disk").
const ROOT: u32 = 3;

#[test]
fn a_flipped_byte_of_data_metadata_or_hashes_stops_the_machine_before_it_is_used() -> TestResult {
    let demo = image::demo()?;
    let tree = hash_tree(&demo)?;
    let init = place_of_file(&demo, Path::new("init"))?;
    let places = [
        ("the file system's superblock", 1024),
        ("the first page of PID 1", init + 40),
        ("the middle of PID 1", init + (512 << 10)),
        ("the top of the hash tree", tree + 100),
        ("the hash of the first block", tree + BLOCK + 5),
    ];
    for (number, (what, place)) in places.into_iter().enumerate() {
        let machine = boot_with_a_flip(&demo, &format!("flipped-{number}"), place)?;
        let told = machine.console().wait_for("Kernel panic", within(15));
        told.map_err(|error| Error::broken(format!("a flip in {what}: {error}")))?;
        // It restarts, which ends this QEMU.
        machine.ended(within(15))?;
        let text = machine.console().text();
        if !text.contains("verity") || text.contains(" exec t=") {
            return Err(machine.broken(&format!("a flip in {what} went unseen:\n{text}")));
        }
    }
    Ok(())
}

#[test]
fn a_flipped_byte_of_a_containers_program_is_not_executed() -> TestResult {
    let demo = image::demo()?;
    let program = place_of_file(&demo, Path::new("images"))?;
    let machine = boot_with_a_flip(&demo, "flipped-program", program + 40)?;
    machine.console().wait_for("Kernel panic", within(15))?;
    machine.ended(within(15))?;
    let ran = machine
        .console()
        .lines()
        .iter()
        .any(|line| line.is_container("status", "exec"));
    if ran {
        return Err(machine.broken("the container's program ran although it was changed"));
    }
    Ok(())
}

#[test]
fn a_machine_that_halts_stays_where_a_flipped_byte_was_found() -> TestResult {
    let halting = Recipe::new("halting", "").top("on_failure = \"halt\"");
    let halting = halting.build()?;
    let init = place_of_file(&halting, Path::new("init"))?;
    let machine = boot_with_a_flip(&halting, "flipped-halts", init + 40)?;
    // The kernel's last line, which it says only when it will not restart.
    machine.console().wait_for("end Kernel panic", within(15))?;
    if !machine.console().text().contains("verity") {
        return Err(machine.broken("the kernel does not say why it stopped"));
    }
    Ok(())
}

/// Boots the demo from a copy of its disk with one bit of the root partition changed.
fn boot_with_a_flip(demo: &Image, name: &str, place: u64) -> Result<Machine, Error> {
    let scratch = tempfile::tempdir().map_err(Error::file("creating", "a directory"))?;
    let disk = scratch.path().join("disk.raw");
    fs::copy(demo.disk(), &disk).map_err(Error::file("copying", &disk))?;
    let root = judges::partition(&disk, ROOT)?
        .ok_or_else(|| Error::broken("the demo's disk has no root partition"))?;
    let flip = || -> std::io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(&disk)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, root.start + place)?;
        file.write_all_at(&[byte[0] ^ 1], root.start + place)
    };
    flip().map_err(Error::file("changing", &disk))?;
    // QEMU keeps the file open; its name may go.
    Machine::named(name)
        .direct(demo.kernel(), demo.command_line()?)
        .disk(Disk::of(&disk))
        .headless()
        .start()
}

/// Where the hash tree starts in the root partition, by the kernel's own table.
fn hash_tree(demo: &Image) -> Result<u64, Error> {
    let command_line = demo.command_line()?;
    let table = command_line.split_once(" verity ").map(|(_, table)| table);
    let start = table.and_then(|table| table.split(' ').nth(6)?.parse::<u64>().ok());
    start
        .map(|block| block * BLOCK)
        .ok_or_else(|| Error::broken(format!("no verity table in {command_line}")))
}

/// Where a file's data start in the root's file system: the file itself, or the largest one below
/// a directory. Looked for by its first bytes, which no other file has.
fn place_of_file(demo: &Image, path: &Path) -> Result<u64, Error> {
    let scratch = tempfile::tempdir().map_err(Error::file("creating", "a directory"))?;
    let unpacked = scratch.path().join("root");
    demo.unpack_root(&unpacked)?;
    let read = |path: &Path| fs::read(path).map_err(Error::file("reading", path));
    let file = read(&largest_below(&unpacked.join(path))?)?;
    let whole = read(&demo.root())?;
    let head = &file[..file.len().min(BLOCK as usize)];
    let blocks = whole.chunks(BLOCK as usize);
    let found = blocks
        .enumerate()
        .find(|(_, block)| block.starts_with(head));
    found
        .map(|(block, _)| block as u64 * BLOCK)
        .ok_or_else(|| Error::broken(format!("{} is not in root.erofs", path.display())))
}

fn largest_below(path: &Path) -> Result<std::path::PathBuf, Error> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let mut best = (0, path.to_owned());
    for entry in fs::read_dir(path).map_err(Error::file("listing", path))? {
        let entry = entry.map_err(Error::file("listing", path))?.path();
        if entry.is_symlink() {
            continue;
        }
        let file = largest_below(&entry)?;
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        if length > best.0 && file.is_file() {
            best = (length, file);
        }
    }
    Ok(best.1)
}
