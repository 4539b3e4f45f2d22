//! The same bundle started by crun and by Berth's own runtime: whoever looks around inside must
//! see the same.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// A static executable of many programs, for the inside.
const BUSYBOX: &str = "/bin/busybox";
/// Where the container's ids begin on the host.
const FIRST_ID: u32 = 100_000;
/// crun wants the second version of cgroups in its place, which not every host has.
const WITH_CGROUP2: &str = "mount -t cgroup2 none /sys/fs/cgroup && exec \"$0\" \"$@\"";
/// What a container can see of itself, in an order that is no accident of the runtime's.
///
/// Left out is where Berth is stricter by intent, or crun passes on what it was started with: the
/// options of the root (Berth: nodev) and of covers over hidden paths, ignored signals (Berth:
/// none), the link /dev/core into the hidden /proc/kcore, and that crun mounts the host's device
/// nodes where Berth makes its own.
const LOOK_AROUND: &str = r#"
grep -E '^(Cap|NoNewPrivs|Groups|Uid|Gid|SigBlk|NSpid|NSsid)' /proc/self/status
cat /proc/self/uid_map /proc/self/gid_map
cat /proc/self/oom_score_adj
grep -E 'open files|core file|locked memory' /proc/self/limits
umask; pwd; id; hostname; env | sort
awk '$5 !~ "^/dev/[a-z]+$" { print $5 }' /proc/self/mountinfo | sort
awk '$5 == "/dev" || $5 == "/proc" || $5 == "/sys" || $5 == "/tmp" { print $5, $6 }' /proc/self/mountinfo | sort
ls /dev | grep -v '^core$' | sort
ls -ln /dev | awk '{ print $1, $3, $4, $5, $6, $NF }' | grep -v '^total' | grep -v kcore | sort
for path in /proc/kcore /proc/keys /proc/timer_list; do wc -c < $path; done
ls /sys/firmware | wc -l
for path in /proc/sys/kernel/hostname /proc/sysrq-trigger /new /dev/new /tmp/new; do
  (echo x > $path) 2>/dev/null && echo "$path can be written" || echo "$path cannot be written"
done
mount -t tmpfs none /mnt 2>/dev/null && echo mounts || echo 'does not mount'
chroot / true 2>/dev/null && echo 'changes its root' || echo 'does not change its root'
for kind in cgroup ipc mnt net pid user uts; do
  [ "$(readlink /proc/self/ns/$kind)" = "$(eval echo \$OUTSIDE_$kind)" ] && echo "$kind: the host's" || echo "$kind: its own"
done
ls /proc/self/fd | wc -l
"#;

#[test]
fn a_confined_container_looks_the_same_inside() {
    compare(json!({}), |_| {});
}

#[test]
fn so_does_one_of_another_user_with_a_capability_on_the_hosts_network() {
    let capability = json!(["CAP_NET_BIND_SERVICE"]);
    let process = json!({
        "user": { "uid": 33, "gid": 33, "additionalGids": [44], "umask": 63 },
        "oomScoreAdj": 500,
        "capabilities": {
            "bounding": capability, "effective": capability, "permitted": capability,
            "inheritable": capability, "ambient": capability,
        },
    });
    compare(process, |_| {});
}

#[test]
fn so_does_one_without_a_user_namespace() {
    compare(json!({}), |config| {
        let linux = &mut config["linux"];
        let of_users = |kind: &Value| kind["type"] == "user";
        if let Some(list) = linux["namespaces"].as_array_mut() {
            list.retain(|kind| !of_users(kind));
        }
        linux["uidMappings"] = json!([]);
        linux["gidMappings"] = json!([]);
    });
}

/// Runs the bundle by both; `process` replaces parts of the process, `change` anything.
fn compare(process: Value, change: impl Fn(&mut Value)) {
    if !nix::unistd::geteuid().is_root() || !Path::new(BUSYBOX).exists() {
        let _ = writeln!(
            std::io::stderr(),
            "NOT TESTED, needs root and {BUSYBOX}: against crun"
        );
        return;
    }
    let scratch = tempfile::tempdir().expect("a directory");
    let root = scratch.path().join("root");
    for name in ["bin", "dev", "proc", "sys", "tmp", "mnt"] {
        fs::create_dir_all(root.join(name)).expect("a directory of the root");
    }
    // By a process of its own: a test that starts a program at the same time would hand the
    // descriptor that writes on to it, and what is open for writing cannot be run (ETXTBSY).
    let mut copy = Command::new("cp");
    copy.arg(BUSYBOX).arg(root.join("bin/busybox"));
    assert!(copy.status().expect("cp").success());
    let mut install = Command::new("chroot");
    install
        .arg(&root)
        .args(["/bin/busybox", "--install", "-s", "/bin"]);
    assert!(install.status().expect("chroot").success());
    open_for_all(scratch.path());
    let mut config = bundle(&process);
    change(&mut config);

    fs::write(scratch.path().join("config.json"), config.to_string()).expect("config.json");
    let ours = run(Command::new(launcher()).arg(scratch.path()));

    // The OCI object has no word for "the default filter"; both run without one.
    config["linux"]
        .as_object_mut()
        .expect("linux")
        .remove("berthSeccomp");
    fs::write(scratch.path().join("config.json"), config.to_string()).expect("config.json");
    let name = format!("berth-against-crun-{}-{:p}", std::process::id(), &scratch);
    let state = scratch.path().join("crun");
    if config["linux"]["uidMappings"][0].is_object() {
        // Berth shows an image with the container's ids; for crun its files must have them.
        let owner = format!("{FIRST_ID}:{FIRST_ID}");
        let mut chown = Command::new("chown");
        let done = chown.args(["-R", "-h", &owner]).arg(&root).status();
        assert!(done.expect("chown").success());
    }
    let mut crun = Command::new("unshare");
    crun.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        WITH_CGROUP2,
    ]);
    crun.arg("crun").arg("--root").arg(&state);
    crun.args(["--cgroup-manager", "disabled", "run", "--bundle"]);
    let theirs = run(crun.arg(scratch.path()).arg(name));
    assert!(
        ours.contains("NoNewPrivs:\t1") && ours.contains("cannot be written"),
        "{ours}"
    );
    assert_eq!(ours, theirs, "\nours:\n{ours}\ntheirs:\n{theirs}");
}

fn open_for_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
}

/// The example that starts one bundle, built with the tests.
fn launcher() -> PathBuf {
    let exe = std::env::current_exe().expect("this test");
    let target = exe
        .parent()
        .and_then(Path::parent)
        .expect("the target directory");
    target.join("examples/launch")
}

fn run(command: &mut Command) -> String {
    // A pipe: crun gives its standard input to the container's user, and that must not be the
    // host's /dev/null.
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the runtime starts");
    drop(child.stdin.take());
    let output = child.wait_with_output().expect("its output");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn bundle(process: &Value) -> Value {
    let mount = |kind: &str, at: &str, options: &[&str]| json!({ "destination": at, "type": kind, "source": kind, "options": options });
    let kinds = ["user", "mount", "pid", "ipc", "uts", "cgroup", "network"];
    let namespaces = kinds.map(|kind| json!({ "type": kind }));
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/sh", "-c", LOOK_AROUND],
            "env": ["PATH=/bin", "HOME=/", "GREETING=hello world"],
            "cwd": "/tmp",
            "rlimits": [
                { "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096 },
                { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
            ],
            "noNewPrivileges": true,
            "oomScoreAdj": 0,
        },
        "root": { "path": "root", "readonly": true },
        "hostname": "inside",
        "mounts": [
            mount("proc", "/proc", &["nosuid", "noexec", "nodev"]),
            mount("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
            mount("tmpfs", "/tmp", &["nosuid", "nodev", "mode=1777"]),
        ],
        "linux": {
            "namespaces": namespaces,
            "uidMappings": [{ "containerID": 0, "hostID": FIRST_ID, "size": 65536 }],
            "gidMappings": [{ "containerID": 0, "hostID": FIRST_ID, "size": 65536 }],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
            "berthSeccomp": "unconfined",
        },
    });
    let inside = config["process"].as_object_mut().expect("process");
    for (key, value) in process.as_object().expect("an object") {
        inside.insert(key.clone(), value.clone());
    }
    let env = inside["env"].as_array_mut().expect("env");
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        let outside = fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace");
        env.push(json!(format!("OUTSIDE_{kind}={}", outside.display())));
    }
    config
}
