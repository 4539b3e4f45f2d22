//! The whole operating system is small: what a machine without containers is made of, as one
//! compressed stream.

use std::fs;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::thread;

use berth_qemu_tests::image::{Image, Recipe};
use berth_qemu_tests::{Error, TestResult};

/// UKI and root of `cloud`, compressed, bytes.
const COMPRESSED_AT_MOST: u64 = 6_000_000;

#[test]
fn the_whole_system_without_containers_is_at_most_six_million_bytes_compressed() -> TestResult {
    let image = bare()?;
    let mut content = Vec::new();
    for part in ["uki.efi", "root.erofs"] {
        let path = image.file(part);
        content.extend(fs::read(&path).map_err(Error::file("reading", &path))?);
    }
    let raw = content.len();
    let size = compressed(content)?;
    println!("the whole system: {raw} bytes, compressed {size}");
    if size > COMPRESSED_AT_MOST {
        return Err(Error::broken(format!(
            "{size} bytes are more than {COMPRESSED_AT_MOST}"
        )));
    }
    Ok(())
}

#[test]
fn the_root_holds_one_executable() -> TestResult {
    let image = bare()?;
    let scratch = tempfile::tempdir().map_err(Error::file("creating", "a scratch directory"))?;
    image.unpack_root(scratch.path())?;
    let mut executables = Vec::new();
    let mut open = vec![scratch.path().to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).map_err(Error::file("reading", &directory))? {
            let path = entry.map_err(Error::file("reading", &directory))?.path();
            let kind = fs::symlink_metadata(&path)
                .map_err(Error::file("reading", &path))?
                .file_type();
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() && fs::read(&path).is_ok_and(|it| it.starts_with(b"\x7fELF")) {
                executables.push(
                    path.strip_prefix(scratch.path())
                        .unwrap_or(&path)
                        .to_owned(),
                );
            }
        }
    }
    assert_eq!(executables, [std::path::Path::new("init")]);
    Ok(())
}

/// A machine that runs nothing.
fn bare() -> Result<Image, Error> {
    Recipe::new("bare", "[network.lan]\ndhcp4 = true").build()
}

fn compressed(content: Vec<u8>) -> Result<u64, Error> {
    let xz = "xz";
    let mut child = Command::new(xz)
        .args(["--x86", "--lzma2=preset=9e", "--stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Error::file("starting", xz))?;
    let input = child.stdin.take();
    let feed = thread::spawn(move || input.map_or(Ok(()), |mut input| input.write_all(&content)));
    let mut output = child
        .stdout
        .take()
        .ok_or_else(|| Error::broken("xz was started without an output"))?;
    let size = io::copy(&mut output, &mut io::sink()).map_err(Error::file("reading from", xz))?;
    let status = child.wait().map_err(Error::file("waiting for", xz))?;
    if !status.success() || !matches!(feed.join(), Ok(Ok(()))) {
        return Err(Error::broken(format!("xz failed: {status}")));
    }
    Ok(size)
}
