//! `berth bundle`: a file that somebody else's tar lists, with what one machine type needs, or a
//! sentence and no file.

use std::fs;
use std::process::Command;

use super::fixture::{Fixture, said};

/// Two versions of one product, published.
fn two_published() -> Option<Fixture> {
    let fixture = Fixture::small()?;
    for version in ["1", "2"] {
        fixture.version(version, "");
        let output = fixture.berth(&["publish", version, "published"]);
        assert!(output.status.success(), "{}", said(&output));
    }
    Some(fixture)
}

/// The names that tar finds in a bundle.
fn listed(fixture: &Fixture, bundle: &str) -> Vec<String> {
    let tar = Command::new("tar")
        .args(["tf", bundle])
        .current_dir(fixture.path(""))
        .output()
        .expect("tar, which the tests need");
    assert!(tar.status.success() && tar.stderr.is_empty(), "{tar:?}");
    let names = String::from_utf8(tar.stdout).expect("names");
    names.lines().map(str::to_owned).collect()
}

fn count(names: &[String], folder: &str) -> usize {
    names.iter().filter(|name| name.starts_with(folder)).count()
}

#[test]
fn a_bundle_is_an_archive_with_what_any_machine_of_its_type_needs() {
    let Some(fixture) = two_published() else {
        return;
    };
    let output = fixture.berth(&["bundle", "published", "-o", "bundle", "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["version"], "2");
    let length = fs::metadata(fixture.path("bundle"))
        .expect("a bundle")
        .len();
    assert_eq!(answer["bytes"], length);
    assert_eq!(length % (1 << 20), 0, "whole MiB");

    let names = listed(&fixture, "bundle");
    assert_eq!(names[0], "berth-bundle-1");
    assert_eq!(count(&names, "metadata/"), 4, "{names:?}");
    assert_eq!(count(&names, "targets/test/cloud/x86_64/"), 1, "{names:?}");
    assert_eq!(count(&names, "deltas/"), 2, "{names:?}");
    assert_eq!(names.len(), 8, "{names:?}");
    // What tar takes out is what was published, byte for byte.
    let unpacked = Command::new("tar")
        .args(["xf", "bundle", "--one-top-level=unpacked"])
        .current_dir(fixture.path(""))
        .status();
    assert!(unpacked.expect("tar").success());
    for name in &names[1..] {
        let read = |folder| fs::read(fixture.path(folder).join(name)).expect(name);
        assert!(read("unpacked") == read("published"), "{name}");
    }

    let again = fixture.berth(&["bundle", "published", "-o", "again"]);
    assert!(again.status.success(), "{}", said(&again));
    let read = |name| fs::read(fixture.path(name)).expect(name);
    assert!(read("bundle") == read("again"), "same inputs, same bytes");
}

#[test]
fn a_bundle_from_a_version_has_its_deltas_and_no_image() {
    let Some(fixture) = two_published() else {
        return;
    };
    let output = fixture.berth(&["bundle", "published", "-o", "small", "--from", "1"]);
    assert!(output.status.success(), "{}", said(&output));
    let names = listed(&fixture, "small");
    assert!((1..=2).contains(&count(&names, "deltas/")), "{names:?}");
    let wrong = fixture.berth(&["bundle", "published", "-o", "none", "--from", "7"]);
    assert_eq!(wrong.status.code(), Some(4));
    assert!(
        said(&wrong).contains("no delta from version 7 to version 2; there are some from: 1"),
        "{}",
        said(&wrong)
    );
    assert!(!fixture.path("none").exists());
}

#[test]
fn a_bundle_is_for_one_machine_type_and_only_of_what_was_signed() {
    let Some(fixture) = two_published() else {
        return;
    };
    let config = fs::read_to_string(fixture.path("berth.toml")).expect("a configuration");
    let other = config.replace("name = \"test\"", "name = \"other\"");
    fs::write(fixture.path("berth.toml"), other).expect("a configuration");
    let built = fixture.build(&["--out", "other", "--update-lock"]);
    assert!(built.status.success(), "{}", said(&built));
    let output = fixture.berth(&["publish", "other", "published"]);
    assert!(output.status.success(), "{}", said(&output));

    let unclear = fixture.berth(&["bundle", "published", "-o", "bundle"]);
    assert_eq!(unclear.status.code(), Some(4));
    let words = said(&unclear);
    assert!(
        words.contains("other/cloud/x86_64") && words.contains("test/cloud/x86_64"),
        "{words}"
    );
    let clear = ["bundle", "published", "-o", "bundle", "--product", "other"];
    assert!(fixture.berth(&clear).status.success());
    let unknown = ["bundle", "published", "-o", "x", "--product", "third"];
    assert!(said(&fixture.berth(&unknown)).contains("has no such machine"));

    // A patch that is not what was signed does not get into a bundle, nor does half of one stay.
    let names = listed(&fixture, "bundle");
    let patch = names.iter().find(|name| name.starts_with("deltas/"));
    let path = fixture.path("published").join(patch.expect("a patch"));
    let mut bytes = fs::read(&path).expect("a patch");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).expect("a damaged patch");
    let before = fs::read(fixture.path("bundle")).expect("a bundle");
    let damaged = fixture.berth(&clear);
    assert_eq!(damaged.status.code(), Some(4));
    assert!(said(&damaged).contains("it is not what was signed"));
    assert!(fs::read(fixture.path("bundle")).expect("the bundle") == before);
}

#[test]
fn a_version_is_tried_again_only_after_it_was_published() {
    let Some(fixture) = Fixture::small() else {
        return;
    };
    fixture.version("1", "");
    let early = fixture.berth(&["publish", "1", "published", "--again"]);
    assert!(!early.status.success());
    assert!(
        said(&early).contains("leave --again out"),
        "{}",
        said(&early)
    );
    let attempt = |more: &[&str]| {
        let arguments = [&["publish", "1", "published", "--json"], more].concat();
        let output = fixture.berth(&arguments);
        assert!(output.status.success(), "{}", said(&output));
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        answer["attempt"].as_u64().unwrap_or(0)
    };
    assert_eq!(attempt(&[]), 0);
    assert_eq!(attempt(&["--again"]), 1);
    // Another rollout of the same attempt is not another attempt.
    assert_eq!(attempt(&["--waves", "10%"]), 1);
    assert_eq!(attempt(&["--again"]), 2);
}
