//! A machine boots, by firmware and by its kernel, in little memory, and its container answers.

use std::process::Command;

use berth_qemu_tests::{Disk, Error, Machine, TestResult, Turn, image, process, within};

/// The least memory that the demo boots in, MiB: with the firmware, which holds the boot image
/// twice, and without.
const MEMORY_WITH_FIRMWARE_MIB: u32 = 160;
const MEMORY_MIB: u32 = 48;
/// What all our processes together may keep in memory, KiB.
const RESIDENT_MAX_KIB: u64 = 8 << 10;

#[test]
fn berth_run_boots_the_demo_through_uefi_in_160_mib_and_fetches_its_page() -> TestResult {
    let demo = image::demo()?;
    let turn = Turn::take()?;
    let log = tempfile::NamedTempFile::new().map_err(Error::file("creating", "a log"))?;
    let mut run = Command::new(image::berth()?);
    run.args(["run", "--check", "--headless", "--memory"])
        .arg(MEMORY_WITH_FIRMWARE_MIB.to_string())
        .arg("--log")
        .arg(log.path())
        .arg(demo.file(""));
    let said = process::run(&mut run)?;
    drop(turn);
    let console = std::fs::read_to_string(log.path()).unwrap_or_default();
    let fetched = said.contains("berth: fetched http://localhost:") && said.contains("200 OK");
    if !fetched || !console.contains("BdsDxe: starting Boot0001") {
        return Err(Error::broken(format!("{said}\n{console}")));
    }
    if let Some(bad) = console.lines().find(|line| is_complaint(line)) {
        return Err(Error::broken(format!("{bad}\nin\n{console}")));
    }
    if !console.contains("reboot: Power down") {
        return Err(Error::broken(format!("it is not off:\n{console}")));
    }
    Ok(())
}

/// What a boot that went well never says.
fn is_complaint(line: &str) -> bool {
    [
        "result=degraded",
        "result=failed",
        "last-resort",
        "cut short",
        "Call Trace",
        "WARNING:",
    ]
    .iter()
    .any(|bad| line.contains(bad))
}

#[test]
fn the_demo_boots_in_48_mib_and_its_processes_keep_at_most_8() -> TestResult {
    let demo = image::demo()?;
    let machine = Machine::named("demo-48-mib")
        .direct(demo.kernel(), demo.command_line()?)
        .memory(MEMORY_MIB)
        .disk(Disk::of(demo.disk()).grown_to(1 << 30))
        .forward(8080)
        .headless()
        .observed()
        .start()?;
    let page = machine.http(8080, "/", within(30))?;
    if page.status != 200 || !page.text().contains("demo") {
        return Err(machine.broken(&format!("status {}: {}", page.status, page.text())));
    }
    machine.console().ready(within(10))?;
    machine
        .console()
        .expect("the demo to be healthy", within(10), |line| {
            line.get("container") == Some("status") && line.get("health") == Some("healthy")
        })?;
    machine
        .console()
        .expect("the end of the boot", within(10), |line| {
            line.get("phase") == Some("relax") && line.says("end")
        })?;
    let processes = machine.processes(within(10))?;
    let ours = processes
        .iter()
        // A prober is there for a moment every few seconds.
        .filter(|process| process.cgroup != "/system/probe")
        .filter(|process| process.resident_kib > 0 && process.name != "guest");
    let resident_kib: u64 = ours.clone().map(|process| process.resident_kib).sum();
    println!("resident_kib={resident_kib}");
    for process in ours {
        println!(
            "  {} {} {}",
            process.resident_kib, process.cgroup, process.name
        );
    }
    if resident_kib == 0 || resident_kib > RESIDENT_MAX_KIB {
        return Err(machine.broken(&format!("{resident_kib} KiB are resident: {processes:#?}")));
    }
    if let Some(bad) = machine
        .console()
        .text()
        .lines()
        .find(|line| is_complaint(line))
    {
        return Err(machine.broken(bad));
    }
    machine.shut_down(within(10))
}
