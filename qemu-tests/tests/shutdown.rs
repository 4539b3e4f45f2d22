//! The way down, and what is left on the disk: after an orderly end, after a restart, after the
//! plug was pulled; and the watchdog, for a PID 1 that stands still.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use berth_power as power;
use berth_qemu_tests::image::{Image, Recipe};
use berth_qemu_tests::{Disk, Error, Line, Machine, TestResult, files, judges, process, within};
use berth_slots::state_template::{SUPERBLOCK_OFFSET, Superblock};

const DISK_BYTES: u64 = 1 << 30;
/// A partition of somebody else's, in sectors: in the middle of what is free.
const FOREIGN_FIRST: u64 = 1_200_000;
const FOREIGN_LAST: u64 = 1_299_967;
const FOREIGN_NUMBER: u32 = 9;
const SECTOR: u64 = 512;
/// Number of the state partition (ARCHITECTURE.md, "The disk").
const STATE: u32 = 5;

/// A chain of containers, one that cannot be asked to end, and one that writes all the time.
const CONTAINERS: &str = r#"
[network.lan]
addresses = ["10.0.2.77/24"]
gateway = "10.0.2.2"

[container.db]
image = "oci:guest"
command = ["obey", "15"]

[container.web]
image = "oci:guest"
command = ["obey", "10"]
stop = { signal = "SIGUSR1", timeout = "20s" }
after = ["container:db"]

[container.front]
image = "oci:guest"
command = ["obey", "15"]
after = ["container:web", "network"]

[container.stubborn]
image = "oci:guest"
command = ["stubborn"]
stop = { signal = "SIGTERM", timeout = "2s" }

[container.churn]
image = "oci:guest"
command = ["churn", "/data"]
mounts = [{ volume = "churn", target = "/data" }]
stop = { signal = "SIGTERM", timeout = "100ms" }
"#;

#[test]
fn an_orderly_end_a_restart_and_a_pulled_plug_leave_a_sound_disk_and_nothing_foreign_touched()
-> TestResult {
    let image = Recipe::new("way-down", CONTAINERS).guest()?.build()?;
    let scratch = tempfile::tempdir().map_err(Error::file("creating", "a directory"))?;
    let disk = scratch.path().join("disk.raw");
    with_foreign_partition(&image, &disk)?;

    let machine = start(&image, "way-down", Disk::of(&disk))?;
    let console = machine.console();
    console.ready(within(20))?;
    up_to_date(&machine)?;
    let identity = identity(&machine)?;
    let mark = console.mark();
    machine.ask("kill 1 15", within(10))?;
    console.expect_after(mark, "the end of the way down", within(20), |line| {
        line.get("step") == Some("off")
    })?;
    judge_order(&machine, &console.lines()[mark..])?;

    // The same machine again, by its own restart.
    let mark = console.mark();
    console.expect_after(mark, "the second start", within(20), |line| {
        line.says("ready")
    })?;
    console.expect_after(mark, "the state to be mounted again", within(20), |line| {
        line.get("phase") == Some("state") && line.get("result") == Some("ok")
    })?;
    up_to_date(&machine)?;
    if self::identity(&machine)? != identity {
        return Err(machine.broken("it is another machine after the restart"));
    }
    churned(&machine)?;
    machine.kill()?;
    let cut = scratch.path().join("cut.raw");
    judges::flatten(machine.overlay(0), &cut)?;
    drop(machine);

    // What the machine itself does with such a disk, and with the one write of a mount torn, too.
    let torn = scratch.path().join("torn.raw");
    fs::copy(&cut, &torn).map_err(Error::file("copying", &cut))?;
    tear_superblock(&torn)?;
    let machine = start(&image, "way-down-after-cut", Disk::of(&torn))?;
    machine.console().ready(within(20))?;
    up_to_date(&machine)?;
    if self::identity(&machine)? != identity {
        return Err(machine.broken("it is another machine after the plug was pulled"));
    }
    churned(&machine)?;
    machine.shut_down(within(20))?;
    let lines = machine.console().lines();
    if !lines
        .iter()
        .any(|line| line.get("shutdown") == Some("power-off"))
    {
        return Err(machine.broken("the power button did not power it off"));
    }
    let off = scratch.path().join("off.raw");
    judges::flatten(machine.overlay(0), &off)?;
    drop(machine);
    judges::partition_table(&off)?;
    foreign_is_untouched(&off)?;
    let state = scratch.path().join("state");
    judges::copy_partition(&off, STATE, &state)?;
    judges::ext4(&state)?;

    // And what others say to it.
    judges::partition_table(&cut)?;
    foreign_is_untouched(&cut)?;
    judges::copy_partition(&cut, STATE, &state)?;
    judges::replay_ext4_journal(&state)?;
    judges::ext4(&state)
}

/// Found by a power cut among a thousand: of the two sectors of ext4's superblock the first is new, and
/// the checksum in the second is the one of before.
fn tear_superblock(disk: &Path) -> TestResult {
    const S_MNT_COUNT: u64 = 0x34;
    let extent = judges::partition(disk, STATE)?;
    let start = extent
        .ok_or_else(|| Error::broken("there is no state"))?
        .start;
    let file = OpenOptions::new().read(true).write(true).open(disk);
    let file = file.map_err(Error::file("opening", disk))?;
    let at = start + SUPERBLOCK_OFFSET + S_MNT_COUNT;
    let mut count = [0];
    file.read_exact_at(&mut count, at)
        .and_then(|()| file.write_all_at(&[count[0].wrapping_add(1)], at))
        .map_err(Error::file("tearing", disk))
}

fn start(image: &Image, name: &str, disk: Disk) -> Result<Machine, Error> {
    Machine::named(name)
        .direct(image.kernel(), image.command_line()?)
        .disk(disk)
        .headless()
        .reboots()
        .observed()
        .start()
}

/// The built disk, grown, with a partition of somebody else's on it.
fn with_foreign_partition(image: &Image, disk: &Path) -> TestResult {
    fs::copy(image.disk(), disk).map_err(Error::file("copying", disk))?;
    let file = OpenOptions::new().write(true).open(disk);
    let file = file.map_err(Error::file("opening", disk))?;
    file.set_len(DISK_BYTES)
        .map_err(Error::file("growing", disk))?;
    let mut sgdisk = Command::new(files::which("sgdisk")?);
    sgdisk.arg("-e").arg(disk);
    process::run(&mut sgdisk)?;
    let mut sgdisk = Command::new(files::which("sgdisk")?);
    sgdisk.args(["-a", "1"]);
    sgdisk.arg(format!(
        "-n={FOREIGN_NUMBER}:{FOREIGN_FIRST}:{FOREIGN_LAST}"
    ));
    sgdisk.arg(format!("-c={FOREIGN_NUMBER}:somebody-elses"));
    process::run(sgdisk.arg(disk))?;
    for sector in (FOREIGN_FIRST..=FOREIGN_LAST).step_by(9_999) {
        file.write_all_at(&mark_of(sector), sector * SECTOR)
            .map_err(Error::file("writing", disk))?;
    }
    Ok(())
}

fn mark_of(sector: u64) -> Vec<u8> {
    format!("{sector:016}").repeat(32).into_bytes()
}

fn foreign_is_untouched(disk: &Path) -> TestResult {
    let extent = judges::partition(disk, FOREIGN_NUMBER)?;
    if extent.map(|extent| extent.start) != Some(FOREIGN_FIRST * SECTOR) {
        return Err(Error::broken(format!(
            "the foreign partition is at {extent:?}"
        )));
    }
    let file = fs::File::open(disk).map_err(Error::file("opening", disk))?;
    for sector in (FOREIGN_FIRST..=FOREIGN_LAST).step_by(9_999) {
        let mut found = vec![0; SECTOR as usize];
        file.read_exact_at(&mut found, sector * SECTOR)
            .map_err(Error::file("reading", disk))?;
        if found != mark_of(sector) {
            return Err(Error::broken(format!(
                "sector {sector} of the foreign partition changed"
            )));
        }
    }
    Ok(())
}

/// Waits for the last boot phase; the address is the one that was given.
fn up_to_date(machine: &Machine) -> TestResult {
    let mark = last_start(&machine.console().lines());
    machine
        .console()
        .expect_after(mark, "the end of the boot", within(20), |line| {
            line.get("phase") == Some("relax") && line.says("end")
        })?;
    machine
        .console()
        .expect_after(mark, "its address", within(20), |line| {
            line.says("addressed")
        })?;
    let status = machine.ask("cat /run/berth/status/status.json", within(10))?;
    let lines = machine.console().lines();
    let given = lines
        .iter()
        .any(|line| line.get("address") == Some("10.0.2.77/24"));
    if !given {
        return Err(machine.broken(&format!("it has not the address it was given: {status}")));
    }
    if let Some(bad) = lines
        .iter()
        .find(|line| line.get("result") == Some("degraded"))
    {
        return Err(machine.broken(&format!("{bad:?}")));
    }
    Ok(())
}

/// Where the lines of the newest boot begin.
fn last_start(lines: &[Line]) -> usize {
    let first = |line: &Line| line.get("phase") == Some("mounts") && line.says("start");
    lines.iter().rposition(first).unwrap_or(0)
}

fn identity(machine: &Machine) -> Result<String, Error> {
    let id = machine.ask("cat /run/berth/etc/machine-id", within(10))?;
    match id.trim() {
        text if text.len() == 32 => Ok(text.to_owned()),
        other => Err(machine.broken(&format!("{other:?} is no machine id"))),
    }
}

/// Waits until the container that writes has written a good deal.
fn churned(machine: &Machine) -> TestResult {
    let until = std::time::Instant::now() + within(20);
    loop {
        let said = machine
            .ask("cat /run/berth/log/churn", within(10))
            .unwrap_or_default();
        if said.contains("churn: 99") {
            return Ok(());
        }
        if std::time::Instant::now() > until {
            return Err(machine.broken(&format!("it does not write: {said}")));
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

/// What came after ends first, each by its own signal; who does not listen is killed in time.
fn judge_order(machine: &Machine, lines: &[Line]) -> TestResult {
    let ended = |name: &str| {
        let found = lines
            .iter()
            .position(|line| line.is_container(name, "exited"));
        found.ok_or_else(|| machine.broken(&format!("{name} did not end")))
    };
    let well = |name: &str| {
        let line = lines.iter().find(|line| line.is_container(name, "exited"));
        line.is_some_and(|line| line.get("status") == Some("0"))
    };
    let ordered = ended("front")? < ended("web")? && ended("web")? < ended("db")?;
    if !ordered || !["front", "web", "db"].into_iter().all(well) {
        return Err(machine.broken(&format!(
            "they did not end in order, or not well: {lines:#?}"
        )));
    }
    let stubborn = &lines[ended("stubborn")?];
    let asked = lines.first().and_then(Line::micros).unwrap_or(0);
    let waited_ms = stubborn.micros().unwrap_or(0).saturating_sub(asked) / 1000;
    if stubborn.get("signal") != Some("9") || !(2_000..20_000).contains(&waited_ms) {
        return Err(machine.broken(&format!("after {waited_ms} ms: {stubborn:?}")));
    }
    let steps: Vec<&str> = lines.iter().filter_map(|line| line.get("step")).collect();
    let expected = [
        "stop-containers",
        "stop-roles",
        "stop-rest",
        "close-state",
        "off",
    ];
    if steps != expected {
        return Err(machine.broken(&format!("steps of the way down: {steps:?}")));
    }
    Ok(())
}

/// Found by a power cut among a thousand: the journal has the new size, the superblock the old one,
/// and the kernel that replays the one has counted the block groups of the other.
#[test]
fn a_state_whose_growth_is_only_in_its_journal_is_grown_by_the_next_start() -> TestResult {
    let image = Recipe::new("way-down", CONTAINERS).guest()?.build()?;
    let scratch = tempfile::tempdir().map_err(Error::file("creating", "a directory"))?;
    let socket = scratch.path().join("disk");
    let medium =
        power::Disk::of(&image.disk(), DISK_BYTES).map_err(Error::file("reading", image.disk()))?;
    medium
        .power_on(&socket)
        .map_err(Error::file("serving", &socket))?;
    medium.dark_before(grows_a_superblock());
    let node = format!(
        "driver=nbd,node-name=medium,server.type=unix,server.path={}",
        socket.display()
    );
    let machine = Machine::named("growth-cut")
        .direct(image.kernel(), image.command_line()?)
        .headless()
        .with(["-blockdev", &node, "-device", "virtio-blk-pci,drive=medium"])
        .start()?;
    if !medium.wait(within(20)) {
        return Err(machine.broken("the state file system was never grown"));
    }
    machine.kill()?;
    medium.lose();
    let disk = scratch.path().join("disk.raw");
    medium.save(&disk).map_err(Error::file("writing", &disk))?;
    let state = scratch.path().join("state");
    let blocks = || -> Result<u64, Error> {
        let bytes = fs::read(&state).map_err(Error::file("reading", &state))?;
        let superblock = Superblock::read(&bytes);
        let found = superblock.ok_or_else(|| Error::broken("the state is no ext4"))?;
        Ok(found.blocks)
    };
    judges::copy_partition(&disk, STATE, &state)?;
    let before = blocks()?;
    judges::replay_ext4_journal(&state)?;
    let in_journal = blocks()?;
    if in_journal <= before {
        return Err(Error::broken(format!(
            "not the cut that was meant: {before} blocks, {in_journal} by the journal"
        )));
    }

    let machine = start(&image, "growth-after-cut", Disk::of(&disk))?;
    machine.console().ready(within(20))?;
    up_to_date(&machine)?;
    churned(&machine)?;
    machine.shut_down(within(20))?;
    let grown = scratch.path().join("grown.raw");
    judges::flatten(machine.overlay(0), &grown)?;
    judges::copy_partition(&grown, STATE, &state)?;
    if blocks()? < in_journal {
        return Err(Error::broken(format!("it has {} blocks", blocks()?)));
    }
    judges::ext4(&state)
}

/// Whether a write replaces an ext4 superblock that was written before by one with more blocks.
fn grows_a_superblock() -> impl FnMut(u64, &[u8]) -> bool {
    let mut known = HashMap::new();
    move |offset, bytes| {
        let Some(found) = Superblock::read(bytes) else {
            return false;
        };
        *known.entry(offset).or_insert(found.blocks) < found.blocks
    }
}

#[test]
fn a_pid_1_that_stands_still_is_restarted_by_the_watchdog() -> TestResult {
    let image = Recipe::new("way-down", CONTAINERS).guest()?.build()?;
    let machine = start(
        &image,
        "watchdog",
        Disk::of(image.disk()).grown_to(DISK_BYTES),
    )?;
    machine.console().ready(within(20))?;
    let mark = machine.console().mark();
    // Not even a signal stops PID 1; the freezer does.
    machine.ask("write /sys/fs/cgroup/init/cgroup.freeze 1", within(10))?;
    machine
        .console()
        .expect_after(mark, "the watchdog to restart it", within(30), |line| {
            line.get("phase") == Some("mounts") && line.says("start")
        })?;
    if !machine.monitor().happened("WATCHDOG")? {
        return Err(machine.broken("it restarted, but not by the watchdog"));
    }
    machine
        .console()
        .expect_after(mark, "the next start", within(20), |line| {
            line.says("ready")
        })?;
    machine.kill()
}
