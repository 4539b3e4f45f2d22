//! What the command's exit codes promise, and that each message names file and place.

use std::fs;
use std::process::Output;

use crate::fixture::{Fixture, said};

fn assert_exit(output: &Output, code: i32, words: &[&str]) {
    let text = said(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

/// Builds where no file may be larger than this: a write that goes over it fails as on a full disk.
fn build_within(fixture: &Fixture, kilobytes: &str) -> Output {
    let script = format!(
        "trap '' XFSZ; ulimit -f {kilobytes}; exec {} build --kernel kernel",
        env!("CARGO_BIN_EXE_berth")
    );
    std::process::Command::new("bash")
        .args(["-c", &script])
        .current_dir(fixture.path(""))
        .env("BERTH_ASSETS", fixture.path("assets"))
        .output()
        .expect("bash starts")
}

fn assert_left_nothing(fixture: &Fixture) {
    assert_eq!(
        crate::fixture::names(&fixture.path("out")),
        Vec::<String>::new()
    );
    assert!(!fixture.path("berth.lock").exists());
}

#[test]
fn a_correct_file_is_0_and_a_wrong_one_is_3_with_every_mistake() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    assert_exit(&fixture.berth(&["check"]), 0, &["correct", "1 container"]);
    fs::write(
        fixture.path("berth.toml"),
        "schema = 1\n[image]\nname = 7\nversion = \"1\"\ncolour = 1\n",
    )
    .expect("write");
    let output = fixture.berth(&["check"]);
    assert_exit(
        &output,
        3,
        &["berth.toml:3:8: name: ", "berth.toml:5:1: unknown key"],
    );
    let output = fixture.berth(&["check", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["mistakes"][0]["line"], 3);
    assert_eq!(json["mistakes"][1]["column"], 1);
    assert_exit(&fixture.build(&[]), 3, &["berth.toml:3:8"]);
}

#[test]
fn a_wrong_command_line_is_2() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    assert_exit(&fixture.berth(&["biuld"]), 2, &["biuld"]);
    assert_exit(&fixture.berth(&["run", "--memory", "7"]), 2, &["--memory"]);
    assert_exit(
        &fixture.berth(&["test", "--power-cut", "no"]),
        2,
        &["--power-cut"],
    );
}

#[test]
fn inputs_that_are_missing_or_damaged_are_4() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    assert_exit(&fixture.berth(&["check", "no.toml"]), 4, &["no.toml"]);
    assert_exit(&fixture.berth(&["test", "no.toml"]), 4, &["no.toml"]);
    assert_exit(&fixture.berth(&["inspect", "nowhere"]), 4, &["nowhere"]);
    let output = fixture.berth(&["build", "--kernel", "no-kernel"]);
    assert_exit(&output, 4, &["no-kernel"]);
    fs::remove_file(fixture.path("image/index.json")).expect("remove");
    assert_exit(&fixture.build(&[]), 4, &["image"]);
    fixture.image("image", b"x");
    for entry in fs::read_dir(fixture.path("image/blobs/sha256")).expect("blobs") {
        let path = entry.expect("a blob").path();
        let bytes = fs::read(&path).expect("read");
        fs::write(&path, &bytes[..bytes.len() - 1]).expect("truncate");
    }
    assert_exit(&fixture.build(&[]), 4, &["image"]);
    assert!(!fixture.path("out/manifest.json").exists());
}

#[test]
fn a_file_that_does_not_fit_its_image_is_3_with_its_place() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let config = format!("{}user = \"nobody\"\n", crate::fixture::CONFIG);
    fs::write(fixture.path("berth.toml"), config).expect("write");
    assert_exit(
        &fixture.build(&[]),
        3,
        &["berth.toml:9:8: container \"web\": ", "nobody"],
    );
}

#[test]
fn an_output_that_cannot_be_written_is_5() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    fs::write(fixture.path("out"), "a file").expect("write");
    assert_exit(&fixture.build(&[]), 5, &["out"]);
    let output = fixture.build(&["--out", "/proc/berth"]);
    assert_exit(&output, 5, &["/proc/berth"]);
}

#[test]
fn a_file_that_is_too_large_for_its_disk_is_5_and_leaves_nothing() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    for kilobytes in ["4", "64", "700", "1300", "3000"] {
        let output = build_within(&fixture, kilobytes);
        assert_exit(&output, 5, &["cannot write"]);
        assert_left_nothing(&fixture);
    }
}

#[test]
fn no_room_for_temporary_data_is_5_and_names_the_place() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let (large, init) = (b"0123456789".repeat(20_000), fixture.path("assets/init"));
    let words = ["cannot write temporary data in ", "/out/.berth-build-"];
    fs::write(&init, &large).expect("a large /init");
    assert_exit(&build_within(&fixture, "64"), 5, &words);
    assert_left_nothing(&fixture);
    fs::write(&init, b"init").expect("a small /init");
    fixture.image("image", &large);
    let output = build_within(&fixture, "64");
    assert_exit(&output, 5, &words);
    assert_exit(&output, 5, &["oci:image: cannot unpack layer sha256:"]);
    assert_left_nothing(&fixture);
}

#[test]
fn a_tool_without_its_parts_or_programs_is_6_and_names_them() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let built = fixture.build(&[]);
    assert_exit(&built, 0, &["disk.raw"]);
    let output = fixture
        .command()
        .args(["run", "out"])
        .env("PATH", "")
        .output()
        .expect("the command starts");
    assert_exit(
        &output,
        6,
        &["qemu-system-x86_64", "apt-get install qemu-system-x86"],
    );
}

#[test]
fn archives_that_are_cut_short_or_no_archives_are_4_and_leave_nothing() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let whole = std::process::Command::new("tar")
        .args(["-C", "image", "-cf", "whole.tar", "."])
        .current_dir(fixture.path(""))
        .status()
        .expect("tar starts");
    assert!(whole.success());
    let whole = fs::read(fixture.path("whole.tar")).expect("the archive");
    let rubbish = b"no archive at all ".repeat(1000);
    let cases: [(&str, &[u8]); 4] = [
        ("oci-archive", &whole[..whole.len() / 2]),
        ("oci-archive", &rubbish),
        ("docker-archive", &whole[..whole.len() / 3]),
        ("docker-archive", b""),
    ];
    for (kind, bytes) in cases {
        fs::write(fixture.path("bad.tar"), bytes).expect("write");
        let reference = format!("{kind}:bad.tar");
        let config = crate::fixture::CONFIG.replace("oci:image", &reference);
        fs::write(fixture.path("berth.toml"), config).expect("write");
        assert_exit(&fixture.build(&[]), 4, &["bad.tar"]);
        assert!(!fixture.path("berth.lock").exists());
        let left = fixture.path("out");
        assert!(!left.exists() || crate::fixture::names(&left).is_empty());
    }
}
