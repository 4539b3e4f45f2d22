//! `berth diff`: what a reviewer of an update must see, first what matters.

use std::fs;

use berth::build::Progress;
use berth::diff::{Side, compare};
use berth_delta::Limits;
use berth_tree::{Kind, Metadata, Node};
use serde_json::Value;

use crate::fixture::{CONFIG, Fixture, names, said};

/// The next version: another program, one capability more, another limit.
fn next(fixture: &Fixture) {
    let config = CONFIG.replace("1.2.3", "1.3.0").replace(
        "[container.web]",
        "[container.web]\ncap_add = [\"NET_BIND_SERVICE\"]",
    );
    fs::write(fixture.path("berth.toml"), config).expect("configuration");
    fixture.image("image", b"#!/bin/server --faster\n");
}

/// Two builds, `old` and `new`.
fn two_builds() -> Option<Fixture> {
    let fixture = Fixture::new()?;
    for directory in ["old", "new"] {
        let output = fixture.build(&["--out", directory, "--update-lock"]);
        assert!(output.status.success(), "{}", said(&output));
        next(&fixture);
    }
    Some(fixture)
}

#[track_caller]
fn text(fixture: &Fixture, arguments: &[&str]) -> String {
    let output = fixture.berth(&[&["diff"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    String::from_utf8(output.stdout).expect("text")
}

fn json(fixture: &Fixture, arguments: &[&str]) -> Value {
    let text = text(fixture, &[arguments, &["--json"]].concat());
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn what_got_more_privileged_is_said_before_everything_else() {
    let Some(fixture) = two_builds() else { return };
    let text = text(&fixture, &["old", "new", "--no-cost"]);
    let lines: Vec<&str> = text.lines().collect();
    let expected = [
        "test 1.2.3 -> 1.3.0",
        "",
        "More privileged",
        "  + container web: capability NET_BIND_SERVICE",
    ];
    assert_eq!(lines[..4], expected, "{text}");
    assert!(text.contains("web:/bin/server\n"), "{text}");
    assert!(!text.contains("Less privileged"), "{text}");
    let back = json(&fixture, &["new", "old", "--no-cost"]);
    assert_eq!(back["more_privileged"], serde_json::json!([]));
    let lost = "container web: capability NET_BIND_SERVICE";
    assert_eq!(back["less_privileged"], serde_json::json!([lost]));
}

#[test]
fn a_build_does_not_differ_from_itself() {
    let Some(fixture) = two_builds() else { return };
    let all = ["old", "old", "--exit-code"];
    let text = text(&fixture, &all);
    assert!(text.contains("nothing differs"), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
    let output = fixture.berth(&["diff", "old", "new", "--no-cost", "--exit-code"]);
    assert_eq!(output.status.code(), Some(8));
    let output = fixture.berth(&["diff", "old", "new", "--no-cost"]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn what_an_update_costs_is_what_publish_makes() {
    let Some(fixture) = two_builds() else { return };
    assert!(fixture.berth(&["keys", "new"]).status.success());
    let publish = |build: &str| {
        let output = fixture.berth(&["publish", build, "published", "--json"]);
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    publish("old");
    // Before it is published: against what machines have.
    let before = json(&fixture, &["published", "new"]);
    let release = publish("new");
    let after = json(&fixture, &["published@1.2.3", "published"]);
    for difference in [&before, &after] {
        for part in ["boot", "root"] {
            let told = &difference["update"][part];
            assert_eq!(told["bytes"], release["deltas"][0][part]["bytes"]);
            let by = told["by"].as_array().expect("a list");
            let sum: u64 = by
                .iter()
                .filter_map(|one| one["patch_bytes"].as_u64())
                .sum();
            assert_eq!(told["bytes"], sum);
        }
        assert_eq!(difference["files"], before["files"]);
        assert_eq!(difference["containers"], before["containers"]);
    }
    let server = before["files"].as_array().expect("files").iter();
    let mut server = server.filter(|file| file["path"] == "web:/bin/server");
    let server = server.next().expect("the program");
    assert_eq!(server["old_bytes"], 14);
    assert_eq!(server["new_bytes"], 23);
    assert!(server["patch_bytes"].as_u64() > Some(0), "{server}");

    let output = fixture.berth(&["diff", "published@7", "new"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(
        said(&output).contains("it has 1.3.0, 1.2.3"),
        "{}",
        said(&output)
    );
}

/// Puts a configuration of the kernel beside a build, as those of our own kernels have one.
fn with_options(fixture: &Fixture, build: &str, version: &str, options: &str) {
    use sha2::{Digest, Sha256};
    let directory = fixture.path(build);
    fs::write(directory.join("kernel.config"), options).expect("a configuration");
    let path = directory.join("manifest.json");
    let text = fs::read(&path).expect("a manifest");
    let mut manifest: Value = serde_json::from_slice(&text).expect("JSON");
    let hash = Sha256::digest(options);
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let file = serde_json::json!({ "bytes": options.len(), "sha256": hash });
    manifest["files"]["kernel.config"] = file;
    manifest["kernel"]["version"] = version.into();
    fs::write(&path, manifest.to_string()).expect("a manifest");
}

#[test]
fn options_of_the_kernel_are_told_with_both_values() {
    let Some(fixture) = two_builds() else { return };
    with_options(
        &fixture,
        "old",
        "6.12.115",
        "CONFIG_A=y\nCONFIG_B=y\n# CONFIG_LONGER is not set\n",
    );
    with_options(
        &fixture,
        "new",
        "6.12.117",
        "CONFIG_A=y\nCONFIG_LONGER=m\nCONFIG_NEW=\"x\"\n",
    );
    let text = text(&fixture, &["old", "new", "--no-cost"]);
    let expected = "Kernel 6.12.115 -> 6.12.117\n  B       y -> -\n  LONGER  n -> m\n  \
                    NEW     - -> \"x\"\n";
    assert!(text.contains(expected), "{text}");
    // Somebody else's configuration is none of this build's.
    fs::write(fixture.path("new/kernel.config"), "CONFIG_A=y\n").expect("write");
    let output = fixture.berth(&["diff", "old", "new", "--no-cost"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(
        said(&output).contains("new/kernel.config"),
        "{}",
        said(&output)
    );
}

#[test]
fn the_same_version_twice_is_warned_of() {
    let Some(fixture) = two_builds() else { return };
    fs::write(fixture.path("berth.toml"), CONFIG).expect("configuration");
    let output = fixture.build(&["--out", "new"]);
    assert!(output.status.success(), "{}", said(&output));
    let text = text(&fixture, &["old", "new", "--no-cost"]);
    assert!(
        text.contains("! both are called 1.2.3: raise version"),
        "{text}"
    );
}

/// Takes the line above away and says something else.
const FORGED: &str = "\r\x1b[1A\x1b[2K\u{9b}2K\x7f\n  nothing got more privileged";

/// An image whose program's other name, link, volume and history hold that.
fn forging_image(fixture: &Fixture, program: &[u8]) {
    fixture.image_with("image", program, |tree, server, image| {
        let mut server = server.clone();
        server.metadata.mode = 0o4755;
        let name = format!("bin/{}{FORGED}", program.len());
        tree.insert(name.as_bytes(), server).expect("a program");
        let target = format!("{}{FORGED}", program.len());
        let link = Node {
            metadata: Metadata::system(0o777),
            kind: Kind::Symlink(target.into_bytes()),
        };
        tree.insert(b"bin/link", link).expect("a link");
        image.execution.volumes = [format!("/data{FORGED}")].into();
        image.created_by = format!("RUN make{FORGED}");
    });
}

#[test]
fn nothing_in_an_image_moves_the_readers_cursor() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let config = format!("{CONFIG}privileged = true\n");
    let clean = |what: &str, text: &str| {
        let control = |char: char| char.is_control() && char != '\n';
        assert!(!text.contains(control), "{what}: {text:?}");
        assert!(!text.contains("\n  nothing got"), "{what}: {text:?}");
    };
    for (directory, version, program) in [("old", "1.2.3", "one"), ("new", "1.2.4", "three")] {
        let config = config.replace("1.2.3", version);
        fs::write(fixture.path("berth.toml"), config).expect("configuration");
        forging_image(&fixture, program.as_bytes());
        let output = fixture.build(&["--out", directory, "--update-lock"]);
        assert!(output.status.success(), "{}", said(&output));
        let said = said(&output);
        let told = said
            .lines()
            .find(|line| line.contains("declares the volume"));
        clean("a note", told.expect("a note"));
        assert!(!said.contains("\n  nothing got"), "{said:?}");
    }
    let shown = text(&fixture, &["old", "new", "--all"]);
    for part in [
        "More privileged\n  + web:/bin/5 ",
        "(leads to 3 ",
        "  web:/bin/3 ",
    ] {
        assert!(shown.contains(part), "{part:?} is not in: {shown:?}");
    }
    clean("diff", &shown);
    let output = fixture.berth(&["inspect", "old"]);
    let shown = String::from_utf8(output.stdout).expect("text");
    assert!(shown.contains("RUN make "), "{shown:?}");
    clean("inspect", &shown);
    // Who reads JSON gets what there is.
    let json = json(&fixture, &["old", "new", "--no-cost"]);
    let more = json["more_privileged"][0].as_str().expect("a sentence");
    assert!(
        more.starts_with(&format!("web:/bin/5{FORGED} is set-id")),
        "{more:?}"
    );
}

#[test]
fn a_directory_with_neither_is_named() {
    let Some(fixture) = two_builds() else { return };
    let output = fixture.berth(&["diff", "old", "image"]);
    assert_eq!(output.status.code(), Some(4));
    let said = said(&output);
    assert!(said.contains("image: neither a build"), "{said}");
    assert!(names(&fixture.path("")).contains(&"old".to_owned()));
}

#[test]
fn a_root_that_is_too_large_for_a_patch_is_compared_without_its_cost() {
    let Some(fixture) = two_builds() else { return };
    let [old, new] =
        Side::load_both(&fixture.path("old"), &fixture.path("new")).expect("two builds");
    let limits = Limits {
        image_bytes: 4096,
        ..Limits::default()
    };
    let difference = compare(&old, &new, Some(&limits), &Progress::default());
    let difference = difference.expect("a comparison");
    assert_eq!(difference.update, None);
    let said = difference.warnings.join("\n");
    assert!(
        said.contains("what the update costs is not known: an image"),
        "{said}"
    );
    assert_eq!(difference.more_privileged.len(), 1);
}
