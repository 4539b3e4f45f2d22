//! The promise that a kernel's bytes depend on nothing but its source, its configuration and the
//! compiler: two builds of `micro` that differ in directory, umask, time zone, locale, user name
//! and date. Takes as long as two kernels do, so it runs with BERTH_TEST_LONG set only. It has a
//! main of its own because the kernel's makefile starts this executable to pack the payload.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use berth_kernel_config::{Console, Profile, Request, ensure, payload_role};

/// Set in a child that is to build into the cache that it names.
const CACHE: &str = "BERTH_TEST_KERNEL_CACHE";

fn main() -> ExitCode {
    if let Some(code) = payload_role() {
        return code;
    }
    if let Some(cache) = std::env::var_os(CACHE) {
        return build(Path::new(&cache));
    }
    if std::env::var_os("BERTH_TEST_LONG").is_none() {
        eprintln!(
            "SKIPPED: two kernel builds are compared with BERTH_TEST_LONG=1 (make test-long)"
        );
        println!("0 passed, 0 failed, 1 skipped");
        return ExitCode::SUCCESS;
    }
    match two_builds_are_the_same() {
        Ok(sha256) => {
            println!("two builds gave {sha256}");
            println!("1 passed, 0 failed");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            println!("0 passed, 1 failed");
            ExitCode::FAILURE
        }
    }
}

fn build(cache: &Path) -> ExitCode {
    let request = Request {
        profile: Profile::Micro,
        version: None,
        source: std::env::var_os("BERTH_KERNEL_SOURCE").map(Into::into),
        cache: cache.to_owned(),
    };
    let mut console = Console::new();
    match ensure(&request, &mut |progress| console.show(progress)) {
        Ok(kernel) => {
            println!("{}", kernel.sha256);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn two_builds_are_the_same() -> Result<String, String> {
    let scratch = tempfile::tempdir().map_err(|error| format!("a scratch directory: {error}"))?;
    let plain = child(&scratch.path().join("a"), "022", &[])?;
    let odd = [
        ("TZ", "Pacific/Kiritimati"),
        ("LC_ALL", "C.UTF-8"),
        ("USER", "someone"),
        ("LOGNAME", "someone"),
        ("KBUILD_BUILD_TIMESTAMP", "1 January 1999"),
        ("SOURCE_DATE_EPOCH", "1"),
        ("KCFLAGS", "-O1"),
        ("MAKEFLAGS", "-k"),
    ];
    let other = child(&scratch.path().join("another/and/deeper"), "077", &odd)?;
    if plain == other {
        Ok(plain)
    } else {
        Err(format!("two builds gave {plain} and {other}"))
    }
}

/// Builds in another process, under a shell that sets the umask.
fn child(cache: &Path, umask: &str, variables: &[(&str, &str)]) -> Result<String, String> {
    let executable = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("sh")
        .arg0("sh")
        .args(["-c", "umask \"$0\" && exec \"$1\"", umask])
        .arg(executable)
        .env(CACHE, cache)
        .envs(variables.iter().copied())
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("a build failed: {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
