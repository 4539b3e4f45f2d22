//! The same inputs give the same bytes, wherever, whenever and by whomever they are built.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use berth_qemu_tests::{Error, TestResult, files, image, process};

const OUTPUTS: [&str; 5] = ["disk.raw", "disk.qcow2", "uki.efi", "kernel", "root.erofs"];
/// Somebody who is not root, by number.
const SOMEBODY: &str = "65534";

#[test]
fn another_user_directory_umask_time_zone_and_language_change_no_byte() -> TestResult {
    let demo = image::demo()?;
    let scratch = tempfile::tempdir().map_err(Error::file("creating", "a directory"))?;
    let directory = scratch.path().join("some where/else");
    fs::create_dir_all(&directory).map_err(Error::file("creating", &directory))?;
    let berth = directory.join("tool");
    fs::copy(image::berth()?, &berth).map_err(Error::file("copying", &berth))?;
    let kernel = directory.join("kernel");
    fs::copy(demo.kernel(), &kernel).map_err(Error::file("copying", &kernel))?;
    let first = scratch.path().join("first");
    let mut build = Command::new(image::berth()?);
    build
        .arg("build")
        .arg("--kernel")
        .arg(&kernel)
        .arg("--out")
        .arg(&first);
    process::run(build.current_dir(scratch.path()))?;
    for path in [
        scratch.path(),
        &scratch.path().join("some where"),
        &directory,
    ] {
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(path, open).map_err(Error::file("opening", path))?;
    }
    let script = "umask 077; touch -d 1999-12-31 kernel; exec ./tool build --kernel kernel \
                  --out a/b";
    let mut build = as_somebody()?;
    build
        .args(["bash", "-c", script])
        .current_dir(&directory)
        .env("TZ", "Asia/Kathmandu")
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", &directory)
        .env("USER", "somebody");
    process::run(&mut build)?;
    for name in OUTPUTS {
        let other = directory.join("a/b").join(name);
        if read(&first.join(name))? != read(&other)? {
            return Err(Error::broken(format!("{name} differs")));
        }
    }
    Ok(())
}

/// As another user where this one may do so.
fn as_somebody() -> Result<Command, Error> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(Command::new("env"));
    }
    let mut command = Command::new(files::which("setpriv")?);
    command.args(["--reuid", SOMEBODY, "--regid", SOMEBODY, "--clear-groups"]);
    Ok(command)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(Error::file("reading", path))
}
