//! `berth test`, as a user calls it for a machine of his own.

use std::process::Command;

use berth_qemu_tests::image::{self, Recipe};
use berth_qemu_tests::{Error, TestResult, Turn, long_tests_wanted, process};
use serde_json::Value;

const MACHINE: &str = r#"
[network.lan]
dhcp4 = true

[container.work]
image = "oci:guest"
command = ["obey", "15"]

[update]
url = "http://updates.example/"
trust = "root.json"
commit = { for = "2s", within = "60s" }
"#;

#[test]
fn a_users_machine_loses_its_power_while_it_updates_itself_and_comes_back() -> TestResult {
    let said = test(&["--power-cut", "2"])?;
    let cuts = &said["power_cuts"];
    if said["good"] != true || cuts["came_back"].as_u64() < Some(2) || cuts["starts"] == 0 {
        return Err(Error::broken(format!("{said:#}")));
    }
    Ok(())
}

#[test]
fn bad_versions_of_a_users_machine_are_given_up_and_the_good_one_after_them_stays() -> TestResult {
    if !long_tests_wanted("a user's machine and six bad versions") {
        return Ok(());
    }
    let said = test(&["--power-cut", "0", "--bad-update"])?;
    let versions = said["bad_updates"].as_array();
    let all_right = versions.is_some_and(|all| all.len() == 7 && all.iter().all(is_right));
    if said["good"] != true || !all_right {
        return Err(Error::broken(format!("{said:#}")));
    }
    Ok(())
}

fn is_right(version: &Value) -> bool {
    version["right"] == true
}

/// What the command finds out about the machine.
fn test(options: &[&str]) -> Result<Value, Error> {
    let scratch = tempfile::tempdir().map_err(Error::file("creating", "a directory"))?;
    let recipe = Recipe::new("users-own", MACHINE).guest()?;
    // Only the test's own keys are trusted; the user's are not even looked at.
    let config = recipe
        .file("root.json", "the user's root")
        .write(scratch.path())?;
    let turn = Turn::take()?;
    let mut command = Command::new(image::berth()?);
    command.arg("test").arg(config).arg("--json").args(options);
    let said = process::run(&mut command)?;
    drop(turn);
    let answer = said.lines().rfind(|line| line.starts_with('{'));
    let answer = answer.ok_or_else(|| Error::broken(format!("no answer: {said}")))?;
    serde_json::from_str(answer).map_err(|_| Error::broken(format!("no JSON: {said}")))
}
