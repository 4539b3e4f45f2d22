//! How file and image combine, on a small image made here.

use berth_containers::spec::{NamespaceKind, Probe, Seccomp};
use berth_tree::{Content, Kind, Metadata, Node, Spool, Tree};

use super::*;
use crate::config;

struct Fixture {
    tree: Tree,
    spool: Spool,
    execution: Execution,
}

impl Fixture {
    fn new() -> Self {
        let mut spool = Spool::new_in(&std::env::temp_dir()).expect("spool");
        let mut tree = Tree::new(Metadata::system(0o755));
        let passwd = spool
            .store(b"root:x:0:0::/root:/bin/sh\nwww:x:33:34::/srv:/bin/sh\n")
            .expect("store");
        let program = spool.store(b"\x7fELF").expect("store");
        for dir in ["etc", "usr/bin", "data", "run"] {
            tree.create_dirs(dir.as_bytes(), &Metadata::system(0o755))
                .expect("directory");
        }
        insert(&mut tree, "etc/passwd", 0o644, Kind::File(passwd));
        insert(&mut tree, "usr/bin/server", 0o755, Kind::File(program));
        insert(&mut tree, "bin", 0o777, Kind::Symlink(b"usr/bin".to_vec()));
        insert(
            &mut tree,
            "var",
            0o777,
            Kind::Symlink(b"/data/../run".to_vec()),
        );
        insert(&mut tree, "loop", 0o777, Kind::Symlink(b"loop".to_vec()));
        let execution = Execution {
            entrypoint: vec!["/bin/server".to_owned()],
            cmd: vec!["--default".to_owned()],
            env: vec!["PATH=/usr/bin".to_owned(), "A=image".to_owned()],
            user: "www".to_owned(),
            working_dir: "/data".to_owned(),
            stop_signal: "SIGQUIT".to_owned(),
            volumes: ["/data".to_owned()].into(),
            exposed_ports: ["80/tcp".to_owned(), "53/udp".to_owned()].into(),
            ..Execution::default()
        };
        Self {
            tree,
            spool,
            execution,
        }
    }

    fn resolve(&self, lines: &str) -> Result<Resolved, Mistakes> {
        let text = format!(
            "schema = 1\n[image]\nname = \"t\"\nversion = \"1\"\n[container.web]\nimage = \
             \"oci:x\"\n{lines}\n"
        );
        let config = config::parse("berth.toml", &text).expect("a correct file");
        let image = Image {
            digest: "sha256:abcd",
            execution: &self.execution,
            tree: &self.tree,
            spool: &self.spool,
        };
        container("berth.toml", &config.containers[0], &image, 1_000_000)
    }

    fn message(&self, lines: &str) -> String {
        self.resolve(lines).expect_err(lines).to_string()
    }
}

fn insert(tree: &mut Tree, path: &str, mode: u16, kind: Kind) {
    let metadata = Metadata::system(mode);
    tree.insert(path.as_bytes(), Node { metadata, kind })
        .expect(path);
}

#[test]
fn the_image_decides_what_the_file_leaves_open() {
    let resolved = Fixture::new().resolve("").expect("resolve");
    let oci = &resolved.container.oci;
    assert_eq!(oci.process.args, ["/bin/server", "--default"]);
    assert_eq!(
        oci.process.env,
        ["A=image", "HOME=/srv", "HOSTNAME=web", "PATH=/usr/bin"]
    );
    assert_eq!((oci.process.user.uid, oci.process.user.gid), (33, 34));
    assert_eq!(oci.process.cwd, "/data");
    assert_eq!(oci.root.path, "/images/abcd");
    assert_eq!(resolved.container.stop.signal, 3);
    assert_eq!(resolved.ports, [80]);
}

#[test]
fn what_nobody_opens_is_closed() {
    let oci = Fixture::new().resolve("").expect("resolve").container.oci;
    assert!(oci.root.readonly && oci.process.no_new_privileges);
    assert!(oci.process.capabilities.bounding.is_empty());
    assert!(oci.process.capabilities.effective.is_empty());
    assert_eq!(oci.linux.seccomp, Seccomp::Default);
    assert_eq!(oci.linux.uid_mappings.len(), 1);
    assert_eq!(oci.linux.namespaces.len(), 7);
    assert!(oci.linux.masked_paths.contains(&"/proc/kcore".to_owned()));
    assert!(oci.linux.readonly_paths.contains(&"/proc/sys".to_owned()));
    let sys = oci.mounts.iter().find(|mount| mount.destination == "/sys");
    assert!(sys.is_some_and(|sys| sys.options.contains(&"ro".to_owned())));
}

#[test]
fn commands_combine_as_in_compose() {
    let fixture = Fixture::new();
    let args = |lines: &str| {
        let resolved = fixture.resolve(lines).expect(lines);
        resolved.container.oci.process.args
    };
    assert_eq!(args("command = [\"-x\"]"), ["/bin/server", "-x"]);
    assert_eq!(args("command = []"), ["/bin/server"]);
    assert_eq!(args("entrypoint = [\"server\"]"), ["server"]);
    assert_eq!(
        args("entrypoint = [\"server\"]\ncommand = [\"-y\"]"),
        ["server", "-y"]
    );
    assert_eq!(
        args("entrypoint = []\ncommand = [\"server\", \"-z\"]"),
        ["server", "-z"]
    );
}

#[test]
fn the_file_wins_over_the_image() {
    let resolved = Fixture::new()
        .resolve(
            "environment = { A = \"file\", B = \"1\" }\nuser = \"7:8\"\nworking_dir = \"/\"\nstop \
             = { signal = \"SIGINT\" }\nexpose = [\"8080\"]\nhostname = \"other\"",
        )
        .expect("resolve");
    let process = &resolved.container.oci.process;
    assert_eq!(
        process.env,
        ["A=file", "B=1", "HOME=/", "HOSTNAME=other", "PATH=/usr/bin"]
    );
    assert_eq!((process.user.uid, process.user.gid), (7, 8));
    assert_eq!(process.cwd, "/");
    assert_eq!(resolved.container.stop.signal, 2);
    assert_eq!(resolved.ports, [8080]);
}

#[test]
fn what_does_not_fit_the_image_is_told_with_its_place() {
    let fixture = Fixture::new();
    assert_eq!(
        fixture.message("user = \"nobody\""),
        "berth.toml:7:8: container \"web\": user \"nobody\": the image's /etc/passwd has no user \
         called \"nobody\"; use its number, or a name that the file has"
    );
    assert_eq!(
        fixture.message("entrypoint = [\"ngnix\"]"),
        "berth.toml:5:12: container \"web\": the image has no program \"ngnix\" in /usr/bin"
    );
    assert_eq!(
        fixture.message("entrypoint = []"),
        "berth.toml:5:12: container \"web\": the image has neither entry point nor command; say \
         command = [\"PROGRAM\", …]"
    );
    assert_eq!(
        fixture.message("entrypoint = [\"/etc/passwd\"]"),
        "berth.toml:5:12: container \"web\": /etc/passwd in the image is not a program"
    );
}

#[test]
fn privileged_opens_everything_and_says_so() {
    let resolved = Fixture::new()
        .resolve("privileged = true")
        .expect("resolve");
    let oci = &resolved.container.oci;
    assert_eq!(oci.process.capabilities.effective.len(), 41);
    assert_eq!(oci.linux.seccomp, Seccomp::Unconfined);
    assert!(oci.linux.masked_paths.is_empty() && oci.linux.uid_mappings.is_empty());
    let user = oci.linux.namespaces.iter();
    assert!(!user.into_iter().any(|own| own.kind == NamespaceKind::User));
    assert!(
        resolved
            .notes
            .iter()
            .any(|note| note.contains("privileged"))
    );
}

#[test]
fn limits_become_control_group_files() {
    let resolved = Fixture::new()
        .resolve("resources = { cpus = 1.5, memory = \"256M\", pids = 200 }")
        .expect("resolve");
    let resources = resolved.container.oci.linux.resources.expect("limits");
    let files: Vec<(&str, &str)> = resources
        .unified
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        files,
        [
            ("cpu.max", "150000 100000"),
            ("memory.max", "268435456"),
            ("memory.oom.group", "1"),
            ("pids.max", "200")
        ]
    );
}

#[test]
fn a_volume_of_the_image_that_nobody_names_lies_in_memory_and_is_told() {
    let fixture = Fixture::new();
    let resolved = fixture.resolve("network = \"host\"").expect("resolve");
    assert_eq!(resolved.notes.len(), 1);
    assert!(resolved.notes[0].contains("/data") && resolved.notes[0].contains("lost"));
    let resolved = fixture
        .resolve("network = \"host\"\nmounts = [{ volume = \"d\", target = \"/data\" }]")
        .expect("resolve");
    assert!(resolved.notes.is_empty());
    let mounts = &resolved.container.oci.mounts;
    let data = mounts.iter().find(|mount| mount.destination == "/data");
    let source = data.and_then(|data| data.source.as_deref());
    assert_eq!(source, Some("/state/volumes/d"));
    let volumes = &resolved.container.volumes;
    assert_eq!(
        (volumes[0].path.as_str(), volumes[0].mode),
        ("/state/volumes/d", 0o755)
    );
}

#[test]
fn mount_points_are_made_where_links_lead_and_never_outside() {
    let mut fixture = Fixture::new();
    let resolved = fixture
        .resolve(
            "network = \"host\"\nmounts = [{ tmpfs = \"/var/cache/x\" }, { status = true, target \
             = \"/status\" }]",
        )
        .expect("resolve");
    let mounts = resolved.container.oci.mounts;
    make_mount_points(&mut fixture.tree, &mut fixture.spool, &mounts).expect("mount points");
    for path in ["run/cache/x", "status", "proc", "dev", "sys"] {
        let found = fixture.tree.lookup(path.as_bytes());
        let id = found.unwrap_or_else(|| panic!("{path} was not made"));
        assert!(fixture.tree.entries(id).is_some(), "{path}");
    }
    let hosts = fixture.tree.lookup(b"etc/hosts").expect("etc/hosts");
    assert!(matches!(
        fixture.tree.node(hosts).kind,
        Kind::File(Content { len: 0, .. })
    ));
    assert_eq!(fixture.tree.lookup(b"dev/pts"), None, "inside the tmpfs");
}

#[test]
fn mount_points_that_cannot_be_made_are_told() {
    for (target, expected) in [
        ("/etc/passwd", "is not a directory, so nothing"),
        ("/etc/passwd/x", "a part of"),
        ("/loop/x", "circle of links"),
    ] {
        let mut fixture = Fixture::new();
        let resolved = fixture
            .resolve(&format!("mounts = [{{ tmpfs = \"{target}\" }}]"))
            .expect(target);
        let mounts = resolved.container.oci.mounts;
        let error =
            make_mount_points(&mut fixture.tree, &mut fixture.spool, &mounts).expect_err(target);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_working_directory_that_the_image_lacks_is_made_where_no_mount_covers_it() {
    for (lines, path, is_made) in [
        ("", "srv/app", true),
        ("working_dir = \"/var/cache/x\"", "run/cache/x", true),
        ("mounts = [{ tmpfs = \"/srv\" }]", "srv/app", false),
        ("mounts = [{ tmpfs = \"/srv/ap\" }]", "srv/app", true),
    ] {
        let mut fixture = Fixture::new();
        fixture.execution.working_dir = "/srv/app".to_owned();
        let oci = fixture.resolve(lines).expect(lines).container.oci;
        let (tree, spool) = (&mut fixture.tree, &mut fixture.spool);
        make_mount_points(tree, spool, &oci.mounts).expect("mount points");
        make_working_directory(tree, spool, &oci.process.cwd, &oci.mounts).expect("a directory");
        let made = tree.lookup(path.as_bytes());
        assert_eq!(made.is_some(), is_made, "{lines}");
        assert!(made.is_none_or(|id| tree.entries(id).is_some()), "{lines}");
    }
}

#[test]
fn a_working_directory_that_cannot_be_one_is_told() {
    for (path, expected) in [
        ("/etc/passwd", "/etc/passwd is not a directory in the image"),
        ("/etc/passwd/x", "a part of"),
        ("/loop/x", "circle of links"),
    ] {
        let mut fixture = Fixture::new();
        let error = make_working_directory(&mut fixture.tree, &mut fixture.spool, path, &[])
            .expect_err(path);
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("working_dir"), "{error}");
    }
}

#[test]
fn ids_that_a_user_namespace_lacks_are_refused_where_they_come_from() {
    let mut fixture = Fixture::new();
    fixture
        .resolve("user = \"65535:65535\"")
        .expect("the last ones");
    assert_eq!(
        fixture.message("user = \"65536\""),
        "berth.toml:7:8: container \"web\": user \"65536\": user 65536 is beyond the user \
         namespace, which has 0 to 65535; choose another with user = \"UID:GID\", or say \
         user_namespace = false"
    );
    let error = fixture.message("user = \"1:70000\"");
    assert!(error.contains("group 70000 is beyond"), "{error}");
    let groups = fixture.spool.store(b"big:x:70001:www\n").expect("store");
    insert(&mut fixture.tree, "etc/group", 0o644, Kind::File(groups));
    let error = fixture.message("user = \"www\"");
    assert!(error.contains("additional group 70001 is"), "{error}");
    fixture.execution.user = "100000".to_owned();
    let error = fixture.message("");
    let expected = "berth.toml:6:9: container \"web\": the image's user \"100000\": user";
    assert!(error.starts_with(expected), "{error}");
    let outside = fixture.resolve("user_namespace = false").expect("resolve");
    assert_eq!(outside.container.oci.process.user.uid, 100_000);
}

#[test]
fn user_ids_depend_on_the_name_and_never_overlap() {
    let names: Vec<String> = (0..256).map(|number| format!("c{number}")).collect();
    let ids = first_ids(names.iter().map(String::as_str));
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] >= 65_536));
    assert!(sorted.iter().all(|first| *first >= 1_000_000));
    assert_eq!(first_ids(["c7"].into_iter())[0], ids[7]);
}

#[test]
fn a_probe_is_resolved_and_its_program_must_be_in_the_image() {
    let fixture = Fixture::new();
    let resolved = fixture.resolve("health = { exec = [\"server\", \"--check\"] }");
    let health = resolved
        .expect("resolve")
        .container
        .health
        .expect("a check");
    let expected = Probe::Exec(vec!["server".into(), "--check".into()]);
    assert_eq!(health.probe, expected);
    assert_eq!(
        fixture.message("health = { exec = [\"pg_isready\"] }"),
        "berth.toml:7:1: container \"web\": health: the image has no program \"pg_isready\" in \
         /usr/bin"
    );
    let unasked = fixture.resolve("").expect("resolve").container;
    assert_eq!(unasked.health, None);
}
