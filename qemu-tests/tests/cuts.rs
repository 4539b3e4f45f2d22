//! Disks that a power cut during an update can leave, really booted.
//!
//! The update of one real image to another is recorded; `berth_cuts` makes the crash states, the
//! riskiest first, and says by its model which version starts from each. OVMF, with no variables,
//! has to start the same one, and its root has to be whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;

use berth_cuts::life::{self, Grid, Release};
use berth_cuts::{CrashState, Memory, MemoryVariables, Options, riskiest};
use berth_qemu_tests::image::{Image, Recipe};
use berth_qemu_tests::{Disk, Error, Machine, TestResult, long_tests_wanted, within};
use berth_slots::gpt::ReadSectors;
use berth_slots::layout::BOOT_A;
use berth_slots::state::Booted;
use berth_slots::target::Version;
use sha2::{Digest, Sha256};

/// States that are booted; with `BERTH_TEST_LONG=1`.
const BOOTED: usize = 20;
const BOOTED_LONG: usize = 200;
/// The firmware holds the boot image twice.
const MEMORY_MIB: u32 = 160;
const DISK_SECTORS: u64 = 1 << 20;
const GRID: Grid = Grid {
    chunk: 1 << 20,
    flush_every: 8,
};
const OPTIONS: Options = Options {
    exhaustive: 4,
    samples: 8,
    seed: 20_261_124,
};

#[test]
fn disks_that_a_cut_leaves_boot_the_version_that_the_model_says() -> TestResult {
    let long = long_tests_wanted("hundreds of crash states in OVMF");
    let releases = [release("1")?, release("2")?];
    let before = life::installed(&releases[0], DISK_SECTORS);
    let before = before.map_err(|error| Error::broken(format!("no machine: {error}")))?;
    let recorded = life::record(before.clone(), &releases, GRID).map_err(Error::broken)?;
    let count = if long { BOOTED_LONG } else { BOOTED };
    let states = riskiest(&recorded.log, OPTIONS, count);
    println!(
        "{} crash states of {} operations (seed {})",
        states.len(),
        recorded.log.operations.len(),
        OPTIONS.seed
    );
    let scratch = tempfile::tempdir().map_err(Error::file("creating", "a directory"))?;
    let left = Mutex::new(states.into_iter().enumerate());
    let boot_next = || -> Result<BTreeMap<String, usize>, Error> {
        let mut booted = BTreeMap::new();
        loop {
            let next = left.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((number, state)) = next else {
                return Ok(booted);
            };
            let mut disk = before.clone();
            let applied = state.apply(&recorded.log, &mut disk);
            applied.map_err(|error| Error::broken(format!("{error}: {state}")))?;
            let version = with_time_enough(|| {
                boots_as_the_model_says(number, &state, disk.clone(), &releases, scratch.path())
            })?;
            *booted.entry(version).or_default() += 1;
        }
    };
    let booted = thread::scope(|scope| {
        let workers = [scope.spawn(boot_next), scope.spawn(boot_next)];
        workers.map(|worker| worker.join())
    });
    let mut versions = BTreeMap::<String, usize>::new();
    for worker in booted {
        let worker = worker.map_err(|_| Error::broken("a worker panicked"))?;
        for (version, count) in worker? {
            *versions.entry(version).or_default() += count;
        }
    }
    println!("booted in OVMF, by the version that came up: {versions:?}");
    if versions.len() != 2 {
        return Err(Error::broken(format!(
            "the states are all before the commit or all behind it: {versions:?}"
        )));
    }
    Ok(())
}

/// Again when the guest stopped because the computer had no time for it: these panics are about
/// clocks, and a disk has no part in them.
fn with_time_enough<T>(run: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    const STARVED: [&str; 2] = ["IO-APIC + timer doesn't work", "softlockup: hung tasks"];
    const TIMES: usize = 4;
    let mut result = run();
    for _ in 1..TIMES {
        let said = result.as_ref().err().map(ToString::to_string);
        match said {
            Some(said) if STARVED.iter().any(|panic| said.contains(panic)) => {
                eprintln!("a guest starved; once more");
                result = run();
            }
            _ => break,
        }
    }
    result
}

/// Boots one state; the version that came up.
fn boots_as_the_model_says(
    number: usize,
    state: &CrashState,
    mut disk: Memory,
    releases: &[Release],
    scratch: &Path,
) -> Result<String, Error> {
    let start = life::start(&mut disk, &mut MemoryVariables::default(), releases);
    let start = start.map_err(|what| Error::broken(format!("{what}: {state}")))?;
    let expected = &releases[start.release].target;
    let path = scratch.join(format!("{number}.raw"));
    write_image(&disk, &path)?;
    let machine = Machine::named(&format!("cut-{number}"))
        .uefi()
        .memory(MEMORY_MIB)
        .disk(Disk::of(&path))
        .without_network()
        .headless()
        .start()?;
    let console = machine.console();
    // PID 1 has been read from the verified root, and the machine's configuration too.
    console.expect("PID 1 to read its configuration", within(30), |line| {
        line.get("phase") == Some("machine") && line.get("result") == Some("ok")
    })?;
    let text = console.text();
    let running = text.lines().find_map(Booted::root_of_command_line);
    if running != Some(expected.root_hash) {
        return Err(machine.broken(&format!(
            "version {} should have come up, not the root {running:?}: {state}",
            expected.version
        )));
    }
    // The partition table is repaired before anything else is done to the disk.
    console.expect("the first boot's work", within(30), |line| {
        line.get("phase") == Some("first-boot") && line.get("result") == Some("ok")
    })?;
    drop(machine);
    std::fs::remove_file(&path).map_err(Error::file("removing", &path))?;
    Ok(expected.version.to_string())
}

fn write_image(disk: &Memory, path: &Path) -> Result<(), Error> {
    let file = File::create(path).map_err(Error::file("creating", path))?;
    file.set_len(DISK_SECTORS * berth_slots::SECTOR)
        .map_err(Error::file("creating", path))?;
    for (offset, block) in disk.written() {
        file.write_all_at(block, offset)
            .map_err(Error::file("writing", path))?;
    }
    Ok(())
}

/// A version of a machine, as `berth build` makes it.
fn release(version: &str) -> Result<Release, Error> {
    let toml = "[container.guest]\nimage = \"oci:guest\"\ncommand = [\"true\"]\n";
    let image = Recipe::new("cuts", toml)
        .version(version)
        .guest()?
        .build()?;
    let pinned = Booted::root_of_command_line(&image.command_line()?);
    let name = Version::new(version).ok_or_else(|| Error::broken("no version"))?;
    let release = Release::new(name, 1, boot_image(&image)?, root(&image)?, |bytes| {
        Sha256::digest(bytes).into()
    });
    let release = release.map_err(|error| Error::broken(format!("no hash tree: {error}")))?;
    if pinned != Some(release.target.root_hash) {
        return Err(Error::broken("the boot image pins another root"));
    }
    Ok(release)
}

/// What is in the first entry.
fn boot_image(image: &Image) -> Result<Vec<u8>, Error> {
    let path = image.disk();
    let file = File::open(&path).map_err(Error::file("opening", &path))?;
    let bytes = file
        .metadata()
        .map_err(Error::file("reading", &path))?
        .len();
    let mut disk = OnFile(file);
    let table = berth_slots::gpt::load(&mut disk, bytes / berth_slots::SECTOR);
    let table = table.map_err(|error| Error::broken(format!("{}: {error}", path.display())))?;
    let entry = table.table.entry(BOOT_A);
    let extent = entry
        .ok_or_else(|| Error::broken("no boot partition"))?
        .extent;
    let mut content = vec![0; (extent.sectors() * berth_slots::SECTOR) as usize];
    disk.0
        .read_exact_at(&mut content, extent.first() * berth_slots::SECTOR)
        .map_err(Error::file("reading", &path))?;
    Ok(content)
}

/// The root file system without its hash tree.
fn root(image: &Image) -> Result<Vec<u8>, Error> {
    let line = image.command_line()?;
    let sectors = line
        .split_once("root,,,ro,0 ")
        .and_then(|(_, table)| table.split(' ').next()?.parse::<usize>().ok());
    let sectors = sectors.ok_or_else(|| Error::broken("the boot image pins no root"))?;
    let path = image.root();
    let mut root = std::fs::read(&path).map_err(Error::file("reading", &path))?;
    root.truncate(sectors * berth_slots::SECTOR as usize);
    Ok(root)
}

/// A disk image.
struct OnFile(File);

impl ReadSectors for OnFile {
    fn read_sectors(&mut self, first: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        self.0.read_exact_at(buffer, first * berth_slots::SECTOR)
    }
}
