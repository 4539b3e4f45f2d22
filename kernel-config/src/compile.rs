//! Unpacks the source and runs its makefiles so that the same source and configuration give the
//! same bytes: fixed user, host, date and version number, no paths in the code, and seeds taken
//! from the kernel's series where the makefiles would roll dice.

use std::collections::VecDeque;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use sha2::{Digest, Sha256};

use crate::cache::{Built, Recipe};
use crate::error::{Error, io as io_error};
use crate::payload;
use crate::profile::Profile;
use crate::progress::Progress;

/// The arguments that the kernel's makefile gives a zstd compressor.
const COMPRESSOR_ARGUMENTS: [&str; 2] = ["-22", "--ultra"];

/// How many of a failed command's last lines an error shows.
const SHOWN_LINES: usize = 30;

/// An unpacked source in a directory of its own, ready for its makefiles.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    date: String,
    seed: String,
}

/// Unpacks `package` below `building`.
pub(crate) fn unpack(
    package: &Path,
    building: &Path,
    recipe: &Recipe,
    progress: &mut dyn FnMut(Progress),
) -> Result<Tree, Error> {
    let unusable = |character: char| character.is_whitespace() || ":$#'\"\\".contains(character);
    if building.to_str().is_none_or(|path| path.contains(unusable)) {
        return Err(Error::UnusablePath(building.to_owned()));
    }
    progress(Progress::Unpacking);
    let root = building.join("linux");
    fs::create_dir(&root).map_err(io_error("creating", &root))?;
    let member = format!("./usr/src/{}.tar.xz", recipe.source.package);
    let mut open = Command::new("dpkg-deb");
    open.arg("--fsys-tarfile").arg(package);
    let mut pick = Command::new("tar");
    pick.args(["--extract", "--to-stdout", "--file=-"])
        .arg(member);
    let mut extract = Command::new("tar");
    extract
        .args([
            "--extract",
            "--xz",
            "--no-same-owner",
            "--strip-components=1",
            "--file=-",
        ])
        .arg("--directory")
        .arg(&root);
    pipeline("unpacking the kernel's source", &mut [open, pick, extract])?;

    let seed = seed(&recipe.source.version);
    fix_structure_seed(&root, &seed)?;
    let executable = env::current_exe().map_err(io_error("finding", Path::new("this program")))?;
    let role = building.join(payload::ROLE);
    symlink(&executable, &role).map_err(io_error("linking", &role))?;
    if !packs(&role) {
        return Err(Error::NoPayloadRole(executable));
    }
    Ok(Tree {
        root,
        date: recipe.source.date.clone(),
        seed,
    })
}

/// What stands for chance in the kernels of this version's series. It is public either way: what it
/// shuffles differs from other kernels, but is no secret. Point releases share it, so that an update
/// between two of them has to carry what Linux changed, and not each structure's new layout.
fn seed(version: &str) -> String {
    let series = version
        .rsplit_once('.')
        .map_or(version, |(series, _)| series);
    format!(
        "{:x}",
        Sha256::digest(format!("berth kernel seed {series}"))
    )
}

/// Replaces the script that draws the seed by which kernel structures are laid out.
fn fix_structure_seed(root: &Path, seed: &str) -> Result<(), Error> {
    let path = root.join("scripts/gen-randstruct-seed.sh");
    let hash = format!("{:x}", Sha256::digest(seed));
    let script = format!(
        "#!/bin/sh\necho {seed} > \"$1\"\necho '#define RANDSTRUCT_HASHED_SEED \"{hash}\"' > \"$2\"\n"
    );
    fs::write(&path, script).map_err(io_error("writing", &path))
}

/// Whether the executable, called as the makefile will call it, packs a payload.
fn packs(role: &Path) -> bool {
    const PROBE: &[u8] = b"probe";
    let child = Command::new(role)
        .args(COMPRESSOR_ARGUMENTS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        return false;
    };
    let written = child
        .stdin
        .take()
        .is_some_and(|mut input| input.write_all(PROBE).is_ok());
    let output = child.wait_with_output();
    let expected = payload::store(PROBE);
    written
        && output.is_ok_and(|output| {
            output.status.success() && expected.is_ok_and(|frame| frame == output.stdout)
        })
}

impl Tree {
    /// `make` in the tree, with everything fixed that could find its way into the image.
    pub(crate) fn make(&self) -> Command {
        let mut make = Command::new("make");
        let path = env::var_os("PATH").unwrap_or_default();
        make.current_dir(&self.root)
            .env_clear()
            .envs([("LC_ALL", "C"), ("TZ", "UTC"), ("HOME", "/nonexistent")])
            .env("PATH", path)
            .args(["ARCH=x86_64", "LOCALVERSION=-berth"])
            .args([
                "KBUILD_BUILD_USER=berth",
                "KBUILD_BUILD_HOST=berth",
                "KBUILD_BUILD_VERSION=1",
            ])
            .arg(format!("KBUILD_BUILD_TIMESTAMP={} 00:00:00 UTC", self.date))
            .arg(format!("ZSTD=../{}", payload::ROLE))
            .arg(format!(
                "KCFLAGS=-ffile-prefix-map={}=linux -frandom-seed=0x{}",
                self.root.display(),
                &self.seed[..15]
            ))
            .arg(format!(
                "KAFLAGS=-ffile-prefix-map={}=linux",
                self.root.display()
            ));
        make
    }
}

/// Compiles the configured tree.
pub(crate) fn compile(
    tree: &Tree,
    profile: Profile,
    progress: &mut dyn FnMut(Progress),
) -> Result<Built, Error> {
    let log = tree.root.join("berth.log");
    let errors = File::create(&log).map_err(io_error("writing", &log))?;
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let mut make = tree.make();
    make.arg(format!("-j{jobs}"))
        .arg("bzImage")
        .stdout(Stdio::piped())
        .stderr(errors);
    let mut child = make
        .spawn()
        .map_err(io_error("starting", Path::new("make")))?;
    let estimate = profile.build_steps();
    let mut done = 0;
    let mut tail = VecDeque::new();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line.map_err(io_error("reading the output of", Path::new("make")))?;
            // A step of the makefiles: two blanks, a word in capitals, a file.
            if line.starts_with("  ") {
                done += 1;
                progress(Progress::Compiling { done, estimate });
            }
            if tail.len() == SHOWN_LINES {
                tail.pop_front();
            }
            tail.push_back(line);
        }
    }
    let status = child
        .wait()
        .map_err(io_error("waiting for", Path::new("make")))?;
    if !status.success() {
        let errors = fs::read(&log).unwrap_or_default();
        let mut output = Vec::from(tail).join("\n").into_bytes();
        output.push(b'\n');
        output.extend(errors);
        return Err(failed("compiling the kernel", status, &output));
    }
    Ok(Built {
        bzimage: tree.root.join("arch/x86/boot/bzImage"),
        config: tree.root.join(".config"),
        system_map: tree.root.join("System.map"),
    })
}

/// Runs a command to its end; its output is shown only if it fails.
pub(crate) fn run(doing: &'static str, mut command: Command) -> Result<(), Error> {
    let program = PathBuf::from(command.get_program());
    let output = command.output().map_err(io_error("starting", &program))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(failed(doing, output.status, &text))
}

/// Runs commands with each one's output as the next one's input.
fn pipeline(doing: &'static str, commands: &mut [Command]) -> Result<(), Error> {
    let mut children = Vec::with_capacity(commands.len());
    let mut input = Stdio::null();
    let last = commands.len().saturating_sub(1);
    for (index, command) in commands.iter_mut().enumerate() {
        let program = PathBuf::from(command.get_program());
        command.stdin(input).stderr(Stdio::piped());
        command.stdout(if index == last {
            Stdio::null()
        } else {
            Stdio::piped()
        });
        let mut child = command.spawn().map_err(io_error("starting", &program))?;
        input = child.stdout.take().map_or_else(Stdio::null, Stdio::from);
        children.push(child);
    }
    // From the end: a command that stopped early is why those before it could not write.
    let mut result = Ok(());
    for child in children.into_iter().rev() {
        let output = child
            .wait_with_output()
            .map_err(io_error("waiting for", Path::new("a command")))?;
        if result.is_ok() && !output.status.success() {
            result = Err(failed(doing, output.status, &output.stderr));
        }
    }
    result
}

fn failed(doing: &str, status: ExitStatus, output: &[u8]) -> Error {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<_> = text.lines().collect();
    Error::Tool {
        doing: doing.to_owned(),
        status: status.to_string(),
        output: lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_of_a_pipeline_pass_their_output_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let mut say = Command::new("sh");
        say.args(["-c", "echo one two"]);
        let mut keep = Command::new("sh");
        keep.arg("-c").arg(format!("cat > {}", path.display()));
        pipeline("saying", &mut [say, keep]).unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "one two\n");
    }

    #[test]
    fn a_failed_command_is_reported_with_its_own_words() {
        let mut fail = Command::new("sh");
        fail.args(["-c", "echo it is broken >&2; exit 3"]);
        let message = pipeline("trying", &mut [fail]).unwrap_err().to_string();
        assert!(
            message.starts_with("trying failed (exit status: 3)"),
            "{message}"
        );
        assert!(message.ends_with("it is broken"), "{message}");
    }

    #[test]
    fn an_executable_without_the_role_is_not_taken_for_a_compressor() {
        let directory = tempfile::tempdir().unwrap();
        let role = directory.path().join(payload::ROLE);
        symlink("/bin/cat", &role).unwrap();
        assert!(!packs(&role));
    }
}
