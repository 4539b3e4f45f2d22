//! Containers are asked for their health: who waits for it, who loses it, and who hangs.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use berth_qemu_tests::image::Recipe;
use berth_qemu_tests::{Disk, Error, Files, Line, Machine, TestResult, within};
use serde_json::{Value, json};

/// What one prober may keep in memory, KiB; nearly all of it is the executable, which PID 1 and
/// the other roles hold as well.
const PROBER_MAX_KIB: u64 = 2 << 10;

/// `db` serves on its own network and stops serving when it sees that `web` runs. `web` waits for
/// the health of `db` and shows the machine's status. The probe of `hang` never ends by itself.
const MACHINE: &str = r#"
[network.lan]
dhcp4 = true

[container.web]
image = "oci:box"
command = ["httpd", "-f", "-p", "8080", "-h", "/www"]
network = "host"
mounts = [{ status = true, target = "/www/status" }]
after = ["container:db:healthy"]
health = { exec = ["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/"], every = "2s", timeout = "2s" }

[container.db]
image = "oci:box"
command = ["sh", "/serve-until-web-runs"]
mounts = [{ status = true, target = "/www/status" }]
health = { http = "http://:8000/", every = "1s", fails = 2, start = "60s" }

[container.hang]
image = "oci:box"
command = ["sleep", "1000000"]
health = { exec = ["sh", "-c", "trap '' TERM; (sleep 1000 &); echo still here; sleep 1000"], every = "2s", timeout = "1s", fails = 2, start = "0s" }
"#;

const SERVE: &str = r#"
sleep 1
httpd -f -p 8000 -h /www &
until grep -q '"name":"web"[^}]*"state":"running"' /www/status/status.json; do sleep 1; done
kill $!
wait
exec sleep 1000000
"#;

fn files() -> Result<Files, Error> {
    let programs = ["grep", "httpd", "sh", "sleep", "wget"];
    let files = Files::default()
        .program_from("bin/busybox", Path::new("/bin/busybox"))?
        .file("serve-until-web-runs", 0o644, SERVE)
        .file("www/index.html", 0o644, "here\n")
        .directory("www/status");
    Ok(programs.into_iter().fold(files, |files, name| {
        files.link(&format!("bin/{name}"), "busybox")
    }))
}

fn turned(name: &'static str, health: &'static str) -> impl Fn(&Line) -> bool {
    move |line| line.get("container") == Some(name) && line.get("health") == Some(health)
}

/// Whether the status shows what the log has said: it is written a moment later.
fn is_shown(status: &Value) -> bool {
    let containers = status["containers"].as_array();
    let fits = |name: &str, state: &str, fails: bool| {
        let one = containers.and_then(|all| all.iter().find(|one| one["name"] == name));
        one.is_some_and(|one| {
            one["state"] == "running"
                && one["restarts"] == 0
                && one["health"]["state"] == state
                && one["health"]["sentence"].is_string() == fails
        })
    };
    fits("web", "healthy", false)
        && fits("db", "unhealthy", true)
        && fits("hang", "unhealthy", true)
}

#[test]
fn one_container_waits_for_anothers_health_which_is_lost_and_a_probe_that_hangs_holds_nobody_up()
-> TestResult {
    let image = Recipe::new("health", MACHINE)
        .image("box", files()?, json!({ "Env": ["PATH=/bin"] }))
        .build()?;
    let machine = Machine::named("health")
        .direct(image.kernel(), image.command_line()?)
        .disk(Disk::of(image.disk()).grown_to(1 << 30))
        .forward(8080)
        .headless()
        .observed()
        .start()?;
    let console = machine.console();

    // Who waits for health starts with it and not before.
    let healthy = console.expect("db to be healthy", within(30), turned("db", "healthy"))?;
    let exec = console.expect("web to start", within(10), |line| {
        line.is_container("web", "exec")
    })?;
    if exec.micros() < healthy.micros() {
        return Err(machine.broken("web started before db was healthy"));
    }
    console.expect("web to be healthy", within(30), turned("web", "healthy"))?;

    // What stops serving is unhealthy, with the reason; nobody else is.
    let lost = console.expect("db to be unhealthy", within(40), turned("db", "unhealthy"))?;
    if lost.sentence.as_deref() != Some("nothing listens on port 8000") {
        return Err(machine.broken(&format!("{lost:?}")));
    }
    let hung = console.expect(
        "hang to be unhealthy",
        within(40),
        turned("hang", "unhealthy"),
    )?;
    let expected = "/bin/sh did not end within 1000 ms and was killed: still here";
    if hung.sentence.as_deref() != Some(expected) {
        return Err(machine.broken(&format!("{hung:?}")));
    }

    // The same in the status, which a container serves while probes go on hanging.
    let deadline = Instant::now() + within(20);
    loop {
        let page = machine.http(8080, "/status/status.json", within(20))?;
        let status: Value = serde_json::from_str(&page.text())
            .map_err(|why| machine.broken(&format!("{why}: {}", page.text())))?;
        if is_shown(&status) {
            break;
        }
        if Instant::now() >= deadline {
            return Err(machine.broken(&status.to_string()));
        }
        sleep(Duration::from_millis(100));
    }

    // Nothing of a killed probe is left, and all of it costs little memory. What has just ended may
    // be seen before it is reaped; what nobody reaps would be seen for ever.
    let mut processes = machine.processes(within(10))?;
    let deadline = Instant::now() + within(20);
    while let Some(dead) = processes.iter().find(|process| process.state == "Z") {
        if Instant::now() >= deadline {
            return Err(machine.broken(&format!("not reaped: {dead:?}")));
        }
        sleep(Duration::from_millis(100));
        processes = machine.processes(within(10))?;
    }
    let of_probe = processes
        .iter()
        .filter(|process| process.cgroup.contains("/hang/berth-probe"));
    if of_probe.count() > 3 {
        return Err(machine.broken(&format!("{processes:#?}")));
    }
    let probers = processes
        .iter()
        .filter(|process| process.cgroup.starts_with("/system/probe"));
    let largest_kib = probers.map(|prober| prober.resident_kib).max();
    println!("prober_resident_kib={largest_kib:?}");
    if largest_kib.is_some_and(|kib| kib > PROBER_MAX_KIB) {
        return Err(machine.broken(&format!("{processes:#?}")));
    }
    machine.shut_down(within(20))
}
