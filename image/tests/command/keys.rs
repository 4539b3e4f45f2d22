//! Keys and root files from the first set to a rotation, as their holders do it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use berth_trust::write::RootStatus;

use crate::fixture::{names, said};

fn berth(directory: &Path, arguments: &[&str]) -> Output {
    let command = Command::new(env!("CARGO_BIN_EXE_berth"))
        .current_dir(directory)
        .args(arguments)
        .output();
    command.expect("the command starts")
}

#[track_caller]
fn done(directory: &Path, arguments: &[&str]) -> String {
    let output = berth(directory, arguments);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    said(&output)
}

#[track_caller]
fn refused(directory: &Path, code: i32, arguments: &[&str]) -> String {
    let output = berth(directory, arguments);
    assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    said(&output)
}

fn status(path: &Path, previous: Option<&Path>) -> RootStatus {
    let previous = previous.map(|path| fs::read(path).expect("a root"));
    RootStatus::of(&fs::read(path).expect("a root"), previous.as_deref()).expect("a root")
}

#[test]
fn a_set_is_made_once_and_its_private_keys_are_their_owners_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let said = done(directory.path(), &["keys", "new"]);
    assert!(
        said.contains("signed by 3 keys where 2 are needed"),
        "{said}"
    );
    assert!(
        said.contains("give keys/root/holder-1.pem to its holder"),
        "{said}"
    );
    let keys = directory.path().join("keys");
    assert_eq!(names(&keys), ["1.root.json", "online", "root"]);
    let online = [
        "snapshot.pem",
        "snapshot.pub",
        "targets.pem",
        "targets.pub",
        "timestamp.pem",
    ];
    assert_eq!(names(&keys.join("online"))[..5], online);
    for part in ["online", "root"] {
        for name in names(&keys.join(part)) {
            let file = keys.join(part).join(&name);
            let mode = fs::metadata(file).expect("a file").permissions().mode() & 0o777;
            assert_eq!(
                mode,
                if name.ends_with(".pem") { 0o600 } else { 0o644 },
                "{name}"
            );
        }
    }
    assert!(status(&keys.join("1.root.json"), None).complete());

    // Again: nothing is touched.
    let before = fs::read(keys.join("root/holder-1.pem")).expect("a key");
    let said = refused(directory.path(), 5, &["keys", "new"]);
    assert!(said.contains("never overwritten"), "{said}");
    fs::remove_file(keys.join("1.root.json")).expect("removed");
    refused(directory.path(), 5, &["keys", "new"]);
    assert_eq!(
        fs::read(keys.join("root/holder-1.pem")).expect("a key"),
        before
    );
    refused(
        directory.path(),
        5,
        &["keys", "make", "keys/root/holder-1.pem"],
    );
}

#[test]
fn a_root_is_a_draft_until_enough_holders_have_signed_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    done(path, &["keys", "make", "alice.pem"]);
    done(path, &["keys", "make", "bob.pem"]);
    done(path, &["keys", "make", "eve.pem"]);
    let alice_and_bob = [
        "keys",
        "new",
        "set",
        "--public",
        "alice.pub",
        "--public",
        "bob.pub",
    ];
    done(path, &alice_and_bob);
    assert_eq!(
        names(&path.join("set")),
        ["1.root.draft.json", "online", "root"]
    );
    let draft = "set/1.root.draft.json";
    let said = refused(path, 4, &["sign", draft, "--key", "eve.pem"]);
    assert!(said.contains("would count for nothing"), "{said}");
    let said = done(path, &["sign", draft, "--key", "alice.pem"]);
    assert!(
        said.contains("signed by 1 keys where 2 are needed"),
        "{said}"
    );
    done(path, &["sign", draft, "--key", "alice.pem"]);
    assert!(path.join(draft).exists());
    done(path, &["sign", draft, "--key", "bob.pem"]);
    assert_eq!(names(&path.join("set")), ["1.root.json", "online", "root"]);

    // Bob leaves, Eve comes, and the timestamp gets another key.
    done(path, &["keys", "make", "set/online/timestamp-2.pem"]);
    let id = |file: &str| {
        let output = berth(path, &["keys", "show", file, "--json"]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        json["files"][0]["id"]
            .as_str()
            .expect("an identifier")
            .to_owned()
    };
    let bob = format!("root={}", &id("bob.pub")[..12]);
    let old = format!("timestamp={}", id("set/online/timestamp.pem"));
    let change = [
        "--add",
        "root=eve.pub",
        "--remove",
        &bob,
        "--remove",
        &old,
        "--add",
        "timestamp=set/online/timestamp-2.pub",
    ];
    let said = done(
        path,
        &[&["keys", "next", "set/1.root.json"], &change[..]].concat(),
    );
    assert!(said.contains("0 of the 2 that root 1 asks for"), "{said}");
    let draft = "set/2.root.draft.json";
    for (key, complete) in [("alice.pem", false), ("eve.pem", false), ("bob.pem", true)] {
        assert!(path.join(draft).exists(), "before {key}");
        done(path, &["sign", draft, "--key", key]);
        assert_eq!(
            path.join("set/2.root.json").exists(),
            complete,
            "after {key}"
        );
    }
    let (first, second) = (path.join("set/1.root.json"), path.join("set/2.root.json"));
    assert!(status(&second, Some(&first)).complete());
    let output = berth(path, &["keys", "show", "set/2.root.json"]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains(&id("set/online/timestamp-2.pub")) && shown.contains("has signed"));
    assert!(!shown.contains(&old["timestamp=".len()..]), "{shown}");
}

#[test]
fn what_makes_no_sense_is_refused_before_a_file_is_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let new = |more: &[&str]| refused(path, 4, &[&["keys", "new"], more].concat());
    let said = new(&["--holder", "alice", "--threshold", "2"]);
    assert!(said.contains("2 of 1 holders can never sign"), "{said}");
    new(&["--holder", "../alice"]);
    new(&["--holder", "alice", "--holder", "alice"]);
    new(&["--threshold", "0"]);
    new(&["--public", "nobody.pub"]);
    assert!(names(path).is_empty());

    done(path, &["keys", "new", "--holder", "alice"]);
    let next = |more: &[&str]| {
        refused(
            path,
            4,
            &[&["keys", "next", "keys/1.root.json"], more].concat(),
        );
    };
    next(&["--remove", "root=0123"]);
    next(&["--threshold", "2"]);
    next(&["--add", "root=nobody.pub"]);
    refused(path, 4, &["keys", "next", "keys/root/alice.pem"]);
    refused(
        path,
        2,
        &[
            "keys",
            "next",
            "keys/1.root.json",
            "--add",
            "boss=alice.pub",
        ],
    );
    refused(path, 4, &["keys", "show", "keys/nothing"]);
    assert_eq!(names(&path.join("keys")), ["1.root.json", "online", "root"]);
}

#[test]
fn a_private_key_never_gets_the_name_of_a_public_half_nor_goes_where_one_belongs() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let said = refused(path, 4, &["keys", "make", "alice.pub"]);
    assert!(said.contains("name the private key's file"), "{said}");
    assert!(names(path).is_empty());
    done(path, &["keys", "make", "alice.pem"]);
    let said = refused(path, 4, &["keys", "new", "--public", "alice.pem"]);
    assert!(said.contains("give the public half"), "{said}");
    assert_eq!(names(path), ["alice.pem", "alice.pub"]);
}

#[test]
fn a_root_that_is_finished_stays_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    done(path, &["keys", "new"]);
    let root = path.join("keys/1.root.json");
    let before = fs::read(&root).expect("a root");
    let sign = [
        "sign",
        "keys/1.root.json",
        "--key",
        "keys/root/holder-1.pem",
    ];
    let said = refused(path, 4, &sign);
    assert!(said.contains("nothing left to sign"), "{said}");
    assert_eq!(fs::read(&root).expect("a root"), before);

    done(path, &["keys", "next", "keys/1.root.json"]);
    for holder in ["1", "2"] {
        let key = format!("keys/root/holder-{holder}.pem");
        done(path, &["sign", "keys/2.root.draft.json", "--key", &key]);
    }
    let said = refused(path, 4, &["keys", "next", "keys/1.root.json"]);
    assert!(said.contains("keys/2.root.json follows it"), "{said}");
}

#[test]
fn a_holder_sees_that_a_key_goes_by_anothers_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    done(
        path,
        &["keys", "new", "--holder", "alice", "--holder", "bob"],
    );
    done(path, &["keys", "next", "keys/1.root.json"]);
    let draft = path.join("keys/2.root.draft.json");
    let text = fs::read_to_string(&draft).expect("a draft");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let keys = json["signed"]["keys"].as_object().expect("keys");
    let public = keys
        .values()
        .map(|key| key["keyval"]["public"].as_str().expect("a key"))
        .next()
        .expect("one");
    fs::write(&draft, text.replace(public, &"0".repeat(64))).expect("a draft");
    for arguments in [
        &["keys", "show", "keys/2.root.draft.json"][..],
        &[
            "sign",
            "keys/2.root.draft.json",
            "--key",
            "keys/root/alice.pem",
        ],
    ] {
        let said = refused(path, 4, arguments);
        assert!(said.contains("so do not sign it"), "{said}");
    }
}
