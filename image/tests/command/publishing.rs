//! `berth publish` when something is in its way: at every moment a machine finds in the directory
//! what was published before, or what is published now, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use berth::build::Progress;
use berth::publish::{Published, Request, verify};
use berth_delta::Limits;

use crate::fixture::{Fixture, said};

/// System calls that change files, and what puts the changes on the medium.
const CHANGES: &str = "openat,write,rename,fsync,mkdir,unlink,chmod,fchmod";

/// What a machine finds.
#[track_caller]
fn found(fixture: &Fixture, directory: &str) -> String {
    let trust = fixture.path("keys/1.root.json");
    let verified = verify(&fixture.path(directory), &trust).expect("a directory to believe");
    let versions: Vec<_> = verified
        .releases
        .iter()
        .map(|one| one.version.as_str())
        .collect();
    versions.join(" ")
}

fn publish(fixture: &Fixture, build: &str, more: &[&str]) -> Output {
    fixture.berth(&[&["publish", build, "published"], more].concat())
}

#[track_caller]
fn published(fixture: &Fixture, build: &str) {
    let output = publish(fixture, build, &[]);
    assert!(output.status.success(), "{}", said(&output));
}

#[track_caller]
fn refused(fixture: &Fixture, build: &str, code: i32, words: &str) {
    let output = publish(fixture, build, &[]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(words), "{words:?} is not in {said:?}");
}

/// Publishes from a shell in which something was set before.
fn publish_after(fixture: &Fixture, set: &str, build: &str) -> Output {
    let berth = env!("CARGO_BIN_EXE_berth");
    let mut command = Command::new("bash");
    command.arg("-c");
    command.arg(format!("{set}; exec {berth} publish {build} published"));
    let output = command.current_dir(fixture.path("")).output();
    output.expect("bash starts")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).expect("a file")),
        }
    }
}

/// Every file in a directory, by its path in it.
fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(&path).expect("a directory") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => open.push(path),
                false => {
                    files.insert(path.strip_prefix(directory).expect("inside").to_owned());
                }
            }
        }
    }
    files
}

/// Publishes version 2 under strace with these options.
fn traced(fixture: &Fixture, options: &[&str]) -> Output {
    let mut command = Command::new("strace");
    command
        .args(["-qq", "-y", "-o", "log", "-e", &format!("trace={CHANGES}")])
        .args(options)
        .arg(env!("CARGO_BIN_EXE_berth"))
        .args(["publish", "2", "published"])
        .current_dir(fixture.path(""));
    command
        .output()
        .expect("strace starts: apt-get install strace")
}

/// Version 1 published and version 2 built; nothing, said loudly, where processes cannot be traced.
fn one_published_and_two_built() -> Option<Fixture> {
    let fixture = Fixture::small()?;
    let traced = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .output();
    if !traced.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: strace is missing (package strace) or may not trace here");
        return None;
    }
    fixture.version("1", "");
    fixture.version("2", "");
    published(&fixture, "1");
    copy(&fixture.path("published"), &fixture.path("before"));
    Some(fixture)
}

fn start_again(fixture: &Fixture) {
    fs::remove_dir_all(fixture.path("published")).expect("remove");
    copy(&fixture.path("before"), &fixture.path("published"));
}

#[test]
fn a_publication_that_is_killed_at_any_change_leaves_the_old_state_or_the_new() {
    let Some(fixture) = one_published_and_two_built() else {
        return;
    };
    let output = traced(&fixture, &[]);
    assert!(output.status.success(), "{}", said(&output));
    let log = fs::read_to_string(fixture.path("log")).expect("a log");
    let every_change = std::env::var_os("BERTH_TEST_LONG").is_some();
    let (mut cuts, mut old, mut new) = (0, 0, 0);
    for line in log.lines().filter(|line| line.contains("published/")) {
        let call = line.split('(').next().unwrap_or_default();
        // strace counts from the process's start, also what is elsewhere.
        let all = log.lines().take_while(|other| !std::ptr::eq(*other, line));
        let before = all
            .filter(|other| other.starts_with(&format!("{call}(")))
            .count();
        // What is in between is another temporary file, or a longer one.
        let decides = ["rename", "fsync"].contains(&call);
        let changes = call != "openat" || line.contains("O_CREAT");
        if !(decides || every_change && changes) {
            continue;
        }
        start_again(&fixture);
        let kill = format!("inject={call}:signal=KILL:when={}", before + 1);
        let output = traced(&fixture, &["-e", &kill]);
        assert!(!output.status.success(), "not killed at {line}");
        cuts += 1;
        match found(&fixture, "published").as_str() {
            "1" => old += 1,
            "2" => new += 1,
            other => panic!("{other:?} after a kill at {line}"),
        }
        if cuts % 8 == 0 {
            published(&fixture, "2");
            assert_eq!(found(&fixture, "published"), "2", "after a kill at {line}");
            let left = files(&fixture.path("published"));
            let part = |path: &&PathBuf| path.to_string_lossy().ends_with(".part");
            assert_eq!(left.iter().find(part), None, "after a kill at {line}");
        }
    }
    eprintln!("{cuts} kills: {old} left the old state, {new} the new one");
    assert!(cuts >= 30 && old > new && new > 0);
}

#[test]
fn what_a_new_timestamp_names_is_on_the_medium_before_it_is_in_place() {
    let Some(fixture) = one_published_and_two_built() else {
        return;
    };
    let output = traced(&fixture, &[]);
    assert!(output.status.success(), "{}", said(&output));
    let log = fs::read_to_string(fixture.path("log")).expect("a log");
    // Written and not synced, and renamed in a directory that is not synced.
    let (mut dirty, mut unnamed) = (BTreeSet::new(), BTreeSet::new());
    let mut renames = 0;
    let mut synced = String::new();
    for line in log.lines() {
        let (call, rest) = line.split_once('(').unwrap_or_default();
        let open_file = || {
            let path = rest.split_once('<')?.1.split_once('>')?.0;
            Some(path.to_owned())
        };
        let quoted: Vec<&str> = rest.split('"').skip(1).step_by(2).collect();
        match call {
            "write" => dirty.extend(open_file().filter(|path| path.contains("published/"))),
            "fsync" => {
                let path = open_file().unwrap_or_default();
                dirty.remove(&path);
                synced += &path;
                unnamed.retain(|directory: &String| !path.ends_with(directory.as_str()));
            }
            "rename" => {
                let [from, to] = quoted[..] else {
                    panic!("{line}")
                };
                assert!(!dirty.iter().any(|path| path.ends_with(from)), "{line}");
                if to.contains("/metadata/") {
                    // A full disk is met before any of them has its name.
                    assert!(synced.contains("timestamp.json"), "{line}");
                }
                if to.ends_with("timestamp.json") {
                    assert!(
                        dirty.is_empty() && unnamed.is_empty(),
                        "{dirty:?} {unnamed:?}"
                    );
                    assert!(renames > 5, "{renames} files came before it");
                }
                let directory = Path::new(to).parent().expect("a directory");
                unnamed.insert(directory.to_string_lossy().into_owned());
                renames += 1;
            }
            "mkdir" => {
                let directory = Path::new(quoted[0]).parent().expect("a directory");
                unnamed.insert(directory.to_string_lossy().into_owned());
            }
            _ => {}
        }
    }
    assert!(unnamed.is_empty(), "{unnamed:?}");
    let last = log.lines().rev().find(|line| line.starts_with("rename("));
    assert!(last.is_some_and(|line| line.contains("timestamp.json")));
}

#[test]
fn what_was_never_signed_is_in_nobodys_way() {
    let Some(fixture) = one_published_and_two_built() else {
        return;
    };
    // Killed before the timestamp, which is the last rename.
    let output = traced(&fixture, &[]);
    assert!(output.status.success(), "{}", said(&output));
    let log = fs::read_to_string(fixture.path("log")).expect("a log");
    let renames = log
        .lines()
        .filter(|line| line.starts_with("rename("))
        .count();
    start_again(&fixture);
    let kill = format!("inject=rename:signal=KILL:when={renames}");
    assert!(!traced(&fixture, &["-e", &kill]).status.success());
    assert_eq!(found(&fixture, "published"), "1");
    // No machine has seen that version 2, so another one may have its name.
    fixture.version("2", "[network.lan]\ndhcp4 = true");
    published(&fixture, "2");
    assert_eq!(found(&fixture, "published"), "2");
}

#[test]
fn a_disk_that_is_full_leaves_the_old_state_and_a_sentence() {
    let Some(fixture) = Fixture::small() else {
        return;
    };
    fixture.version("1", "");
    fixture.version("2", "");
    published(&fixture, "1");
    let before = files(&fixture.path("published"));
    // Blocks of 1 KiB that a file may have: the boot image has more.
    let output = publish_after(&fixture, "ulimit -f 50; trap '' XFSZ", "2");
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(
        said(&output).contains("cannot write published/images/"),
        "{}",
        said(&output)
    );
    assert_eq!(found(&fixture, "published"), "1");
    assert_eq!(files(&fixture.path("published")), before);
}

#[test]
fn two_publishers_take_turns() {
    let Some(fixture) = Fixture::small() else {
        return;
    };
    fixture.version("1", "");
    let start = |waves: &str| {
        let mut command = fixture.command();
        command.args(["publish", "1", "published", "--json", "--waves", waves]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the command starts")
    };
    let all: Vec<_> = ["1%", "2%", "3%", "4%"].map(start).into();
    for one in all {
        let output = one.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", said(&output));
    }
    assert_eq!(found(&fixture, "published"), "1");
    // Nobody's metadata was replaced by somebody else's of the same version.
    for version in 1..=4 {
        let name = format!("published/metadata/{version}.targets.json");
        assert!(fixture.path(&name).is_file(), "{name}");
    }
}

#[test]
fn a_version_that_machines_would_not_take_is_refused() {
    let Some(fixture) = Fixture::small() else {
        return;
    };
    fixture.version("1.9", "security_version = 1");
    fixture.version("1.10", "security_version = 2");
    published(&fixture, "1.9");
    published(&fixture, "1.10");
    published(&fixture, "1.10");
    refused(
        &fixture,
        "1.9",
        4,
        "older than version 1.10, which is published",
    );
    fixture.version("1.11", "security_version = 1");
    refused(&fixture, "1.11", 4, "raise security_version");
    fixture.version("1.10", "security_version = 3");
    refused(&fixture, "1.10", 4, "published already with other content");
    assert_eq!(found(&fixture, "published"), "1.10");
}

#[test]
fn the_same_root_with_another_kernel_is_another_version() {
    let Some(fixture) = Fixture::small() else {
        return;
    };
    fixture.version("1", "");
    published(&fixture, "1");
    let mut kernel = fs::read(fixture.path("kernel")).expect("kernel");
    kernel.extend([1; 512]);
    fs::write(fixture.path("kernel"), kernel).expect("kernel");
    fixture.version("1", "");
    refused(&fixture, "1", 4, "published already with other content");
}

#[test]
fn a_build_that_was_damaged_is_not_published() {
    let Some(fixture) = Fixture::small() else {
        return;
    };
    fixture.version("1", "");
    for name in ["root.erofs", "uki.efi"] {
        let path = fixture.path("1").join(name);
        let whole = fs::read(&path).expect("a file");
        let mut damaged = whole.clone();
        damaged[5000] ^= 1;
        fs::write(&path, damaged).expect("a file");
        refused(
            &fixture,
            "1",
            4,
            &format!("1/{name}: it is not the file that"),
        );
        fs::write(&path, whole).expect("a file");
    }
    published(&fixture, "1");
}

#[test]
fn a_file_that_rotted_is_written_again() {
    let Some(fixture) = Fixture::small() else {
        return;
    };
    fixture.version("1", "");
    fixture.version("2", "");
    published(&fixture, "1");
    published(&fixture, "2");
    for folder in ["images", "deltas"] {
        for name in files(&fixture.path("published").join(folder)) {
            let path = fixture.path("published").join(folder).join(name);
            let whole = fs::read(&path).expect("a file");
            fs::write(&path, &whole[1..]).expect("a file");
            published(&fixture, "2");
            fs::write(&path, &whole).expect("a file");
        }
    }
    assert_eq!(found(&fixture, "published"), "2");
}

#[test]
fn keys_of_something_else_change_nothing() {
    let Some(fixture) = Fixture::small() else {
        return;
    };
    fixture.version("1", "");
    published(&fixture, "1");
    let before = files(&fixture.path("published"));
    assert!(fixture.berth(&["keys", "new", "others"]).status.success());
    fixture.version("2", "");
    let output = publish(&fixture, "2", &["--keys", "others"]);
    assert_eq!(output.status.code(), Some(4));
    let text = said(&output);
    assert!(text.contains("is not signed by these keys"), "{text}");
    // The right root file with another key beside it, too.
    fs::copy(
        fixture.path("keys/1.root.json"),
        fixture.path("others/1.root.json"),
    )
    .expect("copy");
    let output = publish(&fixture, "2", &["--keys", "others"]);
    assert_eq!(output.status.code(), Some(4));
    let text = said(&output);
    assert!(
        text.contains("of timestamp has 0 valid signatures"),
        "{text}"
    );
    assert_eq!(files(&fixture.path("published")), before);
    let output = publish(&fixture, "2", &["--keys", "nowhere"]);
    assert!(
        said(&output).contains("berth keys new"),
        "{}",
        said(&output)
    );
}

#[test]
fn who_publishes_hears_whom_the_machines_will_believe() {
    let Some(fixture) = Fixture::small() else {
        return;
    };
    assert!(fixture.berth(&["keys", "new", "others"]).status.success());
    let note_of = |version: &str, more: &str| {
        fixture.version(version, more);
        let output = publish(&fixture, version, &["--waves", "10%"]);
        let text = said(&output);
        assert!(output.status.success(), "{text}");
        assert!(
            text.contains(": 10 % of the machines at once; the others not yet"),
            "{text}"
        );
        assert!(text.contains("machines believe it until 20"), "{text}");
        let notes = text
            .lines()
            .filter_map(|line| line.strip_prefix("berth: note: "));
        notes.map(str::to_owned).collect::<Vec<_>>().join("\n")
    };
    let none = note_of("1", "");
    assert!(
        none.starts_with("machines of this version look for no updates"),
        "{none}"
    );
    let update = |keys: &str| {
        let trust = format!("trust = \"{keys}/1.root.json\"");
        format!("[update]\nurl = \"http://updates.example\"\npolicy = \"auto\"\n{trust}")
    };
    let network = "[network.lan]\ndhcp4 = true\n";
    let theirs = note_of("2", &format!("{network}{}", update("others")));
    assert!(
        theirs.contains("will believe another root of trust"),
        "{theirs}"
    );
    assert_eq!(note_of("3", &format!("{network}{}", update("keys"))), "");
}

#[test]
fn a_key_that_was_replaced_signs_no_more_and_the_next_one_does() {
    let Some(fixture) = Fixture::small() else {
        return;
    };
    fixture.version("1", "");
    fixture.version("2", "");
    published(&fixture, "1");
    copy(&fixture.path("keys"), &fixture.path("old-keys"));
    exchange_key(&fixture, 1, "timestamp");
    published(&fixture, "2");
    assert_eq!(found(&fixture, "published"), "2");
    // Who has only the old keys changes nothing any more.
    let output = publish(&fixture, "2", &["--keys", "old-keys"]);
    let text = said(&output);
    assert!(text.contains("is not signed by these keys"), "{text}");
    assert_eq!(found(&fixture, "published"), "2");
}

#[test]
fn signing_again_does_not_change_the_rollout() {
    let Some(fixture) = Fixture::small() else {
        return;
    };
    let rollout = |build: &str, more: &[&str]| {
        let output = publish(&fixture, build, &[more, &["--json"]].concat());
        assert!(output.status.success(), "{}", said(&output));
        let release: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        release["rollout"].clone()
    };
    fixture.version("1", "");
    let first = rollout("1", &["--waves", "1%,10%@24h"]);
    assert_eq!(rollout("1", &[]), first);
    assert_ne!(rollout("1", &["--waves", "100%"]), first);
    fixture.version("2", "");
    let waves = rollout("2", &[])["waves"].clone();
    assert_eq!(waves.as_array().map(Vec::len), Some(1));
    assert_eq!(waves[0]["percent"], 100);
}

#[test]
fn a_machine_that_could_believe_nobody_is_not_built() {
    let Some(fixture) = Fixture::small() else {
        return;
    };
    for (trust, words) in [
        ("none.json", "cannot read"),
        ("berth.toml", "not a root file"),
    ] {
        let update = format!("[update]\nurl = \"http://a.example\"\ntrust = \"{trust}\"");
        let update = format!("[network.lan]\ndhcp4 = true\n{update}\npolicy = \"auto\"");
        let config = crate::fixture::CONFIG.replace("[container", &format!("{update}\n[container"));
        fs::write(fixture.path("berth.toml"), config).expect("configuration");
        let output = fixture.build(&[]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(
            text.contains("berth.toml:9:9: update.trust: ") && text.contains(words),
            "{text}"
        );
    }
}

#[test]
fn what_cannot_be_verified_is_named() {
    let Some(fixture) = Fixture::small() else {
        return;
    };
    for (arguments, words) in [
        (
            ["verify", "nowhere", "--trust=keys/1.root.json"],
            "nowhere: nothing is published here",
        ),
        (
            ["verify", "keys", "--trust=berth.toml"],
            "berth.toml: not a root file",
        ),
        (["verify", "keys", "--trust=none"], "cannot read none"),
    ] {
        let output = fixture.berth(&arguments);
        assert_eq!(output.status.code(), Some(4));
        assert!(said(&output).contains(words), "{}", said(&output));
    }
}

/// What publishes a build, for machines that take patches of images up to this.
fn request(fixture: &Fixture, build: &str, image_bytes: u64) -> Request {
    Request {
        build: fixture.path(build),
        directory: fixture.path("published"),
        keys: fixture.path("keys"),
        deltas: 3,
        rollout: None,
        again: false,
        trust_old_keys: false,
        limits: Limits {
            image_bytes,
            ..Limits::default()
        },
        good_for_s: [1 << 20; 3],
    }
}

/// Publishes a build by way of the library.
fn published_up_to(fixture: &Fixture, build: &str, image_bytes: u64) -> Published {
    let request = request(fixture, build, image_bytes);
    berth::publish::publish(&request, &Progress::default()).expect("a publication")
}

#[test]
fn a_root_that_is_too_large_for_a_patch_is_published_without_and_told() {
    let Some(fixture) = Fixture::small() else {
        return;
    };
    // Larger than the boot image.
    fixture.image("image", &[0; 16 << 20]);
    fixture.version("1", "");
    fixture.version("2", "");
    let told = |published: &Published, words: &str| {
        let notes = published.notes.join("\n");
        assert!(notes.contains(words), "{words:?} is not in {notes:?}");
    };

    let one = published_up_to(&fixture, "1", 12 << 20);
    told(&one, "the root is not packed: an image");
    assert!(one.release.boot.packed.is_some() && one.release.root.part.packed.is_none());

    let two = published_up_to(&fixture, "2", 12 << 20);
    told(&two, "there is no delta from 1: an image");
    assert!(two.release.deltas.is_empty() && two.release.root.part.packed.is_none());
    assert_eq!(found(&fixture, "published"), "2");
    let bundled = fixture.berth(&["bundle", "published", "-o", "bundle"]);
    assert!(bundled.status.success(), "{}", said(&bundled));

    let again = published_up_to(&fixture, "2", 1 << 30);
    assert!(again.release.root.part.packed.is_some());
    assert_eq!(again.release.deltas.len(), 1);
    assert_eq!(again.release.attempt, two.release.attempt);
    assert_eq!(found(&fixture, "published"), "2");
}

/// Builds and publishes a version of another product into the same directory.
fn publish_neighbour(fixture: &Fixture) {
    fixture.version("1", "");
    let config = fs::read_to_string(fixture.path("berth.toml")).expect("configuration");
    let config = config.replace("name = \"test\"", "name = \"neighbour\"");
    fs::write(fixture.path("berth.toml"), config).expect("configuration");
    let output = fixture.build(&["--out", "neighbour", "--update-lock"]);
    assert!(output.status.success(), "{}", said(&output));
    published(fixture, "neighbour");
}

#[test]
fn what_somebody_without_keys_changed_is_not_signed() {
    let Some(fixture) = Fixture::small() else {
        return;
    };
    publish_neighbour(&fixture);
    fixture.version("1", "");
    published(&fixture, "1");
    fixture.version("2", "");
    copy(&fixture.path("published"), &fixture.path("before"));

    // The neighbour's entry, in the list of all.
    let list = fixture.path("published/metadata/2.targets.json");
    let text = fs::read_to_string(&list).expect("a list");
    let at = text.find("neighbour").expect("the neighbour");
    let hash = at + text[at..].find("sha256\": \"").expect("a hash") + 10;
    let mut forged = text.clone();
    forged.replace_range(hash..hash + 64, &"0".repeat(64));
    fs::write(&list, forged).expect("a list");
    refused(
        &fixture,
        "2",
        4,
        "what is published already is not in order",
    );
    start_again(&fixture);

    // Its own document, under its old name: who gets it when, for example.
    let documents = files(&fixture.path("published/targets/test"));
    let document = documents.first().expect("a document");
    let document = fixture.path("published/targets/test").join(document);
    let text = fs::read_to_string(&document).expect("a document");
    let forged = text.replace("\"percent\":100", "\"percent\":1");
    assert_ne!(forged, text);
    fs::write(&document, forged).expect("a document");
    refused(
        &fixture,
        "1",
        4,
        "it is not what was published under this name",
    );
    // Without it nobody knows who was to get it when.
    fs::remove_file(&document).expect("a document");
    refused(
        &fixture,
        "1",
        4,
        "release.json: it is not there, and what is signed names it",
    );
    start_again(&fixture);

    // A timestamp that begins anew is one that machines refuse as a rollback.
    fs::remove_file(fixture.path("published/metadata/timestamp.json")).expect("a timestamp");
    refused(&fixture, "2", 4, "timestamp.json is missing");
    start_again(&fixture);
    published(&fixture, "2");
    let output = publish(&fixture, "2", &["--deltas", "65"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

/// The root after this one, with another key for a role, which is in its place then.
fn exchange_key(fixture: &Fixture, root: u32, role: &str) {
    let berth = |arguments: &[&str]| {
        let output = fixture.berth(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (new, public) = (format!("{role}.pem"), format!("{role}.pub"));
    berth(&["keys", "make", &new]);
    let old = berth(&["keys", "show", &format!("keys/online/{role}.pem")]);
    let old = old.trim_end().rsplit(' ').next().expect("an identifier");
    let remove = format!("--remove={role}={old}");
    let add = format!("--add={role}={public}");
    let current = format!("keys/{root}.root.json");
    berth(&["keys", "next", &current, &remove, &add]);
    for holder in ["1", "2"] {
        let draft = format!("keys/{}.root.draft.json", root + 1);
        let key = format!("keys/root/holder-{holder}.pem");
        berth(&["sign", &draft, "--key", &key]);
    }
    let online = fixture.path("keys/online").join(&new);
    fs::rename(fixture.path(&new), online).expect("key");
}

#[test]
fn what_replaced_keys_signed_is_signed_again_only_when_somebody_says_so() {
    let Some(fixture) = Fixture::small() else {
        return;
    };
    publish_neighbour(&fixture);
    fixture.version("1", "");
    published(&fixture, "1");
    // The lists of targets are what is kept, and their key is the same.
    exchange_key(&fixture, 1, "timestamp");
    published(&fixture, "1");
    exchange_key(&fixture, 2, "targets");
    for build in ["1", "neighbour"] {
        refused(
            &fixture,
            build,
            4,
            "neighbour/cloud/x86_64/release.json, test/cloud/x86_64/release.json was signed by a \
             key that root 3 does not name",
        );
    }
    let output = publish(&fixture, "1", &["--trust-old-keys"]);
    assert!(output.status.success(), "{}", said(&output));
    published(&fixture, "1");
    published(&fixture, "neighbour");
}

#[test]
fn an_old_image_that_is_damaged_costs_a_delta_and_no_more() {
    let Some(fixture) = Fixture::small() else {
        return;
    };
    fixture.version("1", "");
    published(&fixture, "1");
    for name in files(&fixture.path("published/images")) {
        let path = fixture.path("published/images").join(name);
        let bytes = fs::read(&path).expect("an image");
        fs::write(&path, &bytes[1..]).expect("an image");
    }
    fixture.version("2", "");
    let output = publish(&fixture, "2", &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("note: there is no delta from 1: published/images/"),
        "{}",
        said(&output)
    );
    assert_eq!(found(&fixture, "published"), "2");
}

#[test]
fn a_clock_that_is_wrong_is_told_or_forgotten() {
    let Some(fixture) = Fixture::small() else {
        return;
    };
    // As a computer sees it whose clock stands before its build.
    fixture.version("1", "");
    let output = fixture
        .command()
        .env("SOURCE_DATE_EPOCH", "4102444800")
        .args(["build", "berth.toml", "--kernel", "kernel", "--out", "late"])
        .output()
        .expect("the command starts");
    assert!(output.status.success(), "{}", said(&output));
    refused(&fixture, "late", 4, "the build is of 2100-01-01T00:00:00Z");
    assert!(!fixture.path("published/metadata/timestamp.json").exists());

    // A rollout that was published with a clock of the year 2100.
    let mut request = request(&fixture, "1", 1 << 30);
    request.rollout = Some(berth_release::Rollout::at_once(4_102_444_800));
    berth::publish::publish(&request, &Progress::default()).expect("a publication");
    request.rollout = None;
    let again = berth::publish::publish(&request, &Progress::default()).expect("again");
    assert!(again.release.rollout.start <= berth::publish::now());
}

#[test]
fn a_web_server_can_read_it_whatever_the_umask_is() {
    use std::os::unix::fs::PermissionsExt;
    let Some(fixture) = Fixture::small() else {
        return;
    };
    fixture.version("1", "");
    let output = publish_after(&fixture, "umask 077", "1");
    assert!(output.status.success(), "{}", said(&output));
    let mut paths: BTreeSet<PathBuf> = files(&fixture.path("published"));
    for path in paths.clone() {
        paths.extend(path.ancestors().map(Path::to_owned));
    }
    for path in paths {
        let path = fixture.path("published").join(path);
        let mode = fs::metadata(&path).expect("it").permissions().mode() & 0o777;
        let expected = if path.is_dir() { 0o755 } else { 0o644 };
        assert_eq!(mode, expected, "{}", path.display());
    }
}

#[test]
fn who_does_not_listen_gets_what_was_asked_for() {
    let Some(fixture) = Fixture::small() else {
        return;
    };
    fixture.version("1", "");
    let mut command = fixture.command();
    command.args(["publish", "1", "published"]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stderr.take());
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(0));
    assert_eq!(found(&fixture, "published"), "1");
}
