//! The programs on this machine that a kernel build needs. The compiler's and the linker's
//! versions are part of what a cached kernel is known by: another compiler gives other bytes.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::fragment::{Setting, Value};

/// Compiler and linker, as they name themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Toolchain {
    /// First line of `gcc --version`.
    pub(crate) compiler: String,
    /// First line of `ld --version`.
    pub(crate) linker: String,
}

/// What a build needs: a program, and the Debian package that has it.
const PROGRAMS: &[(&str, &str)] = &[
    ("gcc", "gcc"),
    ("ld", "binutils"),
    ("objcopy", "binutils"),
    ("make", "make"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("perl", "perl"),
    ("cpio", "cpio"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
    ("dpkg-deb", "dpkg"),
];

/// Headers that the kernel's own build programs include.
const HEADERS: &[(&str, &str)] = &[("gelf.h", "libelf-dev")];

/// Asks compiler and linker who they are; names everything that is missing if they are.
pub(crate) fn detect() -> Result<Toolchain, Error> {
    match (first_line("gcc"), first_line("ld")) {
        (Some(compiler), Some(linker)) => Ok(Toolchain { compiler, linker }),
        _ => Err(missing_tools(missing(&[]))),
    }
}

/// Succeeds if everything that a build with these settings needs is on this machine.
pub(crate) fn require(settings: &[Setting]) -> Result<(), Error> {
    let missing = missing(settings);
    if missing.is_empty() {
        Ok(())
    } else {
        Err(missing_tools(missing))
    }
}

/// Names and packages of what is missing.
fn missing(settings: &[Setting]) -> Vec<(String, String)> {
    let own = |&(name, package): &(&str, &str)| (name.to_owned(), package.to_owned());
    let mut missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|(name, _)| find_program(name).is_none())
        .map(own)
        .collect();
    if find_program("gcc").is_none() {
        return missing;
    }
    missing.extend(
        HEADERS
            .iter()
            .filter(|(name, _)| !compiler_finds(name))
            .map(own),
    );
    let plugins = settings
        .iter()
        .any(|it| it.symbol == "GCC_PLUGINS" && it.value == Value::On);
    if plugins && !plugin_headers_exist() {
        let major = ask("gcc", &["-dumpversion"]).unwrap_or_default();
        let major = major.split('.').next().unwrap_or_default();
        missing.push((
            "the compiler's plugin headers".to_owned(),
            format!("gcc-{major}-plugin-dev"),
        ));
    }
    missing
}

fn missing_tools(missing: Vec<(String, String)>) -> Error {
    let (names, mut packages): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
    packages.sort();
    packages.dedup();
    Error::MissingTools {
        missing: names.join(", "),
        packages: packages.join(" "),
    }
}

fn find_program(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

fn compiler_finds(header: &str) -> bool {
    Command::new("gcc")
        .args(["-E", "-include", header, "-x", "c", "/dev/null"])
        .output()
        .is_ok_and(|output| output.status.success())
}

fn plugin_headers_exist() -> bool {
    ask("gcc", &["-print-file-name=plugin"])
        .is_some_and(|path| Path::new(&path).join("include/plugin-version.h").is_file())
}

fn first_line(program: &str) -> Option<String> {
    ask(program, &["--version"])
}

fn ask(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output
        .status
        .success()
        .then(|| text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_error_names_everything_that_is_missing_and_each_package_once() {
        let pair = |name: &str, package: &str| (name.to_owned(), package.to_owned());
        let error = missing_tools(vec![
            pair("ld", "binutils"),
            pair("objcopy", "binutils"),
            pair("bc", "bc"),
        ]);
        let message = error.to_string();
        assert!(message.contains("lacks ld, objcopy, bc;"), "{message}");
        assert!(
            message.ends_with("apt-get install bc binutils"),
            "{message}"
        );
    }
}
