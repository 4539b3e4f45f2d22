//! The versions of the machine under test: built, published one after the other, and each state of
//! the published directory kept, so that it can be served again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_delta::Limits;
use berth_power::Release;
use berth_provision::OnFailure;
use berth_slots::verity::RootHash;

use super::server::Server;
use super::{Error, say};
use crate::build::{self, Progress, RAW_NAME, Sources};
use crate::config::{self, Config, DiskFormat};
use crate::keys::{self, NewSet};
use crate::publish::{self, Request};

/// How often the machine looks for versions: as often as it may.
const EVERY: &str = "10s";
const YEAR_S: u64 = 365 * 24 * 3600;

/// Builds and published versions.
#[derive(Debug)]
pub(super) struct Shelf<'a> {
    sources: &'a Sources,
    directory: PathBuf,
    server: Server,
    config: Config,
    releases: Vec<Release>,
}

/// What makes a version another than the user's.
pub(super) struct Change<'a> {
    /// Another PID 1.
    pub(super) init: Option<Vec<u8>>,
    /// Other configuration.
    pub(super) config: &'a dyn Fn(&mut Config),
}

impl<'a> Shelf<'a> {
    /// Keys for the test, and the machine's configuration with them; no version yet.
    pub(super) fn new(
        sources: &'a Sources,
        directory: &Path,
        server: Server,
    ) -> Result<Self, Error> {
        let keys = directory.join("keys");
        let set = keys::new_set(
            &keys,
            &NewSet {
                holders: vec!["test".to_owned()],
                public: Vec::new(),
                threshold: None,
                good_for_days: 365,
            },
        )?;
        let config = for_test(&sources.config, &server.url(), &set.root)?;
        Ok(Self {
            sources,
            directory: directory.to_owned(),
            server,
            config,
            releases: Vec::new(),
        })
    }

    /// The versions so far.
    pub(super) fn releases(&self) -> &[Release] {
        &self.releases
    }

    /// The disk with the first version.
    pub(super) fn disk(&self) -> PathBuf {
        self.build_of(1).join(RAW_NAME)
    }

    /// Builds and publishes good versions until there are so many.
    pub(super) fn fill(&mut self, versions: usize) -> Result<(), Error> {
        while self.releases.len() < versions {
            self.add(&Change {
                init: None,
                config: &|_| {},
            })?;
        }
        Ok(())
    }

    /// Builds and publishes the next version; gives its number, from 0.
    pub(super) fn add(&mut self, change: &Change<'_>) -> Result<usize, Error> {
        let number = self.releases.len() + 1;
        say(format!("building and publishing version {number}"));
        let mut config = self.config.clone();
        config.image.version = number.to_string();
        (change.config)(&mut config);
        let sources = Sources {
            config,
            path: self.sources.path.clone(),
            update_lock: self.sources.update_lock && number == 1,
            kernel: self.sources.kernel.clone(),
            kernel_source: self.sources.kernel_source.clone(),
            stub: self.sources.stub.clone(),
            init: change.init.clone(),
        };
        let out = self.build_of(number);
        let built = build::build(sources, &out)?;
        let published = self.directory.join("published");
        let progress = Progress::default();
        let done = publish::publish(
            &Request {
                build: out.clone(),
                directory: published.clone(),
                keys: self.directory.join("keys"),
                deltas: 1,
                rollout: None,
                again: false,
                trust_old_keys: false,
                limits: Limits::default(),
                good_for_s: [YEAR_S, YEAR_S, YEAR_S],
            },
            &progress,
        );
        progress.end();
        done?;
        keep(&published, &self.offer_of(number))
            .map_err(|source| run_error("keep what is published", source.to_string()))?;
        // Only the first is ever written to a disk.
        if number > 1 {
            // What is left is in a temporary directory.
            let _ = fs::remove_dir_all(&out);
        }
        let root = root_hash(&built.manifest.root_hash);
        let root = root.ok_or_else(|| run_error("read the root's hash", "it is none".into()))?;
        self.releases.push(Release {
            version: number.to_string(),
            root,
        });
        Ok(number - 1)
    }

    /// Serves what was published when this version, counted from 0, was the newest.
    pub(super) fn offer(&self, number: usize) {
        self.server.serve(&self.offer_of(number + 1));
    }

    /// How long a good version may be on trial.
    pub(super) fn trial_time(&self) -> Duration {
        let update = self.config.update.as_ref();
        Duration::from_millis(update.map_or(0, |section| section.update.within_ms))
    }

    /// There is nothing that could be unhealthy.
    pub(super) fn has_no_containers(&self) -> bool {
        self.config.containers.is_empty()
    }

    fn build_of(&self, number: usize) -> PathBuf {
        self.directory.join(format!("build-{number}"))
    }

    fn offer_of(&self, number: usize) -> PathBuf {
        self.directory.join(format!("offer-{number}"))
    }
}

/// The user's machine, updated from here.
fn for_test(config: &Config, url: &str, trust: &Path) -> Result<Config, Error> {
    let text = format!(
        "schema = 1\n[image]\nname = \"test\"\nversion = \"1\"\n[update]\nurl = {url:?}\n\
         policy = \"auto\"\nevery = \"{EVERY}\"\ntrust = {:?}\n",
        trust.display().to_string()
    );
    let ours = config::parse("berth test", &text).map_err(build::BuildError::from)?;
    let mut config = config.clone();
    let theirs = config.update.take();
    config.update = ours.update;
    if let (Some(ours), Some(theirs)) = (&mut config.update, theirs) {
        // The rule of the commit stays the user's.
        ours.update.healthy = theirs.update.healthy;
        ours.update.hold_ms = theirs.update.hold_ms;
        ours.update.within_ms = theirs.update.within_ms;
    }
    config.image.formats = vec![DiskFormat::Raw];
    config.image.security_version = 0;
    if config.on_failure != OnFailure::Restart {
        say("note: on_failure is \"restart\" in this test: a machine that halts cannot come back");
        config.on_failure = OnFailure::Restart;
    }
    Ok(config)
}

/// The directory as it is now, sharing its files, which are only ever replaced.
fn keep(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => keep(&entry.path(), &to)?,
            false => fs::hard_link(entry.path(), to)?,
        }
    }
    Ok(())
}

fn root_hash(text: &str) -> Option<RootHash> {
    let mut hash = [0; 32];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != hash.len() || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(RootHash(hash))
}

fn run_error(doing: &'static str, why: String) -> Error {
    Error::Run(crate::run::Error::System {
        doing,
        source: io::Error::other(why),
    })
}
