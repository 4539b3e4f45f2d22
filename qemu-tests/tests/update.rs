//! A machine updates itself, tries the new version once, and keeps it or goes back: by real
//! firmware, from a plain web server.

use berth_qemu_tests::image::Image;
use berth_qemu_tests::published::{PORT, Published, Version, init_that, older_init};
use berth_qemu_tests::{Error, Line, Machine, TestResult, within};

/// What the updater says of a state and a version.
fn says(state: &'static str, version: &'static str) -> impl Fn(&Line) -> bool {
    move |line| line.get("update") == Some(state) && line.get("version") == Some(version)
}

fn sentence(line: &Line) -> &str {
    line.sentence.as_deref().unwrap_or_default()
}

fn serves(machine: &Machine, version: &str) -> TestResult {
    let page = machine.http(PORT, "/", within(20))?;
    match page.text().trim() == format!("version {version}") {
        true => Ok(()),
        false => Err(machine.broken(&format!(
            "it serves {:?}, not version {version}",
            page.text()
        ))),
    }
}

/// The point release that the good update comes from.
const OLDER_KERNEL: &str = "6.12.115";

/// What the container must answer before a version stays.
const HEALTHY: &str =
    "health = { http = \"http://:8080/index.html\", every = \"1s\", start = \"20s\" }";
/// More than the patches of kernel, userland and container together.
const MOST_FETCHED: u64 = 900_000;

/// The kernel's first line at the machine's last start.
fn last_kernel(machine: &Machine) -> String {
    let text = machine.console().text();
    let line = text.rsplit("Linux version ").next().unwrap_or_default();
    line.split(' ').next().unwrap_or_default().to_owned()
}

/// Kernel, userland and container are new at once.
#[test]
fn a_machine_updates_itself_by_delta_and_keeps_the_version_without_its_firmwares_memory()
-> TestResult {
    let published = Published::new()?;
    let older = Version::good("1").kernel(OLDER_KERNEL).init(older_init()?);
    let one = published.build(&older)?;
    let two = published.build(&Version::good("2").container(HEALTHY))?;
    published.publish(&one)?;
    let machine = published.machine("update-good", &one)?;
    let console = machine.console();
    console.expect("that it is up to date", within(30), says("current", "1"))?;
    serves(&machine, "1")?;
    if !last_kernel(&machine).starts_with(OLDER_KERNEL) {
        return Err(machine.broken("it does not start from the older kernel"));
    }

    let release = published.publish(&two)?;
    console.expect(
        "version 2 in the other slot",
        within(30),
        says("staged", "2"),
    )?;
    console.expect("a healthy container", within(30), |line| {
        line.get("container") == Some("web") && line.get("health") == Some("healthy")
    })?;
    console.expect("version 2 to stay", within(30), says("committed", "2"))?;
    serves(&machine, "2")?;
    let kernel = last_kernel(&machine);
    if kernel.is_empty() || kernel.starts_with(OLDER_KERNEL) {
        return Err(machine.broken(&format!("version 2 runs the kernel {kernel:?}")));
    }
    let delta = &release["deltas"][0];
    let announced = delta["boot"]["bytes"]
        .as_u64()
        .zip(delta["root"]["bytes"].as_u64());
    let announced = announced.map_or(0, |(boot, root)| boot + root);
    let fetched = published.server().bytes_of("/deltas/");
    let whole = published.server().bytes_of("/images/");
    eprintln!("update by delta: {fetched} bytes of deltas, {whole} bytes of whole images");
    if announced == 0 || fetched > announced.min(MOST_FETCHED) || whole > 0 {
        return Err(machine.broken(&format!(
            "{fetched} bytes of deltas of {announced} and {whole} bytes of images were fetched"
        )));
    }
    machine.shut_down(within(20))?;
    drop(machine);

    // The firmware forgets everything, as a copied disk's does.
    let variables = published.variables();
    std::fs::remove_file(&variables).map_err(Error::file("removing", &variables))?;
    let machine = published.machine("update-good-cold", &one)?;
    let current = says("current", "2");
    machine.console().expect("version 2", within(30), current)?;
    serves(&machine, "2")?;
    machine.shut_down(within(20))
}

#[test]
fn a_published_directory_with_one_flipped_byte_is_not_what_was_signed() -> TestResult {
    let published = Published::new()?;
    let one = published.build(&Version::good("1"))?;
    published.publish(&one)?;
    if !published.verifies()? {
        return Err(Error::broken("what was just published does not verify"));
    }
    for part in ["images", "deltas", "targets/edge/cloud/x86_64", "metadata"] {
        let path = published.directory().join(part);
        let listed = std::fs::read_dir(&path).map_err(Error::file("listing", &path))?;
        // Machines carry the first root file and read it nowhere else.
        let file = listed
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| !path.ends_with("1.root.json"));
        let file = file.ok_or_else(|| Error::broken(format!("{part} is empty")))?;
        let good = std::fs::read(&file).map_err(Error::file("reading", &file))?;
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        std::fs::write(&file, bad).map_err(Error::file("writing", &file))?;
        if published.verifies()? {
            return Err(Error::broken(format!(
                "{} was changed and verifies",
                file.display()
            )));
        }
        std::fs::write(&file, good).map_err(Error::file("writing", &file))?;
    }
    Ok(())
}

/// The version that the machine says it gave up, and why, once its updater has said so.
fn given_up(machine: &Machine) -> Result<(String, String), Error> {
    let until = std::time::Instant::now() + within(20);
    loop {
        let status = machine.http(PORT, "/status/status.json", within(20))?;
        let status: serde_json::Value = serde_json::from_str(&status.text())
            .map_err(|why| machine.broken(&format!("its status is no JSON: {why}")))?;
        let one = &status["update"]["rejected"][0];
        let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
        if !one.is_null() || std::time::Instant::now() > until {
            return Ok((text("version"), text("reason")));
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

/// The machine looks twice more, and does nothing else: it fetches nothing, and does not restart.
fn leaves_it_alone(published: &Published, machine: &Machine) -> TestResult {
    let requests = |path: &str| published.server().requests().matches(path).count();
    let fetched = || requests("/deltas/") + requests("/images/");
    let starts = || machine.console().text().matches("Linux version ").count();
    let (looks, before) = (requests("/timestamp.json"), (fetched(), starts()));
    let until = std::time::Instant::now() + within(10);
    while requests("/timestamp.json") < looks + 2 {
        if std::time::Instant::now() > until {
            return Err(machine.broken("it does not look for versions any more"));
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let after = (fetched(), starts());
    match after == before {
        true => Ok(()),
        false => Err(machine.broken(&format!(
            "version 2 is not left alone: requests and starts were {before:?}, and are {after:?}"
        ))),
    }
}

/// Publishes a bad version 2 for a machine that runs version 1: it must be tried once, given up
/// for a reason that contains `reason`, and left alone.
fn goes_back(
    name: &str,
    bad: impl FnOnce(&Published) -> Result<Version, Error>,
    reason: &str,
) -> TestResult {
    has_gone_back(name, bad, reason)?
        .machine
        .shut_down(within(20))
}

/// A machine that runs version 1 again.
struct Back {
    machine: Machine,
    /// What its disk is an overlay of.
    first: Image,
    published: Published,
}

/// The same as [`goes_back`]; gives the machine, which runs.
fn has_gone_back(
    name: &str,
    bad: impl FnOnce(&Published) -> Result<Version, Error>,
    reason: &str,
) -> Result<Back, Error> {
    let published = Published::new()?;
    let shows = "mounts = [{ status = true, target = \"/www/status\" }]";
    let one = published.build(&Version::good("1").container(shows))?;
    let two = published.build(&bad(&published)?)?;
    // Version 1 was never published: this goes without a delta, by the packed image.
    published.publish(&two)?;
    let machine = published.machine(name, &one)?;
    let console = machine.console();
    console.expect(
        "version 2 in the other slot",
        within(30),
        says("staged", "2"),
    )?;
    let back = console.expect_in_the_end("word about version 2", within(60), |line| {
        // Told by version 1: of a trial that it found over, or of one that version 2 gave up.
        line.get("update") == Some("rejected")
            && (sentence(line).contains("was tried and given up")
                || sentence(line).contains("failed before and is skipped"))
    })?;
    if !sentence(&back).contains(reason) {
        return Err(machine.broken(&format!("{:?} does not say {reason:?}", sentence(&back))));
    }
    serves(&machine, "1")?;
    let (version, why) = given_up(&machine)?;
    if version != "2" || !why.contains(reason) {
        return Err(machine.broken(&format!(
            "its status says that {version:?} was given up because {why:?}"
        )));
    }
    leaves_it_alone(&published, &machine)?;
    Ok(Back {
        machine,
        first: one,
        published,
    })
}

/// The kernel has nothing to start, and panics.
#[test]
fn a_version_whose_kernel_panics_is_left_and_never_tried_again() -> TestResult {
    let bad = |published: &Published| {
        Ok(Version::good("2").init(published.write("not-a-program", b"nothing that runs")?))
    };
    let back = has_gone_back("update-panic", bad, "it did not come up")?;
    let Back {
        machine,
        first,
        published,
    } = back;
    machine.shut_down(within(20))?;
    drop(machine);
    // Not at its next start either.
    let machine = published.machine("update-panic-again", &first)?;
    let skipped = says("rejected", "2");
    machine
        .console()
        .expect("version 2 to be skipped", within(30), skipped)?;
    leaves_it_alone(&published, &machine)?;
    serves(&machine, "1")?;
    machine.shut_down(within(20))
}

#[test]
fn a_version_that_hangs_is_ended_by_the_watchdog_and_never_tried_again() -> TestResult {
    let bad = |published: &Published| {
        Ok(Version::good("2").init(init_that("hang", published.scratch())?))
    };
    let back = has_gone_back("update-hang", bad, "it did not come up")?;
    let machine = &back.machine;
    if !machine.monitor().happened("WATCHDOG")? {
        return Err(machine.broken("it came back, but not by the watchdog"));
    }
    machine.shut_down(within(20))
}

#[test]
fn a_version_whose_pid_1_exits_is_left_and_never_tried_again() -> TestResult {
    let bad = |published: &Published| {
        Ok(Version::good("2").init(init_that("exit", published.scratch())?))
    };
    goes_back("update-exit", bad, "it did not come up")
}

#[test]
fn a_version_whose_container_crashes_is_left_and_never_tried_again() -> TestResult {
    let bad = |_: &Published| Ok(Version::good("2").runs(&["/busybox", "false"]));
    goes_back("update-crash", bad, "container web")
}

#[test]
fn a_version_that_loses_the_server_is_left_and_never_tried_again() -> TestResult {
    let network = "[network.lan]\naddresses = [\"192.0.2.7/24\"]\ngateway = \"192.0.2.1\"";
    let bad = |_: &Published| Ok(Version::good("2").network(network));
    goes_back("update-network", bad, "the update server was not reached")
}

#[test]
fn a_version_whose_container_stays_unhealthy_is_left_and_never_tried_again() -> TestResult {
    let check =
        "health = { http = \"http://:8080/missing\", every = \"1s\", fails = 2, start = \"1s\" }";
    let bad = |_: &Published| Ok(Version::good("2").container(check));
    goes_back("update-unhealthy", bad, "container web")
}
