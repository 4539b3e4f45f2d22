//! Two real versions of what a machine is made of: its program as this repository had it some
//! commits ago, a container's files as Debian had them, and whole builds with both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_qemu_tests::image::{Image, Recipe};
use berth_qemu_tests::published::older_init;
use berth_qemu_tests::{Error, Files, files, process, target_directory};
use serde_json::json;

use crate::debian;

/// How many commits lie between the two programs; `BERTH_BENCH_COMMIT` names another one.
const COMMITS: &str = "HEAD~20";
/// What the container is made of, in the two versions that Debian's package lists have.
const PACKAGES: [&str; 2] = ["libssl3", "openssl"];

/// The machine's program in an older version.
pub(crate) struct Older {
    /// What it is.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) program: PathBuf,
}

/// The machine's program as it was some commits ago, compiled as this one. In a copy without
/// history: this one, compiled otherwise.
pub(crate) fn older_program(scratch: &Path) -> Result<Older, Error> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let wanted = std::env::var("BERTH_BENCH_COMMIT").unwrap_or_else(|_| COMMITS.to_owned());
    let mut resolve = Command::new("git");
    resolve.arg("-C").arg(&repository);
    resolve.args(["rev-parse", "--verify", "--quiet", "--short=12"]);
    let Ok(commit) = process::run(resolve.arg(format!("{wanted}^{{commit}}"))) else {
        if older_init().is_err() {
            process::run(Command::new("make").arg("-C").arg(&repository).arg("older"))?;
        }
        return Ok(Older {
            name: "compiled without link-time optimisation".to_owned(),
            program: older_init()?,
        });
    };
    let commit = commit.trim();
    let program = debian::cache()?.join(format!("init-{commit}"));
    if !program.exists() {
        eprintln!("bench: building the machine's program of commit {commit}");
        let tree = scratch.join("older");
        fs::create_dir_all(&tree).map_err(Error::file("creating", &tree))?;
        let archive = scratch.join("older.tar");
        let mut export = Command::new("git");
        export.arg("-C").arg(&repository);
        export.args(["archive", "--format=tar", "-o"]);
        process::run(export.arg(&archive).arg(commit))?;
        process::run(
            Command::new("tar")
                .arg("-C")
                .arg(&tree)
                .arg("-xf")
                .arg(&archive),
        )?;
        // As `make` builds this tree's; what they have in common is compiled once.
        let target = target_directory().join("bench-older");
        let mut make = Command::new("make");
        make.arg("-C").arg(&tree).arg("assets");
        make.env("CARGO_TARGET_DIR", &target).env_remove("TARGET");
        make.env_remove("MAKEFLAGS").env_remove("BERTH_ASSETS");
        process::run(&mut make)?;
        debian::keep(&target.join("assets/init"), &program)?;
    }
    Ok(Older {
        name: format!("of commit {commit}"),
        program,
    })
}

/// The machine's program as it is now.
pub(crate) fn program() -> Result<PathBuf, Error> {
    let path = target_directory().join("assets").join("init");
    match path.is_file() {
        true => Ok(path),
        false => Err(Error::broken(format!(
            "{} is missing: run make bench",
            path.display()
        ))),
    }
}

/// What differs between two builds.
pub(crate) struct Build<'a> {
    /// The kernel's version.
    pub(crate) kernel: &'a str,
    /// The machine's program.
    pub(crate) program: &'a Path,
    /// The files of its container.
    pub(crate) container: &'a Files,
}

impl Build<'_> {
    /// Builds it.
    pub(crate) fn build(&self) -> Result<Image, Error> {
        let kernel = format!("kernel = \"{}\"", self.kernel);
        Recipe::with_image("edge", &kernel, "[container.tls]\nimage = \"oci:tls\"")
            .init(self.program)
            .image(
                "tls",
                self.container.clone(),
                json!({ "Entrypoint": ["/busybox", "sleep", "1000000"] }),
            )
            .build()
    }
}

/// A container's files, older and newer, and the versions' names.
pub(crate) fn containers(scratch: &Path) -> Result<[(String, Files); 2], Error> {
    let mut madison = Command::new("apt-cache");
    let listed = process::run(madison.args(["madison", PACKAGES[0]]))?;
    // "libssl3 | 3.0.22-1~deb12u2 | where", the newest first.
    let mut versions: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(str::trim)
        .collect();
    versions.dedup();
    let [newer, older, ..] = versions.as_slice() else {
        return Err(Error::broken(format!(
            "apt knows only one version of {}:\n{listed}",
            PACKAGES[0]
        )));
    };
    Ok([container(older, scratch)?, container(newer, scratch)?])
}

fn container(version: &str, scratch: &Path) -> Result<(String, Files), Error> {
    let tree = scratch.join(format!("packages-{version}"));
    fs::create_dir_all(&tree).map_err(Error::file("creating", &tree))?;
    for package in PACKAGES {
        let kept = debian::cache()?.join(format!("{package}_{version}.deb"));
        if !kept.exists() {
            debian::fetch_package(&format!("{package}={version}"), &kept)?;
        }
        process::run(Command::new("dpkg-deb").arg("-x").arg(&kept).arg(&tree))?;
    }
    let busybox = files::which("busybox")?;
    let mut container = Files::default().program_from("busybox", &busybox)?;
    for part in ["usr/bin", "usr/lib"] {
        container = add(container, &tree, Path::new(part))?;
    }
    Ok((version.to_owned(), container))
}

/// Adds the regular files below a directory.
fn add(mut files: Files, tree: &Path, below: &Path) -> Result<Files, Error> {
    let directory = tree.join(below);
    let listed = fs::read_dir(&directory).map_err(Error::file("listing", &directory))?;
    let mut names: Vec<_> = listed.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    for name in names {
        let (path, at) = (directory.join(&name), below.join(&name));
        let metadata = path.symlink_metadata();
        let metadata = metadata.map_err(Error::file("reading", &path))?;
        if metadata.is_dir() {
            files = add(files, tree, &at)?;
        } else if metadata.is_file() {
            let bytes = fs::read(&path).map_err(Error::file("reading", &path))?;
            files = files.file(&at.to_string_lossy(), 0o755, bytes);
        }
    }
    Ok(files)
}
