//! Versions that must not stay: each is published, tried by the machine, and given up; the machine
//! has to be back on the good one by itself and to say why. After them a good one has to stay.

use std::time::{Duration, Instant};

use berth_containers::spec::{Health, Probe};
use berth_power::Line;
use berth_slots::state::Booted;
use berth_slots::verity::RootHash;

use super::machine::{Heard, Rig};
use super::versions::{Change, Shelf};
use super::{Error, Outcome, Verdict, say, tiny};
use crate::build::BuildError;
use crate::config::{self, Config};

/// A port that nothing listens on (RFC 863's, which nobody serves any more).
const NO_PORT: u16 = 9;
/// An address from which nothing is reached (RFC 5737).
const NOWHERE: &str = "schema = 1\n[image]\nname = \"test\"\nversion = \"1\"\n[network.lan]\n\
                       addresses = [\"192.0.2.7/24\"]\ngateway = \"192.0.2.1\"\n";
/// Less than the pages that the kernel needs for a process before its first instruction.
const NO_MEMORY: u64 = 64 << 10;
const PAUSE: Duration = Duration::from_millis(200);

/// What is wrong with a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// Its first process cannot be started.
    Panics,
    /// Its first process ends.
    Exits,
    /// Its first process stands still, and does not feed the watchdog.
    Hangs,
    /// Its containers end as soon as they are started.
    Starved,
    /// Its containers never become healthy.
    Unhealthy,
    /// It cannot reach the update server.
    Unreachable,
}

impl Bad {
    const ALL: [Self; 6] = [
        Self::Panics,
        Self::Exits,
        Self::Hangs,
        Self::Starved,
        Self::Unhealthy,
        Self::Unreachable,
    ];

    /// In words.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Panics => "a kernel that panics",
            Self::Exits => "a PID 1 that exits",
            Self::Hangs => "a machine that hangs",
            Self::Starved => "containers without the memory that they need",
            Self::Unhealthy => "containers that stay unhealthy",
            Self::Unreachable => "a network without the update server",
        }
    }
}

/// Publishes them one after the other.
pub(super) fn test(
    shelf: &mut Shelf<'_>,
    rig: &mut Rig,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    shelf.fill(1)?;
    let within_ms = u64::try_from(rig.within(20).as_millis()).unwrap_or(u64::MAX);
    let mut numbers = Vec::new();
    for bad in Bad::ALL {
        let of_containers = matches!(bad, Bad::Starved | Bad::Unhealthy);
        if of_containers && shelf.has_no_containers() {
            continue;
        }
        numbers.push((Some(bad), add(shelf, bad, within_ms)?));
    }
    let good = Change {
        init: None,
        config: &|_| {},
    };
    numbers.push((None, shelf.add(&good)?));

    let disk = rig.disk(&shelf.disk())?;
    rig.forget_variables();
    shelf.offer(0);
    let qemu = rig.start(&disk)?;
    let mut watch = Watch {
        shelf,
        rig,
        running: None,
    };
    let mut failed = None;
    for (bad, number) in numbers {
        let verdict = watch.offer(bad, number)?;
        let mark = if verdict.right { "ok" } else { "BROKEN" };
        say(format!("{mark}: {}: {}", verdict.what, verdict.said));
        let right = verdict.right;
        if !right {
            failed = Some(format!("{}: {}", verdict.what, verdict.said));
        }
        outcome.bad.push(verdict);
        // What comes after it would be no news about the others.
        if !right {
            break;
        }
    }
    outcome.broken.extend(failed);
    disk.cut();
    watch.rig.kill(qemu).map(drop)
}

fn add(shelf: &mut Shelf<'_>, bad: Bad, within_ms: u64) -> Result<usize, Error> {
    let nowhere = config::parse("berth test", NOWHERE).map_err(BuildError::from)?;
    let change = |config: &mut Config| {
        if let Some(update) = &mut config.update {
            update.update.within_ms = update.update.within_ms.min(within_ms);
        }
        match bad {
            Bad::Panics | Bad::Exits | Bad::Hangs => {}
            Bad::Starved => {
                for container in &mut config.containers {
                    container.memory_bytes = Some(NO_MEMORY);
                }
            }
            Bad::Unhealthy => config.containers.iter_mut().for_each(never_healthy),
            Bad::Unreachable => config.networks.clone_from(&nowhere.networks),
        }
    };
    let init = match bad {
        Bad::Panics => Some(b"nothing that runs\n".to_vec()),
        Bad::Exits => Some(tiny::exits()),
        Bad::Hangs => Some(tiny::hangs()),
        Bad::Starved | Bad::Unhealthy | Bad::Unreachable => None,
    };
    shelf.add(&Change {
        init,
        config: &change,
    })
}

fn never_healthy(container: &mut config::ContainerConfig) {
    container.health = Some(config::Located {
        value: Health {
            probe: Probe::Tcp {
                address: None,
                port: NO_PORT,
            },
            every_ms: 1000,
            timeout_ms: 1000,
            fails: 2,
            start_ms: 1000,
        },
        place: container.place,
    });
}

/// A machine that runs, and what runs on it.
struct Watch<'a, 's> {
    shelf: &'a Shelf<'s>,
    rig: &'a mut Rig,
    running: Option<RootHash>,
}

impl Watch<'_, '_> {
    /// Publishes a version, and waits for what the machine says about it.
    fn offer(&mut self, bad: Option<Bad>, number: usize) -> Result<Verdict, Error> {
        let what = bad.map_or("a good version after them", Bad::describe);
        say(format!(
            "publishing version {} for the machine: {what}",
            number + 1
        ));
        self.shelf.offer(number);
        let releases = self.shelf.releases();
        let version = releases.get(number).map(|release| release.version.clone());
        let first = releases.first().map(|release| release.root);
        // Two starts, the trial, and what fetching takes.
        let most = self.rig.within(120) + self.shelf.trial_time();
        let until = Instant::now() + most;
        let verdict = |right, said: String| Verdict {
            what: what.to_owned(),
            right,
            said,
        };
        let mut last = String::new();
        while Instant::now() < until {
            let Heard::Line(text) = self.rig.hear(PAUSE)? else {
                continue;
            };
            if text.contains("Kernel command line:") {
                self.running = Booted::root_of_command_line(&text);
            }
            let Some(line) = Line::parse(&text).filter(|line| line.get("update").is_some()) else {
                continue;
            };
            let sentence = line.sentence.clone().unwrap_or_default();
            last.clone_from(&sentence);
            if line.get("version") != version.as_deref() {
                continue;
            }
            match (line.get("update"), bad) {
                (Some("committed"), Some(_)) => return Ok(verdict(false, sentence)),
                (Some("committed"), None) => return Ok(verdict(true, sentence)),
                // Said by the good version, not by the one that gives itself up.
                (Some("rejected"), Some(_)) if self.running == first => {
                    return Ok(verdict(true, sentence));
                }
                (Some("rejected"), None) => return Ok(verdict(false, sentence)),
                _ => {}
            }
        }
        let said = format!("no word about it in {} s; the last: {last}", most.as_secs());
        Ok(verdict(false, said))
    }
}
