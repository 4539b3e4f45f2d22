//! Asks a container once, as the role `/init probe` does, and writes the record:
//!
//! `probe CONTAINER.json PIDFD CGROUP ARGUMENTS…`
//!
//! PIDFD and CGROUP are numbers of descriptors that it was started with. The tests run this
//! program.

use std::io::Write;

use anyhow::{Context, Result, bail};
use berth_containers::probe::{self, Asked};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [container, pidfd, cgroup, asked @ ..] = arguments.as_slice() else {
        bail!("usage: probe CONTAINER.json PIDFD CGROUP ARGUMENTS…");
    };
    let pidfd = probe::inherited(pidfd.parse()?)?;
    let cgroup = probe::inherited(cgroup.parse()?)?;
    let asked = Asked::parse(asked).context("the question")?;
    let answer = match asked {
        Asked::Network { .. } => Some(probe::over_network(&asked, &pidfd)),
        Asked::Inside(_) => {
            let container = serde_json::from_slice(&std::fs::read(container)?)?;
            probe::inside(&container, &pidfd, &cgroup)
        }
    };
    if let Some(answer) = answer {
        std::io::stdout().write_all(&answer.encode())?;
    }
    Ok(())
}
