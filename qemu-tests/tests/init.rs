//! PID 1 against what inits get wrong: exit statuses, signals, orphans, and containers that take
//! what they can get. The cases are those of the test-suites of tini and other inits.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use berth_qemu_tests::image::Recipe;
use berth_qemu_tests::{Disk, Error, Files, Line, Machine, TestResult, within};
use serde_json::{Value, json};

/// Exit statuses that there are.
const STATUSES: u32 = 256;

#[test]
fn every_exit_status_of_256_containers_is_reported() -> TestResult {
    let mut toml = String::new();
    for status in 0..STATUSES {
        // Writing to a String cannot fail.
        let _ = write!(
            toml,
            "[container.exit-{status}]\nimage = \"oci:guest\"\ncommand = [\"exit\", \"{status}\"]\n\
             restart = {{ policy = \"no\" }}\nresources = {{ pids = 4 }}\n"
        );
    }
    let image = Recipe::new("statuses", &toml).guest()?.build()?;
    let machine = Machine::named("init-statuses")
        .direct(image.kernel(), image.command_line()?)
        .disk(Disk::of(image.disk()).grown_to(1 << 30))
        .headless()
        .start()?;
    machine.console().ready(within(8))?;
    for status in 0..STATUSES {
        let name = format!("exit-{status}");
        let line = machine
            .console()
            .expect(&format!("{name} to end"), within(30), |line| {
                line.get("container") == Some(&name) && (line.says("exited") || line.says("failed"))
            })?;
        if line.get("status") != Some(&status.to_string()) {
            return Err(machine.broken(&format!("{name}: {line:?}")));
        }
    }
    // The last container may end before anybody listens to the button.
    machine
        .console()
        .expect("the power button to be heard", within(30), |line| {
            line.get("phase") == Some("buttons") && line.says("end")
        })?;
    machine.shut_down(within(20))
}

/// Hands a controller on, as container engines do, and ends.
const ENGINE: &str = r#"
[container.engine]
image = "oci:box"
command = ["sh", "-ec", "cd /sys/fs/cgroup; mkdir i i/i; echo 1 >i/cgroup.procs; echo +memory >cgroup.subtree_control; echo handed on; exit 7"]
privileged = true
restart = { backoff = "100ms..1s" }
"#;

#[test]
fn a_container_that_hands_controllers_on_starts_again() -> TestResult {
    let image = Recipe::new("engine", ENGINE)
        .image("box", busybox()?, json!({ "Env": ["PATH=/bin"] }))
        .build()?;
    let machine = Machine::named("init-engine")
        .direct(image.kernel(), image.command_line()?)
        .disk(Disk::of(image.disk()).grown_to(1 << 30))
        .headless()
        .observed()
        .start()?;
    let console = machine.console();
    let mut mark = 0;
    for _ in 0..3 {
        let end = console.expect_after(mark, "the engine to end", within(20), |line| {
            line.is_container("engine", "exited") || line.is_container("engine", "failed")
        })?;
        if end.get("status") != Some("7") {
            return Err(machine.broken(&format!("the engine should end with status 7: {end:?}")));
        }
        mark = console.mark();
    }
    let deadline = Instant::now() + within(20);
    while written(&machine, "engine")?.matches("handed on").count() < 3 {
        if Instant::now() > deadline {
            let said = written(&machine, "engine")?;
            return Err(machine.broken(&format!("the engine did not do its part: {said}")));
        }
        sleep(Duration::from_millis(200));
    }
    machine.shut_down(within(20))
}

fn busybox() -> Result<Files, Error> {
    let files = Files::default().program_from("bin/busybox", Path::new("/bin/busybox"))?;
    let programs = ["head", "mkdir", "sh", "sleep"];
    Ok(programs.into_iter().fold(files, |files, name| {
        files.link(&format!("bin/{name}"), "busybox")
    }))
}

/// More output than half of the machine's memory, which could all be kept, and a little.
const FLOOD: &str = r#"
[container.flood]
image = "oci:box"
command = ["head", "-c", "200000000", "/dev/zero"]
restart = { policy = "no" }
log = { keep = "1G" }

[container.quiet]
image = "oci:box"
command = ["sh", "-c", "n=0; while sleep 1; do n=$((n + 1)); echo tick $n; done"]
"#;

#[test]
fn a_flood_of_output_takes_neither_the_status_nor_another_containers_log() -> TestResult {
    let image = Recipe::new("flood", FLOOD)
        .image("box", busybox()?, json!({ "Env": ["PATH=/bin"] }))
        .build()?;
    let machine = Machine::named("init-flood")
        .direct(image.kernel(), image.command_line()?)
        .memory(256)
        .disk(Disk::of(image.disk()).grown_to(1 << 30))
        .headless()
        .observed()
        .start()?;
    let console = machine.console();
    console.expect("the flood to end", within(60), |line| {
        line.is_container("flood", "exited") && line.get("status") == Some("0")
    })?;
    let ticks = |machine: &Machine| -> Result<usize, Error> {
        Ok(written(machine, "quiet")?.matches(" F tick ").count())
    };
    let before = ticks(&machine)?;
    let deadline = Instant::now() + within(20);
    loop {
        let status = machine.ask("cat /run/berth/status/status.json", within(10))?;
        let status: Value = serde_json::from_str(&status).unwrap_or_default();
        let shown = status["containers"][0]["state"] == "ended";
        let now = ticks(&machine)?;
        if shown && now > before + 2 {
            break;
        }
        if Instant::now() > deadline {
            let told = format!("{before} ticks, then {now}; the status is {status}");
            return Err(machine.broken(&told));
        }
        sleep(Duration::from_millis(500));
    }
    if !written(&machine, "quiet")?.contains(" F tick 1\n") {
        return Err(machine.broken("what came before the flood is gone"));
    }
    machine.shut_down(within(20))
}

/// Containers that end by a signal: name, what they run, the signal.
const FAULTS: [(&str, &str, &str); 5] = [
    ("segv", "fault", "11"),
    ("bus", "fault", "7"),
    ("ill", "fault", "4"),
    ("fpe", "fault", "8"),
    ("trap", "fault", "5"),
];
/// Signals that mean nothing to PID 1: all but SIGINT, SIGTERM, SIGUSR2 and SIGPWR.
const MEANINGLESS: [i32; 14] = [1, 3, 9, 10, 13, 14, 17, 18, 19, 20, 28, 31, 34, 64];
/// How late a heartbeat may be beside everything that goes on here, on a machine that may be
/// emulated on a busy computer. Starved it would be late by as long as the others go on.
const LATE_MS: u64 = 4_000;

#[test]
fn nothing_that_a_container_or_an_orphan_does_harms_pid_1_or_the_others() -> TestResult {
    let machine = unruly()?;
    let console = machine.console();
    console.ready(within(60))?;

    for (name, _, signal) in FAULTS {
        ends(&machine, name, "signal", signal)?;
    }
    ends(&machine, "hog", "signal", "9")?;
    // One process out of memory takes its whole container with it, and nothing else.
    ends(&machine, "hog-child", "signal", "9")?;

    let sleeper = console.expect("sleeper to run", within(10), |line| {
        line.is_container("sleeper", "started")
    })?;
    let pid = sleeper.get("pid").unwrap_or_default();
    machine.ask(&format!("kill {pid} 9"), within(10))?;
    ends(&machine, "sleeper", "signal", "9")?;

    for signal in MEANINGLESS {
        machine.ask(&format!("kill 1 {signal}"), within(10))?;
    }
    machine.ask("double-forked 50", within(60))?;
    machine.ask("groups", within(60))?;
    // A machine of this size allows fewer by itself, for its own good.
    machine.ask("write /proc/sys/kernel/threads-max 20000", within(10))?;
    let orphans = machine.ask("orphans 10000", within(120))?;
    println!("10000 zombies in one go: {}", orphans.trim());

    held_by_its_limit(&machine)?;
    restarted_with_growing_pauses(&machine)?;
    starts_with_clean_signals(&machine)?;
    nobody_was_starved(&machine)?;

    let zombies: Vec<_> = machine
        .processes(within(30))?
        .into_iter()
        .filter(|process| process.state == "Z" && process.parent == 1)
        .collect();
    if !zombies.is_empty() {
        return Err(machine.broken(&format!("PID 1 has not reaped {zombies:?}")));
    }
    let text = console.text();
    if text.contains("shutdown=") || text.contains("last-resort") {
        return Err(machine.broken("the machine went down by itself"));
    }
    machine.shut_down(within(30))
}

fn unruly() -> Result<Machine, Error> {
    let mut toml = String::new();
    let mut container = |name: &str, command: &[&str], more: &str| {
        // Writing to a String cannot fail.
        let _ = write!(
            toml,
            "[container.{name}]\nimage = \"oci:guest\"\ncommand = {command:?}\n{more}\n"
        );
    };
    let once = "restart = { policy = \"no\" }\nresources = { memory = \"16M\", pids = 32 }";
    container("beat", &["beat"], "");
    for (name, role, _) in FAULTS {
        container(name, &[role, name], once);
    }
    container("hog", &["hog"], once);
    container("hog-child", &["hog-child"], once);
    container("sleeper", &["sleep"], once);
    container("bomb", &["bomb"], once);
    container("signals", &["signals"], once);
    container(
        "crash",
        &["exit", "1"],
        "restart = { policy = \"always\", backoff = \"100ms..2s\" }",
    );
    let image = Recipe::new("unruly", &toml).guest()?.build()?;
    Machine::named("init-unruly")
        .direct(image.kernel(), image.command_line()?)
        .memory(512)
        .disk(Disk::of(image.disk()).grown_to(1 << 30))
        .headless()
        .observed()
        .start()
}

/// Waits until a container has ended, by what it should end by.
fn ends(machine: &Machine, name: &str, by: &str, what: &str) -> TestResult {
    let line = machine
        .console()
        .expect(&format!("{name} to end"), within(30), |line| {
            line.get("container") == Some(name) && (line.says("exited") || line.says("failed"))
        })?;
    if line.get(by) == Some(what) {
        return Ok(());
    }
    Err(machine.broken(&format!("{name} should end by {by} {what}: {line:?}")))
}

/// What a container wrote, as the log role keeps it.
fn written(machine: &Machine, name: &str) -> Result<String, Error> {
    machine.ask(&format!("cat /run/berth/log/{name}"), within(10))
}

fn held_by_its_limit(machine: &Machine) -> TestResult {
    let members = machine
        .processes(within(30))?
        .into_iter()
        .filter(|process| process.cgroup == "/containers/bomb")
        .count();
    let said = written(machine, "bomb")?;
    if members != 32 || !said.contains("bomb: refused after") {
        return Err(machine.broken(&format!(
            "the bomb has {members} processes, its limit is 32: {said}"
        )));
    }
    Ok(())
}

fn restarted_with_growing_pauses(machine: &Machine) -> TestResult {
    // Ten starts with pauses of 100, 200, 400, 800, 1600, 2000, 2000… ms in between.
    let nth = |lines: Vec<Line>, word: &str| -> Vec<u64> {
        let mut of_crash = lines.into_iter();
        let mut times = Vec::new();
        for line in of_crash.by_ref() {
            if line.is_container("crash", word) {
                times.extend(line.micros());
            }
        }
        times
    };
    let deadline = Instant::now() + within(20);
    while nth(machine.console().lines(), "started").len() < 9 {
        if Instant::now() > deadline {
            return Err(machine.broken("a container that dies at once is not started again"));
        }
        sleep(Duration::from_millis(100));
    }
    let started = nth(machine.console().lines(), "started");
    let exited = nth(machine.console().lines(), "exited");
    let pauses_ms: Vec<u64> = exited
        .iter()
        .zip(started.iter().skip(1))
        .map(|(end, start)| start.saturating_sub(*end) / 1000)
        .collect();
    println!("pauses before restarts, ms: {pauses_ms:?}");
    let least = [100, 200, 400, 800, 1600, 2000, 2000, 2000];
    if least
        .iter()
        .zip(&pauses_ms)
        .any(|(least, pause)| pause < least)
    {
        return Err(machine.broken(&format!("pauses {pauses_ms:?} ms are not {least:?} ms")));
    }
    Ok(())
}

fn starts_with_clean_signals(machine: &Machine) -> TestResult {
    let said = written(machine, "signals")?;
    let values: BTreeMap<&str, &str> = said
        .lines()
        .filter_map(|line| line.splitn(4, ' ').nth(3)?.split_once(": "))
        .collect();
    let zero = Some("0000000000000000");
    let get = |key: &str| values.get(key).copied();
    let clean = get("SigBlk") == zero && get("SigIgn") == Some("0000000000001000");
    // 0x1000 is SIGPIPE, which Rust's start-up code ignores.
    if clean && get("NStgid") == Some("1") && get("NSsid") == Some("1") {
        return Ok(());
    }
    Err(machine.broken(&format!("it did not start clean: {said}")))
}

fn nobody_was_starved(machine: &Machine) -> TestResult {
    let said = written(machine, "beat")?;
    let last = said.lines().last().unwrap_or_default();
    let largest = last
        .rsplit_once("largest_ms=")
        .and_then(|(_, text)| text.trim().parse::<u64>().ok());
    println!("the heart beside all this: {last}");
    if largest.is_none_or(|largest| largest > LATE_MS) {
        return Err(machine.broken(&format!("a heart beat late: {last:?}")));
    }
    let lines = machine.console().lines();
    if lines.iter().any(|line| line.is_container("beat", "exited")) {
        return Err(machine.broken("the container beside all this has ended"));
    }
    Ok(())
}
