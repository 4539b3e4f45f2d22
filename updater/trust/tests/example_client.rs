//! The example client by its command line, which is that of the public conformance suite: what it
//! answers, and what it leaves in its directories.

mod stage;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use berth_trust::Time;
use berth_trust::write::{
    Expiries, Plan, Repository, Role, RolePlan, RootDraft, Signers, SigningKey, sign,
};

use stage::{EDGE, EDGE_PATH, edge, new_key};

/// The year 2100: the client goes by the real clock.
const LATE: Time = Time(4_102_444_800);
/// A time that has passed.
const PAST: Time = Time(1_700_000_000);

/// What the server has, by its path.
type Served = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// Serves files over HTTP/1.0 until the process ends; gives the address.
fn serve(files: &Served) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let files = Arc::clone(files);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let mut request = String::new();
            let mut line = String::from("?");
            while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
                if request.is_empty() {
                    request = line.trim_start_matches('?').to_owned();
                }
                line.clear();
            }
            let path = request.split(' ').nth(1).unwrap_or_default();
            let file = files.lock().expect("files").get(path).cloned();
            let (status, body) = match file {
                Some(bytes) => ("200 OK", bytes),
                None => ("404 Not Found", Vec::new()),
            };
            let head = format!(
                "HTTP/1.0 {status}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let _ = reader
                .get_mut()
                .write_all(&[head.into_bytes(), body].concat());
        }
    });
    format!("http://{address}")
}

/// A repository with one target, by one key for all roles.
fn repository(key: &SigningKey) -> BTreeMap<String, Vec<u8>> {
    let mut draft = RootDraft::new(LATE);
    for role in Role::ALL {
        draft.add_key(role, key.public());
    }
    let root = sign(&draft.finish().expect("a root"), key).expect("a signature");
    let mut files = BTreeMap::from([("/metadata/1.root.json".to_owned(), root)]);
    publish(&mut files, key);
    files
}

fn publish(files: &mut BTreeMap<String, Vec<u8>>, key: &SigningKey) {
    let mut read = |name: &str| Ok(files.get(&format!("/metadata/{name}")).cloned());
    let repository = Repository::open(&mut read).expect("a repository");
    let plan = Plan {
        targets: Some(RolePlan {
            targets: vec![edge()],
            delegations: Vec::new(),
        }),
        delegated: Vec::new(),
    };
    let signers = Signers {
        targets: vec![key],
        snapshot: vec![key],
        timestamp: vec![key],
    };
    let expiries = Expiries {
        targets: LATE,
        snapshot: LATE,
        timestamp: LATE,
    };
    let new = repository.publish(&plan, &signers, expiries, PAST);
    for file in new.expect("a state") {
        files.insert(format!("/metadata/{}", file.name), file.bytes);
    }
    let hash = berth_trust::encoding::hex(&edge().sha256);
    let (directory, name) = EDGE_PATH.rsplit_once('/').expect("a directory");
    files.insert(format!("/targets/{directory}/{hash}.{name}"), EDGE.to_vec());
}

/// The example, which is compiled with the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("this test");
    let target = test.parent().and_then(Path::parent).expect("a directory");
    let program = target.join("examples/tuf-client");
    assert!(
        program.is_file(),
        "{} is missing: cargo test -p berth-trust compiles it",
        program.display()
    );
    program
}

#[test]
fn its_command_line_initialises_refreshes_and_downloads() {
    let key = new_key();
    let served: Served = Arc::new(Mutex::new(repository(&key)));
    let url = serve(&served);
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    for name in ["metadata", "downloads"] {
        std::fs::create_dir(path(name)).expect("a directory");
    }
    std::fs::write(
        path("root.json"),
        &served.lock().expect("files")["/metadata/1.root.json"],
    )
    .expect("a file");
    let run = |arguments: &[&str]| -> Output {
        let (metadata, downloads) = (path("metadata"), path("downloads"));
        let mut command = Command::new(program());
        command.args(["--metadata-dir", &metadata]);
        command.args(["--metadata-url", &format!("{url}/metadata")]);
        command.args(["--target-name", EDGE_PATH, "--target-dir", &downloads]);
        command.args(["--target-base-url", &format!("{url}/targets")]);
        command.args(arguments).output().expect("it starts")
    };
    #[track_caller]
    fn ends(output: &Output, code: i32) -> String {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        said
    }
    let kept = |name: &str| std::fs::read(path(&format!("metadata/{name}"))).expect(name);

    ends(&run(&["init", &path("root.json")]), 0);
    ends(&run(&["refresh"]), 0);
    let first = kept("timestamp.json");
    assert_eq!(
        first,
        served.lock().expect("files")["/metadata/timestamp.json"]
    );
    for name in ["root.json", "snapshot.json", "targets.json"] {
        assert!(!kept(name).is_empty(), "{name}");
    }
    // Content that was changed on the server is not kept.
    let target = {
        let files = served.lock().expect("files");
        let target = files.keys().find(|name| name.starts_with("/targets/"));
        target.expect("a target").clone()
    };
    let changed = vec![b'x'; EDGE.len()];
    served
        .lock()
        .expect("files")
        .insert(target.clone(), changed);
    let said = ends(&run(&["download"]), 1);
    assert!(said.contains(EDGE_PATH), "{said}");
    assert_eq!(std::fs::read_dir(path("downloads")).expect("it").count(), 0);
    served.lock().expect("files").insert(target, EDGE.to_vec());
    ends(&run(&["download"]), 0);
    let mut downloads = std::fs::read_dir(path("downloads")).expect("it");
    let downloaded = downloads.next().expect("a file").expect("a file").path();
    assert_eq!(std::fs::read(downloaded).expect("a file"), EDGE);

    // A newer version, and then the older one again.
    publish(&mut served.lock().expect("files"), &key);
    ends(&run(&["refresh"]), 0);
    let newer = kept("timestamp.json");
    assert_ne!(newer, first);
    served
        .lock()
        .expect("files")
        .insert("/metadata/timestamp.json".to_owned(), first);
    ends(&run(&["refresh"]), 1);
    assert_eq!(kept("timestamp.json"), newer);
    ends(&run(&["forget"]), 1);
}
