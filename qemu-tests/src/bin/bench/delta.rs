//! Patches beside those of other tools, on the same uncompressed files: Debian's cloud kernel over
//! a point release, our own kernels over two, the machine's program over some commits, a root with
//! both and another version of its container, and any further pairs that `BERTH_BENCH_PAIRS` names
//! (`OLD:NEW`, separated by commas).

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_qemu_tests::Error;
use berth_qemu_tests::image::{Image, berth};
use berth_qemu_tests::process::{self, Measured};
use sha2::{Digest, Sha256};

use crate::debian;
use crate::pairs;
use crate::report::{Target, Verdict};
use crate::stage::Stage;

/// Debian's packages: old, new.
const DEBIAN: [&str; 2] = [
    "linux-image-6.12.115+deb12-cloud-amd64-unsigned",
    "linux-image-6.12.117+deb12-cloud-amd64-unsigned",
];
/// Bytes of the patch between those.
const DEBIAN_BYTES: Target = Target::AtMost(950_000.0);
/// A patch, of the best of the others.
const DEBIAN_RATIO: Target = Target::AtMost(0.5);
const OWN_RATIO: Target = Target::AtMost(0.3);
const OTHER_RATIO: Target = Target::AtMost(1.0);
/// Processor time and memory of the encoder.
const ENCODER_SECONDS: Target = Target::AtMost(60.0);
const ENCODER_MIB: Target = Target::AtMost(1024.0);
/// Output of the decoder for each second of processor time.
const DECODER_MB: Target = Target::AtLeast(50.0);
const DECODER_MIB: Target = Target::AtMost(16.0);
/// Pairs of our own point releases.
const OWN_PAIRS: usize = 2;
/// A point release of kernel and userland: what a machine fetches.
const UPDATE_BYTES: Target = Target::AtMost(400_000.0);
/// A block index's block, and its hash.
const BLOCK: usize = 4096;
const HASH_BYTES: u64 = 32;
/// In Python, as its package on PyPI is a module: old, new, patch.
const HDIFF: &str = "import sys, hdiffpatch as h
old, new = (open(name, 'rb').read() for name in sys.argv[1:3])
open(sys.argv[3], 'wb').write(h.diff(old, new, h.COMPRESSION_LZMA, validate=False))";

/// Two versions of a file.
struct Pair {
    name: String,
    old: PathBuf,
    new: PathBuf,
    bytes: Option<Target>,
    ratio: Target,
}

/// Measures and reports.
pub(crate) fn part(stage: &mut Stage) -> Result<(), Error> {
    let scratch = stage.scratch().join("delta");
    fs::create_dir_all(&scratch).map_err(Error::file("creating", &scratch))?;
    let python = python()?;
    match debian_pair(&scratch) {
        Ok(pair) => compare(stage, &pair, &scratch, &python)?,
        // Archives keep no old version for ever; the other pairs are there all the same.
        Err(why) => eprintln!("bench: SKIPPED, Debian's kernels are not to be had: {why}"),
    }
    for pair in named_pairs() {
        compare(stage, &pair, &scratch, &python)?;
    }
    let kernels = own_kernels()?;
    for pair in own_pairs(&kernels, &scratch)? {
        compare(stage, &pair, &scratch, &python)?;
    }
    machines(stage, &kernels, &scratch, &python)
}

/// The machine's program, its root with a container's update, and all that one update is.
fn machines(
    stage: &mut Stage,
    kernels: &[String],
    scratch: &Path,
    python: &Path,
) -> Result<(), Error> {
    let older = pairs::older_program(scratch)?;
    let program = pairs::program()?;
    let [(older_version, older_files), (newer_version, newer_files)] = pairs::containers(scratch)?;
    let [.., old_kernel, new_kernel] = kernels else {
        return Err(Error::broken("berth kernel --list names fewer than two"));
    };
    let build = |kernel, program, container| {
        let build = pairs::Build {
            kernel,
            program,
            container,
        };
        build.build()
    };
    let old = build(old_kernel, &older.program, &older_files)?;
    let system = build(new_kernel, &program, &older_files)?;
    let new = build(new_kernel, &program, &newer_files)?;
    let pair = |name: String, old: PathBuf, new: PathBuf| Pair {
        name,
        old,
        new,
        bytes: None,
        ratio: OTHER_RATIO,
    };
    let init = pair(
        format!("/init {} -> of this tree", older.name),
        older.program.clone(),
        program.clone(),
    );
    compare(stage, &init, scratch, python)?;
    let root = pair(
        format!("root with both and openssl {older_version} -> {newer_version}"),
        old.root(),
        new.root(),
    );
    compare(stage, &root, scratch, python)?;
    let kernel = format!("kernel {old_kernel} -> {new_kernel}, /init, root");
    stage.report.heading(
        "all that a machine fetches of a point release",
        &["boot", "root", "together"],
    );
    whole(stage, &kernel, &old, &system, Some(UPDATE_BYTES), scratch)?;
    whole(
        stage,
        "the same and the container",
        &old,
        &new,
        None,
        scratch,
    )
}

/// Both patches of an update.
fn whole(
    stage: &mut Stage,
    name: &str,
    old: &Image,
    new: &Image,
    target: Option<Target>,
    scratch: &Path,
) -> Result<(), Error> {
    let patch = |old: &Path, new: &Path| -> Result<u64, Error> {
        let out = scratch.join("patch");
        let mut create = Command::new(berth()?);
        create.args(["delta", "create"]).args([old, new]);
        process::run(create.arg("-o").arg(&out))?;
        length(&out)
    };
    let boot = patch(&old.file("uki.efi"), &new.file("uki.efi"))?;
    let root = patch(&old.root(), &new.root())?;
    let verdict = target.map(|target| Verdict {
        value: (boot + root) as f64,
        what: "bytes",
        target,
    });
    let cells = [boot, root, boot + root].map(|bytes| bytes.to_string());
    let cells = cells.each_ref().map(String::as_str);
    stage.report.row(name, &cells, verdict);
    Ok(())
}

/// One table: every tool on one pair.
fn compare(stage: &mut Stage, pair: &Pair, scratch: &Path, python: &Path) -> Result<(), Error> {
    let new_bytes = length(&pair.new)?;
    let title = format!("{}, {new_bytes} bytes", pair.name);
    stage
        .report
        .heading(&title, &["bytes", "of the best", "processor", "memory"]);
    let out = scratch.join("patch");
    let [old, new, to] = [&pair.old, &pair.new, &out].map(|path| path.display().to_string());
    let from = format!("--patch-from={old}");
    let tools: [(&str, &Path, Vec<&str>); 4] = [
        ("bsdiff", "bsdiff".as_ref(), vec![&old, &new, &to]),
        (
            "xdelta3 -9",
            "xdelta3".as_ref(),
            vec!["-e", "-f", "-9", "-B", "536870912", "-s", &old, &new, &to],
        ),
        (
            "zstd -19 --long=31 --patch-from",
            "zstd".as_ref(),
            vec!["-q", "-f", "-19", "--long=31", &from, &new, "-o", &to],
        ),
        ("hdiffz, lzma", python, vec!["-c", HDIFF, &old, &new, &to]),
    ];
    let mut rows = Vec::new();
    for (name, program, arguments) in tools {
        let measured = process::measure(Command::new(program).args(arguments))?;
        rows.push((name, length(&out)?, Some(measured)));
    }
    rows.push(casync(pair, scratch)?);
    rows.push(("4 KiB block index", block_index(pair)?, None));
    let best = rows.iter().map(|(_, bytes, _)| *bytes).min().unwrap_or(1);
    for (name, bytes, measured) in &rows {
        row(stage, name, *bytes, best, measured.as_ref(), None);
    }
    ours(stage, pair, best, &out, scratch)
}

/// Our own patch, made and applied.
fn ours(
    stage: &mut Stage,
    pair: &Pair,
    best: u64,
    out: &Path,
    scratch: &Path,
) -> Result<(), Error> {
    let tool = berth()?;
    let mut create = Command::new(&tool);
    create
        .args(["delta", "create"])
        .args([&pair.old, &pair.new])
        .arg("-o")
        .arg(out);
    let created = process::measure(&mut create)?;
    let bytes = length(out)?;
    let ratio = bytes as f64 / best as f64;
    let verdict = Verdict {
        value: ratio,
        what: "of the best",
        target: pair.ratio,
    };
    row(
        stage,
        "berth delta",
        bytes,
        best,
        Some(&created),
        Some(verdict),
    );
    if let Some(target) = pair.bytes {
        let verdict = Verdict {
            value: bytes as f64,
            what: "bytes",
            target,
        };
        stage.report.row("its bytes", &[], Some(verdict));
    }
    let seconds = created.cpu.as_secs_f64();
    let verdict = Verdict {
        value: seconds,
        what: "s",
        target: ENCODER_SECONDS,
    };
    stage
        .report
        .row("making it, processor time", &[], Some(verdict));
    let verdict = Verdict {
        value: mib(&created),
        what: "MiB",
        target: ENCODER_MIB,
    };
    stage.report.row("making it, memory", &[], Some(verdict));
    let made = scratch.join("made");
    let mut apply = Command::new(&tool);
    apply
        .args(["delta", "apply"])
        .args([&pair.old, out])
        .arg("-o")
        .arg(&made);
    let applied = process::measure(&mut apply)?;
    if !same(&made, &pair.new)? {
        return Err(Error::broken(format!(
            "the patch of {} makes another file",
            pair.name
        )));
    }
    let speed = length(&pair.new)? as f64 / 1e6 / applied.cpu.as_secs_f64();
    let verdict = Verdict {
        value: speed,
        what: "MB/s",
        target: DECODER_MB,
    };
    stage
        .report
        .row("applying it, all hashing included", &[], Some(verdict));
    let verdict = Verdict {
        value: mib(&applied),
        what: "MiB",
        target: DECODER_MIB,
    };
    stage.report.row("applying it, memory", &[], Some(verdict));
    Ok(())
}

fn row(
    stage: &mut Stage,
    name: &str,
    bytes: u64,
    best: u64,
    measured: Option<&Measured>,
    verdict: Option<Verdict>,
) {
    let ratio = format!("{:.3}", bytes as f64 / best as f64);
    let cpu = measured.map_or(String::new(), |done| {
        format!("{:.1} s", done.cpu.as_secs_f64())
    });
    let memory = measured.map_or(String::new(), |done| format!("{:.0} MiB", mib(done)));
    stage
        .report
        .row(name, &[&bytes.to_string(), &ratio, &cpu, &memory], verdict);
}

fn mib(measured: &Measured) -> f64 {
    measured.peak_bytes as f64 / f64::from(1 << 20)
}

fn length(path: &Path) -> Result<u64, Error> {
    let metadata = fs::metadata(path).map_err(Error::file("reading", path))?;
    Ok(metadata.len())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(Error::file("reading", path))
}

fn same(one: &Path, other: &Path) -> Result<bool, Error> {
    Ok(read(one)? == read(other)?)
}

/// What casync fetches: the new file's index, and its chunks that the old one has not.
fn casync(pair: &Pair, scratch: &Path) -> Result<(&'static str, u64, Option<Measured>), Error> {
    let index = |name: &str, of: &Path| -> Result<(PathBuf, PathBuf, Measured), Error> {
        let (store, index) = (
            scratch.join(format!("{name}.castr")),
            scratch.join(format!("{name}.caibx")),
        );
        let mut command = Command::new("casync");
        command
            .arg("make")
            .arg(format!("--store={}", store.display()))
            .arg(&index)
            .arg(of);
        let measured = process::measure(&mut command)?;
        Ok((store, index, measured))
    };
    let (old_store, _, _) = index("old", &pair.old)?;
    let (new_store, new_index, measured) = index("new", &pair.new)?;
    let mut bytes = length(&new_index)?;
    for directory in entries(&new_store)? {
        for chunk in entries(&directory)? {
            let name = chunk.strip_prefix(&new_store).unwrap_or(&chunk);
            if !old_store.join(name).exists() {
                bytes += length(&chunk)?;
            }
        }
    }
    for store in [old_store, new_store] {
        fs::remove_dir_all(&store).map_err(Error::file("removing", &store))?;
    }
    Ok(("casync, 64 KiB", bytes, Some(measured)))
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let list = fs::read_dir(directory).map_err(Error::file("reading", directory))?;
    Ok(list.flatten().map(|entry| entry.path()).collect())
}

/// What a block index fetches: a hash for each block, and the blocks that the old file has nowhere.
fn block_index(pair: &Pair) -> Result<u64, Error> {
    let hash = |block: &[u8]| -> [u8; 32] { Sha256::digest(block).into() };
    let known: HashSet<_> = read(&pair.old)?.chunks(BLOCK).map(hash).collect();
    let new = read(&pair.new)?;
    let fetched: usize = new
        .chunks(BLOCK)
        .filter(|block| !known.contains(&hash(block)))
        .map(<[u8]>::len)
        .sum();
    Ok(fetched as u64 + new.len().div_ceil(BLOCK) as u64 * HASH_BYTES)
}

/// A Python that has HDiffPatch, kept in the cache.
fn python() -> Result<PathBuf, Error> {
    let directory = debian::cache()?.join("hdiffpatch");
    let python = directory.join("bin/python");
    let has_it = |python: &Path| {
        process::run(Command::new(python).args(["-c", "import hdiffpatch"])).is_ok()
    };
    if !has_it(&python) {
        process::run(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&directory),
        )?;
        process::run(Command::new(&python).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "hdiffpatch",
        ]))?;
    }
    Ok(python)
}

fn debian_pair(scratch: &Path) -> Result<Pair, Error> {
    let payload = |package: &str| {
        let image = debian::cache()?.join(package);
        if !image.exists() {
            debian::fetch_kernel(package, &image)?;
        }
        uncompressed(&image, &scratch.join(package))
    };
    let [old, new] = DEBIAN;
    Ok(Pair {
        name: "Debian's cloud kernel 6.12.115 -> 6.12.117".to_owned(),
        old: payload(old)?,
        new: payload(new)?,
        bytes: Some(DEBIAN_BYTES),
        ratio: DEBIAN_RATIO,
    })
}

/// The newest versions that `berth` knows, the oldest first.
fn own_kernels() -> Result<Vec<String>, Error> {
    let mut list = Command::new(berth()?);
    let list = process::run(list.args(["kernel", "--list"]))?;
    let mut versions: Vec<&str> = list
        .lines()
        .filter(|version| version.starts_with("6.12."))
        .collect();
    let point = |version: &str| {
        version
            .rsplit('.')
            .next()
            .and_then(|point| point.parse::<u32>().ok())
    };
    versions.sort_by_key(|version| point(version));
    let newest = versions.split_off(versions.len().saturating_sub(OWN_PAIRS + 1));
    Ok(newest.into_iter().map(str::to_owned).collect())
}

/// Our own kernels; those not in the cache are built.
fn own_pairs(versions: &[String], scratch: &Path) -> Result<Vec<Pair>, Error> {
    let mut kernels = Vec::new();
    for version in versions {
        let image = scratch.join(format!("own-{version}"));
        let mut build = Command::new(berth()?);
        build
            .args(["kernel", "--kernel-version", version, "--out"])
            .arg(&image);
        process::run(&mut build)?;
        kernels.push((
            version,
            uncompressed(&image, &scratch.join(format!("payload-{version}")))?,
        ));
    }
    let pairs = kernels.windows(2).filter_map(|pair| match pair {
        [(from, old), (to, new)] => Some(Pair {
            name: format!("our cloud kernel {from} -> {to}"),
            old: old.clone(),
            new: new.clone(),
            bytes: None,
            ratio: OWN_RATIO,
        }),
        _ => None,
    });
    Ok(pairs.collect())
}

fn named_pairs() -> Vec<Pair> {
    let named = std::env::var("BERTH_BENCH_PAIRS").unwrap_or_default();
    let pair = |text: &str| {
        let (old, new) = text.split_once(':')?;
        Some(Pair {
            name: format!("{old} -> {new}"),
            old: old.into(),
            new: new.into(),
            bytes: None,
            ratio: OTHER_RATIO,
        })
    };
    named.split(',').filter_map(pair).collect()
}

/// Unpacks a kernel image's zstd payload (the boot protocol's `payload_offset` and
/// `payload_length`; the last four bytes are the length unpacked).
fn uncompressed(image: &Path, to: &Path) -> Result<PathBuf, Error> {
    let bytes = read(image)?;
    let word = |at: usize| {
        bytes
            .get(at..at + 4)?
            .iter()
            .rev()
            .try_fold(0_usize, |word, byte| Some(word << 8 | usize::from(*byte)))
    };
    let payload = (|| {
        let setup = usize::from(*bytes.get(0x1f1)?) + 1;
        let start = setup * 512 + word(0x248)?;
        bytes.get(start..start + word(0x24c)?.checked_sub(4)?)
    })();
    let none = || Error::broken(format!("{} has no payload", image.display()));
    let packed = to.with_extension("zst");
    fs::write(&packed, payload.ok_or_else(none)?).map_err(Error::file("writing", &packed))?;
    process::run(
        Command::new("zstd")
            .args(["-d", "-q", "-f", "--long=31"])
            .arg(&packed)
            .arg("-o")
            .arg(to),
    )?;
    Ok(to.to_owned())
}
