//! A machine updates itself, tries the new version once, and keeps it or goes back: by real
//! firmware, from a plain web server.

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

/// Kernel, userland and container are new at once.
#[test]
fn a_machine_updates_itself_by_delta_and_keeps_the_version_without_its_firmwares_memory()
-> TestResult {
    let published = Published::new()?;
    let older = Version::good("1").kernel(OLDER_KERNEL).init(older_init()?);
    let one = published.build(&older)?;
    let two = published.build(&Version::good("2"))?;
    published.publish(&one)?;
    let machine = published.machine("update-good", &one)?;
    let console = machine.console();
    console.expect("that it is up to date", within(30), says("current", "1"))?;
    serves(&machine, "1")?;
    let runs_older = |text: &str| text.contains(&format!("Linux version {OLDER_KERNEL}"));
    if !runs_older(&console.text()) {
        return Err(machine.broken("it does not start from the older kernel"));
    }

    let release = published.publish(&two)?;
    console.expect(
        "version 2 in the other slot",
        within(30),
        says("staged", "2"),
    )?;
    console.expect("version 2 to stay", within(30), says("committed", "2"))?;
    serves(&machine, "2")?;
    let delta = &release["deltas"][0];
    let announced = delta["boot"]["bytes"]
        .as_u64()
        .zip(delta["root"]["bytes"].as_u64());
    let announced = announced.map_or(0, |(boot, root)| boot + root);
    let fetched = published.server().bytes_of("/deltas/");
    let whole = published.server().bytes_of("/images/");
    eprintln!("update by delta: {fetched} bytes of deltas, {whole} bytes of whole images");
    if announced == 0 || fetched > announced || whole > 0 {
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

/// Publishes a bad version 2 for a machine that runs version 1: it must be tried once, given up
/// for a reason that contains `reason`, and left alone.
fn goes_back(
    name: &str,
    bad: impl FnOnce(&Published) -> Result<Version, Error>,
    reason: &str,
) -> TestResult {
    let published = Published::new()?;
    let one = published.build(&Version::good("1"))?;
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
    // It looks again and leaves version 2 alone: the server is asked for its metadata only.
    let requests = |path: &str| published.server().requests().matches(path).count();
    let (looks, fetched) = (requests("/timestamp.json"), requests("/deltas/"));
    let until = std::time::Instant::now() + within(10);
    while requests("/timestamp.json") < looks + 2 {
        if std::time::Instant::now() > until {
            return Err(machine.broken("it does not look for versions any more"));
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    if requests("/deltas/") != fetched {
        return Err(machine.broken("version 2 is fetched again"));
    }
    machine.shut_down(within(20))
}

/// The kernel has nothing to start, and panics.
#[test]
fn a_version_whose_kernel_panics_is_left_and_never_tried_again() -> TestResult {
    let bad = |published: &Published| {
        Ok(Version::good("2").init(published.write("not-a-program", b"nothing that runs")?))
    };
    goes_back("update-panic", bad, "it did not come up")
}

#[test]
fn a_version_that_hangs_is_ended_by_the_watchdog_and_never_tried_again() -> TestResult {
    let bad = |published: &Published| {
        Ok(Version::good("2").init(init_that("hang", published.scratch())?))
    };
    goes_back("update-hang", bad, "it did not come up")
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
