//! `berth test`: a user's own machine in QEMU, while its power goes and bad versions are published
//! for it.
//!
//! The machine is built as `berth build` builds it, but for what an update needs: its versions are
//! numbered, it trusts keys that are made for the test, and it looks every few seconds for updates
//! on a web server in here. Its power is cut while it updates itself (see `berth_power` for what is
//! promised then); after that, versions are published that must not stay, and it has to come back to
//! the one before by itself. Everything is in a temporary directory, and nothing is published
//! outside.

mod bad;
mod machine;
mod power;
mod server;
mod tiny;
mod versions;

use std::fmt;
use std::path::PathBuf;

use berth_power::Totals;
use serde_json::{Value, json};

use crate::build::{BuildError, Sources};
use crate::keys::KeysError;
use crate::publish::PublishError;
use crate::run;
use crate::say;

use machine::Rig;
use server::Server;
use versions::Shelf;

pub use bad::Bad;

/// Cuts when the user does not say.
pub const DEFAULT_CUTS: u64 = 20;

/// What is tested and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Cuts that a start must follow.
    pub power_cuts: u64,
    /// Publish versions that must not stay.
    pub bad_updates: bool,
    /// Memory, MiB.
    pub memory_mib: u32,
    /// Size of the disk, bytes; at least the image's.
    pub disk_bytes: u64,
    /// Chooses the moments and what is lost.
    pub seed: u64,
    /// File for everything that the console says.
    pub log: Option<PathBuf>,
}

/// Why nothing could be found out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// No keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A version cannot be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The machine cannot be run.
    #[error(transparent)]
    Run(#[from] run::Error),
    /// The user does not want to know any more.
    #[error("the test was ended")]
    Stopped,
}

/// What was found out.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What the cuts came to.
    pub power: Option<Totals>,
    /// What became of each bad version.
    pub bad: Vec<Verdict>,
    /// Promises that were broken, as sentences.
    pub broken: Vec<String>,
}

/// What became of a version that must not stay, or of the good one after them.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What is wrong with it.
    pub what: String,
    /// It did not stay, or did if it is good.
    pub right: bool,
    /// What the machine said about it.
    pub said: String,
}

impl Outcome {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.broken.is_empty()
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let power = self.power.as_ref().map(|totals| {
            json!({
                "cuts": totals.cuts,
                "came_back": totals.came_back,
                "starts": totals.starts,
                "trials": totals.trials,
                "updates_completed": totals.committed,
                "versions_given_up": totals.rejected,
                "disks": totals.disks,
                "tables_repaired": totals.repaired,
                "variables_erased": totals.erased,
                "trials_unknown": totals.unknown,
                "starved": totals.starved,
                "unflushed_writes": totals.loss.unflushed,
                "dropped_writes": totals.loss.dropped,
                "torn_writes": totals.loss.torn,
                "phases": totals.phases,
            })
        });
        let bad = self
            .bad
            .iter()
            .map(|one| json!({ "version": one.what, "right": one.right, "said": one.said }));
        json!({
            "good": self.is_good(),
            "power_cuts": power,
            "bad_updates": bad.collect::<Vec<_>>(),
            "broken": self.broken,
        })
    }
}

/// For people.
impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(totals) = &self.power {
            writeln!(out, "{totals}")?;
        }
        for one in &self.bad {
            let mark = if one.right { "ok    " } else { "BROKEN" };
            writeln!(out, "{mark}  {}: {}", one.what, one.said)?;
        }
        for sentence in &self.broken {
            writeln!(out, "BROKEN  {sentence}")?;
        }
        Ok(())
    }
}

/// Builds the machine and its versions, and tries them.
///
/// # Errors
/// When it cannot be built, published or started; a promise that is broken is in the outcome.
pub fn test(sources: &Sources, options: &Options) -> Result<Outcome, Error> {
    let directory = tempfile::Builder::new().prefix("berth-test-").tempdir();
    let directory = directory.map_err(|source| run::Error::System {
        doing: "make a temporary directory",
        source,
    })?;
    // Before anything is built: what is missing is said at once.
    let mut rig = Rig::new(options, &directory.path().join("machine"))?;
    let server = Server::start()?;
    let mut shelf = Shelf::new(sources, directory.path(), server)?;
    let mut outcome = Outcome::default();
    if options.power_cuts > 0 {
        power::test(&mut shelf, &mut rig, options, &mut outcome)?;
    }
    if options.bad_updates {
        bad::test(&mut shelf, &mut rig, &mut outcome)?;
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_says_the_same_to_people_and_to_programs() {
        let mut outcome = Outcome {
            power: Some(Totals {
                cuts: 7,
                came_back: 5,
                ..Totals::default()
            }),
            bad: vec![Verdict {
                what: Bad::Panics.describe().to_owned(),
                right: true,
                said: "version 2 was tried and given up".to_owned(),
            }],
            broken: Vec::new(),
        };
        assert!(outcome.is_good());
        let text = outcome.to_string();
        assert!(
            text.contains("7 power cuts") && text.contains("5 came back"),
            "{text}"
        );
        assert!(
            text.contains("ok      a kernel that panics: version 2"),
            "{text}"
        );
        let json = outcome.json();
        assert_eq!(json["power_cuts"]["came_back"], 5);
        assert_eq!(json["bad_updates"][0]["right"], true);
        outcome.broken.push("it did not come back".to_owned());
        assert_eq!(outcome.json()["good"], false);
        assert!(outcome.to_string().contains("BROKEN  it did not come back"));
    }
}
