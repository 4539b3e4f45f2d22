//! A running container for each test, with a cgroup of its own, and the prober run on it as PID 1
//! runs it; all removed afterwards.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use berth_containers::health::{GRACE_US, Outcome};
use berth_containers::launch::{self, Child, Launch, Native, Streams};
use berth_containers::plan::Plan;
use berth_containers::probe::{Answer, Asked};
use berth_containers::report::Progress;
use berth_containers::spec::{self, Container, NamespaceKind, Probe};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a probe may take when a test does not say.
const TIMEOUT_MS: u64 = 10_000;

/// A static executable of many programs, for the inside of containers.
const BUSYBOX: &str = "/bin/busybox";

pub(crate) struct Lab {
    directory: TempDir,
    cgroup: PathBuf,
    pub(crate) container: Container,
    child: Child,
}

/// What is different from the usual container.
#[derive(Clone, Copy, Default)]
pub(crate) struct Kind {
    pub(crate) own_network: bool,
    pub(crate) privileged: bool,
}

impl Lab {
    /// A container whose first process runs `script` and then sleeps; `None`, and a loud line,
    /// when the test may not make one.
    pub(crate) fn new(kind: Kind, script: &str) -> Option<Self> {
        let cgroups = cgroup2().filter(|_| nix::unistd::geteuid().is_root());
        let Some(cgroups) = cgroups else {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            // Not eprintln: the test runner would keep it to itself.
            let _ = writeln!(io::stderr(), "NOT TESTED, needs root and cgroup v2: {name}");
            return None;
        };
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let cgroup = cgroups.join(format!("berth-probe-test-{}-{count}", std::process::id()));
        fs::create_dir_all(cgroup.join("probe")).expect("a cgroup");
        let directory = tempfile::tempdir().expect("a directory");
        make_root(&directory.path().join("root"));
        // The image is its user's in every case: no mapped mounts are needed then.
        let container = container(kind, &directory.path().join("root"), script);
        let child = launch(&container, &cgroup);
        let mut lab = Self {
            directory,
            cgroup,
            container,
            child,
        };
        lab.wait_until("the container runs", |lab| match lab.child.progress() {
            Progress::SettingUp => false,
            Progress::Running => true,
            Progress::Failed(why) => panic!("{why}"),
        });
        lab.wait_until("its script has ended", |lab| {
            lab.inner("/tmp/ready").exists()
        });
        Some(lab)
    }

    /// Asks once, as PID 1 does.
    pub(crate) fn ask(&mut self, probe: Probe) -> Answer {
        self.ask_within(probe, TIMEOUT_MS)
    }

    pub(crate) fn ask_within(&mut self, probe: Probe, timeout_ms: u64) -> Answer {
        let start = Instant::now();
        let answer = self.prober(probe, timeout_ms).answer();
        let took = start.elapsed();
        let most = Duration::from_millis(timeout_ms) + Duration::from_micros(GRACE_US);
        assert!(took < most, "{answer:?} took {took:?}");
        answer
    }

    /// Starts the prober's process.
    pub(crate) fn prober(&mut self, probe: Probe, timeout_ms: u64) -> Prober {
        let health = spec::Health {
            probe,
            every_ms: timeout_ms,
            timeout_ms,
            fails: 1,
            start_ms: 0,
        };
        let arguments = Asked::arguments("lab", &health);
        self.container.health = Some(health);
        let file = self.directory.path().join("container.json");
        let text = serde_json::to_vec(&self.container).expect("a container");
        fs::write(&file, text).expect("writable");
        let program = std::env::current_exe().expect("this program");
        let program = program
            .parent()
            .expect("deps")
            .with_file_name("examples/probe");
        assert!(
            program.exists(),
            "cargo build -p berth-containers --examples makes {program:?}"
        );
        // Copies that are not closed when the program starts.
        let pidfd = nix::unistd::dup(self.child.pidfd()).expect("a descriptor");
        // A new one each time, as PID 1 makes it: some kernels (6.18.44 for one)
        // kill what is cloned into a cgroup that was ever killed.
        let group = self.cgroup.join("probe");
        self.wait_until("the last probe is gone", |_| fs::remove_dir(&group).is_ok());
        fs::create_dir(&group).expect("a cgroup");
        let cgroup = File::open(&group).expect("the cgroup");
        let cgroup = nix::unistd::dup(cgroup).expect("a descriptor");
        let process = Command::new(program)
            .arg(file)
            .arg(pidfd.as_raw_fd().to_string())
            .arg(cgroup.as_raw_fd().to_string())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the prober starts");
        Prober { process }
    }

    /// Kills the container's first process and waits until it is gone.
    pub(crate) fn end(&mut self) {
        self.child.signal(9).expect("a signal");
        let pid = Pid::from_raw(self.child.pid());
        waitpid(pid, None).expect("our child");
    }

    /// The container's first process.
    pub(crate) fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// A path of the container as the machine sees it.
    pub(crate) fn inner(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.child.pid()))
    }

    /// How many processes there are in the container, dead ones that nobody has reaped included.
    pub(crate) fn processes(&self) -> usize {
        let proc = fs::read_dir(self.inner("/proc")).expect("its /proc");
        let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
        proc.flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(is_process))
            .count()
    }

    pub(crate) fn wait_until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "it never came that {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        let _ = waitpid(Pid::from_raw(self.child.pid()), None);
        let deadline = Instant::now() + PATIENCE;
        for group in [self.cgroup.join("probe"), self.cgroup.clone()] {
            while fs::remove_dir(&group).is_err() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

/// A prober that runs.
pub(crate) struct Prober {
    process: std::process::Child,
}

impl Prober {
    /// What it says in the end.
    pub(crate) fn answer(mut self) -> Answer {
        let mut bytes = Vec::new();
        let mut output = self.process.stdout.take().expect("piped");
        output.read_to_end(&mut bytes).expect("readable");
        self.process.wait().expect("our child");
        Answer::decode(&bytes)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

#[track_caller]
pub(crate) fn assert_bad(answer: &Answer, says: &str) {
    assert_eq!(answer.outcome, Outcome::Bad);
    assert!(answer.sentence.contains(says), "{answer:?}");
}

fn cgroup2() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut fields = mounts.lines().map(|line| line.split(' '));
    fields.find_map(|mut line| {
        let at = line.nth(1)?;
        (line.next()? == "cgroup2").then(|| PathBuf::from(at))
    })
}

fn make_root(root: &Path) {
    for name in ["bin", "dev", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(name)).expect("a directory");
    }
    // By another process: a child that another test makes meanwhile would have the file open for
    // writing, and it could not be executed.
    let copied = Command::new("cp")
        .arg(BUSYBOX)
        .arg(root.join("bin"))
        .status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "{BUSYBOX}, static"
    );
    for name in [
        "cat", "cmp", "env", "false", "grep", "hostname", "id", "ls", "setsid", "sh", "sleep",
        "sort", "touch", "true", "yes",
    ] {
        symlink("busybox", root.join("bin").join(name)).expect("a link");
    }
}

fn container(kind: Kind, root: &Path, script: &str) -> Container {
    let script = format!("{script}\ntouch /tmp/ready\nexec sleep 1000000");
    let mut namespaces = vec![
        NamespaceKind::Mount,
        NamespaceKind::Pid,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
        NamespaceKind::Cgroup,
    ];
    namespaces.extend(kind.own_network.then_some(NamespaceKind::Network));
    namespaces.extend((!kind.privileged).then_some(NamespaceKind::User));
    let mappings = match kind.privileged {
        true => Vec::new(),
        false => vec![spec::IdMapping {
            container_id: 0,
            host_id: 1_000_000,
            size: 65_536,
        }],
    };
    let capability = vec!["CAP_NET_BIND_SERVICE".to_owned()];
    let mount = |destination: &str, kind: &str, options: &[&str]| spec::Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: None,
        options: options.iter().map(|&option| option.into()).collect(),
    };
    Container {
        name: "lab".into(),
        image: "lab".into(),
        digest: String::new(),
        oci: spec::Oci {
            oci_version: "1.1.0".into(),
            process: spec::Process {
                terminal: false,
                user: spec::User {
                    uid: 101,
                    gid: 102,
                    additional_gids: vec![103],
                    umask: Some(0o027),
                },
                args: ["sh", "-c", &script].map(str::to_owned).to_vec(),
                env: vec!["PATH=/bin".into(), "MODE=lab".into()],
                cwd: "/tmp".into(),
                capabilities: match kind.privileged {
                    true => spec::Capabilities {
                        bounding: capability.clone(),
                        effective: capability.clone(),
                        inheritable: capability.clone(),
                        permitted: capability.clone(),
                        ambient: capability,
                    },
                    false => spec::Capabilities {
                        bounding: capability,
                        ..Default::default()
                    },
                },
                rlimits: vec![spec::Rlimit {
                    kind: "RLIMIT_NOFILE".into(),
                    soft: 77,
                    hard: 99,
                }],
                no_new_privileges: !kind.privileged,
                oom_score_adj: Some(321),
            },
            root: spec::Root {
                path: root.to_str().expect("text").into(),
                readonly: true,
            },
            hostname: Some("lab".into()),
            mounts: vec![
                mount("/proc", "proc", &[]),
                mount("/dev", "tmpfs", &["mode=755"]),
                mount("/tmp", "tmpfs", &["mode=1777"]),
            ],
            linux: spec::Linux {
                namespaces: namespaces
                    .into_iter()
                    .map(|kind| spec::Namespace { kind })
                    .collect(),
                uid_mappings: mappings.clone(),
                gid_mappings: mappings,
                seccomp: match kind.privileged {
                    true => spec::Seccomp::Unconfined,
                    false => spec::Seccomp::Default,
                },
                ..Default::default()
            },
        },
        after: Vec::new(),
        after_healthy: Vec::new(),
        after_network: false,
        volumes: Vec::new(),
        health: None,
        restart: spec::Restart {
            policy: spec::RestartPolicy::No,
            backoff_min_ms: 0,
            backoff_max_ms: 0,
        },
        stop: spec::Stop {
            signal: 15,
            timeout_ms: 0,
        },
        log: spec::Log { keep_bytes: 0 },
    }
}

fn launch(container: &Container, cgroup: &Path) -> Child {
    let plan = Plan::new(container).expect("a good container");
    let null: OwnedFd = launch::null().expect("/dev/null");
    let output = io::stderr().as_fd().try_clone_to_owned().expect("stderr");
    let streams = Streams {
        stdin: null.as_fd(),
        stdout: output.as_fd(),
        stderr: output.as_fd(),
    };
    let cgroup = File::open(cgroup).expect("the cgroup");
    Native
        .launch(&plan, &streams, Some(cgroup.as_fd()))
        .expect("launched")
}
