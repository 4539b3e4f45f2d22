//! A published directory as the first look of a machine sees it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use berth_release::METADATA;
use berth_trust::write::FirstLook;
use berth_trust::{Client, Clock, FetchError, Limits, Target, Time};
use serde_json::Value;

use super::{PublishError, now};

/// What the look found.
pub(super) struct Look {
    /// Every file that was asked for on the way to the targets, by its name.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// What there is.
    pub(super) targets: Vec<Target>,
}

impl Look {
    /// Looks, believing the root file `root`.
    pub(super) fn new(directory: &Path, root: &[u8]) -> Result<Self, PublishError> {
        let metadata = directory.join(METADATA);
        if !metadata.is_dir() {
            return Err(PublishError::Wrong {
                path: directory.to_owned(),
                reason: "nothing is published here: it has no metadata".to_owned(),
            });
        }
        let mut files = BTreeMap::new();
        let mut transport = |name: &str, most: u64| -> Result<Option<Vec<u8>>, FetchError> {
            match fs::read(metadata.join(name)) {
                Ok(bytes) if bytes.len() as u64 <= most => {
                    files.insert(name.to_owned(), bytes.clone());
                    Ok(Some(bytes))
                }
                Ok(_) => Err(FetchError(format!("{name} is longer than it can be"))),
                Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(why) => Err(FetchError(format!("cannot read {name}: {why}"))),
            }
        };
        let now = Time(i64::try_from(now()).unwrap_or(i64::MAX));
        let mut store = FirstLook;
        let clock = Clock::new(now, now);
        let client = Client::refresh(root, &mut store, &mut transport, clock, Limits::default())?;
        let targets = client.targets().collect();
        drop(client);
        Ok(Self { files, targets })
    }

    /// The earliest end of what must be fresh.
    pub(super) fn good_until(&self) -> String {
        let expires = |bytes: &Vec<u8>| {
            let value: Value = serde_json::from_slice(bytes).ok()?;
            Some(value.get("signed")?.get("expires")?.as_str()?.to_owned())
        };
        // An older root may have expired; the newest one is what counts.
        let version = |name: &str| name.split_once('.')?.0.parse::<u64>().ok();
        let is_root = |name: &str| name.ends_with("root.json");
        let roots = self.files.keys().filter(|name| is_root(name));
        let newest = roots.max_by_key(|name| version(name));
        let counts = |name: &&String| !is_root(name) || Some(*name) == newest;
        let files = self.files.keys().filter(counts);
        let ends = files.filter_map(|name| expires(self.files.get(name)?));
        ends.min().unwrap_or_default()
    }
}
