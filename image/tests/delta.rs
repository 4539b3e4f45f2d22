//! `berth delta` as its user meets it: files, messages, exit codes.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().expect("directory"));
        // The tool itself, and a later version of it with some bytes more.
        let old = fs::read(env!("CARGO_BIN_EXE_berth")).expect("read");
        let old = &old[..old.len().min(3 << 20)];
        let mut new = old.to_vec();
        new.splice(1_000_000..1_000_010, *b"something else and longer");
        fs::write(files.path("old"), old).expect("write");
        fs::write(files.path("new"), new).expect("write");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn berth(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_berth"))
            .arg("delta")
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .expect("berth runs")
    }

    #[track_caller]
    fn ends(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let output = self.berth(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}");
        for word in words {
            assert!(text.contains(word), "{word:?} is not in {text:?}");
        }
    }
}

#[test]
fn a_patch_makes_the_new_file_and_is_small() {
    let files = Files::new();
    files.ends(&["create", "old", "new", "-o", "patch"], 0, &["patch"]);
    let patch = fs::metadata(files.path("patch")).expect("patch").len();
    assert!(patch < 2000, "{patch} bytes");
    files.ends(&["apply", "old", "patch", "-o", "made"], 0, &["made"]);
    let read = |name| fs::read(files.path(name)).expect("read");
    assert!(read("made") == read("new"));
}

#[test]
fn another_old_file_is_refused_before_anything_is_written() {
    let files = Files::new();
    files.ends(&["create", "old", "new", "-o", "patch"], 0, &[]);
    fs::write(files.path("made"), "kept").expect("write");
    let not_old = [
        "new is not the file that the patch was made from",
        "SHA-256",
    ];
    files.ends(&["apply", "new", "patch", "-o", "made"], 4, &not_old);
    assert_eq!(fs::read(files.path("made")).expect("read"), b"kept");
}

#[test]
fn a_damaged_patch_leaves_no_new_file() {
    let files = Files::new();
    files.ends(&["create", "old", "new", "-o", "patch"], 0, &[]);
    let whole = fs::read(files.path("patch")).expect("read");
    let end = whole.len() - 1;
    let damage: [(&str, Vec<u8>); 4] = [
        ("not a Berth patch", b"text".to_vec()),
        (
            "head is damaged",
            [&whole[..60], &[!whole[60]], &whole[61..]].concat(),
        ),
        (
            "payload is damaged",
            [&whole[..end], &[!whole[end]]].concat(),
        ),
        ("cut off", whole[..end].to_vec()),
    ];
    for (said, bytes) in damage {
        fs::write(files.path("patch"), bytes).expect("write");
        files.ends(
            &["apply", "old", "patch", "-o", "made"],
            4,
            &["patch", said],
        );
        assert!(!files.path("made").exists());
    }
    let left = fs::read_dir(files.0.path()).expect("list").count();
    assert_eq!(left, 3, "old, new, patch");
}

#[test]
fn files_that_are_missing_and_places_that_cannot_be_written_have_their_codes() {
    let files = Files::new();
    files.ends(
        &["create", "nothing", "new", "-o", "patch"],
        4,
        &["cannot read nothing"],
    );
    files.ends(
        &["create", "old", "new", "-o", "no/patch"],
        5,
        &["cannot write no/patch"],
    );
    files.ends(&["create", "old", "new"], 2, &["--out"]);
}
