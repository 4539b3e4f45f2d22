//! Whole outputs: disks judged by sgdisk, fsck.vfat, veritysetup and qemu-img; what is left
//! behind by failures; the same bytes twice.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_disk::root::{Root, RootWriter};
use berth_disk::uki::Texts;
use berth_disk::{Artifacts, Error, Parts, assemble, pending};

const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

struct Bench {
    dir: tempfile::TempDir,
    kernel: PathBuf,
    stub: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let stub = fs::read(STUB)
            .unwrap_or_else(|e| panic!("{STUB} ({e}): apt-get install systemd-boot-efi"));
        // Any PE file will do where nothing is started.
        let kernel = dir.path().join("vmlinuz");
        fs::write(&kernel, [&stub[..], &vec![0x5a; 3_000_000]].concat()).expect("kernel");
        fs::create_dir(dir.path().join("out")).expect("out");
        Self { dir, kernel, stub }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn root(&self) -> Root {
        let bytes = 700 * 4096;
        let path = self.out().join("root.erofs");
        let mut root = RootWriter::create(&path, bytes).expect("root");
        let data: Vec<u8> = (0..bytes as u32 / 4).flat_map(u32::to_le_bytes).collect();
        // In pieces that are no blocks, with a hole.
        let hole = vec![0; 20 * 4096];
        let data = [&data[..5000], &hole, &data[5000 + hole.len()..]].concat();
        for piece in data.chunks(10_007) {
            root.write_all(piece).expect("write");
        }
        root.finish().expect("finish")
    }

    fn build(&self, raw: bool, qcow2: Option<u64>) -> Result<Artifacts, Error> {
        let root = self.root();
        let line = berth_slots::verity::kernel_parameters(&root.geometry, &root.hash);
        let parts = Parts {
            root,
            kernel: &self.kernel,
            kernel_config: None,
            stub: &self.stub,
            texts: Texts {
                os_release: "ID=berth\n",
                command_line: &line,
                kernel_release: "",
            },
            raw,
            qcow2,
        };
        assemble(parts, &self.out())?.finish()
    }
}

fn run(program: &str, arguments: &[&str], package: &str) -> (bool, String) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("cannot run {program} ({e}): apt-get install {package}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("list");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

#[test]
fn every_judge_accepts_the_disk() {
    let bench = Bench::new();
    let artifacts = bench.build(true, Some(0)).expect("build");
    let raw = bench.out().join("disk.raw");
    let raw_text = raw.to_str().expect("path");
    let (_, said) = run("sgdisk", &["-v", raw_text], "gdisk");
    assert!(said.contains("No problems found"), "{said}");
    for word in ["aution", "arning", "ERROR", "Identified"] {
        assert!(!said.contains(word), "{said}");
    }

    let disk = File::open(&raw).expect("disk");
    let part = |first: u64, bytes: u64, name: &str| {
        let mut data = vec![0; bytes as usize];
        disk.read_exact_at(&mut data, first * 512).expect("read");
        let path = bench.dir.path().join(name);
        fs::write(&path, data).expect("write");
        path.to_str().expect("path").to_owned()
    };
    let boot = part(artifacts.layout.boot.first(), artifacts.boot_bytes, "boot");
    let (clean, said) = run("fsck.vfat", &["-n", &boot], "dosfstools");
    assert!(clean, "{said}");
    let uki = bench
        .dir
        .path()
        .join("uki")
        .to_str()
        .expect("path")
        .to_owned();
    let copy = ["-i", &boot, "::/EFI/BOOT/BOOTX64.EFI", &uki];
    let (copied, said) = run("mcopy", &copy, "mtools");
    assert!(copied, "{said}");
    let same = fs::read(&uki).expect("uki") == fs::read(bench.out().join("uki.efi")).expect("uki");
    assert!(same, "the boot partition has another UKI");

    let root = part(
        artifacts.layout.root.first(),
        artifacts.files["root.erofs"].bytes,
        "root",
    );
    let entry = artifacts.layout.table.entry(3).expect("root entry");
    let root_half = entry.guid.to_string().replace('-', "");
    let other_half = artifacts
        .layout
        .table
        .disk_guid()
        .to_string()
        .replace('-', "");
    let offset = format!("--hash-offset={}", 700 * 4096);
    let hash = root_half + &other_half;
    let (verified, said) = run(
        "veritysetup",
        &["verify", &root, &root, &hash, &offset],
        "cryptsetup-bin",
    );
    assert!(verified, "{said}");
}

#[test]
fn qemu_img_finds_the_qcow2_clean_and_equal_to_the_raw_disk() {
    let bench = Bench::new();
    for virtual_bytes in [0, 8 << 30, 600 << 30] {
        bench.build(true, Some(virtual_bytes)).expect("build");
        let (raw, qcow2) = (bench.out().join("disk.raw"), bench.out().join("disk.qcow2"));
        let (raw, qcow2) = (raw.to_str().expect("path"), qcow2.to_str().expect("path"));
        let (clean, said) = run("qemu-img", &["check", "-f", "qcow2", qcow2], "qemu-utils");
        assert!(clean && said.contains("No errors were found"), "{said}");
        let compare = ["compare", "-f", "raw", "-F", "qcow2", raw, qcow2];
        let (equal, said) = run("qemu-img", &compare, "qemu-utils");
        assert!(equal && said.contains("Images are identical"), "{said}");
        let (_, said) = run("qemu-img", &["info", "--output=json", qcow2], "qemu-utils");
        let size = if virtual_bytes == 0 {
            fs::metadata(raw).expect("raw").len()
        } else {
            virtual_bytes
        };
        assert!(
            said.contains(&format!("\"virtual-size\": {size}")),
            "{said}"
        );
        let stored = fs::metadata(qcow2).expect("size").len();
        let data = fs::metadata(raw).expect("size").blocks() * 512;
        assert!(stored < data + (2 << 20), "{stored} bytes for {data}");
    }
}

#[test]
fn the_same_parts_give_the_same_files_and_the_hashes_are_theirs() {
    let (one, two) = (Bench::new(), Bench::new());
    let first = one.build(true, Some(1 << 30)).expect("build");
    let second = two.build(true, Some(1 << 30)).expect("build");
    assert_eq!(first, second);
    for (name, artifact) in &first.files {
        let path = one.out().join(name);
        let (_, said) = run("sha256sum", &[path.to_str().expect("path")], "coreutils");
        let hash: String = artifact
            .sha256
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert!(said.starts_with(&hash), "{name}");
        assert_eq!(fs::metadata(&path).expect("size").len(), artifact.bytes);
        assert_eq!(fs::metadata(&path).expect("mode").mode() & 0o777, 0o644);
    }
}

#[test]
fn only_what_is_asked_for_is_left() {
    let bench = Bench::new();
    bench.build(false, None).expect("build");
    assert_eq!(names(&bench.out()), ["kernel", "root.erofs", "uki.efi"]);
    bench.build(false, Some(0)).expect("build");
    assert_eq!(
        names(&bench.out()),
        ["disk.qcow2", "kernel", "root.erofs", "uki.efi"]
    );
}

#[test]
fn a_failure_leaves_the_directory_as_it_was() {
    let bench = Bench::new();
    pending::write_file(&bench.out().join("disk.raw"), b"the last build").expect("write");
    let error = bench.build(true, Some(1 << 20)).expect_err("too small");
    assert!(
        error.to_string().contains("choose a larger size"),
        "{error}"
    );
    assert_eq!(names(&bench.out()), ["disk.raw"]);
    fs::write(&bench.kernel, b"no kernel").expect("write");
    let error = bench.build(true, None).expect_err("no kernel").to_string();
    assert!(error.contains("CONFIG_EFI_STUB"), "{error}");
    assert_eq!(names(&bench.out()), ["disk.raw"]);
    let short = RootWriter::create(&bench.out().join("root.erofs"), 8192).expect("create");
    assert!(short.finish().is_err());
    assert_eq!(names(&bench.out()), ["disk.raw"]);
}

#[test]
fn an_output_that_cannot_be_made_is_named() {
    let error = RootWriter::create(Path::new("/dev/full/root"), 4096).expect_err("refusal");
    assert!(error.to_string().contains("/dev/full/root"), "{error}");
}

/// Needs root for a small file system of its own.
#[test]
fn a_full_disk_is_an_error_that_names_the_file_and_leaves_nothing() {
    let bench = Bench::new();
    let out = bench.out();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=5M", "tmpfs"])
        .arg(&out)
        .output()
        .expect("mount");
    if !mount.status.success() {
        eprintln!("SKIPPED: a full disk needs root to be mounted: {mount:?}");
        return;
    }
    let result = bench.build(true, None).map(|_| ());
    let left = names(&out);
    let unmounted = Command::new("umount").arg(&out).status().expect("umount");
    assert!(unmounted.success());
    let error = result
        .expect_err("five megabytes are not enough")
        .to_string();
    assert!(error.contains("/out/"), "{error}");
    assert!(error.contains("No space left"), "{error}");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn zeros_become_holes() {
    let bench = Bench::new();
    bench.build(true, None).expect("build");
    let stat = fs::metadata(bench.out().join("disk.raw")).expect("stat");
    assert!(
        stat.blocks() * 512 + (2 << 20) < stat.len(),
        "{} of {}",
        stat.blocks() * 512,
        stat.len()
    );
}
