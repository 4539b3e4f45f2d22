//! What `berth build` costs: processor time and memory, for the demo and by the bytes of images.
//!
//! The kernel is cached. The large image holds real files of this computer in uncompressed
//! layers, so that only Berth's own work is measured.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_qemu_tests::files::{self, Layer};
use berth_qemu_tests::image::berth;
use berth_qemu_tests::process::{self, Measured};
use berth_qemu_tests::{Error, target_directory};
use serde_json::json;
use tempfile::TempDir;

use crate::report::{Target, Verdict};
use crate::stage::Stage;

/// Processor time for the demo, seconds.
const DEMO: Target = Target::AtMost(2.0);
/// Memory at its most, MiB.
const MEMORY: Target = Target::AtMost(256.0);
/// Processor time of a whole image, of twice the time of one with half the bytes.
const LINEAR: Target = Target::AtMost(1.2);
/// The large image's bytes.
const LARGE: u64 = 1 << 30;
/// Bytes of one layer.
const LAYER: u64 = 128 << 20;
/// Where real files are.
const SOURCE: &str = "/usr";

/// Measures and reports.
pub(crate) fn part(stage: &mut Stage) -> Result<(), Error> {
    let work = target_directory().join("qemu-tests");
    fs::create_dir_all(&work).map_err(Error::file("creating", &work))?;
    let work = TempDir::new_in(&work).map_err(Error::file("creating", &work))?;
    stage.report.heading(
        "berth build, kernel cached",
        &["processor", "memory", "image bytes"],
    );
    let demo = median_of_3(|| build(None, work.path()))?;
    row(stage, "the demo", &demo, "", Some(seconds_of(&demo, DEMO)));
    let half = image(work.path(), "half", LARGE / 2)?;
    let half = build(Some(&half), work.path())?;
    row(stage, "an image of half the size", &half, "0.5 GiB", None);
    let large = image(work.path(), "large", LARGE)?;
    let large = build(Some(&large), work.path())?;
    let linear = Verdict {
        value: large.cpu.as_secs_f64() / (2.0 * half.cpu.as_secs_f64()),
        what: "of twice the half's",
        target: LINEAR,
    };
    row(
        stage,
        "an image of real files",
        &large,
        "1 GiB",
        Some(linear),
    );
    let peak = Verdict {
        value: large.peak_bytes as f64 / f64::from(1 << 20),
        what: "MiB",
        target: MEMORY,
    };
    let memory = format!("{:.1} MiB", peak.value);
    stage
        .report
        .row("its memory at the most", &["", &memory], Some(peak));
    Ok(())
}

fn seconds_of(measured: &Measured, target: Target) -> Verdict {
    Verdict {
        value: measured.cpu.as_secs_f64(),
        what: "s",
        target,
    }
}

fn row(stage: &mut Stage, subject: &str, done: &Measured, size: &str, verdict: Option<Verdict>) {
    let cpu = format!("{:.2} s", done.cpu.as_secs_f64());
    let memory = format!("{:.1} MiB", done.peak_bytes as f64 / f64::from(1 << 20));
    stage.report.row(subject, &[&cpu, &memory, size], verdict);
}

/// Builds a configuration, or the demo.
fn build(config: Option<&Path>, work: &Path) -> Result<Measured, Error> {
    let out = work.join("out");
    let mut command = Command::new(berth()?);
    command.arg("build").args(config).arg("--out").arg(&out);
    let measured = process::measure(&mut command)?;
    fs::remove_dir_all(&out).map_err(Error::file("removing", &out))?;
    Ok(measured)
}

fn median_of_3(mut measure: impl FnMut() -> Result<Measured, Error>) -> Result<Measured, Error> {
    let mut all = [measure()?, measure()?, measure()?];
    all.sort_by_key(|measured| measured.cpu);
    let [_, median, _] = all;
    Ok(median)
}

/// Makes an image with about so many bytes of real files and a configuration that bakes it in.
fn image(work: &Path, name: &str, bytes: u64) -> Result<PathBuf, Error> {
    let directory = work.join(name);
    let layout = directory.join("image");
    let mut real = RealFiles::new()?;
    let mut layers = Vec::new();
    for _ in 0..bytes / LAYER {
        layers.push(Layer::write(&layout, |archive| {
            real.append(archive, LAYER)
        })?);
    }
    // The builder looks whether the program is there; nobody runs it.
    let program = json!({ "Cmd": [Path::new("/").join(real.name(0)?)] });
    files::write_layout(&layout, name, &program, &layers)?;
    let path = directory.join("berth.toml");
    let toml = format!(
        "schema = 1\n[image]\nname = \"{name}\"\nversion = \"1\"\n\
         [container.large]\nimage = \"oci:image\"\nnetwork = \"host\"\n"
    );
    fs::write(&path, toml).map_err(Error::file("writing", &path))?;
    Ok(path)
}

/// This computer's files, again and again under new names until there are enough.
struct RealFiles {
    paths: Vec<(PathBuf, u64)>,
    next: usize,
}

impl RealFiles {
    fn new() -> Result<Self, Error> {
        let mut paths = Vec::new();
        let mut pending = vec![PathBuf::from(SOURCE)];
        while let Some(directory) = pending.pop() {
            // What may not be read is left out.
            let Ok(entries) = fs::read_dir(&directory) else {
                continue;
            };
            for entry in entries.flatten() {
                match entry.metadata() {
                    Ok(kind) if kind.is_dir() => pending.push(entry.path()),
                    Ok(kind) if kind.is_file() && kind.len() < LAYER / 4 => {
                        paths.push((entry.path(), kind.len()));
                    }
                    _ => {}
                }
            }
        }
        paths.sort();
        match paths.iter().any(|(_, length)| *length > 0) {
            true => Ok(Self { paths, next: 0 }),
            false => Err(Error::broken(format!("{SOURCE} has no files"))),
        }
    }

    /// What the file with this number is called in an image.
    fn name(&self, number: usize) -> Result<PathBuf, Error> {
        let count = self.paths.len();
        let none = || Error::broken(format!("{SOURCE} has no files"));
        let round = number.checked_div(count).ok_or_else(none)?;
        let (path, _) = self.paths.get(number % count).ok_or_else(none)?;
        let path = path.strip_prefix("/").unwrap_or(path);
        Ok(Path::new(&format!("round{round}")).join(path))
    }

    fn append<W: Write>(
        &mut self,
        archive: &mut tar::Builder<W>,
        most: u64,
    ) -> std::io::Result<()> {
        let mut written = 0;
        loop {
            let count = self.paths.len();
            let Some((path, length)) = self.paths.get(self.next % count) else {
                return Ok(());
            };
            if written + length > most {
                return Ok(());
            }
            let (path, length) = (path.clone(), *length);
            let name = self.name(self.next).map_err(std::io::Error::other)?;
            self.next += 1;
            let Ok(file) = File::open(&path) else {
                continue;
            };
            let mut header = tar::Header::new_gnu();
            header.set_size(length);
            header.set_mode(0o755);
            archive.append_data(&mut header, name, file.take(length))?;
            written += length;
        }
    }
}
