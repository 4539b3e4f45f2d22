//! python-tuf, the reference implementation, reads what we write and writes what we read.
//!
//! It is installed by `make test` (.ci/python-tuf) into the target directory.

mod stage;

use std::path::{Path, PathBuf};
use std::process::Command;

use berth_trust::json::Value;
use berth_trust::release::Release;
use berth_trust::write::{DelegationPlan, Paths, Plan, Role, RolePlan, TargetFile};
use berth_trust::{Error, Limits, TargetError};

use stage::{EDGE, EDGE_PATH, Files, Machine, NOW, Publisher, edge, in_days, new_key, target};

/// The interpreter that has python-tuf; says loudly when there is none.
fn python() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    let python = target.join("python-tuf/bin/python3");
    if python.exists() {
        return Some(python);
    }
    eprintln!("SKIPPED: python-tuf is not installed; make test installs it (.ci/python-tuf)");
    None
}

fn run(python: &Path, script: &str, arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/python")
        .join(script);
    let output = Command::new(python).arg(script).args(arguments).output();
    let output = output.expect("python starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).expect("text")
}

/// What python-tuf's client finds in our repository: versions of the roles, and of each target
/// its length and hash.
fn read_by_python(python: &Path, files: &Files, contents: &[(&str, &[u8])]) -> Value {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    std::fs::create_dir(path.join("metadata")).expect("a directory");
    for (name, bytes) in files {
        std::fs::write(path.join("metadata").join(name), bytes).expect("a file");
    }
    // Our client says where the content has to be.
    let mut machine = Machine::new(files["1.root.json"].clone());
    for (target, content) in contents {
        let Ok(found) = machine.find(files, &[target]) else {
            continue;
        };
        let place = path.join("targets").join(found[0].url());
        std::fs::create_dir_all(place.parent().expect("a parent")).expect("a directory");
        std::fs::write(place, content).expect("a file");
    }
    let text = path.to_str().expect("text");
    let root = format!("{text}/metadata/1.root.json");
    let now = NOW.0.to_string();
    let targets = contents.iter().map(|(target, _)| *target);
    let arguments: Vec<&str> = [text, &root, &now].into_iter().chain(targets).collect();
    let answer = run(python, "read.py", &arguments);
    Value::parse(answer.as_bytes(), &Limits::default()).expect("JSON")
}

#[test]
fn python_tuf_reads_what_we_write() {
    let Some(python) = python() else { return };
    let mut publisher = Publisher::new();
    publisher.rotate(|draft| draft.set_threshold(Role::Root, 2));
    publisher.replace_key(Role::Timestamp);
    publisher.replace_key(Role::Snapshot);
    let vendor = new_key();
    let second = new_key();
    let delegations = vec![DelegationPlan {
        name: "vendor".to_owned(),
        keys: vec![vendor.public().clone(), second.public().clone()],
        threshold: 2,
        terminating: true,
        paths: Paths::Patterns(vec!["drivers/*".to_owned()]),
    }];
    let release = Release {
        product: "edge".to_owned(),
        profile: "cloud".to_owned(),
        architecture: "x86_64".to_owned(),
        version: "1.0 \"é\" \\ \n".to_owned(),
        security_version: 1,
    };
    publisher.publish_plan(&Plan {
        targets: Some(RolePlan {
            targets: vec![TargetFile {
                custom: Some(release.custom()),
                ..edge()
            }],
            delegations,
        }),
        delegated: vec![(
            "vendor".to_owned(),
            RolePlan {
                targets: vec![target("drivers/gpu", b"a driver")],
                delegations: Vec::new(),
            },
            vec![&vendor, &second],
        )],
    });
    let contents: [(&str, &[u8]); 3] = [
        (EDGE_PATH, EDGE),
        ("drivers/gpu", b"a driver"),
        ("drivers/none", b""),
    ];
    let read = read_by_python(&python, &publisher.files, &contents);
    let hash = |content: &[u8]| berth_trust::encoding::hex(&target("", content).sha256);
    let expected = format!(
        "{{\"targets\":{{\"drivers/gpu\":[8,\"{}\"],\"drivers/none\":null,\
         \"{EDGE_PATH}\":[26,\"{}\"]}},\
         \"versions\":{{\"root\":4,\"snapshot\":2,\"targets\":2,\"timestamp\":2}}}}",
        hash(b"a driver"),
        hash(EDGE)
    );
    assert_eq!(read.text(), expected);
}

#[test]
fn we_read_what_python_tuf_writes() {
    let Some(python) = python() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("repository");
    let expires = in_days(30).to_string();
    run(
        &python,
        "write.py",
        &[path.to_str().expect("text"), &expires],
    );
    let metadata = std::fs::read_dir(path.join("metadata")).expect("a directory");
    let files: Files = metadata
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            (name.into_owned(), std::fs::read(&path).expect("a file"))
        })
        .collect();

    let mut machine = Machine::new(files["1.root.json"].clone());
    let contents: [(&str, &[u8]); 4] = [
        (EDGE_PATH, EDGE),
        ("drivers/gpu 1.bin", b"a driver"),
        ("odd/é.txt", b"odd"),
        ("bins/1", b"one"),
    ];
    let paths = contents.map(|(path, _)| path);
    let found = machine.find(&files, &paths).expect("all targets");
    for (target, (name, content)) in found.iter().zip(contents) {
        assert_eq!(target.verify(content), Ok(()), "{name}");
        assert_eq!(target.verify(b"x"), Err(wrong_length(content)), "{name}");
        let wrong = vec![b'x'; content.len()];
        assert_eq!(target.verify(&wrong), Err(TargetError::WrongHash), "{name}");
    }
    // The address of a file that lies where python-tuf has put it.
    let url = found[0].url();
    assert_eq!(
        std::fs::read(path.join("targets").join(url)).expect("a file"),
        EDGE
    );
    let release = Release::of(&found[0]).expect("a release");
    assert_eq!(
        (release.version.as_str(), release.security_version),
        ("1.10.0", 4)
    );
    // The terminating role ends the search.
    let error = machine.find(&files, &["odd/none"]).expect_err("nothing");
    assert!(matches!(error, Error::NoSuchTarget { .. }));
    // Two roots beyond the image's, and six roles.
    assert_eq!(machine.kept.0.len(), 8, "{:?}", machine.kept.0.keys());
}

fn wrong_length(content: &[u8]) -> TargetError {
    TargetError::TooShort {
        received: 1,
        length: content.len() as u64,
    }
}
