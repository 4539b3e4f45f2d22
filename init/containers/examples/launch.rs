//! Runs one OCI bundle (`DIR/config.json` as far as Berth knows it, its `root.path` relative to
//! DIR or absolute) and ends as it ends. For the differential tests and for measurements; takes
//! the part of PID 1.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use berth_containers::launch::{self, Launch, Native, Streams};
use berth_containers::plan::Plan;
use berth_containers::report::Progress;
use berth_containers::spec::{Container, Log, Oci, Restart, RestartPolicy, Stop};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(bundle), cgroup, None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        bail!("usage: launch BUNDLE [CGROUP]");
    };
    let bundle = std::fs::canonicalize(&bundle).context("the bundle")?;
    let plan = Plan::new(&read(&bundle)?)?;
    let cgroup = cgroup.map(std::fs::File::open).transpose()?;
    let null = launch::null()?;
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    let streams = Streams {
        stdin: null.as_fd(),
        stdout: stdout.as_fd(),
        stderr: stderr.as_fd(),
    };
    let mut child = Native.launch(&plan, &streams, cgroup.as_ref().map(AsFd::as_fd))?;
    let status = waitpid(Pid::from_raw(child.pid()), None)?;
    if let Progress::Failed(error) = child.progress() {
        bail!("{error}");
    }
    match status {
        WaitStatus::Exited(_, status) => std::process::exit(status),
        WaitStatus::Signaled(_, signal, _) => std::process::exit(128 + signal as i32),
        other => bail!("{other:?}"),
    }
}

fn read(bundle: &Path) -> Result<Container> {
    let text = std::fs::read(bundle.join("config.json"))?;
    let mut oci: Oci = serde_json::from_slice(&text).context("config.json")?;
    oci.root.path = bundle
        .join(&oci.root.path)
        .into_os_string()
        .into_string()
        .ok()
        .context("the bundle's path")?;
    Ok(Container {
        name: "example".into(),
        image: "bundle".into(),
        digest: String::new(),
        oci,
        after: Vec::new(),
        after_healthy: Vec::new(),
        after_network: false,
        volumes: Vec::new(),
        health: None,
        restart: Restart {
            policy: RestartPolicy::No,
            backoff_min_ms: 0,
            backoff_max_ms: 0,
        },
        stop: Stop {
            signal: 15,
            timeout_ms: 0,
        },
        log: Log { keep_bytes: 0 },
    })
}
