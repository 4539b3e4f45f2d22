//! What a build promises: the same bytes for the same inputs, and nothing that is half there.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::fixture::{Fixture, names, said};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

const OUTPUTS: [&str; 6] = [
    "disk.qcow2",
    "disk.raw",
    "kernel",
    "manifest.json",
    "root.erofs",
    "uki.efi",
];

fn hash(path: &std::path::Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn directory_umask_time_zone_and_date_change_no_byte() {
    let (Some(one), Some(other)) = (Fixture::new(), Fixture::new()) else {
        return;
    };
    let output = one.build(&[]);
    assert!(output.status.success(), "{}", said(&output));
    let script = format!(
        "umask 0; touch -d 1999-01-01 kernel berth.toml; exec {} build . --kernel kernel --out \
         elsewhere/deep",
        env!("CARGO_BIN_EXE_berth")
    );
    let output = std::process::Command::new("bash")
        .args(["-c", &script])
        .current_dir(other.path(""))
        .env("BERTH_ASSETS", other.path("assets"))
        .env("TZ", "Asia/Kathmandu")
        .env("LC_ALL", "C")
        .env("USER", "somebody")
        .output()
        .expect("bash starts");
    assert!(output.status.success(), "{}", said(&output));
    for name in OUTPUTS {
        assert_eq!(
            hash(&one.path("out").join(name)),
            hash(&other.path("elsewhere/deep").join(name)),
            "{name}"
        );
    }
    assert_eq!(
        hash(&one.path("berth.lock")),
        hash(&other.path("berth.lock"))
    );
}

#[test]
fn a_build_leaves_its_outputs_and_nothing_else() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    assert!(fixture.build(&[]).status.success());
    assert_eq!(names(&fixture.path("out")), OUTPUTS);
    let manifest = fs::read_to_string(fixture.path("out/manifest.json")).expect("manifest");
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
    for name in OUTPUTS.iter().filter(|name| **name != "manifest.json") {
        let path = fixture.path("out").join(name);
        assert_eq!(manifest["files"][name]["sha256"], hash(&path), "{name}");
        let size = fs::metadata(&path).expect("size").len();
        assert_eq!(manifest["files"][name]["bytes"], size, "{name}");
    }
}

#[test]
fn a_failed_build_leaves_the_results_of_the_one_before() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    assert!(fixture.build(&[]).status.success());
    let before: Vec<String> = OUTPUTS
        .iter()
        .map(|name| hash(&fixture.path("out").join(name)))
        .collect();
    fs::remove_dir_all(fixture.path("image")).expect("remove");
    assert_eq!(fixture.build(&[]).status.code(), Some(4));
    let after: Vec<String> = OUTPUTS
        .iter()
        .map(|name| hash(&fixture.path("out").join(name)))
        .collect();
    assert_eq!(before, after);
    assert_eq!(names(&fixture.path("out")), OUTPUTS);
}

#[test]
fn what_an_interrupted_build_left_is_removed_by_the_next() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let out = fixture.path("out");
    fs::create_dir_all(out.join(".berth-build-old/x")).expect("a directory");
    for name in [".root.erofs.999999-0.part", ".manifest.json.999999-7.part"] {
        fs::write(out.join(name), b"half").expect(name);
    }
    let output = fixture.build(&[]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(names(&out), OUTPUTS);
    // A report of `berth run` that is being written there.
    let other = ".boot.svg.999999-0.part";
    fs::write(out.join(other), b"half").expect("write");
    assert!(fixture.build(&[]).status.success());
    assert!(out.join(other).exists());
}

#[test]
fn a_second_build_into_a_directory_waits_for_the_first() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let out = fixture.path("out");
    fs::create_dir(&out).expect("a directory");
    fs::write(out.join(".root.erofs.999999-0.part"), b"half").expect("write");
    let directory = File::open(&out).expect("the directory");
    let first = Flock::lock(directory, FlockArg::LockExclusive).expect("a lock");
    let mut command = fixture.command();
    command.args(["build", "berth.toml", "--kernel", "kernel"]);
    let mut second = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut lines = BufReader::new(second.stderr.take().expect("a pipe")).lines();
    let line = lines.next().expect("a line").expect("text");
    assert_eq!(line, "berth: waiting: somebody else builds into out");
    assert_eq!(names(&out), [".root.erofs.999999-0.part"]);
    drop(first);
    let said: Vec<String> = lines.map(|line| line.expect("text")).collect();
    assert!(second.wait().expect("its end").success(), "{said:?}");
    assert_eq!(names(&out), OUTPUTS);
}

#[test]
fn a_format_that_is_not_asked_for_any_more_goes_away() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    assert!(fixture.build(&[]).status.success());
    let config = crate::fixture::CONFIG.replace(
        "version = \"1.2.3\"",
        "version = \"1.2.3\"\nformats = [\"qcow2\"]",
    );
    fs::write(fixture.path("berth.toml"), config).expect("write");
    let output = fixture.build(&[]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(!fixture.path("out/disk.raw").exists());
    assert!(fixture.path("out/disk.qcow2").exists());
}

#[test]
fn a_working_directory_that_the_image_lacks_is_in_the_root() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let config = format!("{}working_dir = \"/srv/app\"\n", crate::fixture::CONFIG);
    fs::write(fixture.path("berth.toml"), config).expect("write");
    let output = fixture.build(&[]);
    assert!(output.status.success(), "{}", said(&output));
    let root = fs::read(fixture.path("out/root.erofs")).expect("a root");
    let entries = berth_erofs::entries(&root).expect("entries");
    let made = entries.iter().find(|(path, _)| path.ends_with(b"/srv/app"));
    assert!(made.is_some_and(|(_, entry)| entry.is_directory() && entry.mode & 0o777 == 0o755));
}

#[test]
fn a_user_that_a_user_namespace_lacks_is_a_mistake_of_the_configuration() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let config = format!("{}user = \"65536\"\n", crate::fixture::CONFIG);
    fs::write(fixture.path("berth.toml"), config).expect("write");
    let output = fixture.build(&[]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("user 65536 is beyond the user namespace"));
}

#[test]
fn a_lock_pins_the_image_the_kernel_and_the_stub() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    assert!(fixture.build(&[]).status.success());
    let lock = fs::read_to_string(fixture.path("berth.lock")).expect("a lock file");
    for word in ["[kernel]", "[stub]", "\"oci:image\" = \"sha256:"] {
        assert!(lock.contains(word), "{word} is not in {lock}");
    }
    assert!(fixture.build(&[]).status.success(), "the same once more");

    fixture.image("image", b"another program");
    let output = fixture.build(&[]);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains("berth.lock: image \"oci:image\" was sha256:"));
    assert!(fixture.build(&["--update-lock"]).status.success());
    assert!(fixture.build(&[]).status.success());

    let mut kernel = fs::read(fixture.path("kernel")).expect("kernel");
    kernel.extend([0; 4096]);
    fs::write(fixture.path("kernel"), kernel).expect("kernel");
    let output = fixture.build(&[]);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains("the kernel's SHA-256 was"));
}

#[test]
fn a_lock_is_not_made_by_a_build_that_fails_and_a_broken_one_is_not_believed() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    fs::remove_dir_all(fixture.path("image")).expect("remove");
    assert!(!fixture.build(&[]).status.success());
    assert!(!fixture.path("berth.lock").exists());
    fixture.image("image", b"x");
    fs::write(fixture.path("berth.lock"), "schema = 9\n").expect("write");
    let output = fixture.build(&[]);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains("--update-lock"));
}

#[test]
fn source_date_epoch_is_the_date() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let build = |date: &str| {
        let mut command = fixture.command();
        command.args(["build", "--kernel", "kernel", "--json"]);
        command.env("SOURCE_DATE_EPOCH", date);
        command.output().expect("the command starts")
    };
    let output = build("1234567890");
    let manifest: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(manifest["built"], 1_234_567_890);
    let output = build("yesterday");
    assert_eq!(output.status.code(), Some(4));
    assert!(said(&output).contains("SOURCE_DATE_EPOCH"));
}

#[test]
fn what_is_privileged_is_listed() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let config = format!("{}privileged = true\n", crate::fixture::CONFIG);
    fs::write(fixture.path("berth.toml"), config).expect("write");
    let output = fixture.build(&[]);
    assert!(said(&output).contains("note: container \"web\": is privileged"));
    let output = fixture.berth(&["inspect", "--svg", "bytes.svg"]);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("every capability") && table.contains("no user namespace"));
    let drawing = fs::read_to_string(fixture.path("bytes.svg")).expect("a drawing");
    assert!(drawing.starts_with("<svg ") && drawing.contains("kernel"));
}

#[test]
fn outputs_are_readable_by_others_whatever_was_temporary() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    assert!(fixture.build(&[]).status.success());
    for name in OUTPUTS {
        let mode = fs::metadata(fixture.path("out").join(name))
            .expect("metadata")
            .permissions()
            .mode();
        assert_eq!(mode & 0o111, 0, "{name} is not a program");
        assert_eq!(mode & 0o400, 0o400, "{name}");
    }
}
